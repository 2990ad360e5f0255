//! What a build used, as an OCI layout for other machines (spec buildkit-protocol, "Cache").

use crate::byte_stream::{self, ByteStream};
use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::image::archive_writer::ArchiveWriter;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::sync::Arc;
use wharf_build::{BuildError, CacheBlob, ExportedCache};
use wharf_image::{Digest, LayerCompression, media_type};
use wharf_store::Lease;

/// Media type of the document that names keys and layers.
const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The annotation by which an index names what is in it.
const NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

impl Engine {
    /// Returns what a build used as a tar of an OCI layout, under a tag: the steps of its result, or `all` steps.
    ///
    /// # Errors
    /// A build that is not there.
    pub async fn export_build_cache(
        self: &Arc<Self>,
        build: &str,
        all: bool,
        tag: &str,
    ) -> Result<ByteStream> {
        let (build, tag) = (build.to_owned(), tag.to_owned());
        let (lease, exported) = self
            .with_store(move |engine| {
                let lease = engine
                    .store
                    .lease("export a build cache")
                    .map_err(store_error("cannot hold layers"))?;
                let refused = |error: BuildError| EngineError::invalid(error.to_string());
                let exported =
                    wharf_build::export_cache(&engine.store, &build, all).map_err(refused)?;
                for diff_id in exported.layers() {
                    lease
                        .hold_layer(diff_id)
                        .map_err(store_error("cannot hold layers"))?;
                }
                Ok((lease, exported))
            })
            .await?;
        let engine = Arc::clone(self);
        Ok(byte_stream::produce(move |out| {
            engine.write_cache(&lease, &exported, &tag, out)
        }))
    }

    fn write_cache(
        &self,
        _held: &Lease,
        exported: &ExportedCache,
        tag: &str,
        out: &mut dyn Write,
    ) -> Result<()> {
        let mut archive = ArchiveWriter::new(out);
        let failed = |error: io::Error| EngineError::internal(error.to_string());
        archive.file("oci-layout", LAYOUT).map_err(failed)?;
        for directory in ["blobs/", "blobs/sha256/"] {
            archive.directory(directory).map_err(failed)?;
        }
        let mut blobs = Vec::new();
        let mut written = HashSet::new();
        for diff_id in exported.layers() {
            let blob = self.blob_of_layer(diff_id)?;
            if written.insert(blob.digest) {
                let file = self
                    .store
                    .blob(&blob.digest)
                    .map_err(store_error("cannot open a layer"))?;
                let mut file = file.ok_or_else(|| {
                    EngineError::internal(format!("the blob {} is missing", blob.digest))
                })?;
                archive
                    .stream(&blob_path(&blob.digest), blob.size_bytes, &mut |out| {
                        io::copy(&mut (&mut file).take(blob.size_bytes), out).map(drop)
                    })
                    .map_err(failed)?;
            }
            let media_type = match blob.compression {
                LayerCompression::None => media_type::OCI_LAYER,
                LayerCompression::Gzip => media_type::OCI_LAYER_GZIP,
                LayerCompression::Zstd => media_type::OCI_LAYER_ZSTD,
            };
            blobs.push(CacheBlob {
                digest: blob.digest,
                media_type: media_type.to_owned(),
                size_bytes: blob.size_bytes,
            });
        }
        let document = exported.document(&blobs);
        let manifest = manifest(exported, &blobs, &document);
        let described = descriptor(media_type::OCI_MANIFEST, &manifest);
        let mut described = described;
        described["annotations"] = json!({ NAME_ANNOTATION: tag });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": [described],
        });
        for bytes in [&document, &manifest] {
            archive
                .file(&blob_path(&Digest::of(bytes)), bytes)
                .map_err(failed)?;
        }
        let index = index.to_string();
        archive
            .file("index.json", index.as_bytes())
            .map_err(failed)?;
        archive.finish().map_err(failed)
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() })
}

fn manifest(exported: &ExportedCache, blobs: &[CacheBlob], document: &[u8]) -> Vec<u8> {
    let mut named = HashSet::new();
    let layers = exported.layers().zip(blobs);
    let layers: Vec<Value> = layers
        .filter(|(_, blob)| named.insert(blob.digest))
        .map(|(diff_id, blob)| {
            json!({
                "mediaType": blob.media_type,
                "digest": blob.digest,
                "size": blob.size_bytes,
                "annotations": { "containerd.io/uncompressed": diff_id },
            })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(CACHE_CONFIG, document),
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}
