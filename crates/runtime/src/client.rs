//! The daemon's side of a shim.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use oci_spec::runtime::LinuxResources;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use wharf_safefs::trusted;

use crate::cgroup::{Cgroup, Stats};
use crate::error::{Result, RuntimeError};
use crate::protocol::{
    self, EXIT_NAME, ExitFile, Failure, LENGTH_BYTES, Request, Response, SOCKET_NAME, STATE_NAME,
    ShimState,
};
use crate::request::{AttachRequest, ExecRequest, ExecStarted, ExitStatus, Started};
use crate::state;

/// A handle of one container; clones are cheap and name the same container.
///
/// Until it is started a container lives only as long as the handle [`crate::launch`] returned, so
/// that a start which is given up leaves nothing behind; with `stop_on_disconnect` also after.
#[derive(Debug, Clone)]
pub struct Shim {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state_dir: PathBuf,
    pid: u32,
    cgroup: Cgroup,
    /// The container lives as long as this: until its start, or as long as it runs if it was
    /// launched so.
    launcher: Mutex<Option<UnixStream>>,
    stop_on_disconnect: bool,
}

impl Shim {
    pub(crate) fn new(
        state_dir: &Path,
        pid: u32,
        cgroup_path: &str,
        launcher: Option<UnixStream>,
        stop_on_disconnect: bool,
    ) -> Result<Self> {
        Ok(Self {
            inner: Arc::new(Inner {
                state_dir: state_dir.to_path_buf(),
                pid,
                cgroup: Cgroup::new(cgroup_path, false)?,
                launcher: Mutex::new(launcher),
                stop_on_disconnect,
            }),
        })
    }

    /// Finds the container of a state directory, also one that has ended.
    ///
    /// # Errors
    /// [`RuntimeError::ShimLost`] if the shim is gone and left no exit status.
    pub async fn connect(state_dir: &Path) -> Result<Self> {
        let lost = || RuntimeError::ShimLost {
            state_dir: state_dir.to_path_buf(),
        };
        let found: Option<ShimState> = state::read(state_dir, STATE_NAME)?;
        let found = found.ok_or_else(lost)?;
        let shim = Self::new(state_dir, found.init_pid, &found.cgroup_path, None, false)?;
        let alive = state::start_ticks(found.shim_pid).ok() == Some(found.shim_start_ticks);
        if alive || shim.exit_file()?.is_some() {
            Ok(shim)
        } else {
            Err(lost())
        }
    }

    /// Returns the container's process number on the host.
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// Returns the state directory.
    pub fn state_dir(&self) -> &Path {
        &self.inner.state_dir
    }

    /// Executes the container's process.
    ///
    /// # Errors
    /// [`RuntimeError::Start`] with the text clients know; the container has ended then.
    pub async fn start(&self) -> Result<Started> {
        match self.ask(&Request::Start).await? {
            Response::Started(started) => {
                if !self.inner.stop_on_disconnect {
                    let mut launcher = self.inner.launcher.lock();
                    launcher.as_deref_mut().ok().and_then(Option::take);
                }
                Ok(started)
            }
            other => Err(unexpected(other)),
        }
    }

    /// Tells whether the container's process was executed, also when it has ended since.
    ///
    /// # Errors
    /// [`RuntimeError::ShimLost`] if the shim is gone and left no exit status.
    pub async fn started(&self) -> Result<Option<Started>> {
        match self.ask(&Request::State).await {
            Ok(Response::State(started)) => Ok(started),
            Ok(other) => Err(unexpected(other)),
            Err(RuntimeError::ShimLost { .. }) => {
                Ok(self.exit_file()?.ok_or_else(|| self.lost())?.started)
            }
            Err(error) => Err(error),
        }
    }

