//! Uploading blobs and manifests.

use crate::client::Client;
use crate::credentials::Credentials;
use crate::documents::{MAX_DOCUMENT_BYTES, content_digest};
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, shown};
use crate::scope::Scopes;
use crate::transport::{Call, failure, location};
use crate::upload::{Announced, ContentSum, Report, UploadSource};
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use std::collections::BTreeMap;
use tokio::io::AsyncRead;
use url::Url;
use wharf_image::{Descriptor, Digest, Reference};

const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

impl Client {
    /// Asks the registry to take a blob over from another repository on it. Returns false when it
    /// does not, and the blob has to be uploaded.
    ///
    /// # Errors
    /// All failures of transport.
    pub async fn mount_blob(
        &self,
        repository: &Reference,
        digest: &Digest,
        from: &Reference,
        credentials: &Credentials,
    ) -> Result<bool, RegistryError> {
        if from.domain() != repository.domain() {
            return Ok(false);
        }
        let endpoint = self.inner().endpoints.of(repository).await?;
        let mut url = endpoint.url("blobs/uploads/")?;
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from.path());
        let scopes = Scopes::push(&endpoint.path).and_pull(from.path());
        let call = Call::new(Method::POST, &endpoint, url, scopes, credentials)
            .header(CONTENT_LENGTH, 0.into());
        let response = self.send(&call).await?;
        match response.status().as_u16() {
            201 => Ok(true),
            202 => {
                let session = location(&endpoint.registry, &call.url, response.headers())?;
                self.cancel(&endpoint, session, credentials).await;
                Ok(false)
            }
            404 | 405 => Ok(false),
            _ => Err(failure(&endpoint, "mount the blob", response).await),
        }
    }

    /// Uploads a blob: its digest and size are computed on the way, and compared with those given.
    /// The descriptor returned has no media type.
    ///
    /// # Errors
    /// [`RegistryError::UploadSource`] when `body` cannot be read, [`RegistryError::DigestMismatch`]
    /// and [`RegistryError::SizeMismatch`] when it is not what was announced, and all failures of
    /// transport. The content is sent once; a broken upload is not taken up again.
    pub async fn upload_blob(
        &self,
        repository: &Reference,
        digest: Option<Digest>,
        body: impl AsyncRead + Send + 'static,
        size: Option<u64>,
        credentials: &Credentials,
    ) -> Result<Descriptor, RegistryError> {
        let endpoint = self.inner().endpoints.of(repository).await?;
        let announced = Announced { digest, size };
        let (source, report) = UploadSource::new(body, announced, &endpoint.registry);
        let mut session = self.start_upload(&endpoint, credentials).await?;
        let sum = match self
            .send_content(&endpoint, &mut session, source, &report, size, credentials)
            .await
        {
            Ok(sum) => sum,
            Err(error) => {
                self.cancel(&endpoint, session, credentials).await;
                return Err(error);
            }
        };
        self.finish_upload(&endpoint, session, &sum.digest, credentials)
            .await?;
        let (media_type, urls, annotations) = (String::new(), Vec::new(), BTreeMap::new());
        Ok(Descriptor {
            media_type,
            digest: sum.digest,
            size: sum.size,
            urls,
            annotations,
            platform: None,
        })
    }

    /// Stores a manifest or index under the reference's tag, or under its digest when the reference
    /// has no tag. Its blobs must be there already.
    ///
    /// # Errors
    /// [`RegistryError::DigestMismatch`] when the reference has another digest or the registry stored
    /// something else, and all failures of transport.
    pub async fn put_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
        credentials: &Credentials,
    ) -> Result<Digest, RegistryError> {
        let endpoint = self.inner().endpoints.of(reference).await?;
        let registry = endpoint.registry.clone();
        let digest = Digest::of(&bytes);
        let what = || format!("manifest {}", reference.familiar());
        if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            return Err(RegistryError::TooLarge {
                what: what(),
                registry,
                limit_bytes: MAX_DOCUMENT_BYTES,
            });
        }
        if let Some(expected) = reference.digest().filter(|expected| **expected != digest) {
            return Err(RegistryError::DigestMismatch {
                what: what(),
                registry,
                expected: *expected,
                found: digest,
            });
        }
        let name = reference
            .tag()
            .map_or_else(|| digest.to_string(), str::to_owned);
        let url = endpoint.url(&format!("manifests/{name}"))?;
        let content_type =
            HeaderValue::from_str(media_type).map_err(|_| RegistryError::Protocol {
                registry: registry.clone(),
                expected: "a media type".to_owned(),
                found: shown(media_type),
            })?;
        let call = Call::new(
            Method::PUT,
            &endpoint,
            url,
            Scopes::push(&endpoint.path),
            credentials,
        )
        .header(CONTENT_TYPE, content_type)
        .body(bytes);
        let response = self.send(&call).await?;
        if !response.status().is_success() {
            return Err(failure(&endpoint, "take the manifest", response).await);
        }
        match content_digest(&registry, response.headers())? {
            Some(found) if found != digest => Err(RegistryError::DigestMismatch {
                what: what(),
                registry,
                expected: digest,
                found,
            }),
            _ => Ok(digest),
        }
    }

    /// Opens an upload session and returns its address.
    async fn start_upload(
        &self,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<Url, RegistryError> {
        let url = endpoint.url("blobs/uploads/")?;
        let call = Call::new(
            Method::POST,
            endpoint,
            url,
            Scopes::push(&endpoint.path),
            credentials,
        )
        .header(CONTENT_LENGTH, 0.into());
        let response = self.send(&call).await?;
        match response.status().as_u16() {
            202 => location(&endpoint.registry, &call.url, response.headers()),
            _ => Err(failure(endpoint, "start an upload", response).await),
        }
    }

    /// Sends the content into a session, which moves on to its next address.
    async fn send_content(
        &self,
        endpoint: &Endpoint,
        session: &mut Url,
        mut source: UploadSource,
        report: &Report,
        size: Option<u64>,
        credentials: &Credentials,
    ) -> Result<ContentSum, RegistryError> {
        source.read_ahead().await?;
        if source.is_empty() {
            return report.take();
        }
        let mut call = self
            .session_call(Method::PATCH, endpoint, session.clone(), credentials)
            .header(CONTENT_TYPE, OCTET_STREAM);
        if let Some(size) = size {
            call = call.header(CONTENT_LENGTH, size.into());
        }
        let outcome = self
            .send_stream(&call, reqwest::Body::wrap_stream(source.into_stream()))
            .await;
        let response = match outcome {
            // The connection breaks when the source does, but the source knows why.
            Err(error) => return Err(report.take_failure().unwrap_or(error)),
            Ok(response) if response.status().is_success() => response,
            Ok(response) => return Err(failure(endpoint, "take the content", response).await),
        };
        *session = location(&endpoint.registry, &call.url, response.headers())?;
        report.take()
    }

    async fn finish_upload(
        &self,
        endpoint: &Endpoint,
        mut session: Url,
        digest: &Digest,
        credentials: &Credentials,
    ) -> Result<(), RegistryError> {
        session
            .query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let call = self
            .session_call(Method::PUT, endpoint, session, credentials)
            .header(CONTENT_LENGTH, 0.into());
        let response = self.send(&call).await?;
        if !response.status().is_success() {
            return Err(failure(endpoint, "finish the upload", response).await);
        }
        match content_digest(&endpoint.registry, response.headers())? {
            Some(found) if found != *digest => Err(RegistryError::DigestMismatch {
                what: "uploaded blob".to_owned(),
                registry: endpoint.registry.clone(),
                expected: *digest,
                found,
            }),
            _ => Ok(()),
        }
    }

    /// Gives a session up. Registries drop forgotten sessions themselves, so failing does no harm.
    async fn cancel(&self, endpoint: &Endpoint, session: Url, credentials: &Credentials) {
        let _ = self
            .send_stream(
                &self.session_call(Method::DELETE, endpoint, session, credentials),
                Bytes::new().into(),
            )
            .await;
    }

    /// Describes a request to a session. Its address may be at another host, which must not see the
    /// credentials.
    fn session_call(
        &self,
        method: Method,
        endpoint: &Endpoint,
        session: Url,
        credentials: &Credentials,
    ) -> Call {
        let at_registry = session.origin() == endpoint.base.origin();
        let mut call = Call::new(
            method,
            endpoint,
            session,
            Scopes::push(&endpoint.path),
            credentials,
        );
        call.sends_credentials = at_registry;
        call
    }
}
