//! Content on its way out: hashed, counted and compared with what was announced.

use crate::error::{RegistryError, shown};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{Stream, try_unfold};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use wharf_image::{Digest, Hasher};

/// Size of the pieces in which content is read and sent.
const PIECE_BYTES: usize = 128 * 1024;

/// Holds what is known of content before it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announced {
    pub(crate) digest: Option<Digest>,
    pub(crate) size: Option<u64>,
}

/// Holds what is known of content after it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContentSum {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Tells how reading the content ended, once its stream is used up.
#[derive(Clone)]
pub(crate) struct Report {
    outcome: Arc<Mutex<Option<Result<ContentSum, RegistryError>>>>,
    registry: String,
}

impl Report {
    /// Returns the sum of the content, or why it could not be read to its end.
    pub(crate) fn take(&self) -> Result<ContentSum, RegistryError> {
        self.outcome
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .unwrap_or_else(|| {
                Err(RegistryError::Protocol {
                    registry: self.registry.clone(),
                    expected: "an answer after the content was read".to_owned(),
                    found: "success before".to_owned(),
                })
            })
    }

    /// Returns why the content could not be read, if that is so.
    pub(crate) fn take_failure(&self) -> Option<RegistryError> {
        self.outcome
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?
            .err()
    }

    fn set(&self, outcome: Result<ContentSum, RegistryError>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

/// Reads content one piece ahead of what it hands out: the last piece leaves only after all is found
/// to be as announced, so that wrong content never becomes a complete request.
pub(crate) struct UploadSource {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    announced: Announced,
    report: Report,
    hasher: Hasher,
    size: u64,
    /// Read but not handed out.
    pending: Option<Bytes>,
    ended: bool,
}

impl UploadSource {
    pub(crate) fn new(
        body: impl AsyncRead + Send + 'static,
        announced: Announced,
        registry: &str,
    ) -> (Self, Report) {
        let report = Report {
            outcome: Arc::default(),
            registry: registry.to_owned(),
        };
        let source = Self {
            reader: Box::pin(body),
            announced,
            report: report.clone(),
            hasher: Hasher::new(),
            size: 0,
            pending: None,
            ended: false,
        };
        (source, report)
    }

    /// Reads the first piece.
    pub(crate) async fn read_ahead(&mut self) -> Result<(), RegistryError> {
        if self.pending.is_none() && !self.ended {
            self.pending = self.read_piece().await?;
        }
        Ok(())
    }

    /// Tells whether there is nothing to hand out, now or later.
    pub(crate) fn is_empty(&self) -> bool {
        self.ended && self.pending.is_none()
    }

    /// Hands out the pieces; ends with an error when the content is not as announced.
    pub(crate) fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        try_unfold(self, |mut source| async move {
            match source.next().await {
                Ok(piece) => Ok(piece.map(|piece| (piece, source))),
                Err(error) => {
                    let text = io::Error::other(error.to_string());
                    source.report.set(Err(error));
                    Err(text)
                }
            }
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        self.read_ahead().await?;
        let following = if self.ended {
            None
        } else {
            self.read_piece().await?
        };
        Ok(std::mem::replace(&mut self.pending, following))
    }

    /// Reads a full piece, or what is left; `None` at the end.
    async fn read_piece(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        while piece.len() < PIECE_BYTES && !self.ended {
            let count = self.reader.read_buf(&mut piece).await.map_err(|error| {
                RegistryError::UploadSource {
                    registry: self.report.registry.clone(),
                    detail: shown(&error.to_string()),
                }
            })?;
            self.ended = count == 0;
        }
        self.size += piece.len() as u64;
        self.hasher.update(&piece);
        let is_wrong = |size: u64| {
            if self.ended {
                self.size != size
            } else {
                self.size > size
            }
        };
        if let Some(expected) = self.announced.size.filter(|size| is_wrong(*size)) {
            let (what, registry) = ("content to upload".to_owned(), self.report.registry.clone());
            return Err(RegistryError::SizeMismatch {
                what,
                registry,
                expected,
                found: self.size,
            });
        }
        if self.ended {
            self.finish()?;
        }
        Ok((!piece.is_empty()).then(|| piece.freeze()))
    }

    fn finish(&mut self) -> Result<(), RegistryError> {
        let found = std::mem::take(&mut self.hasher).finish();
        if let Some(expected) = self.announced.digest.filter(|expected| *expected != found) {
            let (what, registry) = ("content to upload".to_owned(), self.report.registry.clone());
            return Err(RegistryError::DigestMismatch {
                what,
                registry,
                expected,
                found,
            });
        }
        self.report.set(Ok(ContentSum {
            digest: found,
            size: self.size,
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Announced, PIECE_BYTES, UploadSource};
    use futures_util::TryStreamExt as _;
    use wharf_image::Digest;

    #[tokio::test]
    async fn content_is_compared_before_its_last_piece_leaves() {
        for length in [
            0,
            1,
            PIECE_BYTES - 1,
            PIECE_BYTES,
            PIECE_BYTES + 1,
            3 * PIECE_BYTES,
        ] {
            let content = vec![7u8; length];
            let (digest, size) = (Digest::of(&content), length as u64);
            let other = Digest::of(b"other");
            let cases = [
                (None, None, true),
                (Some(digest), Some(size), true),
                (Some(other), None, false),
                (None, Some(size + 1), false),
                (None, Some(size.wrapping_sub(1)), false),
            ];
            for (digest, announced_size, is_right) in cases {
                let announced = Announced {
                    digest,
                    size: announced_size,
                };
                let (source, report) =
                    UploadSource::new(std::io::Cursor::new(content.clone()), announced, "r");
                let mut sent = 0;
                let outcome = source.into_stream().try_for_each(|piece| {
                    sent += piece.len();
                    std::future::ready(Ok(()))
                });
                let outcome = outcome.await;
                assert_eq!(outcome.is_ok(), is_right, "{length} {announced:?}");
                assert_eq!(report.take().is_ok(), is_right, "{length} {announced:?}");
                assert_eq!(
                    sent == length,
                    is_right || length == 0,
                    "{length} {announced:?}"
                );
            }
        }
    }
}
