//! One layer on its way from the registry into the store.

use crate::byte_stream::ChunkReader;
use crate::container::create::store_error;
use crate::engine::{Engine, blocking};
use crate::error::{EngineError, ErrorKind, Result};
use crate::image::pull::{registry_error, say};
use crate::model::view::ProgressSender;
use bytes::Bytes;
use std::io::{BufReader, Read, Write};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use wharf_image::{Descriptor, DiffId, LayerCompression, MediaType, Reference};
use wharf_registry::{Credentials, RegistryError};
use wharf_store::{BlobWriter, LayerBlob, Lease, NewLayer, Staging};

/// Bytes of one piece of a download.
const PIECE_BYTES: usize = 128 * 1024;

/// One layer on its way from the registry into the store.
pub(super) struct LayerFetch {
    pub(super) engine: Arc<Engine>,
    pub(super) repository: Reference,
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: DiffId,
    pub(super) credentials: Credentials,
    pub(super) progress: ProgressSender,
    pub(super) lease: Arc<Lease>,
}

impl LayerFetch {
    /// Downloads the layer, and unpacks it while it arrives.
    pub(super) async fn run(self) -> Result<()> {
        let blob = self
            .engine
            .registry
            .fetch_blob(&self.repository, &self.descriptor, &self.credentials)
            .await
            .map_err(registry_error)?;
        let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(8);
        let worker = {
            let (engine, descriptor, diff_id, lease) = (
                Arc::clone(&self.engine),
                self.descriptor.clone(),
                self.diff_id,
                Arc::clone(&self.lease),
            );
            blocking(move || {
                engine.unpack_pulled(ChunkReader::new(receiver), &descriptor, &diff_id, &lease)
            })
        };
        let (done, ()) = tokio::join!(worker, self.download(blob, sender));
        done?;
        self.tell("Pull complete", None);
        Ok(())
    }

    /// Hands the blob on in pieces, telling how far it is.
    async fn download(
        &self,
        mut blob: impl AsyncRead + Unpin,
        sender: mpsc::Sender<std::io::Result<Bytes>>,
    ) {
        let total = self.descriptor.size;
        let mut done = 0u64;
        loop {
            let mut piece = bytes::BytesMut::with_capacity(PIECE_BYTES);
            let read = blob.read_buf(&mut piece).await;
            let ended = matches!(read, Ok(0) | Err(_));
            match read {
                Ok(0) => {}
                Ok(count) => {
                    done += count as u64;
                    self.tell("Downloading", Some((done, total)));
                    if sender.send(Ok(piece.freeze())).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // The worker reports the broken download when it meets the error.
                    let _worker_gone = sender.send(Err(error)).await;
                }
            }
            if ended {
                break;
            }
        }
        if done == total {
            self.tell("Verifying Checksum", None);
            self.tell("Download complete", None);
            self.tell("Extracting", Some((done, total)));
        }
    }

    fn tell(&self, status: &str, amount: Option<(u64, u64)>) {
        let id = self.descriptor.digest.short();
        say(&self.progress, Some(id), status.to_owned(), amount);
    }
}

impl Engine {
    /// Unpacks a compressed layer while it arrives, keeping the blob; published only when blob and
    /// DiffID are what the documents say.
    fn unpack_pulled(
        &self,
        body: ChunkReader,
        descriptor: &Descriptor,
        diff_id: &DiffId,
        lease: &Lease,
    ) -> Result<()> {
        let mut writer = self
            .store
            .blob_writer()
            .map_err(store_error("cannot store a layer"))?;
        let staging = self
            .store
            .stage()
            .map_err(store_error("cannot stage a layer"))?;
        let tee = Tee {
            source: body,
            copy: &mut writer,
        };
        let applied = apply(tee, &staging, descriptor)?;
        if applied.summary.diff_id != *diff_id {
            return Err(EngineError::invalid(format!(
                "layer {} does not match its config: expected DiffID {diff_id}, found {}",
                descriptor.digest.short(),
                applied.summary.diff_id
            )));
        }
        let blob = keep_blob(writer, descriptor, lease)?;
        let new = NewLayer::unpacked(applied, Some(blob));
        self.store
            .publish_layer(staging, new)
            .map_err(store_error("cannot publish a layer"))?;
        lease
            .hold_layer(diff_id)
            .map_err(store_error("cannot hold a layer"))?;
        Ok(())
    }
}

/// Unpacks a compressed layer, and reads what follows it to the end.
fn apply(
    source: impl Read + Send,
    staging: &Staging,
    descriptor: &Descriptor,
) -> Result<wharf_layer::Applied> {
    let mut buffered = BufReader::with_capacity(PIECE_BYTES, source);
    let applied = wharf_layer::decompress(&mut buffered).and_then(|(_, reader)| {
        wharf_layer::apply(reader, staging.root(), wharf_layer::ApplyOptions::default())
    });
    let applied = match applied {
        Ok(applied) => applied,
        Err(error) => {
            // A broken download is the cause, not the tar it broke.
            let cause = std::io::copy(&mut buffered, &mut std::io::sink()).err();
            return Err(cause.map_or_else(
                || {
                    EngineError::wrap(
                        ErrorKind::Invalid,
                        format!("failed to register layer {}", descriptor.digest.short()),
                        error,
                    )
                },
                |cause| registry_error(RegistryError::from_io(cause, "the registry")),
            ));
        }
    };
    std::io::copy(&mut buffered, &mut std::io::sink())
        .map_err(|e| registry_error(RegistryError::from_io(e, "the registry")))?;
    Ok(applied)
}

/// Keeps the blob of a layer as it came, if it is the one that was asked for.
fn keep_blob(writer: BlobWriter, descriptor: &Descriptor, lease: &Lease) -> Result<LayerBlob> {
    let size = writer.size_bytes();
    let digest = writer
        .commit(Some(descriptor.digest))
        .map_err(store_error("cannot store a layer"))?;
    lease
        .hold_blob(&digest)
        .map_err(store_error("cannot hold a layer"))?;
    let compression = match MediaType::parse(&descriptor.media_type) {
        MediaType::Layer(compression) | MediaType::ForeignLayer(compression) => compression,
        _ => LayerCompression::Gzip,
    };
    Ok(LayerBlob {
        digest,
        compression,
        size_bytes: size,
    })
}

/// Reads and writes a copy of what was read.
struct Tee<'a, R, W> {
    source: R,
    copy: &'a mut W,
}

impl<R: Read, W: Write> Read for Tee<'_, R, W> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.source.read(into)?;
        self.copy.write_all(into.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}
