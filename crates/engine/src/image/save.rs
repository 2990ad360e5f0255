//! Writing images to an archive (spec image-store §9.1).

use super::archive_format::{
    ArchivedImage, NAME_ANNOTATION, OCI_LAYOUT, Repositories, TAG_ANNOTATION,
};
use super::archive_writer::ArchiveWriter;
use crate::byte_stream::{self, ByteStream};
use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use wharf_image::{Descriptor, DiffId, Digest, ImageId, Index, Manifest, Reference, media_type};
use wharf_store::Image;

/// Largest config that is saved, in bytes.
const MAX_CONFIG_BYTES: u64 = 8 * 1024 * 1024;

/// What goes into one archive.
struct Plan {
    /// Images in the order they were asked for, each with the names it is saved under.
    images: Vec<(Image, Vec<Reference>)>,
}

/// A file of the archive.
enum Member {
    Bytes(Vec<u8>),
    Layer(DiffId),
}

impl Engine {
    /// Streams images as one archive that docker, podman and this engine load; the same images give
    /// the same bytes.
    ///
    /// # Errors
    /// An image that is not there (before the first byte).
    pub async fn save_images(self: &Arc<Self>, names: &[String]) -> Result<ByteStream> {
        let names = names.to_vec();
        let plan = self
            .with_store(move |engine| engine.plan_save(&names))
            .await?;
        let engine = Arc::clone(self);
        Ok(byte_stream::produce(move |out| {
            engine.write_archive(&plan, out)
        }))
    }

    fn plan_save(&self, names: &[String]) -> Result<Plan> {
        if names.is_empty() {
            return Err(EngineError::invalid("no images to save: name at least one"));
        }
        let mut plan = Plan { images: Vec::new() };
        for name in names {
            for (image, references) in self.images_to_save(name)? {
                self.image_event("save", &image.id, image.id.to_string());
                match plan
                    .images
                    .iter_mut()
                    .find(|(known, _)| known.id == image.id)
                {
                    Some((_, known)) => known.extend(
                        references
                            .into_iter()
                            .filter(|new| !known.contains(new))
                            .collect::<Vec<_>>(),
                    ),
                    None => plan.images.push((image, references)),
                }
            }
        }
        Ok(plan)
    }

