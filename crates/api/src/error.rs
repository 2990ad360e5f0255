//! Why the server cannot serve.

use std::io;
use std::path::PathBuf;

/// Tells why a socket could not be bound or the server had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Another server answers on the socket.
    #[error("another server listens on {}: stop it, or choose another socket with --socket", path.display())]
    InUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// The path is taken by something else.
    #[error("{} exists and is not a socket: remove it, or choose another path with --socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The kernel refused the socket.
    #[error("cannot listen on {}: {source}", path.display())]
    Bind {
        /// The socket's path.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel refused the address.
    #[error("cannot listen on {address}: {source}")]
    BindAddress {
        /// Host and port.
        address: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error("TLS: {path}: {detail}", path = path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// No connection can be accepted any more.
    #[error("cannot accept connections: {source}")]
    Accept {
        /// The kernel's reason.
        source: io::Error,
    },
}
