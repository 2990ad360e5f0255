//! Removing containers (spec engine-api §5.2).

use super::create::store_error;
use super::registry::Entry;
use super::{runtime_error, spec};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::filters;
use crate::model::container::{Container, Status};
use crate::model::request::Filters;
use crate::model::view::Pruned;
use std::sync::Arc;

impl Engine {
    /// Removes a container; `force` kills it first, `volumes` also removes its anonymous volumes.
    ///
    /// # Errors
    /// Docker's conflict texts when it runs, is paused, or is being removed.
    pub async fn remove_container(
        self: &Arc<Self>,
        name: &str,
        force: bool,
        volumes: bool,
    ) -> Result<()> {
        let entry = self.containers.find(name)?;
        if entry.snapshot().state.status == Status::Removing {
            return Err(EngineError::conflict(format!(
                "removal of container {name} is already in progress"
            )));
        }
        let _operation = entry.operate(name).await?;
        let container = entry.snapshot();
        if container.is_running() || container.state.status == Status::Restarting {
            if !force {
                let reason = match container.state.status {
                    Status::Paused => "container is paused and must be unpaused first",
                    Status::Restarting => {
                        "container is restarting: stop the container before removing or force remove"
                    }
                    _ => "container is running: stop the container before removing or force remove",
                };
                return Err(EngineError::conflict(format!(
                    "cannot remove container \"{name}\": {reason}"
                )));
            }
            match self.end_entry(&entry, Some("KILL"), Some(10)).await {
                Err(error) if error.kind() != crate::error::ErrorKind::NotModified => {
                    return Err(error);
                }
                _ => {}
            }
        }
        self.remove_entry(&entry, volumes).await.map(drop)
    }

    /// Removes a container that does not run; the caller holds its operation lock. Returns bytes freed.
    pub(crate) async fn remove_entry(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        volumes: bool,
    ) -> Result<u64> {
        let before = entry.snapshot();
        if before.state.status == Status::Removing {
            return Err(EngineError::conflict(format!(
                "removal of container {} is already in progress",
                before.id
            )));
        }
        let container = entry.change(|container| container.state.status = Status::Removing);
        let removed = {
            let container = Arc::clone(&container);
            self.with_store(move |engine| engine.remove_from_disk(&container, volumes))
                .await
        };
        match removed {
            Ok(bytes) => {
                self.containers.remove(&container);
                self.execs.container_removed(&container.id);
                self.sizes.forget_container(&container);
                entry
                    .early_attaches
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .clear();
                self.events.container(&container, "destroy", []);
                entry.life.send_modify(|life| life.removed = true);
                Ok(bytes)
            }
            Err(error) => {
                let container = entry.change(|container| container.state.status = Status::Dead);
                self.persist_soon(&container);
                entry
                    .life
                    .send_modify(|life| life.removal_error = Some(error.message().to_owned()));
                Err(error)
            }
        }
    }

    /// Removes an auto-removed container in the background, its anonymous volumes with it.
    pub(crate) fn remove_entry_soon(self: &Arc<Self>, entry: &Arc<Entry>) {
        let (engine, entry) = (Arc::clone(self), Arc::clone(entry));
        tokio::spawn(async move {
            let name = entry.snapshot().id.clone();
            let Ok(_operation) = entry.operate(&name).await else {
                return;
            };
            if !entry.snapshot().is_running() {
                // The failure is kept for waiters and in the container's state.
                let _kept = engine.remove_entry(&entry, true).await;
            }
        });
    }

    fn remove_from_disk(&self, container: &Container, volumes: bool) -> Result<u64> {
        let bytes = wharf_safefs::trusted::disk_usage(&container.directory)
            .map_or(0, |usage| usage.disk_bytes);
        // A start may have been cut off by the end of the engine before this one, its shim still ending.
        self.remove_remains(container)?;
        self.store
            .delete_container(&container.id)
            .map_err(store_error("cannot remove the container"))?;
        if volumes {
            for mount in container.mounts.iter().filter(|mount| mount.anonymous) {
                // A volume that someone else uses by now stays.
                let _still_used =
                    self.remove_volume_blocking(&mount.name, false, Some(&container.id));
            }
        }
        Ok(bytes)
    }

    /// Removes what a shim left of a container that does not run: its state directory and control group.
    pub(crate) fn remove_remains(&self, container: &Container) -> Result<()> {
        let cgroup_path = spec::cgroup_path(&self.instance, container);
        wharf_runtime::remove_remains(&self.state_dir(&container.id), &cgroup_path).map_err(
            runtime_error("cannot remove what is left of the container's run"),
        )
    }

    /// Removes all containers that do not run.
    ///
    /// # Errors
    /// An unknown filter, or another prune under way.
    pub async fn prune_containers(self: &Arc<Self>, filters: &Filters) -> Result<Pruned<String>> {
        filters::allow(filters, &["label", "label!", "until"])?;
        let _guard = self.pruning.containers()?;
        let until = filters::until_ns(filters)?;
        let mut pruned = Pruned::default();
        for entry in self.containers.all() {
            let name = entry.snapshot().id.clone();
            let Ok(_operation) = entry.operate(&name).await else {
                continue;
            };
            let container = entry.snapshot();
            let idle = matches!(
                container.state.status,
                Status::Created | Status::Exited | Status::Dead
            );
            let chosen = idle
                && until.is_none_or(|until| container.created_at_ns < until)
                && filters::labels_match(filters, &container.config.labels);
            if !chosen {
                continue;
            }
            if let Ok(bytes) = self.remove_entry(&entry, false).await {
                pruned.reclaimed_bytes += bytes;
                pruned.removed.push(container.id.clone());
            }
        }
        self.events.emit(
            "container",
            "prune",
            "",
            [("reclaimed", pruned.reclaimed_bytes.to_string())],
        );
        Ok(pruned)
    }
}
