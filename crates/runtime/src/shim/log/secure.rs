//! A connection to a log daemon over TLS. Only shims whose logs go there have any of it in memory.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use wharf_safefs::trusted;

use crate::request::LogTls;
use crate::sys::SysResult;

/// Where distributions keep the authorities that all programs trust.
const SYSTEM_AUTHORITIES: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];
/// Most bytes of such a file.
const MAX_AUTHORITIES_BYTES: u64 = 4 << 20;
/// Bytes that are encrypted at a time, one record of TLS (RFC 8446 §5.1).
const RECORD_BYTES: usize = 16 << 10;

/// A connection that is made, and never blocks from then on.
pub(super) struct SecureStream {
    socket: TcpStream,
    connection: Box<ClientConnection>,
}

impl SecureStream {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// Of the connection, of certificates that cannot be used, of a daemon that is not who it should be.
    pub(super) fn connect(
        address: &SocketAddr,
        tls: &LogTls,
        timeout: Duration,
    ) -> io::Result<Self> {
        let name = ServerName::try_from(tls.server_name.clone())
            .map_err(|error| io::Error::other(error.to_string()))?;
        let config = configure(tls)?;
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(other)?;
        let mut socket = TcpStream::connect_timeout(address, timeout)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            connection: Box::new(connection),
        })
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Says whether encrypted bytes wait to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        self.connection.wants_write()
    }

    /// Sends what it takes of `bytes` and returns how much that is; `EAGAIN` when the daemon is slow.
    ///
    /// # Errors
    /// An errno; `EPIPE` when the connection is over.
    pub(super) fn send(&mut self, bytes: &[u8]) -> SysResult<usize> {
        self.listen()?;
        self.push()?;
        let first = bytes.get(..RECORD_BYTES.min(bytes.len())).unwrap_or(bytes);
        let taken = self.connection.writer().write(first).map_err(errno)?;
        match self.push() {
            Ok(()) | Err(libc::EAGAIN) => Ok(taken),
            Err(error) => Err(error),
        }
    }

    /// Sends what is encrypted already.
    ///
    /// # Errors
    /// As for [`SecureStream::send`].
    pub(super) fn push(&mut self) -> SysResult<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.socket) {
                Ok(0) => return Err(libc::EPIPE),
                Ok(_) => {}
                Err(error) => return Err(errno(error)),
            }
        }
        Ok(())
    }

    /// Says goodbye, so that the daemon can tell an end from a broken connection.
    pub(super) fn close(&mut self) {
        self.connection.send_close_notify();
        // A daemon that does not take it any more learns of the end by the connection's.
        let _ = self.push();
    }

    /// Takes in what the daemon says about the connection; it has nothing else to say.
    fn listen(&mut self) -> SysResult<()> {
        loop {
            match self.connection.read_tls(&mut self.socket) {
                Ok(0) => return Err(libc::EPIPE),
                Ok(_) => {
                    let state = self.connection.process_new_packets();
                    let state = state.map_err(|_| libc::EPIPE)?;
                    if state.peer_has_closed() {
                        return Err(libc::EPIPE);
                    }
                    let mut spoken = [0; 512];
                    while matches!(self.connection.reader().read(&mut spoken), Ok(1..)) {}
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(errno(error)),
            }
        }
    }
}

fn configure(tls: &LogTls) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(other)?;
    let builder = if tls.skips_verification {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakesAny(provider)))
    } else {
        builder.with_root_certificates(authorities(tls)?)
    };
    let Some(identity) = &tls.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
        .map_err(|error| pair_error(&error.to_string()))?;
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pair_error(&error.to_string()))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| pair_error(&error.to_string()))
}

/// Returns the machine's authorities and those given besides, as docker has it.
fn authorities(tls: &LogTls) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for path in SYSTEM_AUTHORITIES {
        if let Ok(text) = trusted::read_limited(Path::new(path), MAX_AUTHORITIES_BYTES) {
            store.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
            break;
        }
    }
    if let Some(given) = &tls.authorities {
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(given.as_bytes()) {
            let certificate = certificate.map_err(|error| io::Error::other(error.to_string()))?;
            store.add(certificate).map_err(other)?;
            count += 1;
        }
        if count == 0 {
            return Err(io::Error::other(
                "syslog-tls-ca-cert holds no certificate in PEM form",
            ));
        }
    }
    Ok(store)
}

fn pair_error(text: &str) -> io::Error {
    io::Error::other(format!("Could not load X509 key pair: {text}"))
}

fn other(error: rustls::Error) -> io::Error {
    io::Error::other(error)
}

fn errno(error: io::Error) -> i32 {
    match error.kind() {
        io::ErrorKind::WouldBlock => libc::EAGAIN,
        io::ErrorKind::Interrupted => libc::EINTR,
        _ => error.raw_os_error().unwrap_or(libc::EPIPE),
    }
}

/// Takes every certificate: what `syslog-tls-skip-verify` asks for. Signatures are verified all the same.
#[derive(Debug)]
struct TakesAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
