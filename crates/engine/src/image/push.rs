//! Pushing images (spec image-store §16).

use super::naming;
use super::pull::{registry_error, say};
use super::save::{descriptor, descriptor_of};
use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::view::{Progress, ProgressSender};
use bytes::Bytes;
use std::sync::Arc;
use wharf_image::{
    Descriptor, DiffId, LayerCompression, Manifest, MediaType, Reference, media_type,
};
use wharf_registry::Credentials;
use wharf_store::{Image, LayerBlob};

/// Largest config that is pushed, in bytes.
const MAX_CONFIG_BYTES: u64 = 8 * 1024 * 1024;
/// Largest manifest that is kept, in bytes.
const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;
/// Threads that compress one layer; the output does not depend on their number.
const COMPRESS_THREADS: usize = 2;

impl Engine {
    /// Pushes a tag, or every tag of the repository when none is given.
    ///
    /// # Errors
    /// No such name; a registry's refusal.
    pub async fn push_image(
        self: &Arc<Self>,
        name: &str,
        tag: Option<&str>,
        credentials: Credentials,
        progress: ProgressSender,
    ) -> Result<()> {
        let mut reference = naming::parse(name)?;
        if let Some(tag) = tag.filter(|tag| !tag.is_empty()) {
            reference = reference
                .with_tag(tag)
                .map_err(|e| EngineError::invalid(e.to_string()))?;
        }
        say(
            &progress,
            None,
            format!("The push refers to repository [{}]", reference.name()),
            None,
        );
        let wanted = self.references_to_push(&reference).await?;
        for (reference, image) in wanted {
            self.push_one(&reference, &image, &credentials, &progress)
                .await?;
        }
        Ok(())
    }

    async fn references_to_push(
        self: &Arc<Self>,
        reference: &Reference,
    ) -> Result<Vec<(Reference, Image)>> {
        let reference = reference.clone();
        self.with_store(move |engine| {
            let missing = || {
                EngineError::not_found(format!(
                    "An image does not exist locally with the tag: {}",
                    reference.familiar_name()
                ))
            };
            if reference.tag().is_some() || reference.digest().is_some() {
                let image = engine.image_of_reference(&reference)?.ok_or_else(|| {
                    EngineError::not_found(format!(
                        "An image does not exist locally with the tag: {}",
                        reference.familiar_name()
                    ))
                })?;
                return Ok(vec![(reference, image)]);
            }
            let mut found = Vec::new();
            for (known, id) in engine
                .store
                .names()
                .map_err(store_error("cannot read image names"))?
            {
                if known.name() == reference.name() && known.tag().is_some() {
                    let image = engine
                        .store
                        .image(&id)
                        .map_err(store_error("cannot read images"))?;
                    found.push((known, image.ok_or_else(missing)?));
                }
            }
            if found.is_empty() {
                Err(missing())
            } else {
                Ok(found)
            }
        })
        .await
    }

    async fn push_one(
        self: &Arc<Self>,
        reference: &Reference,
        image: &Image,
        credentials: &Credentials,
        progress: &ProgressSender,
    ) -> Result<()> {
        let diff_ids = image.config.rootfs.diff_ids.clone();
        for diff_id in &diff_ids {
            say(
                progress,
                Some(diff_id.short()),
                "Preparing".to_owned(),
                None,
            );
        }
        let places = self.settings().layers_up();
        let pushed = diff_ids.iter().map(|diff_id| async move {
            let _place = self.uploads.enter(places).await;
            self.push_layer(reference, diff_id, credentials, progress)
                .await
        });
        let layers = futures_util::future::try_join_all(pushed).await?;
        let config = self.image_config_bytes(image).await?;
        let config_descriptor =
            descriptor(media_type::DOCKER_CONFIG, image.id, config.len() as u64);
        self.push_bytes(reference, &config_descriptor, config, credentials)
            .await?;
        let (manifest_type, manifest) = self
            .manifest_to_push(image, config_descriptor, &layers)
            .await?;
        let size = manifest.len() as u64;
        let digest = self
            .registry
            .put_manifest(
                reference,
                &manifest_type,
                Bytes::from(manifest),
                credentials,
            )
            .await
            .map_err(registry_error)?;
        let shown = reference.tag().unwrap_or_default().to_owned();
        say(
            progress,
            None,
            format!("{shown}: digest: {digest} size: {size}"),
            None,
        );
        let _client_gone = progress.send(Progress::Pushed {
            tag: shown,
            digest,
            size_bytes: size,
        });
        let (name, id) = (reference.with_digest(digest), image.id);
        self.with_store(move |engine| {
            engine
                .store
                .tag(&name, &id)
                .map(drop)
                .map_err(store_error("cannot name the image"))
        })
        .await?;
        self.events.emit(
            "image",
            "push",
            &reference.familiar(),
            [("name", reference.familiar_name())],
        );
        Ok(())
    }

