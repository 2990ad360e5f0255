//! Asking for an image of a certain platform. The engine keeps one platform of an image under a name, so that it either
//! is the one or is not there.

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use std::sync::Arc;
use wharf_image::{DescriptorPlatform, ImageConfig, Platform};

impl Engine {
    /// Makes sure that an image is of a platform.
    ///
    /// # Errors
    /// No such image; docker's text for one of another platform, which clients take as a reason to pull.
    pub async fn require_image_platform(
        self: &Arc<Self>,
        name: &str,
        wanted: &Platform,
    ) -> Result<()> {
        let (name, wanted) = (name.to_owned(), wanted.clone());
        self.with_store(move |engine| {
            let image = engine.find_image(&name)?;
            require(&name, &image.config, &wanted)
        })
        .await
    }
}

/// Makes sure that an image that was found under `name` is of a platform, or runs on it.
pub(crate) fn require(name: &str, config: &ImageConfig, wanted: &Platform) -> Result<()> {
    let found = platform_of(config);
    match wanted.rank(&found) {
        Some(_) => Ok(()),
        None => Err(EngineError::not_found(format!(
            "image with reference {name} was found but its platform ({}) does not match the specified platform ({})",
            Platform::from(&found).format_all(),
            wanted.format_all()
        ))),
    }
}

/// Returns the platform that an image is made for.
pub(crate) fn platform_of(config: &ImageConfig) -> DescriptorPlatform {
    DescriptorPlatform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        variant: config.variant.clone(),
        ..DescriptorPlatform::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_of_a_platform_or_not() {
        let config = ImageConfig {
            architecture: "arm64".to_owned(),
            os: "linux".to_owned(),
            ..ImageConfig::default()
        };
        let require = |platform: &str| {
            let wanted = Platform::parse(platform).unwrap();
            require("app:1", &config, &wanted).map_err(|error| error.message().to_owned())
        };
        assert_eq!(require("linux/arm64"), Ok(()));
        assert_eq!(
            require("linux/amd64").unwrap_err(),
            "image with reference app:1 was found but its platform (linux/arm64) does not match the specified \
             platform (linux/amd64)"
        );
    }
}
