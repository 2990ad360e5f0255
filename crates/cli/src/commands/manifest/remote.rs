//! What the manifest commands ask of registries, which they speak to themselves, as docker's do.

use bytes::Bytes;
use wharf_image::{
    Descriptor, DescriptorPlatform, Digest, Document, ImageConfig, Manifest, Reference,
};
use wharf_registry::{Client, ClientOptions, Credentials, RegistryError};

use super::store::{Entry, is_manifest};
use crate::config_file::registry_of;
use crate::error::{CliError, Result};
use crate::session::Session;

/// What a name stands for at a registry.
pub(super) enum Found {
    One(Box<Entry>),
    Several(Vec<Entry>),
}

/// A registry, with the caller's credentials for it.
pub(super) struct Registry {
    client: Client,
    credentials: Credentials,
}

impl Registry {
    /// Prepares to speak to the registry of a name.
    pub(super) fn of(session: &mut Session, reference: &Reference, insecure: bool) -> Result<Self> {
        let key = registry_of(&reference.to_string())?;
        let known = session.config()?.credentials(&key)?.unwrap_or_default();
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let options = ClientOptions {
            insecure_registries: insecure
                .then(|| reference.domain().to_owned())
                .into_iter()
                .collect(),
            ..ClientOptions::default()
        };
        Ok(Self {
            client: Client::new(options).map_err(told)?,
            credentials: Credentials {
                username: some(known.username),
                password: some(known.password),
                identity_token: some(known.identity_token),
                registry_token: None,
            },
        })
    }

    /// Fetches what a name stands for; of a list every manifest.
    pub(super) async fn fetch(&self, reference: &Reference) -> Result<Found> {
        let (descriptor, bytes) = self.document(reference).await?;
        match Document::parse(&descriptor.media_type, &bytes) {
            Ok(Document::Manifest(manifest)) => {
                let entry = self.entry(reference, descriptor, &bytes, &manifest).await?;
                Ok(Found::One(Box::new(entry)))
            }
            Ok(Document::Index(index)) => {
                let mut entries = Vec::with_capacity(index.manifests.len());
                for listed in index.manifests {
                    if !is_manifest(&listed.media_type) {
                        continue;
                    }
                    let place = reference.with_digest(listed.digest);
                    let (found, bytes) = self.document(&place).await?;
                    let Ok(Document::Manifest(manifest)) =
                        Document::parse(&found.media_type, &bytes)
                    else {
                        continue;
                    };
                    let name = format!("{reference}@{}", listed.digest);
                    let mut entry = self.entry(&place, listed, &bytes, &manifest).await?;
                    entry.reference = name;
                    entries.push(entry);
                }
                Ok(Found::Several(entries))
            }
            Err(error) => Err(CliError::Plain(format!("{reference}: {error}"))),
        }
    }

    /// Fetches the manifest of one image.
    ///
    /// # Errors
    /// A name that stands for several.
    pub(super) async fn fetch_one(&self, reference: &Reference) -> Result<Entry> {
        match self.fetch(reference).await? {
            Found::One(entry) => Ok(*entry),
            Found::Several(_) => Err(CliError::Plain(format!("{reference} is a manifest list"))),
        }
    }

    async fn document(&self, reference: &Reference) -> Result<(Descriptor, Bytes)> {
        let found = self.client.document(reference, &self.credentials).await;
        found.map_err(|error| match error {
            RegistryError::ManifestUnknown { .. } | RegistryError::PullDenied { .. } => {
                CliError::Plain(format!("no such manifest: {reference}"))
            }
            error => told(error),
        })
    }

    async fn entry(
        &self,
        reference: &Reference,
        mut descriptor: Descriptor,
        bytes: &[u8],
        manifest: &Manifest,
    ) -> Result<Entry> {
        // What a list says of its manifests holds; a manifest alone says nothing, its config does.
        if descriptor.platform.is_none() {
            let config = self.client.config(reference, manifest, &self.credentials);
            let config = ImageConfig::parse(&config.await.map_err(told)?).ok();
            descriptor.platform = config.map(|config| DescriptorPlatform {
                os: config.os,
                architecture: config.architecture,
                variant: config.variant,
                ..DescriptorPlatform::default()
            });
        }
        Entry::new(reference, descriptor, bytes)
    }

    /// Makes a repository share a blob of another one.
    pub(super) async fn mount(
        &self,
        to: &Reference,
        blob: &Digest,
        from: &Reference,
    ) -> Result<()> {
        let mounted = self.client.mount_blob(to, blob, from, &self.credentials);
        if mounted.await.map_err(told)? {
            return Ok(());
        }
        let from = from.repository().with_digest(*blob);
        Err(CliError::Plain(format!("error mounting {from} to {to}")))
    }

    /// Stores a manifest or a list.
    pub(super) async fn put(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<Digest> {
        let put = self
            .client
            .put_manifest(reference, media_type, bytes.into(), &self.credentials);
        put.await.map_err(told)
    }
}

fn told(error: RegistryError) -> CliError {
    CliError::Plain(error.to_string())
}
