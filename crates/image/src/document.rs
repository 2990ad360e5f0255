//! Telling manifests and indexes apart (spec image-store §4).

use crate::manifest::{Index, Manifest};
use crate::media_type::MediaType;
use serde::Deserialize;

/// Tells why bytes are not a manifest or index this engine can use.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The bytes are not JSON of the expected shape.
    #[error("malformed {kind}: {source}")]
    Json {
        /// What was expected: `manifest`, `index` or `document`.
        kind: &'static str,
        /// What the parser found wrong.
        source: serde_json::Error,
    },
    /// `schemaVersion` is not 2.
    #[error(
        "unsupported manifest schema version {found}: expected 2; push the image again with a current client"
    )]
    SchemaVersion {
        /// The version found; 0 when there is none.
        found: u32,
    },
    /// The document could be read both as manifest and as index.
    #[error("ambiguous document: it has the keys of both a manifest and an index")]
    Ambiguous,
    /// The document is neither a manifest nor an index.
    #[error("not an image manifest or index: media type {found:?}")]
    Neither {
        /// The media type given, may be empty.
        found: String,
    },
    /// The document names another media type than the one it was delivered as.
    #[error("media type mismatch: delivered as {expected:?} but the document says {found:?}")]
    MediaType {
        /// Media type it was delivered as.
        expected: String,
        /// Media type in the document.
        found: String,
    },
}

/// Holds a parsed manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "documents are parsed one at a time and taken apart at once"
)]
pub enum Document {
    /// A manifest of one image.
    Manifest(Manifest),
    /// A list of manifests by platform.
    Index(Index),
}

impl Document {
    /// Parses a manifest or index. `media_type` is what it was delivered as; empty or unknown types
    /// are decided by the document's own `mediaType`, then by its keys.
    ///
    /// A document with `manifests` beside `config` or `layers` is refused whatever its type is, since two readers
    /// could take it for two different images (CVE-2021-41190).
    ///
    /// # Errors
    /// See [`DocumentError`].
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, DocumentError> {
        let probe: Probe = serde_json::from_slice(bytes).map_err(|source| DocumentError::Json {
            kind: "document",
            source,
        })?;
        if probe.schema_version != 2 {
            return Err(DocumentError::SchemaVersion {
                found: probe.schema_version,
            });
        }
        let (manifest_keys, index_keys) = (
            probe.config.is_some() || probe.layers.is_some(),
            probe.manifests.is_some(),
        );
        if manifest_keys && index_keys {
            return Err(DocumentError::Ambiguous);
        }
        let own_type = probe.media_type.unwrap_or_default();
        let (delivered, own) = (MediaType::parse(media_type), MediaType::parse(&own_type));
        let is_document = |kind: MediaType| matches!(kind, MediaType::Manifest | MediaType::Index);
        if is_document(delivered) && !own_type.is_empty() && own != delivered {
            return Err(DocumentError::MediaType {
                expected: media_type.to_owned(),
                found: own_type,
            });
        }
        let kind = [delivered, own].into_iter().find(|kind| is_document(*kind));
        match kind {
            Some(MediaType::Manifest) if !index_keys => Self::manifest(bytes),
            Some(MediaType::Index) if !manifest_keys => Self::index(bytes),
            None if manifest_keys && own_type.is_empty() => Self::manifest(bytes),
            None if index_keys && own_type.is_empty() => Self::index(bytes),
            Some(_) => Err(DocumentError::Ambiguous),
            None => Err(DocumentError::Neither {
                found: if own_type.is_empty() {
                    media_type.to_owned()
                } else {
                    own_type
                },
            }),
        }
    }

    fn manifest(bytes: &[u8]) -> Result<Self, DocumentError> {
        serde_json::from_slice(bytes)
            .map(Self::Manifest)
            .map_err(|source| DocumentError::Json {
                kind: "manifest",
                source,
            })
    }

    fn index(bytes: &[u8]) -> Result<Self, DocumentError> {
        serde_json::from_slice(bytes)
            .map(Self::Index)
            .map_err(|source| DocumentError::Json {
                kind: "index",
                source,
            })
    }
}

/// Looks at the keys that tell manifest and index apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}