    /// A name without a tag means every tag of that repository; an ID is saved without names.
    fn images_to_save(&self, name: &str) -> Result<Vec<(Image, Vec<Reference>)>> {
        let reference = Reference::parse(name).ok();
        if let Some(reference) =
            reference.filter(|reference| reference.tag().is_none() && reference.digest().is_none())
        {
            let mut found = Vec::new();
            for (known, id) in self
                .store
                .names()
                .map_err(store_error("cannot read image names"))?
            {
                if known.name() == reference.name() && known.tag().is_some() {
                    found.push((self.image_by_id(&id)?, vec![known]));
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let image = self.find_image(name)?;
        let references = match Reference::parse(name) {
            Ok(reference) if !self.is_id_of(name, &image) && reference.tag().is_some() => {
                vec![reference]
            }
            _ => Vec::new(),
        };
        Ok(vec![(image, references)])
    }

    fn image_by_id(&self, id: &ImageId) -> Result<Image> {
        let image = self
            .store
            .image(id)
            .map_err(store_error("cannot read images"))?;
        image.ok_or_else(|| EngineError::internal(format!("image {id} is named and not there")))
    }

    fn write_archive(&self, plan: &Plan, out: &mut dyn Write) -> Result<()> {
        let members = self.members(plan)?;
        let mut tar = ArchiveWriter::new(out);
        let failed = |e: std::io::Error| {
            EngineError::wrap(ErrorKind::Internal, "cannot write the archive", e)
        };
        let mut directories = BTreeSet::new();
        for (path, member) in &members {
            for (at, _) in path.match_indices('/') {
                let directory = path.get(..=at).unwrap_or_default();
                if directories.insert(directory.to_owned()) {
                    tar.directory(directory).map_err(failed)?;
                }
            }
            match member {
                Member::Bytes(bytes) => tar.file(path, bytes).map_err(failed)?,
                Member::Layer(diff_id) => {
                    let size = self.layer_tar_bytes(diff_id)?;
                    tar.stream(path, size, &mut |entry| {
                        self.store
                            .write_layer_tar(diff_id, entry)
                            .map(drop)
                            .map_err(std::io::Error::other)
                    })
                    .map_err(failed)?;
                }
            }
        }
        tar.finish().map_err(failed)
    }

    fn layer_tar_bytes(&self, diff_id: &DiffId) -> Result<u64> {
        let layer = self
            .store
            .layer(diff_id)
            .map_err(store_error("cannot read layers"))?;
        layer
            .map(|layer| layer.tar_bytes)
            .ok_or_else(|| EngineError::internal(format!("layer {diff_id} is missing")))
    }

    /// Returns all files of the archive by path; a layer that several images share is there once.
    fn members(&self, plan: &Plan) -> Result<BTreeMap<String, Member>> {
        let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let mut members = BTreeMap::new();
        let mut archived = Vec::new();
        let mut repositories = Repositories::new();
        let mut index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            manifests: Vec::new(),
            annotations: BTreeMap::new(),
        };
        let saved: Vec<ImageId> = plan.images.iter().map(|(image, _)| image.id).collect();
        for (image, references) in &plan.images {
            let config = self
                .store
                .read_blob(&image.id, MAX_CONFIG_BYTES)
                .map_err(store_error("cannot read the image's config"))?
                .ok_or_else(|| {
                    EngineError::internal(format!("the config of image {} is missing", image.id))
                })?;
            let diff_ids = &image.config.rootfs.diff_ids;
            let manifest = self.archive_manifest(&image.id, config.len(), diff_ids)?;
            let manifest_bytes = serde_json::to_vec(&manifest).map_err(|e| {
                EngineError::wrap(ErrorKind::Internal, "cannot write a manifest", e)
            })?;
            let descriptor = descriptor_of(media_type::OCI_MANIFEST, &manifest_bytes);
            add_names(
                &mut index,
                &descriptor,
                references,
                &mut repositories,
                diff_ids.last(),
            );
            members.insert(blob(&image.id), Member::Bytes(config));
            members.insert(blob(&descriptor.digest), Member::Bytes(manifest_bytes));
            for diff_id in diff_ids {
                members.insert(blob(diff_id), Member::Layer(*diff_id));
            }
            let tags: Vec<String> = references.iter().map(Reference::familiar).collect();
            archived.push(ArchivedImage {
                config: blob(&image.id),
                repo_tags: (!tags.is_empty()).then_some(tags),
                layers: diff_ids.iter().map(blob).collect(),
                parent: image
                    .parent
                    .filter(|parent| saved.contains(parent))
                    .map(|parent| parent.to_string()),
            });
        }
        members.insert(
            "manifest.json".to_owned(),
            Member::Bytes(json_line(&archived)?),
        );
        members.insert("index.json".to_owned(), Member::Bytes(json_line(&index)?));
        members.insert(
            "oci-layout".to_owned(),
            Member::Bytes(OCI_LAYOUT.as_bytes().to_vec()),
        );
        if !repositories.is_empty() {
            members.insert(
                "repositories".to_owned(),
                Member::Bytes(json_line(&repositories)?),
            );
        }
        Ok(members)
    }

    fn archive_manifest(
        &self,
        id: &ImageId,
        config_bytes: usize,
        diff_ids: &[DiffId],
    ) -> Result<Manifest> {
        let mut layers = Vec::with_capacity(diff_ids.len());
        for diff_id in diff_ids {
            layers.push(descriptor(
                media_type::OCI_LAYER,
                *diff_id,
                self.layer_tar_bytes(diff_id)?,
            ));
        }
        Ok(Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: descriptor(media_type::OCI_CONFIG, *id, config_bytes as u64),
            layers,
            annotations: BTreeMap::new(),
        })
    }
}

fn add_names(
    index: &mut Index,
    manifest: &Descriptor,
    references: &[Reference],
    repositories: &mut Repositories,
    top_layer: Option<&DiffId>,
) {
    if references.is_empty() {
        index.manifests.push(manifest.clone());
    }
    for reference in references {
        let tag = reference.tag().unwrap_or_default().to_owned();
        let mut named = manifest.clone();
        named.annotations.insert(
            NAME_ANNOTATION.to_owned(),
            format!("{}:{tag}", reference.name()),
        );
        named
            .annotations
            .insert(TAG_ANNOTATION.to_owned(), tag.clone());
        index.manifests.push(named);
        if let Some(top) = top_layer {
            repositories
                .entry(reference.familiar_name())
                .or_default()
                .insert(tag, top.hex());
        }
    }
}

pub(super) fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        platform: None,
    }
}

pub(super) fn descriptor_of(media_type: &str, bytes: &[u8]) -> Descriptor {
    descriptor(media_type, Digest::of(bytes), bytes.len() as u64)
}

fn json_line<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)
        .map_err(|e| EngineError::wrap(ErrorKind::Internal, "cannot write a document", e))?;
    bytes.push(b'\n');
    Ok(bytes)
}
