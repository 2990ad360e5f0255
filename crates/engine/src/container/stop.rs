//! Stop, kill, restart, pause, rename, resize (spec engine-api §7.6, runtime §6).

use super::registry::{END_WAIT, Entry};
use super::runtime_error;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::{Container, Status};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Seconds a container has to end after its stop signal.
const DEFAULT_STOP_TIMEOUT_S: i64 = 10;
/// What a container gets that names no stop signal.
const SIGTERM: i32 = 15;
/// The last signal that Linux has (`SIGRTMAX`).
const LAST_SIGNAL: i32 = 64;
/// How long a SIGKILL may take before the engine gives up.
const KILL_WAIT: Duration = Duration::from_secs(10);

impl Engine {
    /// Stops a container: its stop signal, then SIGKILL after `timeout_s` (-1 waits for ever).
    ///
    /// # Errors
    /// [`ErrorKind::NotModified`] when it does not run; an unknown signal; a process that will not die.
    pub async fn stop_container(
        self: &Arc<Self>,
        name: &str,
        signal: Option<&str>,
        timeout_s: Option<i64>,
    ) -> Result<()> {
        let entry = self.containers.find(name)?;
        let engine = Arc::clone(self);
        let (name, signal) = (name.to_owned(), signal.map(str::to_owned));
        // On a task of its own: a client that goes away does not stop half-way.
        let stopping = tokio::spawn(async move {
            let _operation = entry.operate(&name).await?;
            engine
                .stop_entry(&entry, signal.as_deref(), timeout_s)
                .await
        });
        stopping
            .await
            .unwrap_or_else(|e| Err(EngineError::internal(format!("stopping failed: {e}"))))
    }

    async fn stop_entry(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        signal: Option<&str>,
        timeout_s: Option<i64>,
    ) -> Result<()> {
        if self.end_entry(entry, signal, timeout_s).await? {
            self.events.container(&entry.snapshot(), "stop", []);
        }
        self.persist_soon(&entry.snapshot());
        Ok(())
    }

    /// Ends a container's process and tells whether there was one; false when only a restart was due.
    pub(crate) async fn end_entry(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        signal: Option<&str>,
        timeout_s: Option<i64>,
    ) -> Result<bool> {
        let container = entry.snapshot();
        let number = match signal.filter(|signal| !signal.is_empty()) {
            Some(signal) => parse_signal(signal)?,
            None => stop_signal(&container),
        };
        if self.cancel_restart(entry) {
            return Ok(false);
        }
        let Some(shim) = entry.shim().filter(|_| container.is_running()) else {
            return Err(EngineError::not_modified());
        };
        self.end_by_user(entry, true);
        if container.state.status == Status::Paused {
            self.resume(entry, &shim).await?;
        }
        let timeout_s = timeout_s
            .or(container.config.stop_timeout)
            .unwrap_or(DEFAULT_STOP_TIMEOUT_S);
        self.events
            .container(&container, "kill", [("signal", number.to_string())]);
        let mut life = entry.life.subscribe();
        let sent = shim.signal(number, false).await;
        let patience = match (sent, timeout_s) {
            (Err(_), _) => Some(END_WAIT),
            (Ok(()), ..0) => None,
            (Ok(()), seconds) => Some(Duration::from_secs(seconds.unsigned_abs())),
        };
        let stopped = async { life.wait_for(|life| !life.running).await.is_ok() };
        let in_time = match patience {
            None => stopped.await,
            Some(patience) => tokio::time::timeout(patience, stopped)
                .await
                .unwrap_or(false),
        };
        if !in_time {
            self.kill_now(entry, &container).await?;
        }
        Ok(true)
    }

    /// Drops a pending restart; true when there was one.
    fn cancel_restart(&self, entry: &Arc<Entry>) -> bool {
        if entry.snapshot().state.status != Status::Restarting {
            return false;
        }
        entry.restart_epoch.fetch_add(1, Ordering::SeqCst);
        let container = entry.change(|container| {
            container.state.status = Status::Exited;
            container.manually_stopped = true;
        });
        self.persist_soon(&container);
        entry.life.send_modify(|life| life.restarting = false);
        true
    }

