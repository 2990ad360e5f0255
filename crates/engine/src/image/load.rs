//! Reading images from an archive in one pass (spec image-store §10).
//!
//! Documents are kept in memory, everything else is unpacked as a layer while it streams by; only
//! when the whole archive was read are layers published and images named. A broken archive leaves
//! nothing behind.

use super::archive_format::{ArchivedImage, MAX_DOCUMENT_BYTES, NAME_ANNOTATION};
use crate::byte_stream::{ByteStream, ChunkReader};
use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::view::{Progress, ProgressSender};
use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::{Component, Path};
use std::sync::Arc;
use wharf_image::{DiffId, Digest, ImageConfig, ImageId, Index, Manifest, Platform, Reference};
use wharf_layer::Applied;
use wharf_store::{Lease, NewLayer, Staging};

/// Bytes of documents that are kept of one archive.
const MAX_DOCUMENTS_BYTES: u64 = 64 * 1024 * 1024;
/// Members of one archive.
const MAX_MEMBERS: usize = 100_000;

/// What an archive holds, by cleaned path.
#[derive(Default)]
pub(super) struct Contents {
    documents: HashMap<String, Vec<u8>>,
    layers: HashMap<String, LoadedLayer>,
    links: HashMap<String, String>,
}

enum LoadedLayer {
    /// Unpacked and not yet published.
    Staged(Box<(Staging, Applied)>),
    /// A layer that is in the store already; its bytes were not read.
    Known(DiffId),
    /// Not a layer; the reason is told when an image needs it.
    Broken(String),
}

/// One image of the archive, by the archive's own words.
pub(super) struct Entry {
    config: String,
    layers: Vec<String>,
    names: Vec<Reference>,
    /// ID of the image it was made from, as the archive says.
    parent: Option<String>,
}

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
        let mut kept_bytes = 0;
        let entries = archive.entries().map_err(broken_tar)?;
        for (number, member) in entries.enumerate() {
            let mut member = member.map_err(broken_tar)?;
            if number >= MAX_MEMBERS {
                return Err(EngineError::invalid(format!(
                    "invalid archive: more than {MAX_MEMBERS} members"
                )));
            }
            let path = clean(&member.path().map_err(broken_tar)?)?;
            let kind = member.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = member
                    .link_name()
                    .map_err(broken_tar)?
                    .unwrap_or_default()
                    .into_owned();
                let base = if kind.is_symlink() {
                    Path::new(&path)
                        .parent()
                        .unwrap_or(Path::new(""))
                        .to_owned()
                } else {
                    "".into()
                };
                contents.links.insert(path, clean_in(&base, &target));
                continue;
            }
            if !kind.is_file() {
                continue;
            }
            if let Some(known) = self.known_layer(&path) {
                contents.layers.insert(path, LoadedLayer::Known(known));
                continue;
            }
            let size = member.size();
            let mut first = [0u8; 1];
            let got = member.read(&mut first).map_err(broken_tar)?;
            let head = std::io::Cursor::new(first.get(..got).unwrap_or_default().to_vec());
            let is_document = size <= MAX_DOCUMENT_BYTES
                && (got == 0 || matches!(first[0], b'{' | b'[') || size < 512);
            let mut whole = head.chain(&mut member);
            if is_document {
                kept_bytes += size;
                if kept_bytes > MAX_DOCUMENTS_BYTES {
                    return Err(EngineError::invalid(format!(
                        "invalid archive: more than {MAX_DOCUMENTS_BYTES} bytes of documents"
                    )));
                }
                let mut bytes = Vec::new();
                whole.read_to_end(&mut bytes).map_err(broken_tar)?;
                contents.documents.insert(path, bytes);
                continue;
            }
            if !quiet {
                let id = path
                    .rsplit('/')
                    .find(|part| *part != "layer.tar")
                    .map(|part| part.chars().take(12).collect());
                let _client_gone = progress.send(Progress::Status {
                    id,
                    status: "Loading layer".to_owned(),
                    progress: Some((0, size)),
                });
            }
            let layer = self.stage_member(&mut whole)?;
            std::io::copy(&mut whole, &mut std::io::sink()).map_err(broken_tar)?;
            contents.layers.insert(path, layer);
        }
        Ok(contents)
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

