//! Removing images that nothing uses (spec image-store §15), many in one transaction.

use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::Result;
use crate::filters;
use crate::model::request::Filters;
use crate::model::view::{Pruned, Removed};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use wharf_image::{ImageId, Reference};
use wharf_store::Image;

/// Images that go in one transaction: no other change of the store comes between them.
const IMAGES_AT_ONCE: usize = 256;

/// What a prune takes.
struct Choice<'a> {
    filters: &'a Filters,
    dangling_only: bool,
    until_ns: Option<i64>,
}

impl Choice<'_> {
    fn takes(&self, image: &Image, names: &[Reference]) -> bool {
        let tagged = names.iter().any(|name| name.tag().is_some());
        let config = image.config.config.as_ref();
        let labels = config.map(|config| config.labels.clone());
        (!self.dangling_only || !tagged)
            && self
                .until_ns
                .is_none_or(|until| image.created_unix_ns < until)
            && filters::labels_match(self.filters, &labels.unwrap_or_default())
    }
}

/// The images that were there when the prune began.
struct Present<'a> {
    images: HashMap<ImageId, &'a Image>,
    names: HashMap<ImageId, Vec<Reference>>,
}

impl Present<'_> {
    fn names_of(&self, id: &ImageId) -> &[Reference] {
        self.names.get(id).map_or(&[], Vec::as_slice)
    }
}

impl Engine {
    /// Removes dangling images, or with `dangling=false` every image that no container has.
    ///
    /// # Errors
    /// Unknown filters, or another prune under way.
    pub async fn prune_images(self: &Arc<Self>, request: &Filters) -> Result<Pruned<Removed>> {
        filters::allow(request, &["dangling", "label", "label!", "until"])?;
        let _guard = self.pruning.images()?;
        let filters = request.clone();
        let pruned = self
            .with_store(move |engine| engine.prune_images_blocking(&filters))
            .await?;
        self.events.emit(
            "image",
            "prune",
            "",
            [("reclaimed", pruned.reclaimed_bytes.to_string())],
        );
        Ok(pruned)
    }

    fn prune_images_blocking(&self, request: &Filters) -> Result<Pruned<Removed>> {
        let choice = Choice {
            filters: request,
            dangling_only: filters::flag(request, "dangling")?.unwrap_or(true),
            until_ns: filters::until_ns(request)?,
        };
        let failed = || store_error("cannot read images");
        let images = self.store.images().map_err(failed())?;
        let mut present = Present {
            images: images.iter().map(|image| (image.id, image)).collect(),
            names: HashMap::new(),
        };
        for (name, id) in self.store.names().map_err(failed())? {
            present.names.entry(id).or_default().push(name);
        }
        let parents: HashSet<ImageId> = images.iter().filter_map(|image| image.parent).collect();
        let mut chosen: Vec<ImageId> = images
            .iter()
            .filter(|image| !parents.contains(&image.id))
            .filter(|image| choice.takes(image, present.names_of(&image.id)))
            .map(|image| image.id)
            .collect();
        let mut pruned = Pruned::default();
        while !chosen.is_empty() {
            let mut gone = Vec::new();
            for some in chosen.chunks(IMAGES_AT_ONCE) {
                gone.extend(self.prune_some(some, &present, &mut pruned)?);
            }
            chosen = parents_of(&gone, &present, &choice);
        }
        Ok(pruned)
    }

    /// Removes those of some images that nothing uses, in one transaction; returns which went.
    fn prune_some(
        &self,
        chosen: &[ImageId],
        present: &Present<'_>,
        pruned: &mut Pruned<Removed>,
    ) -> Result<Vec<ImageId>> {
        let used = self.containers.used_images();
        let unused: Vec<(ImageId, Vec<Reference>)> = chosen
            .iter()
            .filter(|id| !used.contains(id))
            .map(|id| (*id, present.names_of(id).to_vec()))
            .collect();
        let (images, released, report) = self
            .with_unclaimed(
                unused,
                |(id, _)| *id,
                |images| {
                    let (released, report) = self.store.delete_images(&images)?;
                    Ok((images, released, report))
                },
            )
            .map_err(store_error("cannot delete images"))?;
        pruned.reclaimed_bytes += report.bytes;
        let mut gone = Vec::new();
        for ((id, names), layers) in images.into_iter().zip(released) {
            let Some(layers) = layers else { continue };
            let image = present.images.get(&id).copied();
            for name in names {
                self.publish_image_event("untag", &id, id.to_string(), image);
                pruned.removed.push(Removed::Untagged(name.familiar()));
            }
            self.publish_image_event("delete", &id, id.to_string(), None);
            pruned.removed.push(Removed::Deleted(id));
            pruned
                .removed
                .extend(layers.into_iter().map(Removed::Deleted));
            gone.push(id);
        }
        Ok(gone)
    }
}

/// Returns the images on which those that are gone were made, and that are to go with them.
fn parents_of(gone: &[ImageId], present: &Present<'_>, choice: &Choice<'_>) -> Vec<ImageId> {
    let mut seen = HashSet::new();
    gone.iter()
        .filter_map(|id| present.images.get(id)?.parent)
        .filter(|parent| seen.insert(*parent))
        .filter(|parent| {
            let names = present.names_of(parent);
            present.images.get(parent).is_some_and(|image| {
                (image.built_here && names.is_empty()) || choice.takes(image, names)
            })
        })
        .collect()
}
