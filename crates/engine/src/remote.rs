//! Asking registries about images that need not be here.

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::image::naming;
use crate::image::pull::registry_error;
use wharf_image::{Descriptor, DescriptorPlatform};
use wharf_registry::{Credentials, Found};

/// Results of a search that names no number.
const DEFAULT_RESULTS: u32 = 25;

impl Engine {
    /// Tells what a name means at its registry now, and for which platforms.
    ///
    /// # Errors
    /// A bad name; a registry that does not know it, refuses, or cannot be reached.
    pub async fn describe_remote(
        &self,
        name: &str,
        credentials: &Credentials,
    ) -> Result<(Descriptor, Vec<DescriptorPlatform>)> {
        let reference = naming::parse(name)?.with_default_tag();
        self.registry
            .describe(&reference, credentials)
            .await
            .map_err(registry_error)
    }

    /// Searches a registry: the one named before the first slash of the term, or docker.io.
    ///
    /// # Errors
    /// A limit out of docker's range; a registry that refuses or cannot be reached.
    pub async fn search_images(
        &self,
        term: &str,
        limit: Option<i64>,
        credentials: &Credentials,
    ) -> Result<Vec<Found>> {
        let limit = match limit {
            None | Some(0) => DEFAULT_RESULTS,
            Some(limit) => u32::try_from(limit)
                .ok()
                .filter(|limit| *limit <= wharf_registry::MAX_RESULTS)
                .ok_or_else(|| {
                    EngineError::invalid(format!(
                        "invalid limit {limit}: outside the range of [1, {}]",
                        wharf_registry::MAX_RESULTS
                    ))
                })?,
        };
        let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
        let (domain, rest) = match term.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => ("docker.io", term),
        };
        if domain.contains("://") || term.contains("://") {
            return Err(EngineError::invalid(format!(
                "invalid repository name: repository name ({term}) should not have a scheme"
            )));
        }
        let domain = if domain == "index.docker.io" {
            "docker.io"
        } else {
            domain
        };
        self.registry
            .search(domain, rest, limit, credentials)
            .await
            .map_err(registry_error)
    }
}
