//! The shim's loop: streams, clients and children over one `poll(2)`.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cgroup::Cgroup;
use crate::claim::Claim;
use crate::error::{Result, RuntimeError};
use crate::init::plan::{ProcessPlan, SeccompFilter};
use crate::init::{self, console};
use crate::protocol::{self, Request, Response, SOCKET_NAME};
use crate::request::{AttachRequest, ExecRequest, ExecStarted, LaunchRequest, Started, Stdio};
use crate::shim::connection::{Connection, Role};
use crate::shim::external::{External, Made};
use crate::shim::log::{LogStream, LogWriter};
use crate::shim::memory;
use crate::shim::new_container::{NewContainer, Waiting};
use crate::shim::process::{Exit, Output, Process};
use crate::sys;

/// Bytes read from a stream at a time.
const READ_BYTES: usize = 16 << 10;

/// How long nothing happens before memory is given back.
const REST_AFTER: Duration = Duration::from_millis(500);

/// The most clients at a time; one more is turned away.
const MAX_CONNECTIONS: usize = 1024;

/// The most execs that run or are remembered at a time.
const MAX_EXECS: usize = 4096;

/// Everything a shim knows.
pub struct Server {
    pub(super) state_dir: PathBuf,
    /// Says that this shim is there, until it ends.
    _claim: Claim,
    pub(super) cgroup: Cgroup,
    pub(super) own_pid_namespace: bool,
    stop_on_disconnect: bool,
    seccomp: Option<SeccompFilter>,
    listener: UnixListener,
    signals: OwnedFd,
    /// Until the start, and with `stop_on_disconnect` after it, the container lives as long as this.
    launcher: Option<OwnedFd>,
    /// Keeps the container's mounts until the shim ends: taking them down takes milliseconds (and
    /// an overlay's upper directory may be written back), which would delay the exit status.
    _mount_namespace: OwnedFd,
    /// How the container's own process is started, until it is.
    waiting: Option<Waiting>,
    /// The runtime program that made the container, if it was not made here.
    pub(super) external: Option<External>,
    /// When it was started.
    pub(super) started: Option<Started>,
    /// The container's own process first, then execs.
    pub(super) processes: Vec<Process>,
    pub(super) connections: Vec<Connection>,
    next_serial: u64,
    /// The container's exit status once it is told.
    pub(super) finished: Option<crate::request::ExitStatus>,
    /// Whether nothing has happened since memory was given back.
    is_resting: bool,
    /// When the shim stops waiting for clients that do not read.
    pub(super) linger_until: Option<Instant>,
}

/// What a polled descriptor belongs to.
#[derive(Debug, Clone, Copy)]
enum Source {
    Listener,
    Signals,
    Launcher,
    Output(usize, LogStream),
    Input(usize),
    Log(usize),
    Connection(usize),
}

impl Server {
    /// Takes over a container that is set up.
    pub fn new(
        request: &LaunchRequest,
        claim: Claim,
        cgroup: Cgroup,
        made: NewContainer,
        seccomp: Option<SeccompFilter>,
    ) -> Result<Self> {
        let log = request
            .log
            .as_ref()
            .map(LogWriter::open)
            .transpose()?
            .flatten();
        let path = format!("/proc/{}/ns/mnt", made.pid);
        let mount_namespace = OwnedFd::from(wharf_safefs::trusted::open(path)?);
        let (pidfd, streams) = (made.pidfd, made.streams);
        let mut process = Process::new(0, None, made.pid, pidfd, streams, request.stdio);
        process.log = log;
        Ok(Self {
            state_dir: request.state_dir.clone(),
            _claim: claim,
            cgroup,
            own_pid_namespace: init::has_own_pid_namespace(&request.spec),
            stop_on_disconnect: request.stop_on_disconnect,
            seccomp,
            listener: listen(&request.state_dir)?,
            signals: open_signals()?,
            launcher: None,
            _mount_namespace: mount_namespace,
            waiting: Some(made.waiting),
            external: made.external,
            started: None,
            processes: vec![process],
            connections: Vec::new(),
            next_serial: 1,
            finished: None,
            is_resting: false,
            linger_until: None,
        })
    }