    async fn push_layer(
        self: &Arc<Self>,
        reference: &Reference,
        diff_id: &DiffId,
        credentials: &Credentials,
        progress: &ProgressSender,
    ) -> Result<Descriptor> {
        let id = diff_id.short();
        let blob = {
            let diff_id = *diff_id;
            self.with_store(move |engine| engine.blob_of_layer(&diff_id))
                .await?
        };
        let media_type = match blob.compression {
            LayerCompression::None => media_type::DOCKER_LAYER,
            LayerCompression::Gzip => media_type::DOCKER_LAYER_GZIP,
            LayerCompression::Zstd => media_type::OCI_LAYER_ZSTD,
        };
        let layer = descriptor(media_type, blob.digest, blob.size_bytes);
        if self
            .registry
            .blob_exists(reference, &blob.digest, credentials)
            .await
            .map_err(registry_error)?
        {
            say(progress, Some(id), "Layer already exists".to_owned(), None);
            return Ok(layer);
        }
        say(
            progress,
            Some(id.clone()),
            "Pushing".to_owned(),
            Some((0, blob.size_bytes)),
        );
        let file = {
            let digest = blob.digest;
            self.with_store(move |engine| {
                engine
                    .store
                    .blob(&digest)
                    .map_err(store_error("cannot open a layer"))
            })
            .await?
        };
        let file = file
            .ok_or_else(|| EngineError::internal(format!("the blob {} is missing", blob.digest)))?;
        let body = FileBody::new(file, blob.size_bytes, id.clone(), progress.clone());
        self.registry
            .upload_blob(
                reference,
                Some(blob.digest),
                body,
                Some(blob.size_bytes),
                credentials,
            )
            .await
            .map_err(registry_error)?;
        say(progress, Some(id), "Pushed".to_owned(), None);
        Ok(layer)
    }

    /// Returns the layer's compressed blob, making it when there is none.
    pub(crate) fn blob_of_layer(&self, diff_id: &DiffId) -> Result<LayerBlob> {
        let blobs = self
            .store
            .layer_blobs(diff_id)
            .map_err(store_error("cannot read layers"))?;
        for blob in blobs {
            if self
                .store
                .blob(&blob.digest)
                .map_err(store_error("cannot open a layer"))?
                .is_some()
            {
                return Ok(blob);
            }
        }
        let mut writer = self
            .store
            .blob_writer()
            .map_err(store_error("cannot store a compressed layer"))?;
        let (reader, mut pipe) = std::io::pipe()
            .map_err(|e| EngineError::wrap(ErrorKind::Internal, "cannot make a pipe", e))?;
        let made = std::thread::scope(|scope| {
            let source = scope.spawn(move || self.store.write_layer_tar(diff_id, &mut pipe));
            let made = wharf_layer::compress(
                reader,
                &mut writer,
                wharf_layer::Compression::Gzip,
                COMPRESS_THREADS,
            );
            let written = source.join().unwrap_or_else(|_| Ok(0));
            written.map_err(store_error("cannot read the layer"))?;
            made.map_err(|e| EngineError::wrap(ErrorKind::Internal, "cannot compress the layer", e))
        })?;
        let digest = writer
            .commit(Some(made.digest))
            .map_err(store_error("cannot store a compressed layer"))?;
        let blob = LayerBlob {
            digest,
            compression: LayerCompression::Gzip,
            size_bytes: made.out_bytes,
        };
        self.store
            .add_layer_blob(diff_id, &blob)
            .map_err(store_error("cannot store a compressed layer"))?;
        Ok(blob)
    }

    async fn image_config_bytes(self: &Arc<Self>, image: &Image) -> Result<Vec<u8>> {
        let id = image.id;
        self.with_store(move |engine| {
            let bytes = engine
                .store
                .read_blob(&id, MAX_CONFIG_BYTES)
                .map_err(store_error("cannot read the image's config"))?;
            bytes.ok_or_else(|| {
                EngineError::internal(format!("the config of image {id} is missing"))
            })
        })
        .await
    }

