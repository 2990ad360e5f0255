//! Making an image of a container (spec image-store §11).

use super::create::{fs_error, store_error};
use super::merge::{env_key, merge_commit_config};
use crate::clock::{now_ns, rfc3339};
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::{Container, Status};
use crate::model::request::Commit;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wharf_image::{ContainerConfig, DiffId, HistoryEntry, ImageConfig, ImageId};
use wharf_safefs::Root;

/// Paths that the runtime makes as mount points in every container; never part of an image.
pub(crate) const MOUNT_STUBS: [&str; 8] = [
    ".dockerenv",
    "etc/resolv.conf",
    "etc/hosts",
    "etc/hostname",
    "etc/mtab",
    "dev",
    "proc",
    "sys",
];

/// How long the end of a container is waited for that cannot be thawed.
const END_OF_FROZEN: std::time::Duration = std::time::Duration::from_secs(2);

impl Engine {
    /// Makes an image of a container's changes.
    ///
    /// # Errors
    /// A malformed name or change; a container that is being removed; a full disk.
    pub async fn commit_container(self: &Arc<Self>, request: Commit) -> Result<ImageId> {
        let name = self.commit_name(&request)?;
        let entry = self.containers.find(&request.container)?;
        let _operation = entry.operate(&request.container).await?;
        let container = entry.snapshot();
        match container.state.status {
            Status::Dead => {
                return Err(EngineError::conflict(format!(
                    "You cannot commit container {} which is Dead",
                    container.id
                )));
            }
            Status::Removing => {
                return Err(EngineError::conflict(format!(
                    "You cannot commit container {} which is being removed",
                    container.id
                )));
            }
            _ => {}
        }
        let frozen = match entry
            .shim()
            .filter(|_| request.pause && container.state.status == Status::Running)
        {
            Some(shim) => shim.pause().await.is_ok().then_some(shim),
            None => None,
        };
        let (copied, is_copied) = tokio::sync::oneshot::channel();
        let copying = {
            let container = Arc::clone(&container);
            self.with_store(move |engine| {
                let copied = move || {
                    // Nobody waits any more where the commit was given up.
                    let _ = copied.send(());
                };
                engine.copy_changes(&container, copied)
            })
        };
        let thawing = async {
            // Nothing is sent where copying fails early.
            let _ = is_copied.await;
            match frozen {
                Some(shim) => thaw(&shim).await,
                None => Ok(()),
            }
        };
        let (layer, thawed) = tokio::join!(copying, thawing);
        thawed?;
        let (staging, summary) = layer?;
        let id = {
            let (container, request) = (Arc::clone(&container), request.clone());
            self.with_store(move |engine| {
                engine.store_whole("commit", || {
                    engine.commit_staged(&container, &request, staging, summary)
                })
            })
            .await?
        };
        self.image_event("create", &id, id.to_string());
        if let Some(name) = &name {
            self.tag_reference(name, &id).await?;
        }
        let reference = name.map(|name| name.familiar()).unwrap_or_default();
        let attributes = [
            ("comment", request.comment),
            ("imageID", id.to_string()),
            ("imageRef", reference),
        ];
        self.events.container(&container, "commit", attributes);
        Ok(id)
    }

    fn commit_name(&self, request: &Commit) -> Result<Option<wharf_image::Reference>> {
        if request.repository.is_empty() {
            return Ok(None);
        }
        crate::image::naming::parse_tag(&request.repository, &request.tag).map(Some)
    }

    /// Copies the container's own layer, without what the runtime put there, and tells what the layer is. `copied` is
    /// called as soon as the container's files may change again.
    fn copy_changes(
        &self,
        container: &Container,
        copied: impl FnOnce() + Send + Sync + 'static,
    ) -> Result<(wharf_store::Staging, wharf_store::LayerSummary)> {
        let staging = self
            .store
            .stage()
            .map_err(store_error("cannot stage the new layer"))?;
        let upper = Root::open(Path::new(&container.directory).join("upper"))
            .map_err(fs_error("cannot open the container's layer"))?;
        let lowers = self.open_layers(&container.diff_ids)?;
        let exclude = excluded_paths(container);
        let summary = wharf_layer::copy_upper(&upper, &lowers, staging.root(), &exclude, copied)
            .map_err(|e| {
                EngineError::wrap(
                    ErrorKind::Internal,
                    "cannot copy the container's changes",
                    e,
                )
            })?;
        Ok((staging, summary))
    }

