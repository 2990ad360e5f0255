//! Many containers and clients at once, one container stuck: reads never wait (DESIGN invariant 6),
//! containers outlive the daemon (invariant 8).
//!
//! `scripts/load-test` runs the full size; `scripts/test` a smaller one.

mod kills;
mod lists;

use crate::harness::{Daemon, skip};
use crate::raw;
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Memory one container takes at most, its shim included.
const BYTES_PER_CONTAINER: usize = 8 << 20;
/// How long each client rests between two calls.
const REST: Duration = Duration::from_millis(400);

/// How much of everything; each is read from the environment.
struct Size {
    /// Containers that run at once (`WHARF_TEST_LOAD_CONTAINERS`).
    containers: usize,
    /// Clients at once (`WHARF_TEST_LOAD_CLIENTS`).
    clients: usize,
    /// How long the load lasts (`WHARF_TEST_LOAD_SECONDS`).
    seconds: usize,
    /// How often the daemon is killed (`WHARF_TEST_LOAD_KILLS`).
    kills: usize,
}

impl Size {
    fn from_environment() -> Self {
        let asked = number("WHARF_TEST_LOAD_CONTAINERS", 20);
        let fit = containers_that_fit();
        if fit < asked {
            skip(&format!(
                "load of {asked} containers: memory is there for {fit}"
            ));
        }
        Self {
            containers: asked.min(fit),
            clients: number("WHARF_TEST_LOAD_CLIENTS", 10),
            seconds: number("WHARF_TEST_LOAD_SECONDS", 10),
            kills: number("WHARF_TEST_LOAD_KILLS", 8),
        }
    }
}

fn number(variable: &str, default: usize) -> usize {
    let named = std::env::var(variable).ok();
    named.map_or(default, |text| text.parse().expect(variable))
}

fn containers_that_fit() -> usize {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let available = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|text| text.trim().trim_end_matches(" kB").parse::<usize>().ok())
        .unwrap_or(0);
    available * 1024 / 2 / BYTES_PER_CONTAINER
}

/// Creates and starts a container; returns its ID, or what went wrong.
fn try_run(
    socket: &Path,
    name: &str,
    script: &str,
    network: &str,
    policy: &str,
) -> Result<String, String> {
    let (policy, retries) = policy.split_once(':').unwrap_or((policy, "0"));
    let body = json!({
        "Image": "busybox", "Cmd": ["sh", "-c", script], "StopTimeout": 0,
        "HostConfig": {
            "NetworkMode": network,
            "RestartPolicy": {"Name": policy, "MaximumRetryCount": retries.parse::<u32>().unwrap()},
        },
    });
    let path = format!("/containers/create?name={name}");
    let created = expect(socket, "POST", &path, &body.to_string(), 201)?;
    let id = created.json()["Id"].as_str().unwrap_or_default().to_owned();
    expect(socket, "POST", &format!("/containers/{id}/start"), "", 204)?;
    Ok(id)
}

fn run(daemon: &Daemon, name: &str, script: &str, network: &str, policy: &str) -> String {
    try_run(&daemon.socket(), name, script, network, policy).unwrap()
}

fn remove(daemon: &Daemon, name: &str) {
    let path = format!("/containers/{name}?force=1&v=1");
    expect(&daemon.socket(), "DELETE", &path, "", 204).unwrap();
}

/// Calls the API and returns the answer if it has this status.
fn expect(
    socket: &Path,
    method: &str,
    path: &str,
    body: &str,
    status: u16,
) -> Result<raw::Answer, String> {
    let answer = raw::call_at(socket, method, path, body)
        .map_err(|error| format!("{method} {path}: {error}"))?;
    if answer.status == status {
        return Ok(answer);
    }
    let said = String::from_utf8_lossy(&answer.body);
    Err(format!("{method} {path}: {} {said}", answer.status))
}

/// Runs `work` for each number on some threads.
fn spread(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= count {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

/// Runs `echo x` in a container and returns what came out of it.
fn exec(socket: &Path, container: &str) -> Result<Vec<u8>, String> {
    let body = json!({"Cmd": ["echo", "x"], "AttachStdout": true}).to_string();
    let path = format!("/containers/{container}/exec");
    let created = expect(socket, "POST", &path, &body, 201)?.json();
    let id = created["Id"].as_str().unwrap_or_default();
    let path = format!("/exec/{id}/start");
    Ok(expect(socket, "POST", &path, "{\"Detach\":false}", 200)?.body)
}

/// One call of a client; `turn` chooses which: ps, inspect, logs or exec.
fn one_call(socket: &Path, turn: usize, containers: usize) -> Result<(), String> {
    let container = format!("load-{}", turn * 7 % containers);
    let get = |path: String| expect(socket, "GET", &path, "", 200).map(drop);
    match turn % 4 {
        0 => get("/containers/json?all=1".to_owned()),
        1 => get(format!("/containers/{container}/json")),
        2 => get(format!("/containers/{container}/logs?stdout=1&tail=5")),
        _ => {
            let output = exec(socket, &container)?;
            if output.ends_with(b"x\n") {
                return Ok(());
            }
            Err(format!("exec in {container} gave {output:?}"))
        }
    }
}

/// Calls until `over`, each client with a rest after each call; hands what went wrong to `failed`.
fn clients_of<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    socket: &'scope Path,
    size: &'scope Size,
    over: &'scope AtomicBool,
    turns: &'scope AtomicUsize,
    failed: &'scope (impl Fn(String) + Sync),
) {
    for client in 0..size.clients {
        scope.spawn(move || {
            let share = client as f64 / size.clients as f64;
            std::thread::sleep(REST.mul_f64(share));
            while !over.load(Ordering::SeqCst) {
                let turn = turns.fetch_add(1, Ordering::SeqCst);
                if let Err(what) = one_call(socket, turn, size.containers) {
                    failed(what);
                }
                std::thread::sleep(REST);
            }
        });
    }
}

/// Creates, runs and removes a container.
fn churn(socket: &Path, name: &str) -> Result<(), String> {
    try_run(socket, name, "echo hello", "bridge", "no")?;
    let path = format!("/containers/{name}?force=1&v=1");
    expect(socket, "DELETE", &path, "", 204).map(drop)
}

/// A container whose shim is stopped where it is, so that whatever asks it waits.
struct Stuck {
    shim: rustix::process::Pid,
}

impl Stuck {
    /// Starts a container of the name `stuck` and stops its shim.
    fn start(daemon: &Daemon) -> Self {
        let id = run(daemon, "stuck", "exec sleep 100000", "none", "no");
        let path = daemon.path(&format!("run/containers/{id}/shim.json"));
        let state: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let pid = i32::try_from(state["shim_pid"].as_i64().unwrap()).unwrap();
        let shim = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(shim, rustix::process::Signal::STOP).unwrap();
        Self { shim }
    }
}

impl Drop for Stuck {
    /// Lets it go on, also when the test failed: nobody could remove it otherwise.
    fn drop(&mut self) {
        let _may_be_gone = rustix::process::kill_process(self.shim, rustix::process::Signal::CONT);
    }
}
