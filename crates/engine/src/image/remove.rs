//! Removing images by docker's rules (spec image-store §15).

use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::view::Removed;
use std::sync::Arc;
use wharf_image::{ImageId, Reference};
use wharf_store::Image;

/// Why an image cannot be removed.
struct Conflict {
    hard: bool,
    used_by_container: bool,
    text: String,
}

impl Conflict {
    fn into_error(self, id: &ImageId) -> EngineError {
        let force = if self.hard {
            "cannot be forced"
        } else {
            "must be forced"
        };
        EngineError::conflict(format!(
            "conflict: unable to delete {} ({force}) - {}",
            id.short(),
            self.text
        ))
    }
}

impl Engine {
    /// Removes a name, and the image with its last name.
    ///
    /// # Errors
    /// Docker's conflict texts (children, running and stopped containers, several names).
    pub async fn remove_image(
        self: &Arc<Self>,
        name: &str,
        force: bool,
        no_prune: bool,
    ) -> Result<Vec<Removed>> {
        let name = name.to_owned();
        self.with_store(move |engine| engine.remove_image_blocking(&name, force, !no_prune))
            .await
    }

    fn remove_image_blocking(
        &self,
        name: &str,
        force: bool,
        prune_parents: bool,
    ) -> Result<Vec<Removed>> {
        let image = self.find_image(name)?;
        let mut removed = Vec::new();
        let names = self.names_of(&image.id)?;
        if !self.is_id_of(name, &image) {
            let reference = super::naming::parse(name)?.with_default_tag();
            if !force && is_single_reference(&names) {
                self.refuse_used_name(name, &image.id)?;
            }
            self.remove_name(&reference, &image.id, &mut removed)?;
            if !self.names_of(&image.id)?.is_empty() {
                return Ok(removed);
            }
            if !self.leave_to_builds(&image.id) {
                self.delete(&image, force, prune_parents, true, &mut removed)?;
            }
            return Ok(removed);
        }
        let in_use = self.conflict(&image.id, true, false)?;
        if names.len() > 1 && !is_single_reference(&names) && !force && in_use.is_none() {
            let conflict = Conflict {
                hard: false,
                used_by_container: false,
                text: "image is referenced in multiple repositories".to_owned(),
            };
            return Err(conflict.into_error(&image.id));
        }
        if let Some(conflict) = self.conflict(&image.id, force, false)? {
            return Err(conflict.into_error(&image.id));
        }
        for reference in &names {
            self.untag(reference, &image.id, &mut removed)?;
        }
        if !self.leave_to_builds(&image.id) {
            self.delete(&image, force, prune_parents, false, &mut removed)?;
        }
        Ok(removed)
    }

    /// Removes an image that has no name; nothing where it is gone or still used.
    pub(crate) fn remove_unnamed(&self, id: &ImageId) -> Result<()> {
        let image = self
            .store
            .image(id)
            .map_err(store_error("cannot read images"))?;
        match image {
            Some(image) if self.names_of(id)?.is_empty() => {
                self.delete(&image, false, true, true, &mut Vec::new())
            }
            _ => Ok(()),
        }
    }

    fn names_of(&self, id: &ImageId) -> Result<Vec<Reference>> {
        self.store
            .names_of(id)
            .map_err(store_error("cannot read image names"))
    }

    fn refuse_used_name(&self, name: &str, id: &ImageId) -> Result<()> {
        match self.containers.using_image(id).first() {
            Some(container) => Err(EngineError::conflict(format!(
                "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {}",
                container.short_id(),
                id.short()
            ))),
            None => Ok(()),
        }
    }

