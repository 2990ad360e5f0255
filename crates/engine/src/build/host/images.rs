//! Finding the images that a build starts from: in the store, at a registry, in a directory.

use crate::build::host::BuildHost;
use crate::error::{EngineError, Result};
use crate::image::pull::registry_error;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use wharf_build::BaseImage;
use wharf_image::{Digest, ImageConfig, Platform, Reference};
use wharf_registry::Credentials;

/// How long a registry may take to tell of an image that is only checked against.
const CONFIG_PATIENCE: Duration = Duration::from_secs(10);

impl BuildHost {
    /// Finds the image that a stage starts from, pulling it where it is not there or a pull is asked for.
    pub(super) fn find_base(
        &self,
        name: &str,
        pull: bool,
        platform: Option<&Platform>,
    ) -> Result<BaseImage> {
        let reference = crate::image::naming::parse(name).map(Reference::with_default_tag);
        let local = self.engine.find_image_of_build(name);
        let image = match (local, reference) {
            (Ok(image), _) if !pull => image,
            (Ok(image), Err(_)) => image,
            (local, Ok(reference)) => {
                let platform = platform.cloned().unwrap_or_else(Platform::host);
                let credentials = self.credentials_for(&reference);
                let pulled = self.runtime.block_on(self.engine.pull_one(
                    &reference,
                    &platform,
                    &credentials,
                    &self.progress,
                ));
                match (pulled, local) {
                    (Ok(_), _) => self.engine.find_image(name)?,
                    (Err(error), Ok(_) | Err(_)) => return Err(error),
                }
            }
            (Err(error), Err(_)) => return Err(error),
        };
        Ok(base_image(image))
    }

    /// Returns the config of an image as its registry has it; nothing is kept.
    pub(super) fn find_config(&self, name: &str, platform: &Platform) -> Result<BaseImage> {
        let reference = crate::image::naming::parse(name)?.with_default_tag();
        let credentials = self.credentials_for(&reference);
        let asked = self
            .engine
            .registry
            .resolve(&reference, platform, &credentials);
        let answer = async { tokio::time::timeout(CONFIG_PATIENCE, asked).await };
        let resolved = self.runtime.block_on(answer).map_err(|_| {
            let seconds = CONFIG_PATIENCE.as_secs();
            EngineError::invalid(format!(
                "{} did not answer within {seconds} s",
                reference.domain()
            ))
        })?;
        let resolved = resolved.map_err(registry_error)?;
        let config = ImageConfig::parse(&resolved.config).map_err(|error| {
            EngineError::invalid(format!("the config of {name} cannot be read: {error}"))
        })?;
        Ok(BaseImage {
            id: Digest::of(&resolved.config),
            digest: Some(resolved.top.0.digest),
            config: Arc::new(config),
        })
    }

    /// Finds an image in a directory of the caller, and keeps its layers.
    pub(super) fn find_layout(&self, name: &str, platform: Option<&Platform>) -> Result<BaseImage> {
        let Some(caller) = &self.caller else {
            return Err(EngineError::invalid(format!(
                "build context oci-layout://{name}: a directory can only be used from the same machine"
            )));
        };
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        let found = self.engine.layout_image(name, &platform, Some(caller))?;
        self.layouts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(found.lease);
        Ok(BaseImage {
            id: found.id,
            digest: Some(found.digest),
            config: Arc::new(found.config),
        })
    }

    fn credentials_for(&self, reference: &Reference) -> Credentials {
        let domain = reference.domain();
        let aliases: &[&str] = if domain == "docker.io" {
            &[
                "https://index.docker.io/v1/",
                "index.docker.io",
                "docker.io",
            ]
        } else {
            &[]
        };
        let known = std::iter::once(domain)
            .chain(aliases.iter().copied())
            .find_map(|key| self.credentials.get(key));
        known.cloned().unwrap_or_default()
    }
}

/// Returns an image of the store as builds take it.
pub(super) fn base_image(image: wharf_store::Image) -> BaseImage {
    let named = image.index.as_ref().or(image.manifest.as_ref());
    BaseImage {
        id: image.id,
        digest: named.map(|descriptor| descriptor.digest),
        config: image.config,
    }
}
