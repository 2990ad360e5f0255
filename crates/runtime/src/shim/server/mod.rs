//! The shim's loop: streams, clients and children over one `poll(2)`.

mod answers;
mod clients;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cgroup::Cgroup;
use crate::claim::Claim;
use crate::error::{Result, RuntimeError};
use crate::init::namespaces::has_own_pid_namespace;
use crate::init::plan::SeccompFilter;
use crate::protocol::{self, Response, SOCKET_NAME};
use crate::request::{LaunchRequest, Started};
use crate::shim::connection::Connection;
use crate::shim::external::External;
use crate::shim::log::{LogStream, LogWriter};
use crate::shim::memory;
use crate::shim::new_container::{NewContainer, Waiting};
use crate::shim::process::{Output, Process};
use crate::sys;

/// Bytes read from a stream at a time.
const READ_BYTES: usize = 16 << 10;

/// How long nothing happens before memory is given back.
const REST_AFTER: Duration = Duration::from_millis(500);

/// The most clients at a time; one more waits until another has gone.
const MAX_CONNECTIONS: usize = 1024;

/// How long no client is taken when there is no descriptor for one.
const DEAF_TIME: Duration = Duration::from_millis(100);

/// The most output of one stream that is taken over when a process is given up that somebody else writes for: what
/// the largest pipe holds (`/proc/sys/fs/pipe-max-size`).
const MAX_REST_BYTES: usize = 1 << 20;

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
    /// Until when no client is taken.
    deaf_until: Option<Instant>,
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
            own_pid_namespace: has_own_pid_namespace(&request.spec),
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
            deaf_until: None,
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
        let _ = crate::shim::send_all(launcher.as_raw_fd(), &protocol::encode(&created));
        self.launcher = Some(launcher);
        let mut polled = Vec::new();
        let mut sources = Vec::new();
        let mut is_idle = false;
        while !self.is_done() {
            self.deaf_until = self.deaf_until.filter(|until| Instant::now() < *until);
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
        let others = [self.linger_until, self.deaf_until, rests_at];
        let next = drains.chain(others.into_iter().flatten()).min();
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
        if self.connections.len() < MAX_CONNECTIONS && self.deaf_until.is_none() {
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

    fn find(&self, serial: u64) -> Option<&Process> {
        self.processes
            .iter()
            .find(|process| process.serial == serial)
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
            Source::Output(process, stream) => {
                self.pump(process, stream);
            }
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

    /// Moves output to the log and the attached clients; returns how many bytes there were now.
    fn pump(&mut self, index: usize, stream: LogStream) -> usize {
        let mut buffer = [0; READ_BYTES];
        let Some(process) = self.processes.get_mut(index) else {
            return 0;
        };
        let Output::Bytes(count) = process.read(stream, &mut buffer) else {
            return 0;
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if let Some(log) = &mut process.log {
            log.write(stream, bytes, crate::state::now_ns());
        }
        let serial = process.serial;
        for connection in &mut self.connections {
            connection.send_output(serial, stream, bytes);
        }
        count
    }

    /// Moves what an ended process has left in its pipes, whether or not its clients have read what was before.
    pub(super) fn pump_rest(&mut self, index: usize) {
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let mut moved = 0;
            while moved < MAX_REST_BYTES {
                match self.pump(index, stream) {
                    0 => break,
                    count => moved += count,
                }
            }
        }
    }

    /// Kills the container; what was not started by then never is.
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
