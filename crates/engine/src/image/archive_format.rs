//! Documents of image archives (spec image-store §9, §10).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One image in `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ArchivedImage {
    /// Path of the config in the archive.
    pub config: String,
    /// Familiar `repo:tag` names; null when there are none.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// Paths of the layers, lowest first.
    #[serde(default)]
    pub layers: Vec<String>,
    /// ID of the parent, when it is in the same archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// `repositories`: repository to tag to top layer.
pub(crate) type Repositories = BTreeMap<String, BTreeMap<String, String>>;

/// Content of `oci-layout`, with docker's blank.
pub(crate) const OCI_LAYOUT: &str = r#"{"imageLayoutVersion": "1.0.0"}"#;
/// Largest document of an archive that is read, in bytes.
pub(crate) const MAX_DOCUMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Annotation that carries a canonical name.
pub(crate) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// Annotation that carries a tag.
pub(crate) const TAG_ANNOTATION: &str = "org.opencontainers.image.ref.name";
