//! Containers on disk, and finding running ones again after a start (DESIGN invariant 8).

use crate::clock::now_ns;
use crate::container::create::store_error;
use crate::container::registry::Entry;
use crate::engine::{Engine, in_place};
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::{Container, State, Status};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use wharf_runtime::Shim;
use wharf_store::Store;

/// Exit code of a container whose end nobody saw (the machine stopped).
const LOST_EXIT_CODE: i32 = 255;
/// How long a shim may take to say whether its container was started.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

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
        let mut reconnecting = JoinSet::new();
        let mut restarts = Vec::new();
        for container in containers {
            let was = container.state.status;
            let entry = self.containers.insert(container);
            match was {
                Status::Running | Status::Paused => {
                    let engine = Arc::clone(self);
                    reconnecting.spawn(async move { engine.reconnect(&entry).await });
                }
                Status::Removing => self.remove_entry_again(&entry),
                Status::Restarting => restarts.push(entry),
                _ => {}
            }
        }
        while let Some(reconnected) = reconnecting.join_next().await {
            restarts.extend(reconnected.ok().flatten());
        }
        if let Err(error) = self.restore_volume_mounts() {
            self.events.emit(
                "daemon",
                "error",
                &self.id,
                [("message", error.message().to_owned())],
            );
        }
        for entry in &restarts {
            entry.life.send_modify(|life| life.restarting = true);
        }
        let stopped = self.containers.all().into_iter().filter(|entry| {
            let container = entry.snapshot();
            let is_counted = restarts.iter().any(|other| Arc::ptr_eq(other, entry));
            !container.is_running() && !is_counted && self.starts_with_engine(&container)
        });
        let starts: Vec<_> = stopped.chain(restarts.iter().cloned()).collect();
        for entry in starts {
            let engine = Arc::clone(self);
            tokio::spawn(async move {
                let _operation = entry.operation.lock().await;
                // A failing start leaves its reason in the container's state.
                let _kept_in_state = engine.start_entry(&entry).await;
            });
        }
    }

    /// Finds the shim of a container that was running; returns the container if it is to be started
    /// again by its policy.
    async fn reconnect(self: &Arc<Self>, entry: &Arc<Entry>) -> Option<Arc<Entry>> {
        let container = entry.snapshot();
        let Ok(shim) = Shim::connect(&self.state_dir(&container.id)).await else {
            self.shim_lost(entry).await;
            return None;
        };
        if let Some(before) = &container.state.before_start {
            // Who does not answer is busy with the container's process.
            let asked = tokio::time::timeout(ANSWER_LIMIT, shim.started()).await;
            match asked {
                Ok(Ok(Some(started))) => {
                    entry.change(|container| {
                        container.state.pid = started.pid;
                        container.state.before_start = None;
                    });
                }
                Ok(Ok(None)) => return self.undo_start(entry, &shim, before).await,
                Ok(Err(_)) | Err(_) => {}
            }
        }
        entry.set_shim(Some(shim.clone()));
        self.adopt_networks(entry);
        self.monitor(entry, shim);
        None
    }

    /// Puts a container back whose start was under way when the engine before this one ended.
    async fn undo_start(
        &self,
        entry: &Arc<Entry>,
        shim: &Shim,
        before: &State,
    ) -> Option<Arc<Entry>> {
        // What cannot be cleaned now is removed with the container.
        let _removed_later = shim.release().await;
        self.leave_network(entry);
        let container = entry.change(|container| container.state.clone_from(before));
        entry.life.send_modify(|life| {
            life.running = false;
            life.exit_code = before.exit_code;
        });
        self.persist_soon(&container);
        (before.status == Status::Restarting).then(|| Arc::clone(entry))
    }

    async fn shim_lost(self: &Arc<Self>, entry: &Arc<Entry>) {
        let left = entry.snapshot();
        // What cannot be removed now is removed with the container.
        let _removed_later = self
            .with_store(move |engine| engine.remove_remains(&left))
            .await;
        let container = entry.change(|container| {
            container.state.status = Status::Exited;
            container.state.pid = 0;
            container.state.exit_code = LOST_EXIT_CODE;
            container.state.finished_at_ns = now_ns();
            container.state.before_start = None;
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

    fn remove_entry_again(self: &Arc<Self>, entry: &Arc<Entry>) {
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
