//! The small init of `--init`: process 1 forwards signals to the command and reaps orphans.

use std::mem::zeroed;

use crate::init::plan::ProcessPlan;
use crate::init::privileges;
use crate::shim::memory;
use crate::sys;

/// How long nothing has to happen before memory is given back.
const REST_AFTER: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

/// Stays as process 1 until the command ends, then ends with its code; does not return.
pub fn run(child: i32, process: &ProcessPlan) -> ! {
    sys::set_name(c"wharf-init");
    // All descriptors but standard error: the shim learns of the exec by the others being closed.
    sys::close_from(3);
    // The command's output ends with the command, not with its init.
    // SAFETY: plain system calls.
    unsafe {
        libc::close(0);
        libc::close(1);
        libc::close(2);
    }
    if privileges::apply_capabilities(&process.capabilities).is_err() {
        sys::exit_now(1);
    }
    let signals = block_all();
    let mut is_resting = false;
    loop {
        let limit = (!is_resting).then_some(&REST_AFTER);
        let limit = limit.map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: all-zero is a valid siginfo; all outlive the call.
        let signal = unsafe {
            let mut info: libc::siginfo_t = zeroed();
            libc::sigtimedwait(&raw const signals, &raw mut info, limit)
        };
        if signal < 0 && sys::errno() == libc::EAGAIN {
            memory::release_in_container();
            is_resting = true;
            continue;
        }
        is_resting = false;
        match signal {
            libc::SIGCHLD => {
                if let Some(code) = reap(child) {
                    sys::exit_now(code);
                }
            }
            signal if signal > 0 => {
                // SAFETY: plain system call; a command that just ended is reaped next.
                unsafe { libc::kill(child, signal) };
            }
            _ => {}
        }
    }
}

/// Makes the calling process the foreground group of the terminal, as a shell would.
pub fn become_main(terminal: bool) {
    // SAFETY: plain system calls; the signal is ignored only while the group is changed.
    unsafe {
        libc::setpgid(0, 0);
        if terminal {
            libc::signal(libc::SIGTTOU, libc::SIG_IGN);
            libc::tcsetpgrp(0, libc::getpid());
            libc::signal(libc::SIGTTOU, libc::SIG_DFL);
        }
    }
}

fn block_all() -> libc::sigset_t {
    // SAFETY: the set is valid memory.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        set
    }
}

/// Reaps every ended child; returns the exit code of `main` once it was among them.
fn reap(main: i32) -> Option<i32> {
    let mut result = None;
    loop {
        let mut status = 0;
        // SAFETY: status outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid <= 0 {
            return result;
        }
        if pid == main {
            result = Some(exit_code(status));
        }
    }
}

/// Returns a wait status as a shell's exit code: 128 + n for signal n.
pub fn exit_code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    }
}
