//! Caches of other machines: of images that hold one, and of directories in the form of an OCI layout.
//!
//! Nothing is brought in before a step asks for it. What a record names is believed only as far as it can be
//! checked: blobs by their digest, layers by the DiffID of what they unpack to. That a key leads to just these layers
//! is the word of whoever made the cache, as with every builder.

use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use serde::Deserialize;
use wharf_image::{DiffId, Digest, Hasher};
use wharf_layer::{ApplyOptions, apply, decompress};
use wharf_safefs::{Caller, OpenFlags, Root};
use wharf_store::{Lease, NewLayer, Store};

use crate::cache::{self, Entry};
use crate::cache_config::{CacheConfig, ConfigLayer, INLINE_KEY};
use crate::{BaseImage, BuildError};

/// Media type of the document (spec buildkit-protocol, "Cache").
const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The annotation by which an index names what is in it (OCI image spec, annotations).
const NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";
const DEFAULT_TAG: &str = "latest";
/// Most bytes of a document.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;
const READ_BUFFER_BYTES: usize = 256 << 10;

/// A cache in a directory: an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// Which of its manifests; the one named `latest` where this is empty.
    pub tag: String,
    /// Digest of the manifest, where that is given.
    pub digest: String,
}

/// All that was brought along.
#[derive(Default)]
pub(crate) struct Imported {
    sources: Vec<Source>,
    warnings: Mutex<Vec<String>>,
}

struct Source {
    name: String,
    document: CacheConfig,
    by_key: HashMap<Digest, usize>,
    layers: Layers,
}

/// Where layers come from.
enum Layers {
    /// They are an image's.
    Image(Vec<DiffId>),
    /// They lie in a layout.
    Layout(Layout),
}

struct Layout {
    root: Root,
    caller: Option<Caller>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

/// An index, or a manifest.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
}

impl Imported {
    /// Adds the cache that an image holds; says whether it holds one.
    pub fn add_image(&mut self, name: &str, image: &BaseImage) -> bool {
        let Some(text) = image.config.extra.get(INLINE_KEY) else {
            return false;
        };
        let bytes = text.as_str().and_then(|text| {
            let engine = base64::engine::general_purpose::STANDARD;
            engine.decode(text).ok()
        });
        let parsed = match bytes {
            Some(bytes) => CacheConfig::parse(&bytes),
            None => Err("it is no base64".to_owned()),
        };
        match parsed {
            Ok(document) => {
                let layers = Layers::Image(image.config.rootfs.diff_ids.clone());
                self.add(name, document, layers);
            }
            Err(reason) => self.warn(name, &reason),
        }
        true
    }

    /// Adds the cache of a directory, read with the caller's rights.
    pub fn add_directory(&mut self, directory: &CacheDirectory, caller: Option<&Caller>) {
        let name = directory.path.display().to_string();
        let opened = || -> Result<(Layout, CacheConfig), String> {
            let assumed = caller.map(Caller::assume).transpose();
            let _assumed = assumed.map_err(|error| error.to_string())?;
            let root = Root::open(&directory.path).map_err(|error| error.to_string())?;
            let layout = Layout {
                root,
                caller: caller.cloned(),
            };
            let document = layout.document(directory)?;
            Ok((layout, document))
        };
        match opened() {
            Ok((layout, document)) => self.add(&name, document, Layers::Layout(layout)),
            Err(reason) => self.warn(&name, &reason),
        }
    }

    fn add(&mut self, name: &str, document: CacheConfig, layers: Layers) {
        let records = document.records.iter().enumerate();
        let by_key = records
            .filter_map(|(position, record)| Some((record.digest.parse().ok()?, position)))
            .collect();
        self.sources.push(Source {
            name: name.to_owned(),
            document,
            by_key,
            layers,
        });
    }

    /// Notes that a cache is of no use.
    pub fn warn(&self, name: &str, reason: &str) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.push(format!("cache-from {name}: {reason}"));
    }

    /// Returns what went wrong since the last call.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a record of this store of what is known of a key, with its layers; says whether there is one now.
    pub fn bring_in(&self, store: &Store, lease: &Lease, key: &Digest) -> Result<bool, BuildError> {
        for source in &self.sources {
            match source.bring_in(store, lease, key) {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                // A cache that is damaged costs time, and nothing else.
                Err(error) => self.warn(&source.name, &error.to_string()),
            }
        }
        Ok(false)
    }
}

