//! Starting a container: files, network, shim, process (DESIGN §4, spec runtime §1).

use super::log_options::LogOptions;
use super::registry::Entry;
use super::{files, spec};
use crate::engine::{Engine, blocking};
use crate::error::{EngineError, ErrorKind, Result};
use crate::log_tag::{self, LogFacts};
use crate::model::container::{Container, Status};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wharf_runtime::{LaunchRequest, RootMount};

impl Engine {
    /// Starts a container.
    ///
    /// # Errors
    /// [`ErrorKind::NotModified`] when it runs; docker's conflict texts when paused or being removed;
    /// runc-like texts when the program cannot be started (spec engine-api §7.4).
    pub async fn start_container(self: &Arc<Self>, name: &str) -> Result<()> {
        let entry = self.containers.find(name)?;
        let _operation = entry.operation.lock().await;
        entry.forget_restarts();
        self.start_entry(&entry).await
    }

    /// Starts a container whose operation lock the caller holds.
    pub(crate) async fn start_entry(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<()> {
        match entry.snapshot().state.status {
            Status::Running => return Err(EngineError::not_modified()),
            Status::Paused => {
                return Err(EngineError::conflict(
                    "cannot start a paused container, try unpause instead",
                ));
            }
            Status::Removing | Status::Dead => {
                return Err(EngineError::conflict(
                    "container is marked for removal and cannot be started",
                ));
            }
            Status::Created | Status::Exited | Status::Restarting => {}
        }
        entry.restart_cancelled.store(false, Ordering::SeqCst);
        entry.change(|container| {
            container.manually_stopped = false;
            container.state.error.clear();
        });
        match self.launch(entry).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.start_failed(entry, &error).await;
                Err(error)
            }
        }
    }

    async fn launch(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<()> {
        let namespace = self.prepare(entry).await?;
        let container = entry.snapshot();
        let request = {
            let container = Arc::clone(&container);
            self.with_store(move |engine| engine.launch_request(&container))
                .await?
        };
        let shim = wharf_runtime::launch(&request, namespace.as_ref().map(AsFd::as_fd))
            .await
            .map_err(start_error)?;
        if let Err(error) = self.connect_early(entry, &shim).await {
            // What cannot be cleaned now is swept at the next start.
            let _swept_later = shim.release().await;
            return Err(error);
        }
        let started = match shim.start().await {
            Ok(started) => started,
            Err(error) => {
                // What cannot be cleaned now is swept at the next start.
                let _swept_later = shim.release().await;
                return Err(start_error(error));
            }
        };
        entry.set_shim(Some(shim.clone()));
        let container = entry.change(|container| {
            container.state.status = Status::Running;
            container.state.pid = started.pid;
            container.state.started_at_ns =
                i64::try_from(started.started_at_ns).unwrap_or(i64::MAX);
            container.state.exit_code = 0;
            container.state.oom_killed = false;
            container.state.health = super::health::initial(container);
        });
        self.persist_soon(&container);
        entry.life.send_modify(|life| {
            life.running = true;
            life.restarting = false;
        });
        self.events.container(&container, "start", []);
        self.monitor(entry, shim);
        Ok(())
    }

    /// Writes the name files and sets the network up; returns the network namespace to join.
    async fn prepare(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Option<OwnedFd>> {
        let engine = Arc::clone(self);
        let entry = Arc::clone(entry);
        blocking(move || {
            let container = entry.snapshot();
            let joined = engine.joined_network(&container)?;
            let namespace = engine.join_networks(&entry)?;
            let written = files::write(&engine, &entry.snapshot(), joined.as_deref());
            if let Err(error) = written {
                engine.leave_network(&entry);
                return Err(error);
            }
            Ok(namespace)
        })
        .await
    }

    /// Returns the container whose network is shared, if any.
    fn joined_network(&self, container: &Container) -> Result<Option<Arc<Container>>> {
        let Some(id) = container
            .host_config
            .network_mode
            .strip_prefix("container:")
        else {
            return Ok(None);
        };
        let other = self.containers.find(id)?.snapshot();
        if !other.is_running() {
            return Err(EngineError::conflict(format!(
                "cannot join network of a non running container: {}",
                other.id
            )));
        }
        Ok(Some(other))
    }

    /// Says everything the shim needs.
    pub(crate) fn launch_request(&self, container: &Container) -> Result<LaunchRequest> {
        let directory = Path::new(&container.directory);
        let options = LogOptions::parse(&container.host_config.log_config)?;
        let facts = LogFacts::from(container);
        let attributes = log_tag::attributes(&container.host_config.log_config.options, &facts)?;
        let log = (container.host_config.log_config.driver == "json-file").then(|| {
            wharf_runtime::LogConfig {
                path: log_path(container),
                driver: wharf_runtime::LogDriver::JsonFile,
                max_size_bytes: options.max_size_bytes,
                max_files: options.max_files,
                compress: options.compress,
                attributes: attributes.clone(),
            }
        });
        Ok(LaunchRequest {
            id: container.id.clone(),
            state_dir: self.state_dir(&container.id),
            spec: spec::build(self, container, &self.detached_root(container, false)?)?,
            root: RootMount::Overlay {
                lower_dirs: self.layer_dirs(&container.diff_ids)?,
                upper: Some(directory.join("upper")),
                work: Some(directory.join("work")),
                volatile: false,
            },
            stdio: wharf_runtime::Stdio {
                tty: container.config.tty,
                open_stdin: container.config.open_stdin,
                stdin_once: container.config.stdin_once,
                console_size: container.host_config.console_size,
            },
            log,
            cgroup_path: spec::cgroup_path(self, container),
            init: container.host_config.init.unwrap_or(false),
            stop_on_disconnect: false,
        })
    }

    /// Undoes a failed start and keeps what the user must know (spec engine-api §7.4).
    async fn start_failed(self: &Arc<Self>, entry: &Arc<Entry>, error: &EngineError) {
        entry.set_shim(None);
        let (engine, leaving) = (Arc::clone(self), Arc::clone(entry));
        let _worker = blocking(move || {
            engine.leave_network(&leaving);
            Ok(())
        })
        .await;
        entry
            .early_attaches
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clear();
        let code = exit_code_of_start_error(error.message());
        let container = entry.change(|container| {
            container.state.status = if container.state.started_at_ns == 0 {
                Status::Created
            } else {
                Status::Exited
            };
            container.state.pid = 0;
            container.state.exit_code = code;
            error.message().clone_into(&mut container.state.error);
        });
        self.persist_soon(&container);
        entry.life.send_modify(|life| {
            life.running = false;
            life.restarting = false;
            life.exits += 1;
            life.exit_code = code;
        });
        if container.host_config.auto_remove {
            self.remove_entry_soon(entry);
        }
    }
}

/// Returns where a container's log lies.
pub(crate) fn log_path(container: &Container) -> PathBuf {
    Path::new(&container.directory).join(format!("{}-json.log", container.id))
}

/// Maps a start error's text to the exit code docker gives (spec engine-api §7.4).
pub(crate) fn exit_code_of_start_error(text: &str) -> i32 {
    let has = |part: &str| text.contains(part);
    if has("executable file not found")
        || has("no such file or directory")
        || has("system cannot find")
    {
        127
    } else if has("permission denied")
        || has("is a directory")
        || has("not a directory")
        || has("exec format error")
    {
        126
    } else {
        128
    }
}

/// Classifies a start error: what the user named wrongly is the user's, the rest ours.
fn start_error(error: wharf_runtime::RuntimeError) -> EngineError {
    let text = error.to_string();
    let kind = if exit_code_of_start_error(&text) == 128 {
        ErrorKind::Internal
    } else {
        ErrorKind::Invalid
    };
    EngineError::wrap(kind, "failed to create task for container", error)
}
