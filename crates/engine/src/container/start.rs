//! Starting a container: files, network, shim, process (DESIGN §4, spec runtime §1).

use super::registry::Entry;
use super::{files, spec};
use crate::clock::now_ns;
use crate::engine::{Engine, blocking};
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::{Container, Status};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
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
        let _operation = entry.operate(name).await?;
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
            self.with_store(move |engine| {
                engine.hold_mounts(&container)?;
                engine.launch_request(&container)
            })
            .await?
        };
        let profile = request.spec.process().as_ref();
        let profile = profile.and_then(|process| process.apparmor_profile().clone());
        entry.change(|container| container.apparmor_profile = Some(profile.unwrap_or_default()));
        let shim = wharf_runtime::launch(&request, namespace.as_ref().map(AsFd::as_fd))
            .await
            .map_err(start_error)?;
        if let Err(error) = self.connect_early(entry, &shim).await {
            // What cannot be cleaned now is swept at the next start.
            let _swept_later = shim.release().await;
            return Err(error);
        }
        // The same time in memory and on disk: another engine must not tell another one.
        let started_at_ns = now_ns();
        self.persist_soon(&starting(&entry.snapshot(), shim.pid(), started_at_ns));
        let pid = match shim.start().await {
            Ok(started) => started.pid,
            Err(error) => {
                // What cannot be cleaned now is swept at the next start.
                let _swept_later = shim.release().await;
                return Err(start_error(error));
            }
        };
        entry.set_shim(Some(shim.clone()));
        let container = entry.change(|container| set_running(container, pid, started_at_ns));
        self.sizes.forget_container(&container);
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
        match crate::values::joined_container(&container.host_config.network_mode) {
            Some(id) => spec::joined_network(self, container, id).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the OCI runtime spec that a container is started with, as it would be now.
    ///
    /// # Errors
    /// What a start would fail with before anything is run.
    pub async fn container_spec(self: &Arc<Self>, name: &str) -> Result<serde_json::Value> {
        let container = self.containers.find(name)?.snapshot();
        self.with_store(move |engine| {
            let root = if container.is_running() {
                let fd = wharf_runtime::open_root(container.state.pid)
                    .map_err(super::runtime_error("cannot open the container's files"))?;
                wharf_safefs::Root::from_fd(fd)
            } else {
                engine.detached_root(&container, false)?
            };
            let spec = spec::build(engine, &container, &root)?;
            serde_json::to_value(&spec).map_err(spec::json_error)
        })
        .await
    }

    /// Says everything the shim needs.
    pub(crate) fn launch_request(&self, container: &Container) -> Result<LaunchRequest> {
        let directory = Path::new(&container.directory);
        let root = self.detached_root(container, false)?;
        spec::ensure_marks(&root)?;
        let mut spec = spec::build(self, container, &root)?;
        let settings = self.settings();
        let runtime = super::runtimes::find(&settings, &container.host_config.runtime)?.program();
        // In a namespace of others it would not be the first process (spec runtime §2.8).
        let host = &container.host_config;
        let wants_init = host.init.unwrap_or(false) && host.pid_mode.is_empty();
        if wants_init && runtime.is_some() {
            spec::add_init(&mut spec, &super::runtimes::find_init(&settings)?);
        }
        let log = super::log_plan::plan(container).map_err(|error| {
            EngineError::internal(format!(
                "{TASK_FRAME}: failed to initialize logging driver: {}",
                error.message()
            ))
        })?;
        Ok(LaunchRequest {
            id: container.id.clone(),
            state_dir: self.state_dir(&container.id),
            spec,
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
            cgroup_path: spec::cgroup_path(&self.instance, container),
            init: wants_init && runtime.is_none(),
            stop_on_disconnect: false,
            runtime,
        })
    }

    /// Undoes a failed start and keeps what the user must know (spec engine-api §7.4).
    async fn start_failed(self: &Arc<Self>, entry: &Arc<Entry>, error: &EngineError) {
        entry.set_shim(None);
        let (engine, leaving) = (Arc::clone(self), Arc::clone(entry));
        let _worker = blocking(move || {
            engine.leave_network(&leaving);
            engine.release_mounts(&leaving.snapshot());
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

/// Returns what is written down before the process of a container is executed: that it runs, unless
/// its shim says otherwise to the next engine.
fn starting(container: &Container, pid: u32, started_at_ns: i64) -> Container {
    let mut starting = container.clone();
    let before = Box::new(container.state.clone());
    set_running(&mut starting, pid, started_at_ns);
    starting.state.before_start = Some(before);
    starting
}

/// Notes that the process of a container is executed.
fn set_running(container: &mut Container, pid: u32, started_at_ns: i64) {
    container.state.status = Status::Running;
    container.state.pid = pid;
    container.state.started_at_ns = started_at_ns;
    container.state.exit_code = 0;
    container.state.oom_killed = false;
    container.state.health = super::health::initial(container);
    container.state.before_start = None;
}

/// Maps a start error's text to the exit code docker gives (spec engine-api §7.4): only what the runtime
/// found tells of the program.
fn exit_code_of_start_error(text: &str) -> i32 {
    if text.starts_with(TASK_FRAME) {
        wharf_runtime::start_failure_code(text)
    } else {
        128
    }
}

/// How every start error begins for clients.
const TASK_FRAME: &str = "failed to create task for container";

/// Classifies a start error: what the user named wrongly is the user's, the rest ours.
fn start_error(error: wharf_runtime::RuntimeError) -> EngineError {
    let text = error.to_string();
    let kind = kind_of_start_error(&text);
    if text.starts_with(TASK_FRAME) {
        return EngineError::new(kind, text);
    }
    EngineError::wrap(kind, TASK_FRAME, error)
}

/// Returns whose mistake it was that a program could not be started.
pub(crate) fn kind_of_start_error(text: &str) -> ErrorKind {
    match wharf_runtime::start_failure_code(text) {
        128 => ErrorKind::Internal,
        _ => ErrorKind::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_what_the_runtime_found() {
        for (text, code) in [
            (r#"exec: "x": executable file not found in $PATH"#, 127),
            ("exec: \"/x\": stat /x: no such file or directory", 127),
            ("exec: \"/etc\": is a directory: permission denied", 126),
            ("exec: \"/x\": permission denied", 126),
            (
                "error mounting \"/a\" to rootfs at \"/b\": not a directory",
                127,
            ),
            ("invalid ulimit", 128),
        ] {
            assert_eq!(
                exit_code_of_start_error(&format!("{TASK_FRAME}: {text}")),
                code,
                "{text}"
            );
        }
        let device = "error gathering device information: no such file or directory";
        assert_eq!(exit_code_of_start_error(device), 128);
    }
}
