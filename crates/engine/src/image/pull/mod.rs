//! Pulling images: every layer at once, each a pipeline from socket to directory (DESIGN §4).

use super::naming;
use crate::byte_stream::ChunkReader;
use crate::container::create::store_error;
use crate::engine::{Engine, blocking};
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::request::Pull;
use crate::model::view::{Progress, ProgressSender};
use bytes::Bytes;
use std::io::{BufReader, Read, Write};
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use wharf_image::{
    Descriptor, DiffId, ImageConfig, ImageId, LayerCompression, MediaType, Platform, Reference,
};
use wharf_registry::{Credentials, RegistryError, Resolved};
use wharf_store::{LayerBlob, Lease, NewImage, NewLayer};

/// Bytes of one piece of a download.
const PIECE_BYTES: usize = 128 * 1024;
/// Tags that one `pull -a` takes.
const MAX_TAGS: usize = 10_000;

impl Engine {
    /// Pulls one tag or digest, or every tag of a repository when none is given.
    ///
    /// # Errors
    /// A malformed name, a registry's refusal, content that does not match its digest.
    pub async fn pull_image(
        self: &Arc<Self>,
        request: Pull,
        progress: ProgressSender,
    ) -> Result<()> {
        let mut reference = naming::parse(request.from_image.trim_end_matches(':'))?;
        if request.tag.contains(':') {
            let digest = request.tag.parse().map_err(|_| {
                EngineError::invalid(format!("invalid reference format: {:?}", request.tag))
            })?;
            reference = reference.with_digest(digest);
        } else if !request.tag.is_empty() && reference.digest().is_none() {
            reference = reference
                .with_tag(&request.tag)
                .map_err(|_| EngineError::invalid("invalid tag format"))?;
        }
        let platform = request.platform.clone().unwrap_or_else(Platform::host);
        if reference.tag().is_some() || reference.digest().is_some() {
            return self
                .pull_one(&reference, &platform, &request.credentials, &progress)
                .await
                .map(drop);
        }
        let tags = self
            .registry
            .tags(&reference, &request.credentials)
            .await
            .map_err(registry_error)?;
        for tag in tags.iter().take(MAX_TAGS) {
            let tagged = reference
                .with_tag(tag)
                .map_err(|e| EngineError::invalid(e.to_string()))?;
            self.pull_one(&tagged, &platform, &request.credentials, &progress)
                .await?;
        }
        Ok(())
    }

    pub(crate) async fn pull_one(
        self: &Arc<Self>,
        reference: &Reference,
        platform: &Platform,
        credentials: &Credentials,
        progress: &ProgressSender,
    ) -> Result<ImageId> {
        let resolved = self
            .registry
            .resolve(reference, platform, credentials)
            .await
            .map_err(registry_error)?;
        let shown = reference
            .tag()
            .map_or_else(|| resolved.top.0.digest.to_string(), str::to_owned);
        say(
            progress,
            Some(shown),
            format!("Pulling from {}", reference.path()),
            None,
        );
        let diff_ids = check_documents(&resolved, platform)?;
        let lease = Arc::new(self.lease("pull").await?);
        let stored = async {
            self.fetch_layers(
                reference,
                &resolved,
                &diff_ids,
                credentials,
                progress,
                &lease,
            )
            .await?;
            self.store_pulled(reference, &resolved).await
        }
        .await;
        drop(lease);
        if stored.is_err() {
            self.with_store(|engine| {
                engine.drop_unowned();
                Ok(())
            })
            .await?;
        }
        let (id, is_new) = stored?;
        say(
            progress,
            None,
            format!("Digest: {}", resolved.top.0.digest),
            None,
        );
        let name = reference.familiar();
        let status = if is_new {
            format!("Status: Downloaded newer image for {name}")
        } else {
            format!("Status: Image is up to date for {name}")
        };
        say(progress, None, status, None);
        self.events.emit(
            "image",
            "pull",
            &name,
            [("name", reference.familiar_name())],
        );
        Ok(id)
    }

    async fn lease(self: &Arc<Self>, purpose: &'static str) -> Result<Lease> {
        self.with_store(move |engine| {
            engine
                .store
                .lease(purpose)
                .map_err(store_error("cannot hold layers"))
        })
        .await
    }

