//! The kinds of sockets clients come by: unix, TCP, TCP with TLS.

use crate::policy::{Policy, PolicyHandle};
use crate::socket;
use crate::tls::Tls;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

/// How long a client may take for the TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// A bound socket, and what its clients may do.
pub struct Listener {
    pub(crate) socket: Socket,
    pub(crate) policy: PolicyHandle,
}

pub(crate) enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener, Option<Tls>),
}

impl Listener {
    /// Listens on a unix socket, as [`crate::bind_unix`] makes it; everything is allowed.
    pub fn unix(socket: UnixListener) -> Self {
        Self {
            socket: Socket::Unix(socket),
            policy: PolicyHandle::new(Policy::full()),
        }
    }

    /// Listens on a TCP socket, with TLS or in the clear; everything is allowed.
    pub fn tcp(socket: TcpListener, tls: Option<Tls>) -> Self {
        Self {
            socket: Socket::Tcp(socket, tls),
            policy: PolicyHandle::new(Policy::full()),
        }
    }

    /// Returns the listener with what its clients may do.
    #[must_use]
    pub fn with_policy(mut self, policy: PolicyHandle) -> Self {
        self.policy = policy;
        self
    }
}

impl Socket {
    /// Waits for the next connection.
    pub(crate) async fn accept(&self) -> io::Result<Raw> {
        match self {
            Self::Unix(listener) => Ok(Raw::Unix(listener.accept().await?.0)),
            Self::Tcp(listener, tls) => {
                let (stream, _) = listener.accept().await?;
                // Both only make things better: a socket that refuses them still works.
                let _ = stream.set_nodelay(true);
                let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
                Ok(Raw::Tcp(stream, tls.clone()))
            }
        }
    }
}

/// A connection before its handshake.
pub(crate) enum Raw {
    Unix(UnixStream),
    Tcp(TcpStream, Option<Tls>),
}

impl Raw {
    /// Returns user and groups of the process at the other end, where the kernel tells.
    pub(crate) fn caller(&self) -> Option<wharf_safefs::Caller> {
        match self {
            Self::Unix(stream) => wharf_safefs::Caller::of_peer(stream.as_fd()),
            Self::Tcp(..) => None,
        }
    }

    /// Tells whether a web page could make a browser speak to this socket.
    pub(crate) fn is_reachable_by_browsers(&self) -> bool {
        matches!(self, Self::Tcp(_, None))
    }

    /// Does the handshake, where there is one.
    pub(crate) async fn open(self) -> io::Result<Transport> {
        match self {
            Self::Unix(stream) => Ok(Transport::Unix(stream)),
            Self::Tcp(stream, None) => Ok(Transport::Tcp(stream)),
            Self::Tcp(stream, Some(tls)) => {
                let handshake = tls.acceptor().accept(stream);
                let stream = tokio::time::timeout(HANDSHAKE_LIMIT, handshake)
                    .await
                    .map_err(io::Error::other)??;
                Ok(Transport::Tls(Box::new(stream)))
            }
        }
    }
}

/// An open connection.
pub(crate) enum Transport {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Tells whether a client may close its half and still read. Over TCP the end of a client's
    /// bytes cannot be told from its leaving, so that there it counts as leaving.
    pub(crate) fn allows_half_close(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Returns a future that ends once the client has read what it was sent so far, where that can
    /// be seen.
    pub(crate) fn all_read(&self) -> impl Future<Output = ()> + Send + use<> {
        socket::all_read(self.as_fd())
    }

    /// Returns a future that ends when the other end is closed altogether.
    pub(crate) fn hang_up(&self) -> impl Future<Output = ()> + Send + use<> {
        socket::hang_up_of(self.as_fd())
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }
}

/// Calls a method of the stream within.
macro_rules! with_stream {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Transport::Unix(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
            Transport::Tcp(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
            Transport::Tls(inner) => {
                let $stream = Pin::new(inner.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with_stream!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        with_stream!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, stream => stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_stream!(self, stream => stream.poll_write_vectored(context, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
