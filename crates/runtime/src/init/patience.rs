//! Waiting for processes that may be frozen meanwhile: an exec races with a pause of its container, and
//! neither the shim nor the client may wait until the container goes on.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::cgroup::Cgroup;
use crate::error::{Result, RuntimeError};
use crate::sys;

/// How often it is looked whether the group was frozen.
const FROZEN_CHECK: Duration = Duration::from_millis(20);

/// How long a program may take to make a process.
const LONGEST_RUN: Duration = Duration::from_secs(60);

/// How long a killed process is waited for; one that takes longer is reaped when it ends.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits until a descriptor is readable; returns false when the time has passed.
///
/// # Errors
/// [`RuntimeError::Paused`] once the group, if one is given, is frozen.
pub fn await_readable(fd: RawFd, group: Option<&Cgroup>, timeout: Duration) -> Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = match group {
            Some(_) => left.min(FROZEN_CHECK),
            None => left,
        };
        if is_readable(fd, wait) {
            return Ok(true);
        }
        if group.is_some_and(|group| group.is_frozen().unwrap_or(false)) {
            return Err(RuntimeError::Paused);
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}

/// Kills a process of the group that could not be made, frozen or not, and waits for it a moment.
pub fn abandon(pid: i32, pidfd: &OwnedFd, group: &Cgroup) {
    // What has ended already needs neither.
    let _ = sys::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL);
    let _ = group.let_die(pid.unsigned_abs());
    let how = if is_readable(pidfd.as_raw_fd(), END_TIMEOUT) {
        0
    } else {
        libc::WNOHANG
    };
    // SAFETY: the process is our child; no status is wanted.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), how) };
}

/// Runs a program that makes a process in a group, to its end or until the group is frozen; `failed` makes the error
/// of a program that cannot be run.
///
/// # Errors
/// [`RuntimeError::Paused`]; nothing is left of the program and its process then.
pub fn run(
    command: &mut Command,
    group: &Cgroup,
    failed: impl Fn(std::io::Error) -> RuntimeError,
) -> Result<ExitStatus> {
    let mut child = command.spawn().map_err(&failed)?;
    let ended = i32::try_from(child.id())
        .map_err(|error| failed(std::io::Error::other(error)))
        .and_then(open_process)
        .and_then(|pidfd| await_readable(pidfd.as_raw_fd(), Some(group), LONGEST_RUN));
    if !matches!(ended, Ok(true)) {
        abandon_descendants(child.id(), group);
        child.kill().map_err(&failed)?;
    }
    let status = child.wait().map_err(&failed)?;
    ended.map(|_| status)
}

/// Opens a process that has not been waited for.
pub fn open_process(pid: i32) -> Result<OwnedFd> {
    // SAFETY: plain system call; a descriptor returned is ours.
    let fd =
        sys::check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map_err(|errno| {
            RuntimeError::io("open the process", std::io::Error::from_raw_os_error(errno))
        })?;
    // SAFETY: the kernel just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Kills the processes of the group that descend from a program, frozen or not.
fn abandon_descendants(program: u32, group: &Cgroup) {
    for pid in group.processes().unwrap_or_default() {
        if descends(pid, program)
            && let Ok(number) = i32::try_from(pid)
        {
            // SAFETY: plain system call; the process was listed in our group a moment ago.
            unsafe { libc::kill(number, libc::SIGKILL) };
            let _ = group.let_die(pid);
        }
    }
}

fn descends(mut pid: u32, ancestor: u32) -> bool {
    while pid > 1 {
        if pid == ancestor {
            return true;
        }
        match crate::state::parent(pid) {
            Ok(parent) => pid = parent,
            Err(_) => return false,
        }
    }
    false
}

fn is_readable(fd: RawFd, timeout: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one entry. What an interrupted wait missed the next one sees.
    unsafe { libc::poll(&raw mut poll, 1, timeout) > 0 }
}
