//! Reading images from an archive in one pass (spec image-store §10).
//!
//! Documents are kept in memory, everything else is unpacked as a layer while it streams by; only
//! when the whole archive was read are layers published and images named. A broken archive leaves
//! nothing behind.

use super::archive_contents::{Contents, Entry, LoadedLayer, clean, clean_in};
use super::archive_format::MAX_DOCUMENT_BYTES;
use crate::byte_stream::{ByteStream, ChunkReader};
use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::view::{Progress, ProgressSender};
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use wharf_image::{DiffId, Digest, ImageConfig, ImageId, Platform};
use wharf_store::{Lease, NewLayer};

/// Members of one archive.
const MAX_MEMBERS: usize = 100_000;
/// A file that is smaller is no layer: a tar has at least one block.
const SMALLEST_LAYER_BYTES: u64 = 512;
/// Characters of a layer's name that are shown.
const SHORT_ID_CHARS: usize = 12;

impl Engine {
    /// Loads the images of an archive made by this engine, docker or podman, in any compression; of an image for
    /// several platforms the one for `platform`, or for this machine.
    ///
    /// # Errors
    /// A broken or truncated archive, layers that do not match their config, an image of another platform than the one
    /// that is asked for: nothing is kept.
    pub async fn load_images(
        self: &Arc<Self>,
        body: ByteStream,
        quiet: bool,
        platform: Option<Platform>,
        progress: ProgressSender,
    ) -> Result<()> {
        self.with_store(move |engine| {
            engine.store_whole("load", || {
                let body = ChunkReader::new(body);
                engine.load_blocking(body, quiet, platform.as_ref(), &progress)
            })
        })
        .await
    }

    fn load_blocking(
        &self,
        body: ChunkReader,
        quiet: bool,
        platform: Option<&Platform>,
        progress: &ProgressSender,
    ) -> Result<()> {
        let (_, reader) = wharf_layer::decompress(BufReader::with_capacity(256 * 1024, body))
            .map_err(broken_archive)?;
        let mut contents = self.read_archive(reader, quiet, progress)?;
        let entries = contents.entries(platform)?;
        if entries.is_empty() {
            return Err(EngineError::invalid("the archive names no image"));
        }
        let mut checked = Vec::new();
        for entry in entries {
            let config = contents.document(&entry.config)?.to_vec();
            let diff_ids = contents.check(&entry, &config, platform)?;
            checked.push((entry, config, diff_ids));
        }
        for (entry, config, diff_ids) in checked {
            self.load_entry(&mut contents, &entry, &config, &diff_ids, progress)?;
        }
        Ok(())
    }

