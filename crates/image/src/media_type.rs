//! Media types of docker and OCI documents (spec image-store §4).

use serde::{Deserialize, Serialize};

/// Names the compression of a layer blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerCompression {
    /// A plain tar.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// Zstandard, RFC 8878.
    Zstd,
}

/// Classifies the media types this engine reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// A manifest of one image, docker or OCI.
    Manifest,
    /// A list of manifests by platform, docker or OCI.
    Index,
    /// An image config, docker or OCI.
    Config,
    /// A layer.
    Layer(LayerCompression),
    /// A layer that lies outside registries (`urls`).
    ForeignLayer(LayerCompression),
    /// Anything else.
    Other,
}

/// OCI manifest media type.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI index media type.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI config media type.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI plain layer media type.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI gzip layer media type.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI zstd layer media type.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker manifest (schema 2) media type.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list media type.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker config media type.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker plain layer media type.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker gzip layer media type.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker zstd layer media type (not standard, seen in the wild).
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

impl MediaType {
    /// Classifies a media type text; parameters after `;` are ignored.
    pub fn parse(text: &str) -> Self {
        use LayerCompression::{Gzip, None, Zstd};
        match text.split(';').next().unwrap_or_default().trim() {
            OCI_MANIFEST | DOCKER_MANIFEST => Self::Manifest,
            OCI_INDEX | DOCKER_INDEX => Self::Index,
            OCI_CONFIG | DOCKER_CONFIG => Self::Config,
            OCI_LAYER | DOCKER_LAYER => Self::Layer(None),
            OCI_LAYER_GZIP | DOCKER_LAYER_GZIP => Self::Layer(Gzip),
            OCI_LAYER_ZSTD | DOCKER_LAYER_ZSTD => Self::Layer(Zstd),
            "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar" => Self::ForeignLayer(None),
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
                Self::ForeignLayer(Gzip)
            }
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => {
                Self::ForeignLayer(Zstd)
            }
            _ => Self::Other,
        }
    }
}
