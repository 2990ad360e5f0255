//! Pulling images: every layer at once, each a pipeline from socket to directory (DESIGN §4).

mod layer;

use crate::container::create::store_error;
use crate::engine::{Engine, blocking};
use crate::error::{EngineError, ErrorKind, Result};
use crate::image::naming;
use crate::image::pull::layer::LayerFetch;
use crate::model::request::Pull;
use crate::model::view::{Progress, ProgressSender};
use bytes::Bytes;
use std::sync::Arc;
use wharf_image::{Descriptor, DiffId, ImageConfig, ImageId, Platform, Reference};
use wharf_registry::{Credentials, RegistryError, Resolved};
use wharf_store::{Lease, NewImage};

/// Tags that one `pull -a` takes.
const MAX_TAGS: usize = 10_000;

impl Engine {
    /// Pulls one tag or digest, or every tag of a repository when none is given.
    ///
    /// # Errors
    /// A malformed name, a registry's refusal, content that does not match its digest.
    pub async fn pull_image(
        self: &Arc<Self>,
        request: Pull,
        progress: ProgressSender,
    ) -> Result<()> {
        let mut reference = naming::parse(request.from_image.trim_end_matches(':'))?;
        if request.tag.contains(':') {
            let digest = request.tag.parse().map_err(|_| {
                EngineError::invalid(format!("invalid reference format: {:?}", request.tag))
            })?;
            reference = reference.with_digest(digest);
        } else if !request.tag.is_empty() && reference.digest().is_none() {
            reference = reference
                .with_tag(&request.tag)
                .map_err(|_| EngineError::invalid("invalid tag format"))?;
        }
        let platform = request.platform.clone().unwrap_or_else(Platform::host);
        if reference.tag().is_some() || reference.digest().is_some() {
            return self
                .pull_one(&reference, &platform, &request.credentials, &progress)
                .await
                .map(drop);
        }
        let tags = self
            .registry
            .tags(&reference, &request.credentials)
            .await
            .map_err(registry_error)?;
        for tag in tags.iter().take(MAX_TAGS) {
            let tagged = reference
                .with_tag(tag)
                .map_err(|e| EngineError::invalid(e.to_string()))?;
            self.pull_one(&tagged, &platform, &request.credentials, &progress)
                .await?;
        }
        Ok(())
    }

    /// Pulls one tag or digest for a platform.
    pub(crate) async fn pull_one(
        self: &Arc<Self>,
        reference: &Reference,
        platform: &Platform,
        credentials: &Credentials,
        progress: &ProgressSender,
    ) -> Result<ImageId> {
        let resolved = self
            .registry
            .resolve(reference, platform, credentials)
            .await
            .map_err(registry_error)?;
        let shown = reference
            .tag()
            .map_or_else(|| resolved.top.0.digest.to_string(), str::to_owned);
        say(
            progress,
            Some(shown),
            format!("Pulling from {}", reference.path()),
            None,
        );
        let diff_ids = check_documents(&resolved, platform)?;
        let lease = Arc::new(self.lease("pull").await?);
        let stored = async {
            self.fetch_layers(
                reference,
                &resolved,
                &diff_ids,
                credentials,
                progress,
                &lease,
            )
            .await?;
            self.store_pulled(reference, &resolved).await
        }
        .await;
        drop(lease);
        if stored.is_err() {
            self.with_store(|engine| {
                engine.drop_unowned();
                Ok(())
            })
            .await?;
        }
        let (id, is_new) = stored?;
        say(
            progress,
            None,
            format!("Digest: {}", resolved.top.0.digest),
            None,
        );
        let name = reference.familiar();
        let status = if is_new {
            format!("Status: Downloaded newer image for {name}")
        } else {
            format!("Status: Image is up to date for {name}")
        };
        say(progress, None, status, None);
        self.events.emit(
            "image",
            "pull",
            &name,
            [("name", reference.familiar_name())],
        );
        Ok(id)
    }

    async fn lease(self: &Arc<Self>, purpose: &'static str) -> Result<Lease> {
        self.with_store(move |engine| {
            engine
                .store
                .lease(purpose)
                .map_err(store_error("cannot hold layers"))
        })
        .await
    }