    async fn push_bytes(
        self: &Arc<Self>,
        reference: &Reference,
        what: &Descriptor,
        bytes: Vec<u8>,
        credentials: &Credentials,
    ) -> Result<()> {
        if self
            .registry
            .blob_exists(reference, &what.digest, credentials)
            .await
            .map_err(registry_error)?
        {
            return Ok(());
        }
        let body = std::io::Cursor::new(bytes);
        self.registry
            .upload_blob(
                reference,
                Some(what.digest),
                body,
                Some(what.size),
                credentials,
            )
            .await
            .map_err(registry_error)?;
        Ok(())
    }

    /// Returns the manifest the image came with when it still says the truth, else a new one.
    async fn manifest_to_push(
        self: &Arc<Self>,
        image: &Image,
        config: Descriptor,
        layers: &[Descriptor],
    ) -> Result<(String, Vec<u8>)> {
        if let Some(known) = image.manifest.clone() {
            let bytes = self
                .with_store(move |engine| {
                    let bytes = engine
                        .store
                        .read_blob(&known.digest, MAX_MANIFEST_BYTES)
                        .map_err(store_error("cannot read the manifest"))?;
                    Ok(bytes.map(|bytes| (known.media_type, bytes)))
                })
                .await?;
            if let Some((kind, bytes)) = bytes
                && let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes)
                && manifest.config.digest == config.digest
                && manifest
                    .layers
                    .iter()
                    .map(|layer| layer.digest)
                    .eq(layers.iter().map(|layer| layer.digest))
            {
                let kind = if kind.is_empty() {
                    manifest
                        .media_type
                        .unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned())
                } else {
                    kind
                };
                return Ok((kind, bytes));
            }
        }
        let oci = layers.iter().any(|layer| {
            MediaType::parse(&layer.media_type) == MediaType::Layer(LayerCompression::Zstd)
        });
        let kind = if oci {
            media_type::OCI_MANIFEST
        } else {
            media_type::DOCKER_MANIFEST
        };
        let mut manifest = Manifest {
            schema_version: 2,
            media_type: Some(kind.to_owned()),
            config,
            layers: layers.to_vec(),
            annotations: std::collections::BTreeMap::new(),
        };
        if oci {
            media_type::OCI_CONFIG.clone_into(&mut manifest.config.media_type);
            for layer in manifest
                .layers
                .iter_mut()
                .filter(|layer| layer.media_type == media_type::DOCKER_LAYER_GZIP)
            {
                media_type::OCI_LAYER_GZIP.clone_into(&mut layer.media_type);
            }
        }
        let bytes = serde_json::to_vec_pretty(&manifest)
            .map_err(|e| EngineError::wrap(ErrorKind::Internal, "cannot write a manifest", e))?;
        let described = descriptor_of(kind, &bytes);
        Ok((described.media_type, bytes))
    }
}

/// A file as an asynchronous body that reports its progress.
struct FileBody {
    receiver: tokio_util::io::StreamReader<ReceiverStream, Bytes>,
}

struct ReceiverStream(tokio::sync::mpsc::Receiver<std::io::Result<Bytes>>);

impl futures_util::Stream for ReceiverStream {
    type Item = std::io::Result<Bytes>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

impl FileBody {
    fn new(mut file: std::fs::File, total: u64, id: String, progress: ProgressSender) -> Self {
        let stream = crate::byte_stream::produce(move |out| {
            let mut done = 0;
            let mut buffer = vec![0u8; 256 * 1024];
            loop {
                let count = std::io::Read::read(&mut file, &mut buffer).map_err(|e| {
                    EngineError::wrap(ErrorKind::Internal, "cannot read a layer", e)
                })?;
                if count == 0 {
                    return Ok(());
                }
                out.write_all(buffer.get(..count).unwrap_or_default())
                    .map_err(|e| EngineError::internal(e.to_string()))?;
                done += count as u64;
                say(
                    &progress,
                    Some(id.clone()),
                    "Pushing".to_owned(),
                    Some((done, total)),
                );
            }
        });
        Self {
            receiver: tokio_util::io::StreamReader::new(ReceiverStream(stream)),
        }
    }
}

impl tokio::io::AsyncRead for FileBody {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.receiver).poll_read(context, into)
    }
}
