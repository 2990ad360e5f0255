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
/// How long a freeze that is no pause is waited for.
const FREEZE_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether it is over.
const FREEZE_CHECK: Duration = Duration::from_millis(20);
/// What ends a process for certain.
const SIGKILL: i32 = 9;
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

    /// Marks an exec as started and returns it.
    fn claim(&self, id: &str) -> Result<ExecDetails> {
        self.with(|execs| {
            let exec = execs
                .get_mut(id)
                .ok_or_else(|| EngineError::not_found(format!("No such exec instance: {id}")))?;
            if exec.details.exit_code.is_some() {
                return Err(EngineError::conflict(format!(
                    "exec command {id} has already run"
                )));
            }
            if std::mem::replace(&mut exec.started, true) {
                return Err(EngineError::conflict(format!(
                    "exec command {id} is already running"
                )));
            }
            Ok(exec.details.clone())
        })
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
    /// Docker's conflict texts when the container does not run or is paused; an empty command; a user that
    /// the container does not know.
    pub async fn create_exec(
        self: &Arc<Self>,
        container: &str,
        mut request: CreateExec,
    ) -> Result<String> {
        let entry = self.containers.find(container)?;
        let snapshot = entry.snapshot();
        refuse_unless_running(&snapshot)?;
        if request.command.is_empty() {
            return Err(EngineError::invalid("No exec command specified"));
        }
        detach_keys::parse(request.detach_keys.as_deref())?;
        if request.user.is_empty() {
            request.user.clone_from(&snapshot.config.user);
        } else {
            let (container, user) = (Arc::clone(&snapshot), request.user.clone());
            self.with_store(move |_| spec::check_exec_user(&container, &user))
                .await?;
        }
        let id = identity::random_id()?;
        self.events.container(
            &snapshot,
            &action_text("exec_create", &request.command),
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

    /// Takes a prepared process for being started; nobody else can start it from here on.
    ///
    /// `tty` says whether the client reads the output raw: it is what the start call says, whatever
    /// the process itself runs on (spec engine-api §2.1).
    ///
    /// # Errors
    /// Docker's conflict texts when it runs, has run, or its container does not run; no such exec.
    pub fn claim_exec(
        self: &Arc<Self>,
        id: &str,
        tty: bool,
        console_size: Option<(u16, u16)>,
    ) -> Result<ClaimedExec> {
        let found = self.execs.find(id)?;
        let entry = self.containers.find(&found.details.container_id)?;
        let container = entry.snapshot();
        refuse_unless_running(&container)?;
        let shim = entry.running_shim()?;
        let details = self.execs.claim(id)?;
        Ok(ClaimedExec {
            engine: Arc::clone(self),
            container,
            shim,
            details,
            tty,
            console_size,
        })
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

/// A prepared process that is about to be started by the one who claimed it.
pub struct ClaimedExec {
    engine: Arc<Engine>,
    container: Arc<Container>,
    shim: wharf_runtime::Shim,
    details: ExecDetails,
    tty: bool,
    console_size: Option<(u16, u16)>,
}

impl ClaimedExec {
    /// Starts the process with nobody attached.
    ///
    /// # Errors
    /// A program that cannot be started, which also gives the exit code 126 or 127.
    pub async fn detached(self) -> Result<()> {
        self.run(None).await?;
        // It is followed whether anybody waits or not.
        drop(self.follow());
        Ok(())
    }

    /// Starts the process with the caller attached.
    ///
    /// A program that cannot be started is told through the stream, as docker does, and by the exit
    /// code 126 or 127.
    pub async fn attached(self) -> AttachedStream {
        let tty = self.tty;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        self.attach_to(ours).await;
        AttachedStream {
            io: Box::new(theirs),
            tty,
        }
    }

    async fn attach_to(self, mut ours: tokio::io::DuplexStream) {
        let request = &self.details.request;
        let attach = wharf_runtime::AttachRequest {
            stdin: request.attach_stdin,
            stdout: request.attach_stdout,
            stderr: request.attach_stderr,
        };
        match self.run(Some(attach)).await {
            Ok((_, Some(stream))) => {
                let ended = self.follow();
                tokio::spawn(async move {
                    let settled = async {
                        let _either_way = tokio::time::timeout(SETTLE, ended).await;
                    };
                    if attach::pump_until(ours, stream, self.detach_keys(), settled).await {
                        let id = [("execID", self.details.id)];
                        let events = &self.engine.events;
                        events.container(&self.container, "exec_detach", id);
                    }
                });
            }
            Ok((_, None)) => drop(self.follow()),
            Err(error) => {
                let text = format!("{}\r\n", error.message());
                tokio::spawn(async move {
                    let frame = if self.tty {
                        text.into_bytes()
                    } else {
                        stdout_frame(text.as_bytes())
                    };
                    let _client_gone = ours.write_all(&frame).await;
                });
            }
        }
    }

    /// Sends the process SIGKILL; one that has ended is left alone.
    pub(crate) fn killer(&self) -> impl Future<Output = ()> + Send + use<> {
        let (shim, id) = (self.shim.clone(), self.details.id.clone());
        async move {
            let _already_ended = shim.signal_exec(&id, SIGKILL).await;
        }
    }

    fn detach_keys(&self) -> Option<Vec<u8>> {
        let request = &self.details.request;
        // Keys that cannot be read were refused when the exec was made.
        (request.tty && request.attach_stdin)
            .then(|| detach_keys::parse(request.detach_keys.as_deref()).ok())
            .flatten()
    }

    async fn run(
        &self,
        attach: Option<wharf_runtime::AttachRequest>,
    ) -> Result<(u32, Option<tokio::net::UnixStream>)> {
        let (id, request) = (&self.details.id, &self.details.request);
        self.engine.events.container(
            &self.container,
            &action_text("exec_start", &request.command),
            [("execID", id.clone())],
        );
        let started = self.spawn(attach).await;
        match &started {
            Ok((pid, _)) => self.engine.execs.update(id, |exec| {
                exec.details.running = true;
                exec.details.pid = *pid;
            }),
            Err(error) => {
                self.forget_on_container();
                let code = wharf_runtime::start_failure_code(error.message());
                self.engine.execs.ended(id, code);
            }
        }
        started
    }

    async fn spawn(
        &self,
        attach: Option<wharf_runtime::AttachRequest>,
    ) -> Result<(u32, Option<tokio::net::UnixStream>)> {
        let details = &self.details;
        let tty = details.request.tty;
        let process = {
            let (container, request) = (Arc::clone(&self.container), details.request.clone());
            self.engine
                .with_store(move |engine| spec::exec_process(engine, &container, &request, tty))
                .await?
        };
        let stdio = wharf_runtime::Stdio {
            tty,
            // Nobody could ever write to or end the input of a process that nobody is attached to.
            open_stdin: details.request.attach_stdin && attach.is_some(),
            stdin_once: true,
            console_size: self.console_size.or(details.request.console_size),
        };
        let request = wharf_runtime::ExecRequest {
            id: details.id.clone(),
            process,
            stdio,
            attach,
            framed: Some(!self.tty),
        };
        self.start_unless_paused(request).await
    }

    /// Starts the process in the shim, which gives it up when the container is frozen meanwhile: a pause is told,
    /// a freeze that is none (a commit's) is waited for.
    async fn start_unless_paused(
        &self,
        request: wharf_runtime::ExecRequest,
    ) -> Result<(u32, Option<tokio::net::UnixStream>)> {
        let until = Instant::now() + FREEZE_PATIENCE;
        loop {
            match self.shim.exec(request.clone()).await {
                Ok((started, stream)) => return Ok((started.pid, stream)),
                Err(wharf_runtime::RuntimeError::Paused) if Instant::now() < until => {
                    let entry = self.engine.containers.find(&self.container.id)?;
                    refuse_unless_running(&entry.snapshot())?;
                    tokio::time::sleep(FREEZE_CHECK).await;
                }
                Err(error) => return Err(exec_error(error)),
            }
        }
    }

    /// Takes the process from those that inspecting the container shows.
    fn forget_on_container(&self) {
        if let Ok(entry) = self.engine.containers.find(&self.container.id) {
            let id = &self.details.id;
            entry.change(|container| container.exec_ids.retain(|known| known != id));
        }
    }

    fn follow(&self) -> impl Future<Output = ()> + Send + use<> {
        self.engine
            .follow_exec(&self.details.id, &self.container, &self.shim)
    }
}

/// Keeps the text of a process that could not be started: clients read its exit status from it.
fn exec_error(error: wharf_runtime::RuntimeError) -> EngineError {
    let text = error.to_string();
    if text.starts_with("OCI runtime exec failed") {
        return EngineError::new(start::kind_of_start_error(&text), text);
    }
    runtime_error("exec failed")(error)
}

/// Refuses an exec in a container that is not up.
fn refuse_unless_running(container: &Container) -> Result<()> {
    let id = &container.id;
    match container.state.status {
        Status::Running => Ok(()),
        Status::Paused => Err(EngineError::conflict(format!(
            "Container {} is paused, unpause the container before exec",
            container.name.trim_start_matches('/')
        ))),
        Status::Restarting => Err(EngineError::conflict(format!(
            "container {id} is restarting, wait until the container is running"
        ))),
        _ => Err(EngineError::conflict(format!(
            "container {id} is not running"
        ))),
    }
}

fn stdout_frame(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = vec![1, 0, 0, 0, length[0], length[1], length[2], length[3]];
    frame.extend_from_slice(text);
    frame
}
/// Returns the action of an exec's event: the word, the program, a blank, then the arguments, of which there may be none.
fn action_text(word: &str, command: &[String]) -> String {
    let (program, arguments) = command
        .split_first()
        .map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    format!("{word}: {program} {}", arguments.join(" "))
}