    fn read_archive(
        &self,
        reader: impl Read,
        quiet: bool,
        progress: &ProgressSender,
    ) -> Result<Contents> {
        let mut archive = tar::Archive::new(reader);
        let mut contents = Contents::default();
        let progress = (!quiet).then_some(progress);
        for (number, member) in archive.entries().map_err(broken_tar)?.enumerate() {
            if number >= MAX_MEMBERS {
                return Err(EngineError::invalid(format!(
                    "invalid archive: more than {MAX_MEMBERS} members"
                )));
            }
            let mut member = member.map_err(broken_tar)?;
            let path = clean(&member.path().map_err(broken_tar)?)?;
            let kind = member.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = member.link_name().map_err(broken_tar)?.unwrap_or_default();
                let base = match Path::new(&path).parent() {
                    Some(parent) if kind.is_symlink() => parent,
                    _ => Path::new(""),
                };
                let target = clean_in(base, &target);
                contents.links.insert(path, target);
            } else if kind.is_file() {
                self.read_member(&mut contents, path, &mut member, progress)?;
            }
        }
        Ok(contents)
    }

    /// Takes a file in: a document as it is, everything else as a layer.
    fn read_member(
        &self,
        contents: &mut Contents,
        path: String,
        member: &mut tar::Entry<'_, impl Read>,
        progress: Option<&ProgressSender>,
    ) -> Result<()> {
        if let Some(known) = self.known_layer(&path) {
            contents.layers.insert(path, LoadedLayer::Known(known));
            return Ok(());
        }
        let size = member.size();
        let mut first = [0u8; 1];
        let got = member.read(&mut first).map_err(broken_tar)?;
        let head = std::io::Cursor::new(first.get(..got).unwrap_or_default().to_vec());
        let mut whole = head.chain(member);
        let is_document = size <= MAX_DOCUMENT_BYTES
            && (got == 0 || matches!(first[0], b'{' | b'[') || size < SMALLEST_LAYER_BYTES);
        if is_document {
            let mut bytes = Vec::new();
            whole.read_to_end(&mut bytes).map_err(broken_tar)?;
            return contents.keep_document(path, bytes);
        }
        if let Some(progress) = progress {
            let name = path.rsplit('/').find(|part| *part != "layer.tar");
            let _client_gone = progress.send(Progress::Status {
                id: name.map(|name| name.chars().take(SHORT_ID_CHARS).collect()),
                status: "Loading layer".to_owned(),
                progress: Some((0, size)),
            });
        }
        let layer = self.stage_member(&mut whole)?;
        std::io::copy(&mut whole, &mut std::io::sink()).map_err(broken_tar)?;
        contents.layers.insert(path, layer);
        Ok(())
    }

    /// Returns the layer that a member is named after, if the store has it (current docker layout).
    fn known_layer(&self, path: &str) -> Option<DiffId> {
        let hex = path.strip_prefix("blobs/sha256/")?;
        let digest: Digest = format!("sha256:{hex}").parse().ok()?;
        self.store
            .layer(&digest)
            .ok()
            .flatten()
            .map(|layer| layer.diff_id)
    }

    fn stage_member(&self, member: &mut dyn Read) -> Result<LoadedLayer> {
        let staging = self
            .store
            .stage()
            .map_err(store_error("cannot stage a layer"))?;
        let (reader, mut writer) = std::io::pipe()
            .map_err(|e| EngineError::wrap(ErrorKind::Internal, "cannot make a pipe", e))?;
        // A member of the outer archive cannot leave its thread; its bytes can.
        let (copied, unpacked) = std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let reader = BufReader::with_capacity(256 * 1024, reader);
                let (_, reader) = wharf_layer::decompress(reader)?;
                wharf_layer::apply(reader, staging.root(), wharf_layer::ApplyOptions::default())
            });
            let copied = std::io::copy(member, &mut writer);
            drop(writer);
            (copied, worker.join())
        });
        match unpacked {
            Ok(Ok(applied)) => {
                copied.map_err(broken_tar)?;
                Ok(LoadedLayer::Staged(Box::new((staging, applied))))
            }
            Ok(Err(error)) if crate::image::import::is_no_space(&error) => Err(EngineError::wrap(
                ErrorKind::Internal,
                "cannot unpack a layer",
                error,
            )),
            Ok(Err(error)) => match copied {
                Err(cut) if cut.kind() != std::io::ErrorKind::BrokenPipe => Err(broken_tar(cut)),
                _ => Ok(LoadedLayer::Broken(error.to_string())),
            },
            Err(_) => Err(EngineError::internal("unpacking a layer failed")),
        }
    }

    /// Takes a layer in unless the store has it, from whatever `open` leads to.
    pub(super) fn take_blob<R: Read>(
        &self,
        contents: &mut Contents,
        path: String,
        open: impl FnOnce() -> Result<R>,
    ) -> Result<()> {
        let layer = match self.known_layer(&path) {
            Some(known) => LoadedLayer::Known(known),
            None => self.stage_member(&mut open()?)?,
        };
        contents.layers.insert(path, layer);
        Ok(())
    }

    /// Publishes the layers of an image that was checked.
    pub(super) fn publish_layers(
        &self,
        contents: &mut Contents,
        entry: &Entry,
        diff_ids: &[DiffId],
        lease: &Lease,
    ) -> Result<()> {
        for (path, diff_id) in entry.layers.iter().zip(diff_ids) {
            if let Some(LoadedLayer::Staged(staged)) = contents.take_layer(path) {
                let (staging, applied) = *staged;
                self.store
                    .publish_layer(staging, NewLayer::unpacked(applied, None))
                    .map_err(store_error("cannot publish a layer"))?;
                contents.put_known(path, *diff_id);
            }
            lease
                .hold_layer(diff_id)
                .map_err(store_error("cannot hold layers"))?;
        }
        Ok(())
    }

    fn load_entry(
        &self,
        contents: &mut Contents,
        entry: &Entry,
        config: &[u8],
        diff_ids: &[DiffId],
        progress: &ProgressSender,
    ) -> Result<()> {
        let lease = self
            .store
            .lease("load")
            .map_err(store_error("cannot hold layers"))?;
        self.publish_layers(contents, entry, diff_ids, &lease)?;
        let parent = self.parent_in_archive(entry, config)?;
        let new = wharf_store::NewImage {
            config,
            parent,
            ..Default::default()
        };
        let image = self
            .store
            .put_image(&new)
            .map_err(store_error("cannot store the image"))?;
        self.image_event("load", &image.id, image.id.to_string());
        let say = |text: String| {
            let _client_gone = progress.send(Progress::Stream(text));
        };
        for name in &entry.names {
            if let Some(old) = self.name_blocking(name, &image.id)? {
                say(format!(
                    "The image {} already exists, renaming the old one with ID {old} to empty string\n",
                    name.familiar()
                ));
            }
            say(format!("Loaded image: {}\n", name.familiar()));
        }
        if entry.names.is_empty() {
            say(format!("Loaded image ID: {}\n", image.id));
        }
        Ok(())
    }

    /// Returns the parent that the archive names, when it is here and this image has exactly one
    /// step more (spec image-store §10).
    fn parent_in_archive(&self, entry: &Entry, config: &[u8]) -> Result<Option<ImageId>> {
        let Some(id) = entry.parent.as_ref().and_then(|text| text.parse().ok()) else {
            return Ok(None);
        };
        let parent = self
            .store
            .image(&id)
            .map_err(store_error("cannot read images"))?;
        let history = ImageConfig::parse(config)
            .map(|config| config.history)
            .unwrap_or_default();
        let is_parent = |parent: &wharf_store::Image| {
            history.len() == parent.config.history.len() + 1
                && history.starts_with(&parent.config.history)
        };
        Ok(parent.filter(is_parent).map(|parent| parent.id))
    }
}

fn broken_archive(error: wharf_layer::LayerError) -> EngineError {
    EngineError::wrap(ErrorKind::Invalid, "cannot read the archive", error)
}

fn broken_tar(error: std::io::Error) -> EngineError {
    EngineError::wrap(ErrorKind::Invalid, "cannot read the archive", error)
}