    /// Connects a client to the container's process: what it writes is input, a half-close its end;
    /// what it reads is output from now on, in docker's frames (spec engine-api §2.1) or raw from a
    /// terminal. Attaching before the start loses nothing.
    pub async fn attach(&self, request: AttachRequest) -> Result<UnixStream> {
        let mut socket = self.send(&Request::Attach(request)).await?;
        match receive_message(&mut socket).await? {
            Response::Attached => Ok(socket),
            other => Err(unexpected(other)),
        }
    }

    /// Starts one more process; with `attach` also returns its stream.
    ///
    /// # Errors
    /// [`RuntimeError::Start`] with the text clients know; [`RuntimeError::NotRunning`]; [`RuntimeError::Paused`].
    pub async fn exec(&self, request: ExecRequest) -> Result<(ExecStarted, Option<UnixStream>)> {
        let attached = request.attach.is_some();
        let mut socket = self.send(&Request::Exec(Box::new(request))).await?;
        match receive_message(&mut socket).await? {
            Response::ExecStarted(started) => Ok((started, attached.then_some(socket))),
            other => Err(unexpected(other)),
        }
    }

    /// Returns an exec's exit code once it has ended and its output is drained; remembered for
    /// five minutes after, and until the container's state is released.
    pub async fn wait_exec(&self, id: &str) -> Result<i32> {
        let unknown = || RuntimeError::NoSuchExec { id: id.to_owned() };
        match self.ask(&Request::WaitExec(id.to_owned())).await {
            Ok(Response::ExecExited(code)) => Ok(code),
            Ok(other) => Err(unexpected(other)),
            Err(RuntimeError::ShimLost { .. }) => {
                let file = self.exit_file()?.ok_or_else(|| self.lost())?;
                file.execs.get(id).copied().ok_or_else(unknown)
            }
            Err(error) => Err(error),
        }
    }

    /// Sets the size of a terminal in characters, of an exec or of the container's process.
    pub async fn resize(&self, exec: Option<&str>, height: u16, width: u16) -> Result<()> {
        let exec = exec.map(str::to_owned);
        self.command(&Request::Resize {
            exec,
            height,
            width,
        })
        .await
    }

    /// Ends the input of an exec or of the container's process.
    pub async fn close_stdin(&self, exec: Option<&str>) -> Result<()> {
        let exec = exec.map(str::to_owned);
        self.command(&Request::CloseStdin { exec }).await
    }

    /// Sends a signal to the container's process, or with `all` to every process of the container.
    pub async fn signal(&self, signal: i32, all: bool) -> Result<()> {
        if !all {
            return self.command(&Request::Signal { exec: None, signal }).await;
        }
        let processes = self.processes().await?;
        for pid in processes {
            if let Ok(pid) = i32::try_from(pid) {
                // SAFETY: plain system call; the process was in the container's group a moment ago.
                unsafe { libc::kill(pid, signal) };
            }
        }
        Ok(())
    }

    /// Sends a signal to an exec's process.
    pub async fn signal_exec(&self, exec: &str, signal: i32) -> Result<()> {
        let exec = Some(exec.to_owned());
        self.command(&Request::Signal { exec, signal }).await
    }

    /// Returns the exit status once the container has ended and its output is drained; also when
    /// that happened while nobody was connected.
    pub async fn wait(&self) -> Result<ExitStatus> {
        match self.ask(&Request::Wait).await {
            Ok(Response::Exited(status)) => Ok(status),
            Ok(other) => Err(unexpected(other)),
            Err(RuntimeError::ShimLost { .. }) => {
                Ok(self.exit_file()?.ok_or_else(|| self.lost())?.status)
            }
            Err(error) => Err(error),
        }
    }

    /// Stops every process of the container where it is.
    pub async fn pause(&self) -> Result<()> {
        self.with_cgroup(|cgroup| cgroup.freeze()).await
    }

    /// Lets a paused container go on.
    pub async fn resume(&self) -> Result<()> {
        self.with_cgroup(|cgroup| cgroup.thaw()).await
    }

