//! What steps led to, told to other machines: BuildKit's cache config, version 0 (spec buildkit-protocol, "Cache").
//!
//! The form is BuildKit's. The digests of records are keys of this solver: another builder reads the document and
//! finds nothing that it could use.

use std::collections::HashMap;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use wharf_image::{DiffId, Digest};
use wharf_store::Store;

use crate::cache::{self, Told};
use crate::{BuildError, find_build};

/// The key of an image config under which the document lies.
pub(crate) const INLINE_KEY: &str = "moby.buildkit.cache.v0";
/// Kind of the documents that name what a build used, by its name.
const USED_KIND: &str = "build-cache";
/// Most records of a document.
pub(crate) const MAX_RECORDS: usize = 100_000;
/// Most layers of a document.
pub(crate) const MAX_LAYERS: usize = 100_000;
/// The parent of a layer that has none.
const NO_PARENT: i64 = -1;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct CacheConfig {
    #[serde(default)]
    pub layers: Vec<ConfigLayer>,
    #[serde(default)]
    pub records: Vec<ConfigRecord>,
}

/// A layer, with the one that it stands on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ConfigLayer {
    /// Digest of the compressed layer; nothing in an image's own config.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub blob: String,
    #[serde(default)]
    pub parent: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

/// What is known of a compressed layer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Annotations {
    #[serde(default)]
    pub media_type: String,
    #[serde(default, rename = "diffID")]
    pub diff_id: String,
    #[serde(default)]
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// What a key led to. All but `digest`, `layers` and `inputs` is this builder's own; others pass over it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfigRecord {
    pub digest: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<RecordLayer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unchanged: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// The topmost layer of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordLayer {
    #[serde(default)]
    pub layer: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// A compressed layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheBlob {
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// How they are compressed.
    pub media_type: String,
    /// Their number.
    pub size_bytes: u64,
}

/// Records on their way out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportedCache {
    /// The layers, each with the position of the one that it stands on.
    layers: Vec<(DiffId, Option<usize>)>,
    records: Vec<(Told, Option<usize>)>,
}

impl ExportedCache {
    /// Takes what keys lead to.
    pub(crate) fn of(store: &Store, keys: &[Digest]) -> Result<Self, BuildError> {
        let mut exported = Self::default();
        let mut places: HashMap<(DiffId, Option<usize>), usize> = HashMap::new();
        for key in keys {
            let Some(told) = cache::tell(store, key)? else {
                continue;
            };
            let mut top = None;
            for diff_id in &told.diff_ids {
                let place = (*diff_id, top);
                let next = exported.layers.len();
                let position = *places.entry(place).or_insert(next);
                if position == next {
                    exported.layers.push(place);
                }
                top = Some(position);
            }
            exported.records.push((told, top));
        }
        Ok(exported)
    }

    /// Returns the layers in the order in which [`ExportedCache::document`] wants to hear of them.
    pub fn layers(&self) -> impl Iterator<Item = &DiffId> {
        self.layers.iter().map(|(diff_id, _)| diff_id)
    }

    /// Returns the document, with what each layer is as a blob.
    #[must_use]
    pub fn document(&self, blobs: &[CacheBlob]) -> Vec<u8> {
        let layers = self.layers.iter().zip(blobs);
        let layers = layers.map(|((diff_id, parent), blob)| ConfigLayer {
            blob: blob.digest.to_string(),
            parent: parent_number(*parent),
            annotations: Some(Annotations {
                media_type: blob.media_type.clone(),
                diff_id: diff_id.to_string(),
                size: blob.size_bytes,
                created_at: None,
            }),
        });
        let document = CacheConfig {
            layers: layers.collect(),
            records: self.records.iter().map(record).collect(),
        };
        document.to_bytes()
    }

    /// Returns the document for an image's own config: of records whose layers the image has.
    pub(crate) fn inline(&self, diff_ids: &[DiffId]) -> String {
        let layers = (0..diff_ids.len()).map(|position| ConfigLayer {
            parent: parent_number(position.checked_sub(1)),
            ..ConfigLayer::default()
        });
        let has = |told: &Told| diff_ids.starts_with(&told.diff_ids);
        let records = self.records.iter().filter(|(told, _)| has(told));
        let records = records.map(|(told, _)| {
            let top = told.diff_ids.len().checked_sub(1);
            record(&(told.clone(), top))
        });
        let document = CacheConfig {
            layers: layers.collect(),
            records: records.collect(),
        };
        base64::engine::general_purpose::STANDARD.encode(document.to_bytes())
    }
}

fn parent_number(parent: Option<usize>) -> i64 {
    parent.map_or(NO_PARENT, |parent| {
        i64::try_from(parent).unwrap_or(NO_PARENT)
    })
}

fn record((told, top): &(Told, Option<usize>)) -> ConfigRecord {
    ConfigRecord {
        digest: told.key.to_string(),
        layers: top
            .map(|layer| RecordLayer {
                layer,
                created_at: told.created.clone(),
            })
            .into_iter()
            .collect(),
        created_at: told.created.clone(),
        is_unchanged: told.is_unchanged,
        description: told.description.clone(),
    }
}

