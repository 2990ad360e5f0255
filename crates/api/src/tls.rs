//! TLS on TCP sockets, with certificates of the clients (docker's `--tlsverify`).

use crate::error::ApiError;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use wharf_safefs::trusted;

/// Bytes of a certificate or key file.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// Where the server's certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities whose clients are let in; None lets in clients without a certificate.
    pub client_ca: Option<PathBuf>,
    /// The server's certificate and those between it and its authority, as PEM.
    pub certificate: PathBuf,
    /// The server's key, as PEM.
    pub key: PathBuf,
}

/// What the server needs to speak TLS.
#[derive(Clone)]
pub struct Tls(Arc<rustls::ServerConfig>);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`ApiError::Tls`] with the file that is missing, unreadable or does not fit the others.
    pub fn load(files: &TlsFiles) -> Result<Self, ApiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| fail(&files.certificate, error))?;
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut authorities = RootCertStore::empty();
                for certificate in certificates(path)? {
                    authorities
                        .add(certificate)
                        .map_err(|error| fail(path, error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
                        .build()
                        .map_err(|error| fail(path, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
            .map_err(|error| fail(&files.key, error))?;
        let mut config = builder
            .with_single_cert(certificates(&files.certificate)?, key)
            .map_err(|error| fail(&files.certificate, error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.clone())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ApiError> {
    let found = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(path, error))?;
    if found.is_empty() {
        return Err(fail(path, "the file holds no certificate in PEM form"));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, ApiError> {
    trusted::read_limited(path, MAX_PEM_BYTES).map_err(|error| fail(path, error))
}

fn fail(path: &Path, detail: impl std::fmt::Display) -> ApiError {
    ApiError::Tls {
        path: path.to_owned(),
        detail: detail.to_string(),
    }
}