impl Source {
    fn bring_in(&self, store: &Store, lease: &Lease, key: &Digest) -> Result<bool, BuildError> {
        let record = self.by_key.get(key);
        let Some(record) = record.and_then(|position| self.document.records.get(*position)) else {
            return Ok(false);
        };
        let Some(chain) = self.document.chain(record) else {
            return Err(damaged(format!("the layers of {key} make no sense")));
        };
        let mut diff_ids = Vec::new();
        for position in chain {
            let layer = self.document.layers.get(position);
            let layer = layer.ok_or_else(|| damaged("a layer is missing".to_owned()))?;
            let diff_id = match &self.layers {
                Layers::Image(diff_ids) => diff_ids.get(position).copied(),
                Layers::Layout(_) => layer
                    .annotations
                    .as_ref()
                    .and_then(|known| known.diff_id.parse().ok()),
            };
            let diff_id = diff_id.ok_or_else(|| damaged("a layer has no name".to_owned()))?;
            if lease.hold_layer(&diff_id)?.is_none() {
                let Layers::Layout(layout) = &self.layers else {
                    return Ok(false);
                };
                layout.bring_layer(store, layer, &diff_id)?;
                lease.hold_layer(&diff_id)?;
            }
            diff_ids.push(diff_id);
        }
        let top = diff_ids.last().map(|top| store.layer(top)).transpose()?;
        let size_bytes = top.flatten().map_or(0, |layer| layer.size_bytes);
        cache::put(
            store,
            Entry {
                key: *key,
                by_result: None,
                diff_ids,
                created: record.created_at.clone(),
                config: None,
                explain: serde_json::json!({ "kind": "imported", "from": self.name }),
                description: &record.description,
                size_bytes,
                is_unchanged: record.is_unchanged,
            },
        )?;
        Ok(true)
    }
}

impl Layout {
    /// Finds and reads the document; the caller's rights are taken on already.
    fn document(&self, wanted: &CacheDirectory) -> Result<CacheConfig, String> {
        let read = self.root.read("index.json", MAX_DOCUMENT_BYTES);
        let index = read.map_err(|error| error.to_string())?;
        let index: Document =
            serde_json::from_slice(&index).map_err(|error| format!("index.json: {error}"))?;
        let tag = match wanted.tag.as_str() {
            "" => DEFAULT_TAG,
            tag => tag,
        };
        let is_wanted = |manifest: &&Descriptor| {
            if wanted.digest.is_empty() {
                let name = manifest.annotations.get(NAME_ANNOTATION);
                name.is_some_and(|name| name == tag)
            } else {
                manifest.digest == wanted.digest
            }
        };
        let manifest = index.manifests.iter().find(is_wanted);
        let manifest = manifest.ok_or_else(|| format!("index.json names no cache {tag:?}"))?;
        let manifest: Document = serde_json::from_slice(&self.read_blob(&manifest.digest)?)
            .map_err(|error| format!("its manifest: {error}"))?;
        let descriptors = manifest.config.iter().chain(&manifest.manifests);
        let config = descriptors
            .into_iter()
            .find(|descriptor| descriptor.media_type == CACHE_CONFIG)
            .ok_or("its manifest names no cache config")?;
        CacheConfig::parse(&self.read_blob(&config.digest)?)
            .map_err(|error| format!("its cache config: {error}"))
    }

    fn read_blob(&self, digest: &str) -> Result<Vec<u8>, String> {
        let digest: Digest = digest
            .parse()
            .map_err(|_| format!("{digest:?} is no digest"))?;
        let path = format!("blobs/sha256/{}", digest.hex());
        let bytes = self
            .root
            .read(&path, MAX_DOCUMENT_BYTES)
            .map_err(|error| error.to_string())?;
        if Digest::of(&bytes) != digest {
            return Err(format!("blob {digest} holds something else"));
        }
        Ok(bytes)
    }

    /// Unpacks a layer that is not here yet, and believes neither its digest nor its DiffID.
    fn bring_layer(
        &self,
        store: &Store,
        layer: &ConfigLayer,
        diff_id: &DiffId,
    ) -> Result<(), BuildError> {
        let blob: Digest = layer
            .blob
            .parse()
            .map_err(|_| damaged(format!("{:?} is no digest", layer.blob)))?;
        let path = format!("blobs/sha256/{}", blob.hex());
        let file = {
            let _assumed = self.caller.as_ref().map(Caller::assume).transpose()?;
            self.root.open_file_nofollow(&path, OpenFlags::RDONLY)?
        };
        let staging = store.stage()?;
        let mut hashing = Hashing {
            inner: BufReader::with_capacity(READ_BUFFER_BYTES, file),
            hasher: Hasher::new(),
        };
        let applied = {
            let (_, tar) = decompress(BufReader::with_capacity(READ_BUFFER_BYTES, &mut hashing))?;
            apply(tar, staging.root(), ApplyOptions::default())?
        };
        std::io::copy(&mut hashing, &mut std::io::sink())
            .map_err(|error| wharf_safefs::FsError::io("read", &path, error))?;
        if hashing.hasher.finish() != blob {
            return Err(damaged(format!("blob {blob} holds something else")));
        }
        if applied.summary.diff_id != *diff_id {
            let found = applied.summary.diff_id;
            return Err(damaged(format!(
                "layer {diff_id} unpacks to something else: {found}"
            )));
        }
        store.publish_layer(staging, NewLayer::unpacked(applied, None))?;
        Ok(())
    }
}

struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

fn damaged(message: String) -> BuildError {
    BuildError::Graph { message }
}
