//! Finding an image by name, ID or ID prefix (spec image-store §2).

use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use std::sync::Arc;
use wharf_image::{Digest, ImageConfig, ImageId, Reference};
use wharf_store::Image;

/// Largest config of a build step that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 8 * 1024 * 1024;

/// Digits of an ID as lists print it.
const SHORT_ID_DIGITS: usize = 12;

impl Engine {
    /// Finds an image: a full digest by ID (or by its manifest or index), else by name, else by a
    /// unique prefix of an ID; the ID of a build step counts as well.
    ///
    /// # Errors
    /// Docker's `No such image: name:latest`.
    pub(crate) fn find_image(&self, name: &str) -> Result<Image> {
        if name.is_empty() {
            return Err(EngineError::invalid("image name or ID is empty"));
        }
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if hex.len() == 64 && is_hex(hex) {
            let digest: Digest = format!("sha256:{hex}")
                .parse()
                .map_err(|_| no_such_image(name))?;
            return self
                .image_of_digest(&digest)?
                .ok_or_else(|| no_such_image(name));
        }
        if let Ok(reference) = Reference::parse(name)
            && let Some(image) = self.image_of_reference(&reference.with_default_tag())?
        {
            return Ok(image);
        }
        if let Some(image) = self.image_of_prefix(hex)? {
            return Ok(image);
        }
        // A name that cannot be one is the caller's mistake, not an image to pull.
        super::naming::parse(name)?;
        Err(no_such_image(name))
    }

    /// Tells whether `name` is (a prefix of) the ID of `image` and no name of it.
    pub(crate) fn is_id_of(&self, name: &str, image: &Image) -> bool {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if !is_hex(hex) || !image.id.hex().starts_with(hex) {
            return false;
        }
        let named = Reference::parse(name).ok().and_then(|reference| {
            self.store
                .resolve(&reference.with_default_tag())
                .ok()
                .flatten()
        });
        named.is_none()
    }

    /// Finds an image that a build names. A few digits that could be an ID are a name there: `FROM cafe` is not whatever image
    /// has an ID that begins so; those that lists print are long enough.
    ///
    /// # Errors
    /// As [`Self::find_image`].
    pub(crate) fn find_image_of_build(&self, name: &str) -> Result<Image> {
        let image = self.find_image(name)?;
        let digits = name.strip_prefix("sha256:").unwrap_or(name).len();
        if digits < SHORT_ID_DIGITS && self.is_id_of(name, &image) {
            return Err(no_such_image(name));
        }
        Ok(image)
    }

    pub(crate) fn image_of_reference(&self, reference: &Reference) -> Result<Option<Image>> {
        let reference = match reference.digest() {
            Some(digest) => reference.with_digest(*digest),
            None => reference.clone(),
        };
        match self
            .store
            .resolve(&reference)
            .map_err(store_error("cannot read image names"))?
        {
            Some(id) => self.image_of_id(&id),
            None => Ok(None),
        }
    }

    fn image_of_id(&self, id: &ImageId) -> Result<Option<Image>> {
        self.store
            .image(id)
            .map_err(store_error("cannot read images"))
    }

    fn image_of_digest(&self, digest: &Digest) -> Result<Option<Image>> {
        if let Some(image) = self.image_of_id(digest)? {
            return Ok(Some(image));
        }
        let images = self
            .store
            .images()
            .map_err(store_error("cannot read images"))?;
        let by_document = images.into_iter().find(|image| {
            [&image.manifest, &image.index]
                .into_iter()
                .flatten()
                .any(|descriptor| descriptor.digest == *digest)
        });
        match by_document {
            Some(image) => Ok(Some(image)),
            None => self.image_of_step(digest),
        }
    }

    fn image_of_prefix(&self, hex: &str) -> Result<Option<Image>> {
        if hex.is_empty() || hex.len() > 64 || !is_hex(hex) {
            return Ok(None);
        }
        let ids = self
            .store
            .find_by_prefix(hex)
            .map_err(store_error("cannot read images"))?;
        match ids.as_slice() {
            [id] => self.image_of_id(id),
            [] => match self
                .store
                .find_cached_config(hex)
                .map_err(store_error("cannot read the build cache"))?
                .as_slice()
            {
                [digest] => self.image_of_step(digest),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// Makes an image of a build step's config, which the build cache keeps: `run` on the ID that a
    /// build printed works.
    fn image_of_step(&self, digest: &Digest) -> Result<Option<Image>> {
        let known = self
            .store
            .find_cached_config(&digest.hex())
            .map_err(store_error("cannot read the build cache"))?;
        if known.as_slice() != [*digest] {
            return Ok(None);
        }
        let Some(bytes) = self
            .store
            .read_blob(digest, MAX_CONFIG_BYTES)
            .map_err(store_error("cannot read the step's config"))?
        else {
            return Ok(None);
        };
        let Ok(config) = ImageConfig::parse(&bytes) else {
            return Ok(None);
        };
        let mut size_bytes = 0;
        for diff_id in &config.rootfs.diff_ids {
            match self
                .store
                .layer(diff_id)
                .map_err(store_error("cannot read layers"))?
            {
                Some(layer) => size_bytes += layer.size_bytes,
                None => return Ok(None),
            }
        }
        Ok(Some(Image {
            id: *digest,
            created_unix_ns: config
                .created
                .as_deref()
                .map_or(0, crate::clock::parse_rfc3339),
            config: Arc::new(config),
            parent: None,
            size_bytes,
            last_tag_unix_ns: None,
            built_here: true,
            manifest: None,
            index: None,
        }))
    }

    /// Returns the named images and everything that was built or committed on them here.
    pub(crate) fn with_descendants(&self, names: &[String]) -> Vec<ImageId> {
        let mut found: Vec<ImageId> = names
            .iter()
            .filter_map(|name| self.find_image(name).ok())
            .map(|image| image.id)
            .collect();
        let mut next = 0;
        while let Some(id) = found.get(next).copied() {
            for child in self.store.children(&id).unwrap_or_default() {
                if !found.contains(&child) {
                    found.push(child);
                }
            }
            next += 1;
        }
        found
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Words docker's answer for an image that is not there; clients pull when they see its kind.
pub(crate) fn no_such_image(name: &str) -> EngineError {
    let shown = match Reference::parse(name) {
        // What could only be an ID is shown as one.
        _ if name.len() == 64 && is_hex(name) => format!("sha256:{name}"),
        Ok(reference) => reference.with_default_tag().familiar(),
        Err(_) => name.to_owned(),
    };
    EngineError::not_found(format!("No such image: {shown}"))
}
