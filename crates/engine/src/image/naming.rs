//! Names of images: parsing what callers give, tagging (spec image-store §2, §14).

use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use std::sync::Arc;
use wharf_image::{ImageId, Reference};
use wharf_store::Image;

/// Parses a repository and a tag given apart; the tag may also be in the repository.
///
/// # Errors
/// Docker's texts for names that are malformed or that must not be given.
pub(crate) fn parse_tag(repository: &str, tag: &str) -> Result<Reference> {
    let reference = parse(repository)?;
    if reference.digest().is_some() {
        return Err(EngineError::invalid(
            "refusing to create a tag with a digest reference",
        ));
    }
    let reference = if tag.is_empty() {
        reference.with_default_tag()
    } else {
        reference
            .with_tag(tag)
            .map_err(|_| EngineError::invalid("invalid tag format"))?
    };
    if reference.domain() == "docker.io" && reference.path() == "library/sha256" {
        return Err(EngineError::invalid(
            "refusing to create an ambiguous tag using digest algorithm as name",
        ));
    }
    Ok(reference)
}

/// Parses a reference.
///
/// # Errors
/// Docker's `invalid reference format` texts.
pub(crate) fn parse(text: &str) -> Result<Reference> {
    Reference::parse(text).map_err(|e| EngineError::invalid(e.to_string()))
}

impl Engine {
    /// Gives an image another name; a name that another image has is moved.
    ///
    /// # Errors
    /// No such image; a malformed name.
    pub async fn tag_image(
        self: &Arc<Self>,
        name: &str,
        repository: &str,
        tag: &str,
    ) -> Result<()> {
        let reference = parse_tag(repository, tag)?;
        let name = name.to_owned();
        let image = self
            .with_store(move |engine| engine.find_image(&name))
            .await?;
        self.tag_reference(&reference, &image.id).await
    }

    pub(crate) async fn tag_reference(
        self: &Arc<Self>,
        reference: &Reference,
        id: &ImageId,
    ) -> Result<()> {
        let (reference, id) = (reference.clone(), *id);
        self.with_store(move |engine| engine.tag_blocking(&reference, &id).map(drop))
            .await
    }

    /// Names an image, tells of it, and returns the one that had the name before.
    fn tag_blocking(&self, reference: &Reference, id: &ImageId) -> Result<Option<ImageId>> {
        let before = self.name_blocking(reference, id)?;
        self.image_event("tag", id, reference.familiar());
        Ok(before)
    }

    /// Names an image and returns the one that had the name before.
    pub(crate) fn name_blocking(
        &self,
        reference: &Reference,
        id: &ImageId,
    ) -> Result<Option<ImageId>> {
        let before = self
            .store
            .tag(reference, id)
            .map_err(store_error("cannot name the image"))?;
        Ok(before.filter(|before| before != id))
    }

    /// Tells of something that happened to an image; its labels are among the attributes as long as it is there.
    pub(crate) fn image_event(&self, action: &str, id: &ImageId, name: String) {
        let image = self.store.image(id).ok().flatten();
        self.publish_image_event(action, id, name, image.as_ref());
    }

    /// Tells of something that happened to an image, with the labels of `image`.
    pub(crate) fn publish_image_event(
        &self,
        action: &str,
        id: &ImageId,
        name: String,
        image: Option<&Image>,
    ) {
        let mut attributes = image
            .and_then(|image| image.config.config.as_ref())
            .map(|config| config.labels.clone())
            .unwrap_or_default();
        attributes.insert("name".to_owned(), name);
        self.events
            .publish("image", action, &id.to_string(), attributes);
    }
}
