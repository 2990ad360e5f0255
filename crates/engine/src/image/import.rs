//! Making an image of a root file system's tar (spec image-store §11).

use super::naming::parse_tag;
use crate::byte_stream::{ByteStream, ChunkReader};
use crate::clock::{now_ns, rfc3339};
use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::request::Import;
use crate::model::view::{Progress, ProgressSender};
use std::io::{BufReader, Read};
use std::sync::Arc;
use wharf_image::{ContainerConfig, HistoryEntry, ImageConfig, ImageId, Platform, RootFs};

/// Tells whether the disk is full.
pub(crate) fn is_no_space(error: &wharf_layer::LayerError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = cause {
        let full = at
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::StorageFull)
            || at
                .downcast_ref::<wharf_safefs::FsError>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::StorageFull);
        if full {
            return true;
        }
        cause = at.source();
    }
    false
}

impl Engine {
    /// Makes an image of one layer of a tar in any compression; nothing is named before the whole
    /// tar was read and stored.
    ///
    /// # Errors
    /// A broken tar, a malformed name or change, a URL that cannot be fetched.
    pub async fn import_image(
        self: &Arc<Self>,
        request: Import,
        body: ByteStream,
        progress: ProgressSender,
    ) -> Result<ImageId> {
        let name = if request.repository.is_empty() {
            None
        } else {
            Some(parse_tag(&request.repository, &request.tag)?)
        };
        let mut config = ContainerConfig::default();
        for change in &request.changes {
            crate::change::apply(&mut config, change)?;
        }
        let body = if request.source == "-" || request.source.is_empty() {
            body
        } else {
            let _client_gone = progress.send(Progress::Status {
                id: None,
                status: format!("Downloading from {}", request.source),
                progress: None,
            });
            crate::fetch::fetch(&request.source).await?
        };
        let id = self
            .with_store(move |engine| {
                engine.store_whole("import", || {
                    engine.import_blocking(&request, config, ChunkReader::new(body))
                })
            })
            .await?;
        if let Some(name) = &name {
            self.tag_reference(name, &id).await?;
        }
        self.image_event("import", &id, id.to_string());
        let _client_gone = progress.send(Progress::Status {
            id: None,
            status: id.to_string(),
            progress: None,
        });
        Ok(id)
    }

    fn import_blocking(
        &self,
        request: &Import,
        config: ContainerConfig,
        body: impl Read + Send + 'static,
    ) -> Result<ImageId> {
        let layer = self.unpack_layer(body, "the imported tar", None)?;
        let platform = request.platform.clone().unwrap_or_else(Platform::host);
        let created = rfc3339(now_ns());
        let source = if request.source.is_empty() {
            "-"
        } else {
            &request.source
        };
        let comment = if request.message.is_empty() {
            format!("Imported from {source}")
        } else {
            request.message.clone()
        };
        let image = ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            variant: Some(platform.variant).filter(|variant| !variant.is_empty()),
            created: Some(created.clone()),
            comment: Some(comment.clone()),
            config: Some(config),
            history: vec![HistoryEntry {
                created: Some(created),
                comment: Some(comment),
                ..HistoryEntry::default()
            }],
            rootfs: RootFs {
                diff_ids: vec![layer.diff_id],
                ..RootFs::default()
            },
            ..ImageConfig::default()
        };
        let bytes = image.to_bytes();
        let new = wharf_store::NewImage {
            config: &bytes,
            built_here: true,
            ..Default::default()
        };
        Ok(self
            .store
            .put_image(&new)
            .map_err(store_error("cannot store the image"))?
            .id)
    }

    /// Unpacks a layer's tar of any compression into the store; `expected` refuses another DiffID
    /// before anything is published.
    pub(crate) fn unpack_layer(
        &self,
        body: impl Read + Send + 'static,
        what: &str,
        expected: Option<&wharf_image::DiffId>,
    ) -> Result<wharf_store::Layer> {
        let broken = |e: wharf_layer::LayerError| {
            EngineError::wrap(ErrorKind::Invalid, format!("cannot read {what}"), e)
        };
        let (_, reader) =
            wharf_layer::decompress(BufReader::with_capacity(256 * 1024, body)).map_err(broken)?;
        let staging = self
            .store
            .stage()
            .map_err(store_error("cannot stage a layer"))?;
        let applied =
            wharf_layer::apply(reader, staging.root(), wharf_layer::ApplyOptions::default())
                .map_err(broken)?;
        let found = applied.summary.diff_id;
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(EngineError::invalid(format!(
                "invalid diffID for {what}: expected \"{expected}\", got \"{found}\""
            )));
        }
        self.store
            .publish_layer(staging, wharf_store::NewLayer::unpacked(applied, None))
            .map_err(store_error("cannot publish a layer"))
    }
}