/// Returns where a layout has a blob.
pub(super) fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Entry {
    /// Returns the image of a manifest, without a name.
    pub(super) fn of_manifest(manifest: &Manifest) -> Self {
        let layers = manifest.layers.iter();
        Self {
            config: blob(&manifest.config.digest),
            layers: layers.map(|layer| blob(&layer.digest)).collect(),
            names: Vec::new(),
            parent: None,
        }
    }
}

impl Contents {
    /// Reads `manifest.json`, else the OCI index.
    fn entries(&self, platform: Option<&Platform>) -> Result<Vec<Entry>> {
        if let Some(bytes) = self.documents.get("manifest.json") {
            let images: Option<Vec<ArchivedImage>> =
                serde_json::from_slice(bytes).map_err(|e| {
                    EngineError::wrap(
                        ErrorKind::Invalid,
                        "invalid archive: cannot read manifest.json",
                        e,
                    )
                })?;
            let images = images.ok_or_else(|| {
                EngineError::invalid("invalid manifest, manifest cannot be null (but can be [])")
            })?;
            return images.into_iter().map(entry_of_archived).collect();
        }
        match self.documents.get("index.json") {
            Some(bytes) => {
                self.oci_entries(bytes, &platform.cloned().unwrap_or_else(Platform::host))
            }
            None => Err(EngineError::invalid(
                "invalid archive: does not contain a manifest.json",
            )),
        }
    }

    fn oci_entries(&self, bytes: &[u8], platform: &Platform) -> Result<Vec<Entry>> {
        let invalid = |e| {
            EngineError::wrap(
                ErrorKind::Invalid,
                "invalid archive: cannot read an index",
                e,
            )
        };
        let index: Index = serde_json::from_slice(bytes).map_err(invalid)?;
        let mut entries = Vec::new();
        for descriptor in &index.manifests {
            let mut document = self.document(&blob(&descriptor.digest))?;
            if let Ok(nested) = serde_json::from_slice::<Index>(document) {
                let fitting = nested.manifests.iter().filter_map(|manifest| {
                    Some((platform.rank(manifest.platform.as_ref()?)?, manifest))
                });
                let Some((_, manifest)) = fitting.min_by_key(|(rank, _)| *rank) else {
                    return Err(EngineError::invalid(format!(
                        "invalid archive: no image for {}/{}",
                        platform.os, platform.architecture
                    )));
                };
                document = self.document(&blob(&manifest.digest))?;
            }
            let manifest: Manifest = serde_json::from_slice(document).map_err(|e| {
                EngineError::wrap(
                    ErrorKind::Invalid,
                    "invalid archive: cannot read a manifest",
                    e,
                )
            })?;
            let name = descriptor
                .annotations
                .get(NAME_ANNOTATION)
                .and_then(|name| Reference::parse(name).ok());
            entries.push(Entry {
                names: name
                    .into_iter()
                    .filter(|name| name.tag().is_some())
                    .collect(),
                ..Entry::of_manifest(&manifest)
            });
        }
        Ok(entries)
    }

    fn resolve<'a>(&'a self, path: &'a str) -> &'a str {
        let mut path = path;
        for _ in 0..16 {
            match self.links.get(path) {
                Some(target) => path = target,
                None => break,
            }
        }
        path
    }

    fn document(&self, path: &str) -> Result<&[u8]> {
        let missing = || EngineError::invalid(format!("invalid archive: {path} is missing"));
        self.documents
            .get(self.resolve(path))
            .map(Vec::as_slice)
            .ok_or_else(missing)
    }

    fn take_layer(&mut self, path: &str) -> Option<LoadedLayer> {
        let path = self.resolve(path).to_owned();
        self.layers.remove(&path)
    }

