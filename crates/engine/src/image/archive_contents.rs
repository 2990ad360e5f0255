//! What an archive of images holds, and what of it makes an image (spec image-store §10).

use super::archive_format::{ArchivedImage, NAME_ANNOTATION};
use crate::error::{EngineError, ErrorKind, Result};
use std::collections::HashMap;
use std::path::{Component, Path};
use wharf_image::{DiffId, Digest, ImageConfig, Index, Manifest, Platform, Reference};
use wharf_layer::Applied;
use wharf_store::Staging;

/// Bytes of documents that are kept of one archive.
const MAX_DOCUMENTS_BYTES: u64 = 64 * 1024 * 1024;

/// What an archive holds, by cleaned path.
#[derive(Default)]
pub(super) struct Contents {
    documents: HashMap<String, Vec<u8>>,
    document_bytes: u64,
    pub(super) layers: HashMap<String, LoadedLayer>,
    pub(super) links: HashMap<String, String>,
}

/// What became of a file that is no document.
pub(super) enum LoadedLayer {
    /// Unpacked and not yet published.
    Staged(Box<(Staging, Applied)>),
    /// A layer that is in the store already; its bytes were not read.
    Known(DiffId),
    /// Not a layer; the reason is told when an image needs it.
    Broken(String),
}

/// One image of the archive, by the archive's own words.
pub(super) struct Entry {
    pub(super) config: String,
    pub(super) layers: Vec<String>,
    pub(super) names: Vec<Reference>,
    /// ID of the image it was made from, as the archive says.
    pub(super) parent: Option<String>,
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
    /// Keeps a document.
    pub(super) fn keep_document(&mut self, path: String, bytes: Vec<u8>) -> Result<()> {
        self.document_bytes += bytes.len() as u64;
        if self.document_bytes > MAX_DOCUMENTS_BYTES {
            return Err(EngineError::invalid(format!(
                "invalid archive: more than {MAX_DOCUMENTS_BYTES} bytes of documents"
            )));
        }
        self.documents.insert(path, bytes);
        Ok(())
    }

    /// Reads `manifest.json`, else the OCI index.
    pub(super) fn entries(&self, platform: Option<&Platform>) -> Result<Vec<Entry>> {
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

    /// Returns a document by its path, links being followed.
    pub(super) fn document(&self, path: &str) -> Result<&[u8]> {
        let missing = || EngineError::invalid(format!("invalid archive: {path} is missing"));
        self.documents
            .get(self.resolve(path))
            .map(Vec::as_slice)
            .ok_or_else(missing)
    }

    /// Takes a layer out.
    pub(super) fn take_layer(&mut self, path: &str) -> Option<LoadedLayer> {
        let path = self.resolve(path).to_owned();
        self.layers.remove(&path)
    }

    /// Puts a layer in that the store has.
    pub(super) fn put_known(&mut self, path: &str, diff_id: DiffId) {
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
pub(super) fn clean(path: &Path) -> Result<String> {
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
pub(super) fn clean_in(base: &Path, target: &Path) -> String {
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