    /// Tells the launcher and serves until the container has ended and all are told.
    pub fn run(mut self, launcher: OwnedFd) -> i32 {
        let pid = self.processes.first().map_or(0, |process| process.pid);
        let created = Response::Created {
            pid: pid.unsigned_abs(),
        };
        // A launcher that is gone by now is noticed in the loop.
        let _ = super::send_all(launcher.as_raw_fd(), &protocol::encode(&created));
        self.launcher = Some(launcher);
        let mut polled = Vec::new();
        let mut sources = Vec::new();
        let mut is_idle = false;
        while !self.is_done() {
            self.gather(&mut polled, &mut sources);
            let goes_to_rest = is_idle && !self.is_resting;
            self.is_resting = is_idle;
            let timeout = self.timeout_ms();
            let count = polled.len() as libc::nfds_t;
            if goes_to_rest {
                // Right before the wait: what runs in between would be there all along.
                memory::release();
            }
            // SAFETY: the entries are valid for their whole number.
            let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, timeout) };
            is_idle = ready == 0;
            for (entry, source) in polled.iter().zip(&sources) {
                if entry.revents != 0 {
                    self.handle(*source, entry.revents);
                }
            }
            self.settle();
            self.connections.retain(|connection| {
                !connection.dead && (!connection.closing || connection.has_held())
            });
        }
        0
    }

    fn is_done(&self) -> bool {
        let Some(until) = self.linger_until else {
            return false;
        };
        let pending = self.connections.iter().any(Connection::has_held);
        !pending || Instant::now() >= until
    }

    fn timeout_ms(&self) -> i32 {
        let now = Instant::now();
        let drains = self.processes.iter().filter_map(|process| {
            let exit = process.exit.filter(|_| process.settled.is_none())?;
            Some(exit.drain_until)
        });
        let rests_at = (!self.is_resting).then(|| now + REST_AFTER);
        let next = drains.chain(self.linger_until).chain(rests_at).min();
        next.map_or(-1, |next| {
            let wait = next.saturating_duration_since(now) + Duration::from_millis(1);
            i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)
        })
    }

    fn gather(&self, polled: &mut Vec<libc::pollfd>, sources: &mut Vec<Source>) {
        polled.clear();
        sources.clear();
        let mut add = |fd: RawFd, events: i16, source: Source| {
            polled.push(libc::pollfd {
                fd,
                events,
                revents: 0,
            });
            sources.push(source);
        };
        add(self.signals.as_raw_fd(), libc::POLLIN, Source::Signals);
        if self.connections.len() < MAX_CONNECTIONS {
            add(self.listener.as_raw_fd(), libc::POLLIN, Source::Listener);
        }
        if let Some(launcher) = &self.launcher {
            add(launcher.as_raw_fd(), libc::POLLIN, Source::Launcher);
        }
        for (index, process) in self.processes.iter().enumerate() {
            let full = self
                .connections
                .iter()
                .any(|client| client.is_stream_of(process.serial) && client.is_full());
            if !full && process.takes_output() {
                for (stream, fd) in process.outputs() {
                    add(fd, libc::POLLIN, Source::Output(index, stream));
                }
            }
            if let Some(fd) = process.log.as_ref().and_then(LogWriter::waiting) {
                add(fd, libc::POLLOUT, Source::Log(index));
            }
            if let Some(fd) = process.waiting_input() {
                add(fd, libc::POLLOUT, Source::Input(index));
            }
        }
        for (index, connection) in self.connections.iter().enumerate() {
            let mut events = 0;
            if self.listens_to(connection) {
                events |= libc::POLLIN;
            }
            if connection.has_held() {
                events |= libc::POLLOUT;
            }
            add(connection.fd(), events, Source::Connection(index));
        }
    }

    fn listens_to(&self, connection: &Connection) -> bool {
        match &connection.role {
            Role::Asking => true,
            Role::Stream {
                process,
                attach,
                input_ended,
                ..
            } => {
                attach.stdin
                    && !input_ended
                    && !connection.closing
                    && self.find(*process).is_none_or(Process::takes_input)
            }
            _ => false,
        }
    }

    fn find(&self, serial: u64) -> Option<&Process> {
        self.processes
            .iter()
            .find(|process| process.serial == serial)
    }

    fn find_exec(&mut self, exec: Option<&str>) -> Result<&mut Process> {
        let found = self
            .processes
            .iter_mut()
            .find(|process| process.exec_id.as_deref() == exec);
        found.ok_or_else(|| RuntimeError::NoSuchExec {
            id: exec.unwrap_or_default().to_owned(),
        })
    }

    fn handle(&mut self, source: Source, events: i16) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => {
                let mut buffer = [0; size_of::<libc::signalfd_siginfo>()];
                let _ = sys::read(self.signals.as_raw_fd(), &mut buffer);
                self.reap();
            }
            Source::Launcher => {
                // Nothing more is ever said there: readable means gone.
                self.launcher = None;
                self.kill_container();
            }
            Source::Output(process, stream) => self.pump(process, stream),
            Source::Input(process) => {
                if let Some(process) = self.processes.get_mut(process) {
                    process.flush_input();
                }
            }
            Source::Log(process) => {
                let process = self.processes.get_mut(process);
                if let Some(log) = process.and_then(|process| process.log.as_mut()) {
                    log.flush();
                }
            }
            Source::Connection(index) => self.serve(index, events),
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let fd = OwnedFd::from(stream);
            if is_own_user(fd.as_raw_fd()) {
                self.connections.push(Connection::new(fd));
            }
        }
    }

    /// Moves output to the log and the attached clients.
    fn pump(&mut self, index: usize, stream: LogStream) {
        let mut buffer = [0; READ_BYTES];
        let Some(process) = self.processes.get_mut(index) else {
            return;
        };
        let Output::Bytes(count) = process.read(stream, &mut buffer) else {
            return;
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if let Some(log) = &mut process.log {
            log.write(stream, bytes, crate::state::now_ns());
        }
        let serial = process.serial;
        for connection in &mut self.connections {
            connection.send_output(serial, stream, bytes);
        }
    }

    fn serve(&mut self, index: usize, events: i16) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if events & libc::POLLOUT != 0 {
            connection.flush();
        }
        if events & libc::POLLIN != 0 {
            match &connection.role {
                Role::Asking => self.read_request(index),
                Role::Stream { .. } => self.read_input(index),
                _ => {}
            }
            return;
        }
        if events & (libc::POLLHUP | libc::POLLERR) != 0 {
            connection.dead = true;
            self.client_input_ended(index);
        }
    }

    fn read_request(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let response = match connection.read_request() {
            Ok(None) => return,
            Ok(Some(request)) => self.answer(request, index),
            Err(error) => Some(Response::Failed(super::failure(&error))),
        };
        if let (Some(response), Some(connection)) = (response, self.connections.get_mut(index)) {
            connection.answer(&response);
        }
    }

    fn read_input(&mut self, index: usize) {
        let mut buffer = [0; READ_BYTES];
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Role::Stream { process, .. } = connection.role else {
            return;
        };
        match sys::read(connection.fd(), &mut buffer) {
            Err(libc::EAGAIN | libc::EINTR) => {}
            Ok(count) if count > 0 => {
                let process = self.processes.iter_mut().find(|p| p.serial == process);
                if let Some(process) = process {
                    process.write_input(buffer.get(..count).unwrap_or_default());
                }
            }
            result => {
                connection.dead |= result.is_err();
                self.client_input_ended(index);
            }
        }
    }

    /// A client's input ended: the process's ends too (exec, `stdin_once`), or the client's
    /// output does (spec engine-api §2.2).
    fn client_input_ended(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Role::Stream {
            process,
            attach,
            input_ended,
            ..
        } = &mut connection.role
        else {
            return;
        };
        if !attach.stdin || *input_ended {
            return;
        }
        *input_ended = true;
        let serial = *process;
        let Some(process) = self.processes.iter_mut().find(|p| p.serial == serial) else {
            return;
        };
        if process.exec_id.is_some() || process.stdio.stdin_once {
            process.close_input();
        } else if !process.stdio.tty && process.stdio.open_stdin {
            connection.closing = true;
        }
    }

    /// Carries a request out; none where the answer comes later.
    fn answer(&mut self, request: Request, index: usize) -> Option<Response> {
        let result = match request {
            Request::Start => self.start().map(Response::Started),
            Request::Attach(attach) => self.attach(index, attach),
            Request::Exec(exec) => self.exec(index, *exec),
            Request::State => Ok(Response::State(self.started)),
            Request::Wait => return self.wait(index),
            Request::WaitExec(id) => return self.wait_exec(index, id),
            Request::Resize {
                exec,
                height,
                width,
            } => self.resize(exec.as_deref(), height, width),
            Request::CloseStdin { exec } => self.find_exec(exec.as_deref()).map(|process| {
                process.close_input();
                Response::Done
            }),
            Request::Signal { exec, signal } => self.signal(exec.as_deref(), signal),
            Request::Release => {
                self.kill_container();
                return self.wait(index);
            }
        };
        Some(result.unwrap_or_else(|error| Response::Failed(super::failure(&error))))
    }

    fn start(&mut self) -> Result<Started> {
        let Some(waiting) = self.waiting.take() else {
            return Err(RuntimeError::invalid(
                "start",
                "the container was started already",
            ));
        };
        let result = match (waiting, &self.external) {
            (Waiting::Own(mut spawned), _) => init::start(&mut spawned, false),
            (Waiting::External, Some(external)) => external.start(),
            (Waiting::External, None) => Err(RuntimeError::NotRunning),
        };
        if let Err(error) = result {
            let code = init::start_failure_code(&error.to_string());
            self.kill_container();
            if let Some(process) = self.processes.first_mut() {
                process.exit = Some(Exit {
                    code,
                    at_ns: crate::state::now_ns(),
                    drain_until: Instant::now(),
                });
            }
            return Err(error);
        }
        if !self.stop_on_disconnect {
            self.launcher = None;
        }
        let started = Started {
            pid: self
                .processes
                .first()
                .map_or(0, |process| process.pid.unsigned_abs()),
            started_at_ns: crate::state::now_ns(),
        };
        self.started = Some(started);
        Ok(started)
    }

    fn attach(&mut self, index: usize, attach: AttachRequest) -> Result<Response> {
        let process = self.find_exec(None)?;
        if process.settled.is_some() {
            return Err(RuntimeError::NotRunning);
        }
        let mut attach = attach;
        attach.stdin &= process.stdio.open_stdin;
        let (serial, framed) = (process.serial, !process.stdio.tty);
        self.make_stream(index, serial, attach, framed);
        Ok(Response::Attached)
    }

    fn make_stream(&mut self, index: usize, process: u64, attach: AttachRequest, framed: bool) {
        if let Some(connection) = self.connections.get_mut(index) {
            connection.role = Role::Stream {
                process,
                attach,
                framed,
                input_ended: false,
            };
        }
    }

    fn exec(&mut self, index: usize, request: ExecRequest) -> Result<Response> {
        let container = self
            .processes
            .first()
            .filter(|process| process.exit.is_none());
        let Some(container) = container.filter(|_| self.waiting.is_none()) else {
            return Err(RuntimeError::NotRunning);
        };
        if self.cgroup.is_frozen().unwrap_or(false) {
            // It would join the frozen group and never report.
            return Err(RuntimeError::invalid("exec", "the container is paused"));
        }
        if self.processes.len() > MAX_EXECS {
            let reason = format!("more than {MAX_EXECS} are running or remembered");
            return Err(RuntimeError::invalid("exec", reason));
        }
        if self
            .processes
            .iter()
            .any(|p| p.exec_id.as_ref() == Some(&request.id))
        {
            return Err(RuntimeError::invalid(
                "exec",
                "an exec of this id was started already",
            ));
        }
        let stdio = Stdio {
            stdin_once: true,
            ..request.stdio
        };
        let made = self.make_exec(&request.process, stdio, container.pidfd.as_raw_fd())?;
        let started = ExecStarted {
            pid: made.pid.unsigned_abs(),
        };
        let serial = self.next_serial;
        self.next_serial += 1;
        let (id, pid, pidfd) = (Some(request.id), made.pid, made.pidfd);
        let process = Process::new(serial, id, pid, pidfd, made.streams, stdio);
        self.processes.push(process);
        if let Some(mut attach) = request.attach {
            attach.stdin &= stdio.open_stdin;
            let framed = request.framed.unwrap_or(!stdio.tty);
            self.make_stream(index, serial, attach, framed);
        }
        Ok(Response::ExecStarted(started))
    }

    fn make_exec(
        &self,
        process: &oci_spec::runtime::Process,
        stdio: Stdio,
        container: RawFd,
    ) -> Result<Made> {
        if let Some(external) = &self.external {
            return external.exec(process, stdio);
        }
        let mut plan = ProcessPlan::new(process, stdio.tty, self.seccomp.clone())?;
        if let Some(size) = stdio.console_size
            && plan.terminal.is_some()
        {
            plan.terminal = Some(Some(size));
        }
        let spawned = init::exec(plan, stdio, container, &self.cgroup)?;
        Ok(Made {
            pid: spawned.pid,
            pidfd: spawned.pidfd,
            streams: spawned.streams,
        })
    }

    fn wait(&mut self, index: usize) -> Option<Response> {
        if let Some(status) = self.finished {
            return Some(Response::Exited(status));
        }
        if let Some(connection) = self.connections.get_mut(index) {
            connection.role = Role::WaitsForExit;
        }
        None
    }

    fn wait_exec(&mut self, index: usize, id: String) -> Option<Response> {
        match self.find_exec(Some(&id)) {
            Err(error) => return Some(Response::Failed(super::failure(&error))),
            Ok(process) => {
                if let (Some(exit), Some(_)) = (process.exit, process.settled) {
                    return Some(Response::ExecExited(exit.code));
                }
            }
        }
        if let Some(connection) = self.connections.get_mut(index) {
            connection.role = Role::WaitsForExec(id);
        }
        None
    }

    fn resize(&mut self, exec: Option<&str>, height: u16, width: u16) -> Result<Response> {
        let process = self.find_exec(exec)?;
        if process.exit.is_some() {
            return Err(RuntimeError::NotRunning);
        }
        // Clients may say how large their terminal is whatever the process runs on.
        let Some(terminal) = process.terminal() else {
            return Ok(Response::Done);
        };
        console::resize(terminal, height, width).map_err(|errno| {
            RuntimeError::io(
                "resize the terminal",
                std::io::Error::from_raw_os_error(errno),
            )
        })?;
        Ok(Response::Done)
    }

    fn signal(&mut self, exec: Option<&str>, signal: i32) -> Result<Response> {
        let process = self.find_exec(exec)?;
        if process.exit.is_some() {
            return Err(RuntimeError::NotRunning);
        }
        match sys::pidfd_send_signal(process.pidfd.as_raw_fd(), signal) {
            Ok(()) => Ok(Response::Done),
            Err(libc::ESRCH) => Err(RuntimeError::NotRunning),
            Err(errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
                Err(RuntimeError::io(format!("send signal {signal}"), error))
            }
        }
    }

    pub(super) fn kill_container(&mut self) {
        if let Some(process) = self
            .processes
            .first()
            .filter(|process| process.exit.is_none())
        {
            let _ = sys::pidfd_send_signal(process.pidfd.as_raw_fd(), libc::SIGKILL);
        }
        // A frozen process does not die on version 1.
        if self.cgroup.is_frozen().unwrap_or(false) {
            let _ = self.cgroup.thaw();
        }
        // Nothing more is started.
        self.waiting = None;
    }
}