    async fn fetch_layers(
        self: &Arc<Self>,
        reference: &Reference,
        resolved: &Resolved,
        diff_ids: &[DiffId],
        credentials: &Credentials,
        progress: &ProgressSender,
        lease: &Arc<Lease>,
    ) -> Result<()> {
        let places = self.settings().layers_down();
        let mut tasks = tokio::task::JoinSet::new();
        let mut started = std::collections::HashSet::new();
        for (descriptor, diff_id) in resolved.parsed.layers.iter().zip(diff_ids) {
            if !started.insert(*diff_id) {
                continue;
            }
            let id = descriptor.digest.short();
            let (held, diff_id) = (Arc::clone(lease), *diff_id);
            let known = blocking(move || {
                held.hold_layer(&diff_id)
                    .map_err(store_error("cannot hold a layer"))
            })
            .await?;
            if known.is_some() {
                say(progress, Some(id), "Already exists".to_owned(), None);
                continue;
            }
            say(progress, Some(id), "Pulling fs layer".to_owned(), None);
            let fetch = LayerFetch {
                engine: Arc::clone(self),
                repository: reference.repository(),
                descriptor: descriptor.clone(),
                diff_id,
                credentials: credentials.clone(),
                progress: progress.clone(),
                lease: Arc::clone(lease),
            };
            tasks.spawn(async move {
                let _place = fetch.engine.downloads.enter(places).await;
                fetch.run().await
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap_or_else(|e| Err(EngineError::internal(format!("a download failed: {e}"))))?;
        }
        Ok(())
    }

    async fn store_pulled(
        self: &Arc<Self>,
        reference: &Reference,
        resolved: &Resolved,
    ) -> Result<(ImageId, bool)> {
        let (reference, resolved) = (reference.clone(), resolved.clone());
        self.with_store(move |engine| {
            let with_bytes =
                |document: &(Descriptor, Bytes)| (document.0.clone(), document.1.to_vec());
            let is_index = resolved.top.0.digest != resolved.manifest.0.digest;
            let new = NewImage {
                config: &resolved.config,
                manifest: Some(with_bytes(&resolved.manifest)),
                index: is_index.then(|| with_bytes(&resolved.top)),
                ..NewImage::default()
            };
            let image = engine
                .store
                .put_image(&new)
                .map_err(store_error("cannot store the image"))?;
            let by_digest = reference.with_digest(resolved.top.0.digest);
            let mut changed = engine
                .store
                .tag(&by_digest, &image.id)
                .map_err(store_error("cannot name the image"))?
                .is_none();
            if reference.tag().is_some() && reference.digest().is_none() {
                let before = engine
                    .store
                    .tag(&reference, &image.id)
                    .map_err(store_error("cannot name the image"))?;
                changed |= before != Some(image.id);
            }
            Ok((image.id, changed))
        })
        .await
    }
}

/// Checks that config and manifest belong together and fit the platform.
fn check_documents(resolved: &Resolved, platform: &Platform) -> Result<Vec<DiffId>> {
    let config = ImageConfig::parse(&resolved.config)
        .map_err(|e| EngineError::wrap(ErrorKind::Invalid, "cannot read the image's config", e))?;
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() != resolved.parsed.layers.len() {
        return Err(EngineError::invalid(format!(
            "invalid manifest: {} layers for {} DiffIDs in the config",
            resolved.parsed.layers.len(),
            diff_ids.len()
        )));
    }
    if !config.os.is_empty() && config.os != platform.os {
        return Err(EngineError::invalid(format!(
            "image operating system \"{}\" cannot be used on this platform",
            config.os
        )));
    }
    Ok(diff_ids)
}

/// Tells the client how it goes.
pub(super) fn say(
    progress: &ProgressSender,
    id: Option<String>,
    status: String,
    amount: Option<(u64, u64)>,
) {
    let _client_gone = progress.send(Progress::Status {
        id,
        status,
        progress: amount,
    });
}

/// Classifies a registry's failure.
pub(crate) fn registry_error(error: RegistryError) -> EngineError {
    let kind = match &error {
        RegistryError::Unauthorized { .. } => ErrorKind::Unauthorized,
        RegistryError::PullDenied { .. }
        | RegistryError::ManifestUnknown { .. }
        | RegistryError::NoMatchingManifest { .. } => ErrorKind::NotFound,
        RegistryError::Denied { .. } => ErrorKind::Forbidden,
        RegistryError::Address { .. } => ErrorKind::Invalid,
        _ => ErrorKind::Internal,
    };
    EngineError::new(kind, error.to_string())
}