    /// Changes limits; what `resources` does not name stays as it is.
    pub async fn update(&self, resources: &LinuxResources) -> Result<()> {
        let resources = resources.clone();
        self.with_cgroup(move |cgroup| cgroup.apply(&resources))
            .await
    }

    /// Reads the container's figures.
    pub async fn stats(&self) -> Result<Stats> {
        self.with_cgroup(|cgroup| cgroup.stats()).await
    }

    /// Returns the host numbers of the container's processes, sorted.
    pub async fn processes(&self) -> Result<Vec<u32>> {
        self.with_cgroup(|cgroup| cgroup.processes()).await
    }

    /// Removes what is left of a container that has ended; kills one that has not.
    pub async fn release(&self) -> Result<()> {
        match self.ask(&Request::Release).await {
            Ok(_) | Err(RuntimeError::ShimLost { .. }) => {}
            Err(error) => return Err(error),
        }
        let state_dir = self.inner.state_dir.clone();
        self.with_cgroup(move |cgroup| {
            cgroup.kill_all()?;
            cgroup.remove()?;
            match trusted::remove_all(&state_dir) {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn with_cgroup<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cgroup) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let joined = tokio::task::spawn_blocking(move || work(&inner.cgroup)).await;
        joined.map_err(|error| {
            RuntimeError::io("use the control group", std::io::Error::other(error))
        })?
    }

    fn exit_file(&self) -> Result<Option<ExitFile>> {
        state::read(&self.inner.state_dir, EXIT_NAME)
    }

    fn lost(&self) -> RuntimeError {
        RuntimeError::ShimLost {
            state_dir: self.inner.state_dir.clone(),
        }
    }

    async fn command(&self, request: &Request) -> Result<()> {
        match self.ask(request).await {
            Ok(Response::Done) => Ok(()),
            Ok(other) => Err(unexpected(other)),
            Err(RuntimeError::ShimLost { .. }) => Err(RuntimeError::NotRunning),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Response> {
        let mut socket = self.send(request).await?;
        match receive_message(&mut socket).await {
            Ok(Response::Failed(failure)) => Err(failure.into()),
            Ok(response) => Ok(response),
            Err(RuntimeError::Io { .. }) => Err(self.lost()),
            Err(error) => Err(error),
        }
    }

    async fn send(&self, request: &Request) -> Result<UnixStream> {
        // By descriptor: the path may be longer than a socket address takes.
        let directory = trusted::open(&self.inner.state_dir).map_err(|_| self.lost())?;
        let address = format!("/proc/self/fd/{}/{SOCKET_NAME}", directory.as_raw_fd());
        let mut socket = UnixStream::connect(address)
            .await
            .map_err(|_| self.lost())?;
        let message = protocol::encode(request);
        socket.write_all(&message).await.map_err(|_| self.lost())?;
        Ok(socket)
    }
}

impl From<Failure> for RuntimeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Start(message) => Self::Start { message },
            Failure::NotRunning => Self::NotRunning,
            Failure::Paused => Self::Paused,
            Failure::NoSuchExec(id) => Self::NoSuchExec { id },
            Failure::Other(message) => Self::Start { message },
        }
    }
}

fn unexpected(response: Response) -> RuntimeError {
    match response {
        Response::Failed(failure) => failure.into(),
        other => RuntimeError::Protocol {
            reason: format!("unexpected answer {other:?}"),
        },
    }
}

/// Receives one message.
pub(crate) async fn receive_message(socket: &mut UnixStream) -> Result<Response> {
    let gone = |error| RuntimeError::io("hear from the shim", error);
    let mut prefix = [0; LENGTH_BYTES];
    socket.read_exact(&mut prefix).await.map_err(gone)?;
    let length = protocol::decode_length(prefix).ok_or_else(|| RuntimeError::Protocol {
        reason: "answer too long".to_owned(),
    })?;
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.map_err(gone)?;
    serde_json::from_slice(&body).map_err(|error| RuntimeError::Protocol {
        reason: error.to_string(),
    })
}