    /// Opens the layers of a stack, topmost first.
    pub(crate) fn open_layers(&self, diff_ids: &[DiffId]) -> Result<Vec<Root>> {
        let dirs = self.layer_dirs(diff_ids)?;
        dirs.iter()
            .rev()
            .map(|dir| Root::open(dir).map_err(fs_error("cannot open a layer")))
            .collect()
    }

    fn commit_staged(
        &self,
        container: &Container,
        request: &Commit,
        staging: wharf_store::Staging,
        summary: wharf_store::LayerSummary,
    ) -> Result<ImageId> {
        let mut config = request
            .config
            .clone()
            .unwrap_or_else(|| container.config.clone());
        for change in &request.changes {
            crate::change::apply(&mut config, change)?;
        }
        merge_commit_config(&mut config, &container.config);
        let base = match container.image_id {
            Some(id) => self
                .store
                .image(&id)
                .map_err(store_error("cannot read the container's image"))?,
            None => None,
        };
        let mut diff_ids = container.diff_ids.clone();
        let empty = summary.entries == 0;
        if !empty {
            let diff_id = summary.diff_id;
            self.store
                .publish_layer(staging, wharf_store::NewLayer::made_here(summary))
                .map_err(store_error("cannot publish the new layer"))?;
            diff_ids.push(diff_id);
        }
        let created = rfc3339(now_ns());
        let mut image = base
            .as_ref()
            .map_or_else(ImageConfig::default, |base| ImageConfig {
                architecture: base.config.architecture.clone(),
                os: base.config.os.clone(),
                variant: base.config.variant.clone(),
                history: base.config.history.clone(),
                ..ImageConfig::default()
            });
        image.history.push(HistoryEntry {
            created: Some(created.clone()),
            created_by: Some(command_text(&container.config)),
            author: some_text(&request.author),
            comment: some_text(&request.comment),
            empty_layer: empty,
        });
        image.created = Some(created);
        image.author = some_text(&request.author);
        image.comment = some_text(&request.comment);
        image.rootfs.diff_ids = diff_ids;
        image.extra.insert(
            "container".to_owned(),
            serde_json::Value::String(container.id.clone()),
        );
        image.config = Some(image_part(config));
        let bytes = image.to_bytes();
        let new = wharf_store::NewImage {
            parent: base.map(|base| base.id),
            built_here: true,
            ..wharf_store::NewImage::of(&bytes)
        };
        Ok(self
            .store
            .put_image(&new)
            .map_err(store_error("cannot store the new image"))?
            .id)
    }
}

/// Lets a container go on that was frozen; one that ended meanwhile has no group to thaw any more.
async fn thaw(shim: &wharf_runtime::Shim) -> Result<()> {
    let Err(error) = shim.resume().await else {
        return Ok(());
    };
    let ended = tokio::time::timeout(END_OF_FROZEN, shim.wait()).await;
    match ended {
        Ok(_) => Ok(()),
        Err(_) => Err(super::runtime_error(
            "cannot unpause the container after commit",
        )(error)),
    }
}

/// Leaves out of a config what belongs to one container only.
fn image_part(mut config: ContainerConfig) -> ContainerConfig {
    config.hostname.clear();
    config.domainname.clear();
    config.image.clear();
    config.mac_address.clear();
    config.attach_stdin = false;
    config.attach_stdout = false;
    config.attach_stderr = false;
    config.tty = false;
    config.open_stdin = false;
    config.stdin_once = false;
    config
        .env
        .retain(|variable| env_key(variable) != "HOSTNAME" || variable.contains('='));
    config
}

fn command_text(config: &ContainerConfig) -> String {
    config.cmd.as_deref().unwrap_or_default().join(" ")
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Returns the paths of a container that are mount points: the runtime's and the user's.
pub(crate) fn excluded_paths(container: &Container) -> Vec<PathBuf> {
    let stubs = MOUNT_STUBS.iter().map(PathBuf::from);
    let mounts = container
        .mounts
        .iter()
        .map(|mount| PathBuf::from(mount.destination.trim_start_matches('/')));
    stubs.chain(mounts).collect()
}
