//! The shim: one small process per container, its parent and the keeper of its streams.
//!
//! It has one thread and no async runtime, survives the daemon, and ends when the container has
//! ended, its output is drained and every waiting client is told.

mod connection;
mod exit;
mod external;
pub(crate) mod log;
pub(crate) mod memory;
mod new_container;
mod process;
mod server;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use wharf_safefs::trusted;

use crate::cgroup::Cgroup;
use crate::claim::Claim;
use crate::error::{Result, RuntimeError};
use crate::init;
use crate::init::namespaces::wants_cgroup_namespace;
use crate::init::plan::SeccompFilter;
use crate::protocol::{
    self, Failure, LENGTH_BYTES, LaunchMessage, Response, STATE_NAME, ShimState,
};
use crate::shim::external::External;
use crate::shim::new_container::NewContainer;
use crate::shim::server::Server;
use crate::socket::{self, MAX_DESCRIPTORS};
use crate::sys;

/// The word after the program's name that makes it a shim.
pub const SHIM_ARGUMENT: &str = "shim";

/// Runs a shim; returns its exit code. To be called first thing in `main`, before any thread.
///
/// Standard input is the launcher's socket: the request comes over it, and the answer goes back.
pub fn shim_main(arguments: impl IntoIterator<Item = String>) -> i32 {
    if arguments
        .into_iter()
        .any(|argument| argument != SHIM_ARGUMENT)
    {
        return 2;
    }
    let launcher = match become_shim() {
        Ok(launcher) => launcher,
        // Nobody is connected who could be told.
        Err(_) => return 1,
    };
    match set_up(&launcher) {
        Ok(server) => server.run(launcher),
        Err(error) => {
            let response = Response::Failed(failure(&error));
            let _ = send_all(launcher.as_raw_fd(), &protocol::encode(&response));
            1
        }
    }
}

/// Turns an error into what goes over the socket.
pub(crate) fn failure(error: &RuntimeError) -> Failure {
    match error {
        RuntimeError::Start { message } => Failure::Start(message.clone()),
        RuntimeError::NotRunning => Failure::NotRunning,
        RuntimeError::Paused => Failure::Paused,
        RuntimeError::NoSuchExec { id } => Failure::NoSuchExec(id.clone()),
        error => Failure::Other(error.to_string()),
    }
}

/// Leaves the daemon behind: own session, no descriptors, no signals, nobody may look inside.
fn become_shim() -> Result<OwnedFd> {
    let io =
        |errno: i32| RuntimeError::io("become a shim", std::io::Error::from_raw_os_error(errno));
    sys::set_name(c"wharf-shim");
    // SAFETY: plain system calls; no descriptor from 3 on is in use yet.
    let launcher = unsafe {
        libc::setsid();
        libc::umask(0o077);
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE] {
            libc::signal(signal, libc::SIG_IGN);
        }
        sys::close_from(3);
        let fd = sys::check(libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3).into()).map_err(io)?;
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).map_err(io)?;
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map_err(io)?;
    let null = trusted::open_with(
        "/dev/null",
        std::fs::OpenOptions::new().read(true).write(true),
    )?;
    for target in 0..3 {
        // SAFETY: plain system call.
        sys::check(unsafe { libc::dup2(null.as_raw_fd(), target) }.into()).map_err(io)?;
    }
    // The kernel should take a container before its shim; without the privilege it may not.
    let _ = crate::cgroup::write_file(std::path::Path::new("/proc/self/oom_score_adj"), "-999");
    // SAFETY: plain system call on a valid path.
    unsafe { libc::chdir(c"/".as_ptr()) };
    Ok(launcher)
}

/// Receives the request and sets the container up.
fn set_up(launcher: &OwnedFd) -> Result<Server> {
    let (message, seccomp, descriptors) = receive_launch(launcher.as_raw_fd())?;
    let request = &message.request;
    let [claim, network, ..] = descriptors;
    let claim = claim.ok_or_else(|| RuntimeError::Protocol {
        reason: "the state directory is missing".to_owned(),
    })?;
    let network = network.filter(|_| message.has_network_namespace);
    let namespace = wants_cgroup_namespace(&request.spec);
    let cgroup = Cgroup::new(&request.cgroup_path, namespace)?;
    let resources = request
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    let created = match &request.runtime {
        Some(runtime) => External::create(request, runtime, network)
            .map(|(external, made)| NewContainer::external(external, made)),
        None => cgroup
            .create(resources)
            .and_then(|()| init::create(request, network, seccomp.clone(), &cgroup))
            .and_then(NewContainer::own),
    };
    let result = created.and_then(|made| {
        let state = ShimState {
            id: request.id.clone(),
            shim_pid: std::process::id(),
            shim_start_ticks: crate::state::start_ticks(std::process::id())?,
            init_pid: made.pid.unsigned_abs(),
            cgroup_path: request.cgroup_path.clone(),
        };
        crate::state::write(&request.state_dir, STATE_NAME, &state)?;
        Server::new(
            request,
            Claim::from_fd(claim),
            cgroup.clone(),
            made,
            seccomp,
        )
    });
    if result.is_err() {
        // The first error is the one that tells; a group left behind is swept later.
        let _ = cgroup.kill_all();
        let _ = cgroup.remove();
    }
    result
}

type Launch = (
    LaunchMessage,
    Option<SeccompFilter>,
    [Option<OwnedFd>; MAX_DESCRIPTORS],
);

fn receive_launch(launcher: RawFd) -> Result<Launch> {
    let odd = |reason: &str| RuntimeError::Protocol {
        reason: reason.to_owned(),
    };
    let mut prefix = [0; LENGTH_BYTES];
    let (length, descriptors) = socket::receive(launcher, &mut prefix).map_err(|errno| {
        RuntimeError::io(
            "receive the request",
            std::io::Error::from_raw_os_error(errno),
        )
    })?;
    if length != LENGTH_BYTES {
        return Err(odd("short length"));
    }
    let length = protocol::decode_length(prefix).ok_or_else(|| odd("request too long"))?;
    let bytes = read_exactly(launcher, length)?;
    let message: LaunchMessage =
        serde_json::from_slice(&bytes).map_err(|error| odd(&error.to_string()))?;
    drop(bytes);
    if message.seccomp_bytes > protocol::MAX_MESSAGE_BYTES {
        return Err(odd("filter too long"));
    }
    let filter = read_exactly(launcher, message.seccomp_bytes)?;
    let seccomp = (!filter.is_empty()).then(|| SeccompFilter {
        program: crate::seccomp::from_bytes(&filter).into(),
        flags: message.seccomp_flags,
    });
    Ok((message, seccomp, descriptors))
}

fn read_exactly(fd: RawFd, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match sys::read(fd, room) {
            Err(libc::EINTR) => {}
            Ok(0) | Err(_) => {
                return Err(RuntimeError::Protocol {
                    reason: "the launcher went away".to_owned(),
                });
            }
            Ok(count) => filled += count,
        }
    }
    Ok(bytes)
}

/// Writes everything to a socket that blocks.
pub(crate) fn send_all(fd: RawFd, mut bytes: &[u8]) -> std::result::Result<(), i32> {
    while !bytes.is_empty() {
        let sent = socket::send(fd, bytes, &[])?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}
