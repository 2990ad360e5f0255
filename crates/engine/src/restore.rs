//! Containers on disk, and finding running ones again after a start (DESIGN invariant 8).

use crate::clock::now_ns;
use crate::container::create::store_error;
use crate::engine::{Engine, in_place};
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::{Container, Status};
use std::sync::Arc;
use wharf_runtime::Shim;
use wharf_store::Store;

/// Exit code of a container whose end nobody saw (the machine stopped).
const LOST_EXIT_CODE: i32 = 255;

/// Reads all containers; a document that cannot be read names its container in the error.
pub(crate) fn load_containers(store: &Store) -> Result<Vec<Container>> {
    let rows = store
        .containers()
        .map_err(store_error("cannot read containers"))?;
    rows.into_iter()
        .map(|row| {
            serde_json::from_value(row.document).map_err(|e| {
                EngineError::wrap(
                    ErrorKind::Internal,
                    format!("cannot read container {}", row.id),
                    e,
                )
            })
        })
        .collect()
}

/// Returns the document that is stored for a container.
pub(crate) fn to_document(container: &Container) -> Result<serde_json::Value> {
    serde_json::to_value(container)
        .map_err(|e| EngineError::wrap(ErrorKind::Internal, "cannot write a container down", e))
}

impl Engine {
    /// Stores a container's state.
    pub(crate) fn persist(&self, container: &Container) -> Result<()> {
        let document = to_document(container)?;
        in_place(|| self.store.update_container(&container.id, &document))
            .map_err(store_error("cannot store the container"))
    }

    /// Stores a container's state; a full disk does not stop the container, it is told as an event.
    pub(crate) fn persist_soon(&self, container: &Container) {
        if let Err(error) = self.persist(container) {
            self.events.emit(
                "daemon",
                "error",
                &self.id,
                [("message", error.message().to_owned())],
            );
        }
    }

    /// Takes the containers in and finds those that run again.
    pub(crate) async fn restore(self: &Arc<Self>, containers: Vec<Container>) {
        for container in containers {
            let was = container.state.status;
            let entry = self.containers.insert(container);
            match was {
                Status::Running | Status::Paused => self.reconnect(&entry).await,
                Status::Removing => self.remove_entry_again(&entry),
                Status::Restarting => {
                    entry.change(|container| container.state.status = Status::Exited);
                }
                _ => {}
            }
        }
        if let Err(error) = self.restore_volume_mounts() {
            self.events.emit(
                "daemon",
                "error",
                &self.id,
                [("message", error.message().to_owned())],
            );
        }
        for entry in self.containers.all() {
            let container = entry.snapshot();
            if !container.is_running() && self.starts_with_engine(&container) {
                let (engine, entry) = (Arc::clone(self), Arc::clone(&entry));
                tokio::spawn(async move {
                    let _operation = entry.operation.lock().await;
                    // A failing start leaves its reason in the container's state.
                    let _kept_in_state = engine.start_entry(&entry).await;
                });
            }
        }
    }

    async fn reconnect(self: &Arc<Self>, entry: &Arc<crate::container::registry::Entry>) {
        let container = entry.snapshot();
        match Shim::connect(&self.state_dir(&container.id)).await {
            Ok(shim) => {
                entry.set_shim(Some(shim.clone()));
                self.adopt_networks(entry);
                self.monitor(entry, shim);
            }
            Err(_no_shim_left) => {
                let container = entry.change(|container| {
                    container.state.status = Status::Exited;
                    container.state.pid = 0;
                    container.state.exit_code = LOST_EXIT_CODE;
                    container.state.finished_at_ns = now_ns();
                });
                self.leave_network(entry);
                entry.life.send_modify(|life| {
                    life.running = false;
                    life.exits += 1;
                    life.exit_code = LOST_EXIT_CODE;
                });
                self.persist_soon(&container);
                if container.host_config.auto_remove {
                    self.remove_entry_soon(entry);
                }
            }
        }
    }

    fn remove_entry_again(self: &Arc<Self>, entry: &Arc<crate::container::registry::Entry>) {
        entry.change(|container| container.state.status = Status::Exited);
        self.remove_entry_soon(entry);
    }

    /// Tells whether the policy starts a container when the engine starts (spec runtime §6).
    fn starts_with_engine(&self, container: &Container) -> bool {
        match container.host_config.restart_policy.name.as_str() {
            "always" => container.state.started_at_ns != 0,
            "unless-stopped" => container.state.started_at_ns != 0 && !container.manually_stopped,
            "on-failure" => {
                let most = container.host_config.restart_policy.maximum_retry_count;
                container.state.started_at_ns != 0
                    && container.state.exit_code != 0
                    && !container.manually_stopped
                    && (most == 0 || container.restart_count < most)
            }
            _ => false,
        }
    }
}