impl CacheConfig {
    /// Returns the document as it is written.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a document from outside.
    ///
    /// # Errors
    /// Why it is none, or too much of one.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let (records, layers) = (document.records.len(), document.layers.len());
        if records > MAX_RECORDS || layers > MAX_LAYERS {
            return Err(format!(
                "it has {records} records and {layers} layers, at most {MAX_RECORDS} and {MAX_LAYERS} are read"
            ));
        }
        Ok(document)
    }

    /// Returns the layers that a record stands for, lowest first; nothing where the document makes no sense.
    pub fn chain(&self, record: &ConfigRecord) -> Option<Vec<usize>> {
        let mut chain = Vec::new();
        let mut at = match record.layers.first() {
            Some(top) => i64::try_from(top.layer).ok()?,
            None => NO_PARENT,
        };
        while at != NO_PARENT {
            let position = usize::try_from(at).ok()?;
            // A layer that stands on itself would never end.
            if chain.len() >= wharf_store::limits::MAX_LAYERS {
                return None;
            }
            chain.push(position);
            at = self.layers.get(position)?.parent;
        }
        chain.reverse();
        Some(chain)
    }
}

/// What a build used: the records of its result, and those of all its steps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct UsedKeys {
    pub result: Vec<Digest>,
    pub all: Vec<Digest>,
}

impl UsedKeys {
    /// Keeps them as long as the build's record.
    pub fn keep(&self, store: &Store, build: &str) -> Result<(), BuildError> {
        let document = serde_json::to_value(self).unwrap_or_default();
        Ok(store.put_document(USED_KIND, build, &document)?)
    }
}

/// Forgets what a build used.
pub(crate) fn forget_used(store: &Store, build: &str) -> Result<(), BuildError> {
    store.delete_document(USED_KIND, build)?;
    Ok(())
}

/// Returns what a build used, to be handed to other machines: of the steps that its result has, or of `all`.
///
/// # Errors
/// A build that is not there; a store that cannot be read.
pub fn export_cache(store: &Store, build: &str, all: bool) -> Result<ExportedCache, BuildError> {
    let build = find_build(store, build)?;
    let document = store.document(USED_KIND, &build.id)?.unwrap_or_default();
    let used: UsedKeys = serde_json::from_value(document).unwrap_or_default();
    ExportedCache::of(store, if all { &used.all } else { &used.result })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        CacheConfig, ConfigLayer, ConfigRecord, MAX_LAYERS, MAX_RECORDS, NO_PARENT, RecordLayer,
    };

    proptest! {
        #[test]
        fn chains_end_at_a_layer_without_parent(
            parents in prop::collection::vec(-2_i64..12, 0..12),
            top in prop::option::of(0_usize..14),
        ) {
            let layer = |parent: &i64| ConfigLayer { parent: *parent, ..ConfigLayer::default() };
            let at = |layer| RecordLayer { layer, created_at: None };
            let record = ConfigRecord {
                layers: top.map(at).into_iter().collect(),
                ..ConfigRecord::default()
            };
            let document = CacheConfig {
                layers: parents.iter().map(layer).collect(),
                records: vec![record.clone()],
            };
            prop_assert_eq!(CacheConfig::parse(&document.to_bytes()), Ok(document.clone()));
            if let Some(chain) = document.chain(&record) {
                prop_assert_eq!(chain.last().copied(), top);
                let below = std::iter::once(NO_PARENT).chain(chain.iter().map(|at| *at as i64));
                for (at, parent) in chain.iter().zip(below) {
                    prop_assert_eq!(parents[*at], parent);
                }
            }
        }
    }

    fn chain_of(text: &str) -> Option<Vec<usize>> {
        let document = CacheConfig::parse(text.as_bytes()).unwrap();
        document.chain(&document.records[0])
    }

    #[test]
    fn chains() {
        let layers = r#"[{"parent":-1},{"parent":0},{"parent":1}]"#;
        let record =
            |top: &str| format!(r#"{{"layers":{layers},"records":[{{"digest":"x"{top}}}]}}"#);
        let of = |top: &str| chain_of(&record(top));
        assert_eq!(of(r#","layers":[{"layer":2}]"#), Some(vec![0, 1, 2]));
        // Go leaves a zero out.
        assert_eq!(of(r#","layers":[{}]"#), Some(vec![0]));
        assert_eq!(of(""), Some(vec![]));
        assert_eq!(of(r#","layers":[{"layer":3}]"#), None);
        let circle = r#"{"layers":[{"parent":1},{"parent":0}],"records":[{"digest":"x","layers":[{"layer":0}]}]}"#;
        assert_eq!(chain_of(circle), None);
        let negative =
            r#"{"layers":[{"parent":-5}],"records":[{"digest":"x","layers":[{"layer":0}]}]}"#;
        assert_eq!(chain_of(negative), None);
    }

    #[test]
    fn documents_have_limits() {
        let of = |layers: usize, records: usize| {
            let layers = vec!["{}"; layers].join(",");
            let records = vec![r#"{"digest":""}"#; records].join(",");
            CacheConfig::parse(
                format!(r#"{{"layers":[{layers}],"records":[{records}]}}"#).as_bytes(),
            )
        };
        assert!(of(MAX_LAYERS, MAX_RECORDS).is_ok());
        assert!(of(MAX_LAYERS + 1, 0).unwrap_err().contains("at most"));
        assert!(of(0, MAX_RECORDS + 1).unwrap_err().contains("at most"));
        assert!(CacheConfig::parse(b"7").is_err());
    }
}
