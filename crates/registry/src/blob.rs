//! Reading blobs.

use crate::client::Client;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, connect_error, shown};
use crate::scope::Scopes;
use crate::transport::{Call, backoff, failure, failure_detail};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, try_unfold};
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio_util::io::StreamReader;
use wharf_image::{Descriptor, Digest, Hasher, Reference};

/// How often in a row a broken download is taken up again without any progress in between.
const MAX_RESUMES_WITHOUT_PROGRESS: u32 = 5;

/// Reads a blob's bytes. They arrive before the digest can be known: after the last byte comes the
/// end of file if size and digest are right, else an error that holds a [`RegistryError`]. What was
/// read must not be used before the end of file was seen.
pub struct BlobStream {
    reader: StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>,
}

impl AsyncRead for BlobStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}

impl AsyncBufRead for BlobStream {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().reader).poll_fill_buf(context)
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        Pin::new(&mut self.reader).consume(amount);
    }
}

impl RegistryError {
    /// Takes the error out of what reading a [`BlobStream`] returned; other I/O errors become
    /// [`RegistryError::Connect`].
    pub fn from_io(error: io::Error, registry: &str) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::Connect {
                registry: registry.to_owned(),
                detail: shown(&error.to_string()),
                was_connected: true,
            },
        }
    }
}

impl Client {
    /// Starts reading a blob of a repository. Size and digest of the descriptor are verified;
    /// dropped connections are taken up where they broke off.
    ///
    /// # Errors
    /// [`RegistryError::BlobUnknown`] and all failures of transport.
    pub async fn fetch_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        credentials: &Credentials,
    ) -> Result<BlobStream, RegistryError> {
        let new = |endpoint, credentials: &Credentials| Download {
            client: self.clone(),
            credentials: credentials.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            endpoint,
            response: None,
            early: None,
            hasher: Some(Hasher::new()),
            position: 0,
            failures: 0,
        };
        for endpoint in self.inner().endpoints.mirrors_of(repository) {
            let mut download = new(endpoint, &Credentials::default());
            if download.open().await.is_ok() {
                return Ok(download.into_stream());
            }
        }
        let endpoint = self.inner().endpoints.of(repository).await?;
        let mut download = new(endpoint, credentials);
        download.open().await?;
        Ok(download.into_stream())
    }

    /// Tells whether a repository has a blob.
    ///
    /// # Errors
    /// All failures of transport; a missing blob is none.
    pub async fn blob_exists(
        &self,
        repository: &Reference,
        digest: &Digest,
        credentials: &Credentials,
    ) -> Result<bool, RegistryError> {
        let endpoint = self.inner().endpoints.of(repository).await?;
        let url = endpoint.url(&format!("blobs/{digest}"))?;
        // Asked before uploads mostly: the wider scope saves a second token.
        let scopes = Scopes::push(&endpoint.path);
        let response = self
            .send(&Call::new(
                Method::HEAD,
                &endpoint,
                url,
                scopes,
                credentials,
            ))
            .await?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(failure(&endpoint, "look up the blob", response).await),
        }
    }
}

/// Holds the state of one download.
struct Download {
    client: Client,
    endpoint: Endpoint,
    credentials: Credentials,
    digest: Digest,
    size: u64,
    response: Option<Response>,
    /// First new bytes of a response that had to be skipped into.
    early: Option<Bytes>,
    /// Taken at the end.
    hasher: Option<Hasher>,
    /// Bytes handed out so far.
    position: u64,
    /// Failures since the last byte came.
    failures: u32,
}

impl Download {
    /// Reads the chunks of an opened download to their end.
    fn into_stream(self) -> BlobStream {
        let chunks = try_unfold(self, |mut download| async move {
            let chunk = download.next().await.map_err(io::Error::other)?;
            Ok(chunk.map(|chunk| (chunk, download)))
        });
        BlobStream {
            reader: StreamReader::new(chunks.boxed()),
        }
    }

