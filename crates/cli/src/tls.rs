//! TLS to a daemon: whom to trust, and who we are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::host_files;

/// Largest certificate or key file, in bytes.
const PEM_LIMIT_BYTES: u64 = 1 << 20;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where certificates are, and whether the daemon's is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsMaterial {
    /// The only authorities to trust; None trusts this machine's.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub certificate: Option<PathBuf>,
    /// Our key.
    pub key: Option<PathBuf>,
    /// Takes whatever certificate the daemon has.
    pub skips_verification: bool,
}

impl TlsMaterial {
    /// Speaks TLS on a connection.
    pub async fn handshake(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, BoxError> {
        let name = ServerName::try_from(host.to_owned())?;
        let connector = TlsConnector::from(Arc::new(self.config()?));
        Ok(connector.connect(name, stream).await?)
    }

    fn config(&self) -> Result<ClientConfig, BoxError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = if self.skips_verification {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TakesAny(provider)))
        } else {
            builder.with_root_certificates(self.authorities()?)
        };
        Ok(match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let key_der = PrivateKeyDer::from_pem_slice(&read(key)?)
                    .map_err(|error| format!("{}: {error}", key.display()))?;
                builder.with_client_auth_cert(certificates(certificate)?, key_der)?
            }
            _ => builder.with_no_client_auth(),
        })
    }

    fn authorities(&self) -> Result<RootCertStore, BoxError> {
        let mut store = RootCertStore::empty();
        let Some(path) = &self.ca else {
            for path in [
                "/etc/ssl/certs/ca-certificates.crt",
                "/etc/pki/tls/certs/ca-bundle.crt",
            ] {
                if let Ok(found) = certificates(Path::new(path)) {
                    store.add_parsable_certificates(found);
                    break;
                }
            }
            return Ok(store);
        };
        for certificate in certificates(path)? {
            store.add(certificate)?;
        }
        Ok(store)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BoxError> {
    let found = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if found.is_empty() {
        return Err(format!("{} holds no certificate in PEM form", path.display()).into());
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, BoxError> {
    match host_files::read_if_present(path, PEM_LIMIT_BYTES) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!("{} does not exist", path.display()).into()),
        Err(error) => Err(error.to_string().into()),
    }
}

/// Takes every certificate: what `--tls` without `--tlsverify` asks for.
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
