//! Further processes in running containers (spec engine-api §7.5).

use crate::container::{attach, detach_keys, runtime_error, spec, start};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::identity;
use crate::model::container::{Container, Status};
use crate::model::request::CreateExec;
use crate::model::view::{AttachedStream, ExecDetails};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// How long an ended exec can be asked for.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);
/// How long the end of an exec's output waits for its exit code.
const SETTLE: Duration = Duration::from_secs(2);
/// Bytes that may wait between a client and an exec.
const PIPE_BYTES: usize = 64 * 1024;

/// All execs by ID.
#[derive(Default)]
pub(crate) struct Execs(Mutex<HashMap<String, ExecState>>);

#[derive(Debug, Clone)]
struct ExecState {
    details: ExecDetails,
    started: bool,
    ended_at: Option<Instant>,
}

impl Execs {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, ExecState>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn insert(&self, details: ExecDetails) {
        self.with(|execs| {
            execs.retain(|_, exec| exec.ended_at.is_none_or(|at| at.elapsed() < REMEMBERED));
            execs.insert(
                details.id.clone(),
                ExecState {
                    details,
                    started: false,
                    ended_at: None,
                },
            );
        });
    }

    fn find(&self, id: &str) -> Result<ExecState> {
        self.with(|execs| execs.get(id).cloned())
            .ok_or_else(|| EngineError::not_found(format!("No such exec instance: {id}")))
    }

    fn update(&self, id: &str, change: impl FnOnce(&mut ExecState)) {
        self.with(|execs| {
            if let Some(exec) = execs.get_mut(id) {
                change(exec);
            }
        });
    }

    fn ended(&self, id: &str, exit_code: i32) {
        self.update(id, |exec| {
            exec.details.running = false;
            exec.details.exit_code.get_or_insert(exit_code);
            exec.ended_at = Some(Instant::now());
        });
    }

    /// Ends what ran in a container that ended.
    pub(crate) fn container_ended(&self, container_id: &str) {
        self.with(|execs| {
            for exec in execs
                .values_mut()
                .filter(|exec| exec.details.container_id == container_id && exec.details.running)
            {
                exec.details.running = false;
                exec.details.exit_code.get_or_insert(137);
                exec.ended_at = Some(Instant::now());
            }
        });
    }

    /// Forgets the execs of a container that is gone.
    pub(crate) fn container_removed(&self, container_id: &str) {
        self.with(|execs| execs.retain(|_, exec| exec.details.container_id != container_id));
    }
}

impl Engine {
    /// Prepares a process in a running container and returns its ID.
    ///
    /// # Errors
    /// Docker's conflict texts when the container does not run or is paused; an empty command.
    pub async fn create_exec(&self, container: &str, request: CreateExec) -> Result<String> {
        let entry = self.containers.find(container)?;
        let snapshot = entry.snapshot();
        match snapshot.state.status {
            Status::Running => {}
            Status::Paused => {
                return Err(EngineError::conflict(format!(
                    "container {} is paused, unpause the container before exec",
                    snapshot.id
                )));
            }
            _ => {
                return Err(EngineError::conflict(format!(
                    "container {} is not running",
                    snapshot.id
                )));
            }
        }
        if request.command.is_empty() {
            return Err(EngineError::invalid("No exec command specified"));
        }
        detach_keys::parse(request.detach_keys.as_deref())?;
        let id = identity::random_id()?;
        self.events.container(
            &snapshot,
            &format!("exec_create: {}", request.command.join(" ")),
            [("execID", id.clone())],
        );
        self.execs.insert(ExecDetails {
            id: id.clone(),
            container_id: snapshot.id.clone(),
            running: false,
            exit_code: None,
            pid: 0,
            request,
        });
        entry.change(|container| container.exec_ids.push(id.clone()));
        Ok(id)
    }