    /// Notes that a user sent a signal; `cancel` also forbids this run's restart (spec runtime §6).
    /// Written down before the signal goes out, so that a daemon that is killed still knows.
    fn end_by_user(&self, entry: &Entry, cancel: bool) {
        entry.restart_cancelled.fetch_or(cancel, Ordering::SeqCst);
        let container = entry.change(|container| container.manually_stopped = true);
        self.persist_soon(&container);
    }

    /// Sends SIGKILL to everything in the container and waits for its end.
    pub(crate) async fn kill_now(&self, entry: &Arc<Entry>, container: &Container) -> Result<()> {
        let mut life = entry.life.subscribe();
        let mut sent = Ok(());
        if let Some(shim) = entry.shim() {
            self.events
                .container(container, "kill", [("signal", "9".to_owned())]);
            sent = shim.signal(9, false).await;
        }
        // A shim whose process has ended has nobody to signal; the end itself is told soon.
        let ended = tokio::time::timeout(KILL_WAIT, life.wait_for(|life| !life.running)).await;
        if ended.is_ok() {
            return Ok(());
        }
        sent.map_err(runtime_error("cannot kill"))?;
        Err(EngineError::internal(format!(
            "container {} did not end within {} s of SIGKILL: a process may be stuck in the kernel",
            container.short_id(),
            KILL_WAIT.as_secs()
        )))
    }

    /// Sends a signal; SIGKILL is waited for.
    ///
    /// # Errors
    /// Docker's conflict text when the container does not run; an unknown signal.
    pub async fn kill_container(self: &Arc<Self>, name: &str, signal: Option<&str>) -> Result<()> {
        // A signal that is none is told first, as docker does.
        let number = signal
            .filter(|signal| !signal.is_empty())
            .map_or(Ok(9), parse_signal)?;
        if !(1..=LAST_SIGNAL).contains(&number) {
            return Err(EngineError::invalid(format!(
                "the linux daemon does not support signal {number}"
            )));
        }
        let entry = self.containers.find(name)?;
        let container = entry.snapshot();
        if self.cancel_restart(&entry) {
            return Ok(());
        }
        let not_running = || {
            EngineError::conflict(format!(
                "cannot kill container: {name}: container {} is not running",
                container.id
            ))
        };
        let Some(shim) = entry.shim().filter(|_| container.is_running()) else {
            return Err(not_running());
        };
        let ends = number == 9
            || number == stop_signal(&container)
            || container.config.stop_signal.is_empty();
        self.end_by_user(&entry, ends);
        if container.state.status == Status::Paused
            && (number == 9 || number == stop_signal(&container))
        {
            self.resume(&entry, &shim).await?;
        }
        if number == 9 {
            return self.kill_now(&entry, &container).await;
        }
        self.events
            .container(&container, "kill", [("signal", number.to_string())]);
        let Err(error) = shim.signal(number, false).await else {
            return Ok(());
        };
        // Nobody was there to take it: the process may have ended a moment ago.
        if entry.ends_now().await {
            return Err(not_running());
        }
        Err(runtime_error("cannot send the signal")(error))
    }

    /// Stops and starts a container; one that does not run is only started.
    ///
    /// # Errors
    /// Those of stop and start.
    pub async fn restart_container(
        self: &Arc<Self>,
        name: &str,
        signal: Option<&str>,
        timeout_s: Option<i64>,
    ) -> Result<()> {
        let entry = self.containers.find(name)?;
        let _operation = entry.operate(name).await?;
        match self.stop_entry(&entry, signal, timeout_s).await {
            Err(error) if error.kind() != ErrorKind::NotModified => return Err(error),
            _ => {}
        }
        entry.forget_restarts();
        self.start_entry(&entry).await?;
        self.events.container(&entry.snapshot(), "restart", []);
        Ok(())
    }

    /// Freezes a container's processes.
    ///
    /// # Errors
    /// Docker's conflict texts when it does not run or is paused.
    pub async fn pause_container(self: &Arc<Self>, name: &str) -> Result<()> {
        let entry = self.containers.find(name)?;
        let _operation = entry.operate(name).await?;
        let container = entry.snapshot();
        if container.state.status == Status::Paused {
            return Err(EngineError::conflict(format!(
                "Container {} is already paused",
                container.id
            )));
        }
        let shim = entry.running_shim()?;
        if let Err(error) = shim.pause().await {
            let error = runtime_error("cannot pause")(error);
            return Err(entry.not_running_or(error).await);
        }
        let container = entry.change(|container| container.state.status = Status::Paused);
        self.persist_soon(&container);
        self.events.container(&container, "pause", []);
        Ok(())
    }