    async fn fetch_layers(
        self: &Arc<Self>,
        reference: &Reference,
        resolved: &Resolved,
        diff_ids: &[DiffId],
        credentials: &Credentials,
        progress: &ProgressSender,
        lease: &Arc<Lease>,
    ) -> Result<()> {
        let places = self.settings().layers_down();
        let mut tasks = tokio::task::JoinSet::new();
        let mut started = std::collections::HashSet::new();
        for (descriptor, diff_id) in resolved.parsed.layers.iter().zip(diff_ids) {
            if !started.insert(*diff_id) {
                continue;
            }
            let id = descriptor.digest.short();
            let (held, diff_id) = (Arc::clone(lease), *diff_id);
            let known = blocking(move || {
                held.hold_layer(&diff_id)
                    .map_err(store_error("cannot hold a layer"))
            })
            .await?;
            if known.is_some() {
                say(progress, Some(id), "Already exists".to_owned(), None);
                continue;
            }
            say(progress, Some(id), "Pulling fs layer".to_owned(), None);
            let fetch = LayerFetch {
                engine: Arc::clone(self),
                repository: reference.repository(),
                descriptor: descriptor.clone(),
                diff_id,
                credentials: credentials.clone(),
                progress: progress.clone(),
                lease: Arc::clone(lease),
            };
            tasks.spawn(async move {
                let _place = fetch.engine.downloads.enter(places).await;
                fetch.run().await
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap_or_else(|e| Err(EngineError::internal(format!("a download failed: {e}"))))?;
        }
        Ok(())
    }

    async fn store_pulled(
        self: &Arc<Self>,
        reference: &Reference,
        resolved: &Resolved,
    ) -> Result<(ImageId, bool)> {
        let (reference, resolved) = (reference.clone(), resolved.clone());
        self.with_store(move |engine| {
            let with_bytes =
                |document: &(Descriptor, Bytes)| (document.0.clone(), document.1.to_vec());
            let is_index = resolved.top.0.digest != resolved.manifest.0.digest;
            let new = NewImage {
                config: &resolved.config,
                manifest: Some(with_bytes(&resolved.manifest)),
                index: is_index.then(|| with_bytes(&resolved.top)),
                ..NewImage::default()
            };
            let image = engine
                .store
                .put_image(&new)
                .map_err(store_error("cannot store the image"))?;
            let by_digest = reference.with_digest(resolved.top.0.digest);
            let mut changed = engine
                .store
                .tag(&by_digest, &image.id)
                .map_err(store_error("cannot name the image"))?
                .is_none();
            if reference.tag().is_some() && reference.digest().is_none() {
                let before = engine
                    .store
                    .tag(&reference, &image.id)
                    .map_err(store_error("cannot name the image"))?;
                changed |= before != Some(image.id);
            }
            Ok((image.id, changed))
        })
        .await
    }
}

/// Checks that config and manifest belong together and fit the platform.
fn check_documents(resolved: &Resolved, platform: &Platform) -> Result<Vec<DiffId>> {
    let config = ImageConfig::parse(&resolved.config)
        .map_err(|e| EngineError::wrap(ErrorKind::Invalid, "cannot read the image's config", e))?;
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() != resolved.parsed.layers.len() {
        return Err(EngineError::invalid(format!(
            "invalid manifest: {} layers for {} DiffIDs in the config",
            resolved.parsed.layers.len(),
            diff_ids.len()
        )));
    }
    if !config.os.is_empty() && config.os != platform.os {
        return Err(EngineError::invalid(format!(
            "image operating system \"{}\" cannot be used on this platform",
            config.os
        )));
    }
    Ok(diff_ids)
}

/// One layer on its way from the registry into the store.
struct LayerFetch {
    engine: Arc<Engine>,
    repository: Reference,
    descriptor: Descriptor,
    diff_id: DiffId,
    credentials: Credentials,
    progress: ProgressSender,
    lease: Arc<Lease>,
}

impl LayerFetch {
    async fn run(self) -> Result<()> {
        let id = self.descriptor.digest.short();
        let mut blob = self
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
        let (progress, total) = (self.progress.clone(), self.descriptor.size);
        let download = async move {
            let mut done = 0u64;
            loop {
                let mut piece = bytes::BytesMut::with_capacity(PIECE_BYTES);
                let read = blob.read_buf(&mut piece).await;
                let ended = matches!(read, Ok(0) | Err(_));
                match read {
                    Ok(0) => {}
                    Ok(count) => {
                        done += count as u64;
                        say(
                            &progress,
                            Some(id.clone()),
                            "Downloading".to_owned(),
                            Some((done, total)),
                        );
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
                say(
                    &progress,
                    Some(id.clone()),
                    "Verifying Checksum".to_owned(),
                    None,
                );
                say(
                    &progress,
                    Some(id.clone()),
                    "Download complete".to_owned(),
                    None,
                );
                say(
                    &progress,
                    Some(id),
                    "Extracting".to_owned(),
                    Some((done, total)),
                );
            }
        };
        let (done, ()) = tokio::join!(worker, download);
        done?;
        say(
            &self.progress,
            Some(self.descriptor.digest.short()),
            "Pull complete".to_owned(),
            None,
        );
        Ok(())
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
        let mut tee = Tee {
            source: body,
            copy: &mut writer,
        };
        let mut buffered = BufReader::with_capacity(PIECE_BYTES, &mut tee);
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
        drop(buffered);
        if applied.summary.diff_id != *diff_id {
            return Err(EngineError::invalid(format!(
                "layer {} does not match its config: expected DiffID {diff_id}, found {}",
                descriptor.digest.short(),
                applied.summary.diff_id
            )));
        }
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
        let new = NewLayer::unpacked(
            applied,
            Some(LayerBlob {
                digest,
                compression,
                size_bytes: size,
            }),
        );
        self.store
            .publish_layer(staging, new)
            .map_err(store_error("cannot publish a layer"))?;
        lease
            .hold_layer(diff_id)
            .map_err(store_error("cannot hold a layer"))?;
        Ok(())
    }
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

pub(super) fn say(
    progress: &ProgressSender,
    id: Option<String>,
    status: String,
    amount: Option<(u64, u64)>,
) {
    let _client_gone = progress.send(Progress::Status {
        id,
        status,
        progress: amount,
    });
}

/// Classifies a registry's failure.
pub(crate) fn registry_error(error: RegistryError) -> EngineError {
    let kind = match &error {
        RegistryError::Unauthorized { .. } => ErrorKind::Unauthorized,
        RegistryError::PullDenied { .. }
        | RegistryError::ManifestUnknown { .. }
        | RegistryError::NoMatchingManifest { .. } => ErrorKind::NotFound,
        RegistryError::Denied { .. } => ErrorKind::Forbidden,
        RegistryError::Address { .. } => ErrorKind::Invalid,
        _ => ErrorKind::Internal,
    };
    EngineError::new(kind, error.to_string())
}