    /// Starts a prepared process; None when detached.
    ///
    /// A program that cannot be started is told through the stream, as docker does, and by the exit
    /// code 126 or 127.
    ///
    /// # Errors
    /// Docker's conflict texts when it runs or has run; no such exec.
    pub async fn start_exec(
        self: &Arc<Self>,
        id: &str,
        detach: bool,
        tty: Option<bool>,
        console_size: Option<(u16, u16)>,
    ) -> Result<Option<AttachedStream>> {
        let exec = self.execs.find(id)?;
        if exec.details.running {
            return Err(EngineError::conflict(format!(
                "exec command {id} is already running"
            )));
        }
        if exec.started {
            return Err(EngineError::conflict(format!(
                "exec command {id} has already run"
            )));
        }
        let entry = self.containers.find(&exec.details.container_id)?;
        let shim = entry.running_shim()?;
        let container = entry.snapshot();
        let request = &exec.details.request;
        let tty = tty.unwrap_or(request.tty) || request.tty;
        let keys = if tty && request.attach_stdin {
            Some(detach_keys::parse(request.detach_keys.as_deref())?)
        } else {
            None
        };
        let attach_request = (!detach).then_some(wharf_runtime::AttachRequest {
            stdin: request.attach_stdin,
            stdout: request.attach_stdout,
            stderr: request.attach_stderr,
        });
        let started = self
            .run_exec(
                &shim,
                &container,
                &exec.details,
                tty,
                console_size,
                attach_request,
            )
            .await;
        self.events.container(
            &container,
            &format!("exec_start: {}", request.command.join(" ")),
            [("execID", id.to_owned())],
        );
        match started {
            Ok((pid, stream)) => {
                self.execs.update(id, |exec| {
                    exec.started = true;
                    exec.details.running = true;
                    exec.details.pid = pid;
                });
                let ended = self.follow_exec(id, &container, &shim);
                let Some(stream) = stream else {
                    return Ok(None);
                };
                let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
                let (engine, id) = (Arc::clone(self), id.to_owned());
                tokio::spawn(async move {
                    let settled = async {
                        let _either_way = tokio::time::timeout(SETTLE, ended).await;
                    };
                    if attach::pump_until(ours, stream, keys, settled).await {
                        engine
                            .events
                            .container(&container, "exec_detach", [("execID", id)]);
                    }
                });
                Ok(Some(AttachedStream {
                    io: Box::new(theirs),
                    tty,
                }))
            }
            Err(error) => {
                let code = match start::exit_code_of_start_error(error.message()) {
                    127 => 127,
                    _ => 126,
                };
                self.execs.update(id, |exec| exec.started = true);
                self.execs.ended(id, code);
                if detach {
                    return Err(error);
                }
                let (mut ours, theirs) = tokio::io::duplex(PIPE_BYTES);
                let text = format!("{}\r\n", error.message());
                tokio::spawn(async move {
                    let frame = if tty {
                        text.into_bytes()
                    } else {
                        stdout_frame(text.as_bytes())
                    };
                    let _client_gone = ours.write_all(&frame).await;
                });
                Ok(Some(AttachedStream {
                    io: Box::new(theirs),
                    tty,
                }))
            }
        }
    }

    async fn run_exec(
        self: &Arc<Self>,
        shim: &wharf_runtime::Shim,
        container: &Arc<Container>,
        details: &ExecDetails,
        tty: bool,
        console_size: Option<(u16, u16)>,
        attach: Option<wharf_runtime::AttachRequest>,
    ) -> Result<(u32, Option<tokio::net::UnixStream>)> {
        let process = {
            let (container, request) = (Arc::clone(container), details.request.clone());
            self.with_store(move |engine| spec::exec_process(engine, &container, &request, tty))
                .await?
        };
        let stdio = wharf_runtime::Stdio {
            tty,
            open_stdin: details.request.attach_stdin,
            stdin_once: true,
            console_size: console_size.or(details.request.console_size),
        };
        let request = wharf_runtime::ExecRequest {
            id: details.id.clone(),
            process,
            stdio,
            attach,
        };
        let (started, stream) = shim
            .exec(request)
            .await
            .map_err(runtime_error("exec failed"))?;
        Ok((started.pid, stream))
    }

    /// Waits in the background for an exec to end; the returned future ends with it.
    fn follow_exec(
        self: &Arc<Self>,
        id: &str,
        container: &Arc<Container>,
        shim: &wharf_runtime::Shim,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (engine, id, container, shim) = (
            Arc::clone(self),
            id.to_owned(),
            Arc::clone(container),
            shim.clone(),
        );
        let (done, ended) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            let code = shim.wait_exec(&id).await.unwrap_or(137);
            engine.execs.ended(&id, code);
            if let Ok(entry) = engine.containers.find(&container.id) {
                entry.change(|container| container.exec_ids.retain(|known| *known != id));
            }
            engine.events.container(
                &container,
                "exec_die",
                [("execID", id), ("exitCode", code.to_string())],
            );
            let _nobody_waits = done.send(());
        });
        async move {
            let _sender_gone_is_the_end_too = ended.await;
        }
    }

    /// Changes the size of an exec's terminal.
    ///
    /// # Errors
    /// Docker's text when it is not started.
    pub async fn resize_exec(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let exec = self.execs.find(id)?;
        if !exec.details.running {
            return Err(EngineError::invalid("exec process is not started"));
        }
        let shim = self
            .containers
            .find(&exec.details.container_id)?
            .running_shim()?;
        shim.resize(Some(id), height, width)
            .await
            .map_err(runtime_error("cannot resize"))
    }

    /// Returns what an exec is, now.
    ///
    /// # Errors
    /// No such exec.
    pub fn exec(&self, id: &str) -> Result<ExecDetails> {
        Ok(self.execs.find(id)?.details)
    }
}

fn stdout_frame(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = vec![1, 0, 0, 0, length[0], length[1], length[2], length[3]];
    frame.extend_from_slice(text);
    frame
}