/// Listens at the state directory's socket. The path may be longer than an address takes, so it is
/// reached by descriptor.
fn listen(state_dir: &std::path::Path) -> Result<UnixListener> {
    let directory = wharf_safefs::trusted::open(state_dir)?;
    let address = format!("/proc/self/fd/{}/{SOCKET_NAME}", directory.as_raw_fd());
    let action = "listen for clients";
    let listener = UnixListener::bind(address).map_err(|error| RuntimeError::io(action, error))?;
    listener
        .set_nonblocking(true)
        .map_err(|error| RuntimeError::io(action, error))?;
    Ok(listener)
}

fn open_signals() -> Result<OwnedFd> {
    // SAFETY: the set is valid memory; a descriptor returned is ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        sys::check(fd.into())
            .map(|fd| OwnedFd::from_raw_fd(fd as RawFd))
            .map_err(|errno| {
                RuntimeError::io("watch children", std::io::Error::from_raw_os_error(errno))
            })
    }
}

/// Says whether the other side of a connection is root or the shim's own user (`SO_PEERCRED`).
fn is_own_user(fd: RawFd) -> bool {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: peer and length outlive the call.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    // SAFETY: plain system call.
    result == 0 && (peer.uid == 0 || peer.uid == unsafe { libc::geteuid() })
}
