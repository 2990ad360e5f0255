//! From a reference to the manifest and config of one platform.

use crate::client::Client;
use crate::credentials::Credentials;
use crate::documents::{Documents, MAX_INDEX_DEPTH, is_unknown};
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use bytes::Bytes;
use wharf_image::{
    Descriptor, DescriptorPlatform, Document, ImageConfig, Manifest, Platform, Reference,
};

/// Holds an image of one platform as a registry describes it; all digests are verified.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What the reference names: a manifest or an index, with its bytes as they came.
    pub top: (Descriptor, Bytes),
    /// The platform's manifest with its bytes as they came; the same as `top` without an index.
    pub manifest: (Descriptor, Bytes),
    /// The manifest, parsed.
    pub parsed: Manifest,
    /// The image config's bytes as they came.
    pub config: Bytes,
}

impl Client {
    /// Finds the image that a reference means on a platform and fetches its documents. A reference
    /// without tag and digest means `latest`; with both, the digest.
    ///
    /// An index is searched for the best match; attestations (`unknown/unknown`) never match. An
    /// image without index is taken whatever its platform is.
    ///
    /// # Errors
    /// [`RegistryError::ManifestUnknown`], [`RegistryError::PullDenied`],
    /// [`RegistryError::NoMatchingManifest`] and all failures of transport and verification.
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        credentials: &Credentials,
    ) -> Result<Resolved, RegistryError> {
        // A mirror is only asked for what anybody may read, and its failure is no failure.
        for endpoint in self.inner().endpoints.mirrors_of(reference) {
            let anonymous = Credentials::default();
            let found = self.resolve_at(&endpoint, reference, platform, &anonymous);
            if let Ok(resolved) = found.await {
                return Ok(resolved);
            }
        }
        let endpoint = self.inner().endpoints.of(reference).await?;
        self.resolve_at(&endpoint, reference, platform, credentials)
            .await
    }

    async fn resolve_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        platform: &Platform,
        credentials: &Credentials,
    ) -> Result<Resolved, RegistryError> {
        let documents = self.documents(endpoint, reference, platform, credentials);
        let top = documents.top().await?;
        let mut current = (top.0.clone(), top.1.clone());
        for _ in 0..=MAX_INDEX_DEPTH {
            match documents.parse(&current)? {
                Document::Manifest(parsed) => {
                    let config = documents.config(&parsed).await?;
                    return Ok(Resolved {
                        top,
                        manifest: current,
                        parsed,
                        config,
                    });
                }
                Document::Index(index) => current = documents.choose(&index).await?,
            }
        }
        Err(RegistryError::Protocol {
            registry: endpoint.registry.clone(),
            expected: format!("at most {MAX_INDEX_DEPTH} indexes in each other"),
            found: "more".to_owned(),
        })
    }

    /// Tells what a reference names now, and for which platforms there is an image: none when a lone
    /// manifest's config cannot be read. Mirrors are asked first.
    ///
    /// # Errors
    /// Those of [`Client::resolve`] but for a missing platform.
    pub async fn describe(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<(Descriptor, Vec<DescriptorPlatform>), RegistryError> {
        for endpoint in self.inner().endpoints.mirrors_of(reference) {
            let anonymous = Credentials::default();
            if let Ok(found) = self.describe_at(&endpoint, reference, &anonymous).await {
                return Ok(found);
            }
        }
        let endpoint = self.inner().endpoints.of(reference).await?;
        self.describe_at(&endpoint, reference, credentials).await
    }

    async fn describe_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<(Descriptor, Vec<DescriptorPlatform>), RegistryError> {
        let platform = Platform::host();
        let documents = self.documents(endpoint, reference, &platform, credentials);
        let top = documents.top().await?;
        let platforms = match documents.parse(&top)? {
            Document::Index(index) => index
                .manifests
                .into_iter()
                .filter_map(|entry| entry.platform)
                .filter(|platform| !is_unknown(platform))
                .collect(),
            Document::Manifest(manifest) => {
                let config = documents.config(&manifest).await?;
                let config = ImageConfig::parse(&config).ok();
                config
                    .into_iter()
                    .map(|config| DescriptorPlatform {
                        os: config.os,
                        architecture: config.architecture,
                        variant: config.variant,
                        ..DescriptorPlatform::default()
                    })
                    .collect()
            }
        };
        Ok((top.0, platforms))
    }

    /// Fetches what a reference names: a manifest or an index, with its bytes as they came.
    ///
    /// # Errors
    /// Those of [`Client::resolve`] but for a missing platform.
    pub async fn document(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<(Descriptor, Bytes), RegistryError> {
        let endpoint = self.inner().endpoints.of(reference).await?;
        let platform = Platform::host();
        let documents = self.documents(&endpoint, reference, &platform, credentials);
        documents.top().await
    }

    /// Fetches the config that a manifest names, from the repository of a reference.
    ///
    /// # Errors
    /// Those of [`Client::resolve`] but for a missing platform.
    pub async fn config(
        &self,
        reference: &Reference,
        manifest: &Manifest,
        credentials: &Credentials,
    ) -> Result<Bytes, RegistryError> {
        let endpoint = self.inner().endpoints.of(reference).await?;
        let platform = Platform::host();
        let documents = self.documents(&endpoint, reference, &platform, credentials);
        documents.config(manifest).await
    }

    /// Asks which manifest or index a reference names now, without fetching it.
    ///
    /// # Errors
    /// Those of [`Client::resolve`].
    pub async fn head(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Descriptor, RegistryError> {
        let endpoint = self.inner().endpoints.of(reference).await?;
        let platform = Platform::host();
        let documents = self.documents(&endpoint, reference, &platform, credentials);
        documents.head().await
    }

    fn documents<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        reference: &'a Reference,
        platform: &'a Platform,
        credentials: &'a Credentials,
    ) -> Documents<'a> {
        Documents {
            client: self,
            endpoint,
            reference,
            platform,
            credentials,
        }
    }
}