    /// Thaws a container's processes.
    ///
    /// # Errors
    /// Docker's conflict text when it is not paused.
    pub async fn unpause_container(self: &Arc<Self>, name: &str) -> Result<()> {
        let entry = self.containers.find(name)?;
        let _operation = entry.operate(name).await?;
        let container = entry.snapshot();
        if container.state.status != Status::Paused {
            return Err(EngineError::conflict(format!(
                "Container {} is not paused",
                container.id
            )));
        }
        let shim = entry.running_shim()?;
        self.resume(&entry, &shim).await
    }

    async fn resume(&self, entry: &Arc<Entry>, shim: &wharf_runtime::Shim) -> Result<()> {
        shim.resume()
            .await
            .map_err(runtime_error("cannot unpause"))?;
        let container = entry.change(|container| {
            if container.state.status == Status::Paused {
                container.state.status = Status::Running;
            }
        });
        self.persist_soon(&container);
        self.events.container(&container, "unpause", []);
        Ok(())
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// A malformed, taken or unchanged name.
    pub async fn rename_container(self: &Arc<Self>, name: &str, new_name: &str) -> Result<()> {
        let entry = self.containers.find(name)?;
        let _operation = entry.operate(name).await?;
        let container = entry.snapshot();
        let new_name = new_name.trim_start_matches('/').to_owned();
        if new_name.is_empty() {
            return Err(EngineError::invalid(
                "Neither old nor new names may be empty",
            ));
        }
        if !crate::identity::is_valid_name(&new_name) {
            // Docker has the slash before the name by then.
            return Err(name_error(super::create::invalid_name(&format!(
                "/{new_name}"
            ))));
        }
        if new_name == container.name {
            return Err(EngineError::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        self.containers
            .reserve_name(&new_name, &container.id)
            .map_err(name_error)?;
        let renamed = {
            let (id, name) = (container.id.clone(), new_name.clone());
            self.with_store(move |engine| {
                engine
                    .store
                    .rename_container(&id, &name)
                    .map_err(super::create::store_error("cannot rename the container"))
            })
            .await
        };
        if let Err(error) = renamed {
            self.containers.release_name(&new_name, &container.id);
            return Err(error);
        }
        self.containers.release_name(&container.name, &container.id);
        entry.change(|container| container.name.clone_from(&new_name));
        self.rename_on_networks(&entry);
        let changed = entry.snapshot();
        self.persist_soon(&changed);
        self.events.container(
            &changed,
            "rename",
            [("oldName", format!("/{}", container.name))],
        );
        Ok(())
    }

    /// Changes the size of a container's terminal.
    ///
    /// # Errors
    /// Docker's conflict text when it does not run.
    pub async fn resize_container(
        self: &Arc<Self>,
        name: &str,
        height: u16,
        width: u16,
    ) -> Result<()> {
        let entry = self.containers.find(name)?;
        let shim = entry.running_shim()?;
        if let Err(error) = shim.resize(None, height, width).await {
            let error = runtime_error("cannot resize")(error);
            return Err(entry.not_running_or(error).await);
        }
        let size = [("height", height.to_string()), ("width", width.to_string())];
        self.events.container(&entry.snapshot(), "resize", size);
        Ok(())
    }
}

/// Says in which call a name was refused.
fn name_error(error: EngineError) -> EngineError {
    let text = format!("Error when allocating new name: {}", error.message());
    EngineError::new(error.kind(), text)
}

/// Returns the signal that asks a container to end.
fn stop_signal(container: &Container) -> i32 {
    parse_signal(&container.config.stop_signal).unwrap_or(SIGTERM)
}

/// Parses a signal's number or name, with or without `SIG`.
pub(crate) fn parse_signal(text: &str) -> Result<i32> {
    wharf_runtime::signals::parse(text)
        .map_err(|_| EngineError::invalid(format!("invalid signal: {text}")))
}