    /// Removes one name; the digests of a repository go with its last tag.
    fn remove_name(
        &self,
        reference: &Reference,
        id: &ImageId,
        removed: &mut Vec<Removed>,
    ) -> Result<()> {
        let exact = match reference.digest() {
            Some(digest) => reference.with_digest(*digest),
            None => reference.clone(),
        };
        self.untag(&exact, id, removed)?;
        let left = self.names_of(id)?;
        let same_repository: Vec<&Reference> = left
            .iter()
            .filter(|name| name.name() == exact.name())
            .collect();
        if same_repository.iter().all(|name| name.tag().is_none()) {
            for name in same_repository {
                self.untag(name, id, removed)?;
            }
        }
        Ok(())
    }

    fn untag(&self, reference: &Reference, id: &ImageId, removed: &mut Vec<Removed>) -> Result<()> {
        if self
            .store
            .untag(reference)
            .map_err(store_error("cannot remove the name"))?
            .is_some()
        {
            self.image_event("untag", id, id.to_string());
            removed.push(Removed::Untagged(reference.familiar()));
        }
        Ok(())
    }

    /// Deletes an image that has no names, then its parents while nothing else needs them.
    ///
    /// With `quiet`, an image that something still uses simply stays.
    fn delete(
        &self,
        image: &Image,
        force: bool,
        prune_parents: bool,
        quiet: bool,
        removed: &mut Vec<Removed>,
    ) -> Result<()> {
        if let Some(conflict) = self.conflict(&image.id, force, true)? {
            let dangling =
                self.names_of(&image.id)?.is_empty() && self.children(&image.id)?.is_empty();
            if quiet && (!dangling || conflict.used_by_container) {
                return Ok(());
            }
            return Err(conflict.into_error(&image.id));
        }
        let layers = self.store.delete_image(&image.id).map_err(|error| {
            // Somebody else was quicker.
            if error.is_not_found() {
                return super::find::no_such_image(&image.id.to_string());
            }
            store_error("cannot delete the image")(error)
        })?;
        self.image_event("delete", &image.id, image.id.to_string());
        removed.push(Removed::Deleted(image.id));
        removed.extend(layers.into_iter().map(Removed::Deleted));
        let Some(parent) = image.parent.filter(|_| prune_parents) else {
            return Ok(());
        };
        match self
            .store
            .image(&parent)
            .map_err(store_error("cannot read images"))?
        {
            Some(parent) if parent.built_here && self.names_of(&parent.id)?.is_empty() => {
                self.delete(&parent, false, true, true, removed)
            }
            _ => Ok(()),
        }
    }

    fn children(&self, id: &ImageId) -> Result<Vec<ImageId>> {
        self.store
            .children(id)
            .map_err(store_error("cannot read images"))
    }

    /// Finds what forbids to delete an image, in docker's order; `force` lifts the soft reasons.
    fn conflict(&self, id: &ImageId, force: bool, check_names: bool) -> Result<Option<Conflict>> {
        let found = |hard: bool, used_by_container: bool, text: String| {
            Ok(Some(Conflict {
                hard,
                used_by_container,
                text,
            }))
        };
        if !self.children(id)?.is_empty() {
            return found(true, false, "image has dependent child images".to_owned());
        }
        let users = self.containers.using_image(id);
        if let Some(running) = users.iter().find(|container| container.is_running()) {
            return found(
                true,
                true,
                format!(
                    "image is being used by running container {}",
                    running.short_id()
                ),
            );
        }
        if force {
            return Ok(None);
        }
        if check_names && !self.names_of(id)?.is_empty() {
            return found(
                false,
                false,
                "image is referenced in multiple repositories".to_owned(),
            );
        }
        if let Some(stopped) = users.first() {
            return found(
                false,
                true,
                format!(
                    "image is being used by stopped container {}",
                    stopped.short_id()
                ),
            );
        }
        Ok(None)
    }
}

/// Tells whether all names are in one repository with at most one tag.
fn is_single_reference(names: &[Reference]) -> bool {
    let Some(first) = names.first() else {
        return false;
    };
    names.iter().all(|name| name.name() == first.name())
        && names.iter().filter(|name| name.tag().is_some()).count() <= 1
}