    /// Returns the next bytes, or `None` after the last when all is well.
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            if let Some(chunk) = self.early.take() {
                return self.accept(chunk).map(Some);
            }
            let Some(response) = &mut self.response else {
                self.open().await?;
                continue;
            };
            match response.chunk().await {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(Some(chunk)) => return self.accept(chunk).map(Some),
                Ok(None) if self.position == self.size => return self.finish().map(|()| None),
                Ok(None) => self.retry_after(self.wrong_size()).await?,
                Err(error) => {
                    self.retry_after(connect_error(&self.endpoint.registry, error))
                        .await?
                }
            }
        }
    }

    fn accept(&mut self, chunk: Bytes) -> Result<Bytes, RegistryError> {
        self.position += chunk.len() as u64;
        self.failures = 0;
        if self.position > self.size {
            return Err(self.wrong_size());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        Ok(chunk)
    }

    fn finish(&mut self) -> Result<(), RegistryError> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        let found = hasher.finish();
        if found == self.digest {
            return Ok(());
        }
        let (what, registry) = (self.what(), self.endpoint.registry.clone());
        Err(RegistryError::DigestMismatch {
            what,
            registry,
            expected: self.digest,
            found,
        })
    }

    async fn retry_after(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.response = None;
        self.failures += 1;
        if self.failures > MAX_RESUMES_WITHOUT_PROGRESS {
            return Err(error);
        }
        tokio::time::sleep(backoff(&self.client.inner().options, self.failures)).await;
        Ok(())
    }

    /// Asks for the bytes from the current position on.
    async fn open(&mut self) -> Result<(), RegistryError> {
        let endpoint = &self.endpoint;
        let url = endpoint.url(&format!("blobs/{}", self.digest))?;
        let mut call = Call::new(
            Method::GET,
            endpoint,
            url,
            Scopes::pull(&endpoint.path),
            &self.credentials,
        );
        if self.position > 0 {
            let range = format!("bytes={}-", self.position);
            call = call.header(
                RANGE,
                HeaderValue::from_str(&range).expect("digits and signs are header text"),
            );
        }
        let response = self.client.send(&call).await?;
        match response.status().as_u16() {
            206 if self.position > 0 && range_start(response.headers()) == Some(self.position) => {
                self.response = Some(response);
                Ok(())
            }
            200 => self.skip_to_position(response).await,
            404 => Err(RegistryError::BlobUnknown {
                registry: endpoint.registry.clone(),
                path: endpoint.path.clone(),
                digest: self.digest,
                detail: failure_detail(response)
                    .await
                    .unwrap_or_else(|| "blob unknown".to_owned()),
            }),
            206 => Err(RegistryError::Protocol {
                registry: endpoint.registry.clone(),
                expected: format!("the blob's bytes from {} on", self.position),
                found: format!("a range from {:?} on", range_start(response.headers())),
            }),
            _ => Err(failure(endpoint, "give the blob", response).await),
        }
    }

    /// Drops what was read before, when the registry starts anew instead of resuming.
    async fn skip_to_position(&mut self, mut response: Response) -> Result<(), RegistryError> {
        let mut left = self.position;
        while left > 0 {
            let mut chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return self.retry_after(self.wrong_size()).await,
                Err(error) => {
                    return self
                        .retry_after(connect_error(&self.endpoint.registry, error))
                        .await;
                }
            };
            let dropped = left.min(chunk.len() as u64);
            left -= dropped;
            // `dropped` is at most the chunk's length.
            let rest = chunk.split_off(usize::try_from(dropped).unwrap_or(chunk.len()));
            self.early = (!rest.is_empty()).then_some(rest);
        }
        self.response = Some(response);
        Ok(())
    }

    fn what(&self) -> String {
        format!("blob {}", self.digest)
    }

    fn wrong_size(&self) -> RegistryError {
        let (what, registry) = (self.what(), self.endpoint.registry.clone());
        RegistryError::SizeMismatch {
            what,
            registry,
            expected: self.size,
            found: self.position,
        }
    }
}

/// Reads the first position of `Content-Range: bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    text.trim()
        .strip_prefix("bytes")?
        .trim_start()
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}
