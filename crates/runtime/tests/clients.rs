//! What clients do to a shim that do not read, are many, or come again and again.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

mod common;

use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Fixture, can_run, exec_request, log_lines};
use wharf_runtime::{AttachRequest, RuntimeError, Shim};

/// Tries until a condition holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn log_bytes(fixture: &Fixture) -> usize {
    let lines = log_lines(&fixture.request.log.as_ref().unwrap().path);
    lines.iter().map(String::len).sum()
}

/// Returns how many bytes wait in a pipe that a process has as its standard output.
fn waiting_bytes(pid: u32) -> usize {
    let flags = libc::O_NONBLOCK;
    let mut options = std::fs::OpenOptions::new();
    let pipe = options.read(true).custom_flags(flags);
    let pipe = pipe.open(format!("/proc/{pid}/fd/1")).unwrap();
    let mut count: libc::c_int = 0;
    // SAFETY: the number outlives the call.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    assert_eq!(result, 0);
    usize::try_from(count).unwrap()
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_no_line_of_the_log() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::shell("yes 0123456789 & exec sleep 1000");
    let shim = fixture.launch().await.unwrap();
    let all = AttachRequest {
        stdin: false,
        stdout: true,
        stderr: true,
    };
    let stuck = shim.attach(all).await.unwrap();
    let pid = shim.start().await.unwrap().pid;
    let mut before = (0, 0);
    eventually("the pipe stays full", || {
        let now = (log_bytes(&fixture), waiting_bytes(pid));
        let is_stuck = now == before && now.1 > 0;
        before = now;
        is_stuck
    })
    .await;
    shim.signal(libc::SIGKILL, false).await.unwrap();
    assert_eq!(shim.wait().await.unwrap().code, 137);
    let (logged, waited) = before;
    // The last line may have been cut off.
    let found = log_bytes(&fixture);
    assert!(
        found + "0123456789\n".len() > logged + waited,
        "{found} of {logged} + {waited}"
    );
    drop(stuck);
    shim.release().await.unwrap();
}

#[tokio::test]
async fn execs_that_ended_make_room_for_others() {
    /// More than are remembered.
    const EXECS: usize = 260;
    if !can_run() {
        return;
    }
    let fixture = Fixture::shell("exec sleep 1000");
    let shim = fixture.launch().await.unwrap();
    shim.start().await.unwrap();
    let id = |number: usize| format!("{number:064x}");
    for number in 0..EXECS {
        let request = exec_request(&id(number), &["true"]);
        shim.exec(request).await.unwrap();
        assert_eq!(shim.wait_exec(&id(number)).await.unwrap(), 0);
    }
    let forgotten = shim.wait_exec(&id(0)).await.unwrap_err();
    assert!(
        matches!(forgotten, RuntimeError::NoSuchExec { .. }),
        "{forgotten}"
    );
    assert_eq!(shim.wait_exec(&id(EXECS - 1)).await.unwrap(), 0);
    shim.release().await.unwrap();
}

/// Returns how often a process has gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

fn limit_descriptors(pid: u32, most: Option<u64>) -> libc::rlimit {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: the structures outlive the calls.
    unsafe {
        let kind = libc::RLIMIT_NOFILE;
        assert_eq!(libc::prlimit(pid, kind, std::ptr::null(), &raw mut old), 0);
        let new = libc::rlimit {
            rlim_cur: most.unwrap_or(old.rlim_max),
            ..old
        };
        assert_eq!(
            libc::prlimit(pid, kind, &raw const new, std::ptr::null_mut()),
            0
        );
    }
    old
}

async fn shim_pid(shim: &Shim) -> u32 {
    let text = std::fs::read_to_string(shim.state_dir().join("shim.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    u32::try_from(state["shim_pid"].as_u64().unwrap()).unwrap()
}

#[tokio::test]
async fn a_shim_without_descriptors_waits_for_some() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::shell("exec sleep 1000");
    let shim = fixture.launch().await.unwrap();
    shim.start().await.unwrap();
    let pid = shim_pid(&shim).await;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let numbers = descriptors.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse());
    let highest: u64 = numbers.map(Result::unwrap).max().unwrap();
    limit_descriptors(pid, Some(highest + 1));
    // More than there are unused numbers below.
    let socket = shim.state_dir().join("shim.sock");
    let silent: Vec<_> = (0..64)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    let waiting = tokio::spawn({
        let shim = shim.clone();
        async move { shim.started().await }
    });
    // It sleeps between its attempts, rather than trying all the time.
    let before = sleeps(pid);
    eventually("it sleeps", || sleeps(pid) > before + 5).await;
    assert!(!waiting.is_finished());
    limit_descriptors(pid, None);
    drop(silent);
    assert!(waiting.await.unwrap().unwrap().is_some());
    shim.release().await.unwrap();
    assert!(!Path::new(shim.state_dir()).exists());
}