    fn put_known(&mut self, path: &str, diff_id: DiffId) {
        let path = self.resolve(path).to_owned();
        self.layers.insert(path, LoadedLayer::Known(diff_id));
    }

    /// Checks one image whole before anything is published: config, number of layers, every DiffID.
    pub(super) fn check(
        &self,
        entry: &Entry,
        config: &[u8],
        platform: Option<&Platform>,
    ) -> Result<Vec<DiffId>> {
        if let Some(hex) = entry.config.strip_prefix("blobs/sha256/")
            && Digest::of(config).hex() != hex
        {
            return Err(EngineError::invalid(format!(
                "invalid archive: {} holds {}",
                entry.config,
                Digest::of(config)
            )));
        }
        let parsed = ImageConfig::parse(config).map_err(|e| {
            EngineError::wrap(
                ErrorKind::Invalid,
                format!("invalid archive: cannot read the config {}", entry.config),
                e,
            )
        })?;
        if parsed.os != "linux" && !parsed.os.is_empty() {
            return Err(EngineError::invalid(format!(
                "cannot load {} image on linux",
                parsed.os
            )));
        }
        if let Some(wanted) = platform {
            let name = entry.names.first().map(Reference::familiar);
            super::platform::require(name.as_ref().unwrap_or(&entry.config), &parsed, wanted)?;
        }
        let diff_ids = parsed.rootfs.diff_ids;
        if diff_ids.len() != entry.layers.len() {
            let (expected, found) = (diff_ids.len(), entry.layers.len());
            return Err(EngineError::invalid(format!(
                "invalid manifest, layers length mismatch: expected {expected}, got {found}"
            )));
        }
        for (number, (path, expected)) in entry.layers.iter().zip(&diff_ids).enumerate() {
            let found = match self.layers.get(self.resolve(path)) {
                Some(LoadedLayer::Staged(staged)) => staged.1.summary.diff_id,
                Some(LoadedLayer::Known(diff_id)) => *diff_id,
                Some(LoadedLayer::Broken(reason)) => {
                    return Err(EngineError::invalid(format!(
                        "invalid archive: layer {path} cannot be read: {reason}"
                    )));
                }
                None => {
                    return Err(EngineError::invalid(format!(
                        "invalid archive: layer {path} is missing"
                    )));
                }
            };
            if found != *expected {
                return Err(EngineError::invalid(format!(
                    "invalid diffID for layer {number}: expected \"{expected}\", got \"{found}\""
                )));
            }
        }
        Ok(diff_ids)
    }
}

fn entry_of_archived(image: ArchivedImage) -> Result<Entry> {
    let mut names = Vec::new();
    for name in image.repo_tags.unwrap_or_default() {
        names.push(super::naming::parse(&name)?.with_default_tag());
    }
    let layers = image
        .layers
        .iter()
        .map(|path| clean(Path::new(path)))
        .collect::<Result<_>>()?;
    Ok(Entry {
        config: clean(Path::new(&image.config))?,
        layers,
        names,
        parent: image.parent,
    })
}

/// Cleans a member's path; one that leaves the archive is refused.
fn clean(path: &Path) -> Result<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(EngineError::invalid(format!(
                    "invalid archive: the path {} leaves the archive",
                    path.display()
                )));
            }
        }
    }
    Ok(parts.join("/"))
}

/// Resolves a link's target by its text, inside the archive.
fn clean_in(base: &Path, target: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    let base = if target.is_absolute() {
        Path::new("")
    } else {
        base
    };
    for component in base.join(target).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    parts.join("/")
}

fn broken_archive(error: wharf_layer::LayerError) -> EngineError {
    EngineError::wrap(ErrorKind::Invalid, "cannot read the archive", error)
}

fn broken_tar(error: std::io::Error) -> EngineError {
    EngineError::wrap(ErrorKind::Invalid, "cannot read the archive", error)
}
