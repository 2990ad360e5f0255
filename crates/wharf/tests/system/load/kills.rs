//! The daemon is killed under load: no container stops, no log line is lost, exit codes and restart
//! policies stay right, and nothing is left over.

use super::lists::nothing_is_left;
use super::{Size, Stuck, churn, clients_of, expect, remove, run, spread, try_run};
use crate::harness::{Client, Daemon, eventually};
use crate::random::Random;
use crate::raw;
use crate::traces::Traces;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// The latest moment of a kill after the daemon has begun to serve.
const LATEST_KILL_MS: u64 = 900;
/// Every so many of the long-lived containers, one counts aloud, and says at its end how far it came.
const COUNTERS: usize = 5;
const COUNT: &str =
    "trap 'echo last $i; exit 9' TERM; i=0; while :; do i=$((i+1)); echo $i; usleep 50000; done";
/// Long-lived containers that are inspected in each round.
const INSPECTED: usize = 10;
/// Short-lived containers of each round.
const SHORT: usize = 3;

#[test]
fn a_daemon_killed_under_load_loses_nothing() {
    let size = Size::from_environment();
    let mut random = Random::from_environment("killed under load");
    let mut d = Daemon::with_busybox();
    let socket = d.socket();
    churn(&socket, "warm-up").unwrap();
    let before = Traces::of(&d);
    spread(size.containers, |number| {
        let network = if number % 10 == 0 { "bridge" } else { "none" };
        let script = if number % COUNTERS == 0 {
            COUNT
        } else {
            "exec sleep 100000"
        };
        run(&d, &format!("load-{number}"), script, network, "no");
    });
    run(
        &d,
        "again",
        "echo run; usleep 300000; exit 3",
        "none",
        "always",
    );
    run(
        &d,
        "phoenix",
        "echo run; exec sleep 100000",
        "bridge",
        "unless-stopped",
    );
    run(
        &d,
        "stopped",
        "echo run; exec sleep 100000",
        "none",
        "unless-stopped",
    );
    expect(&socket, "POST", "/containers/stopped/stop?t=0", "", 204).unwrap();
    let lives: Vec<Life> = (0..size.containers)
        .map(|number| Life::of(&socket, number))
        .collect();
    let stuck = Stuck::start(&d);

    let over = AtomicBool::new(false);
    let (turns, cut_off, churned) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let reasons = Mutex::new(BTreeMap::<String, usize>::new());
    let failed = |what: String| {
        cut_off.fetch_add(1, Ordering::SeqCst);
        *reasons.lock().unwrap().entry(reason_of(&what)).or_default() += 1;
    };
    std::thread::scope(|scope| {
        // Whatever happens to the rounds, the clients must end.
        let guard = Ends(&over);
        clients_of(scope, &socket, &size, &over, &turns, &failed);
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let name = format!("churn-{}", churned.fetch_add(1, Ordering::SeqCst));
                if churn(&socket, &name).is_err() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        for round in 0..size.kills {
            one_round(&mut d, round, &mut random, &lives);
        }
        for (number, life) in lives.iter().enumerate() {
            assert_eq!(Life::of(&socket, number), *life, "load-{number}");
        }
        drop(guard);
    });
    drop(stuck);
    println!(
        "{} containers, {} clients, {} kills: {} calls, {} of them cut off, {} containers churned",
        size.containers,
        size.clients,
        size.kills,
        turns.load(Ordering::SeqCst),
        cut_off.load(Ordering::SeqCst),
        churned.load(Ordering::SeqCst),
    );
    println!("why calls failed: {:#?}", reasons.into_inner().unwrap());
    finish(&d, &size, &before);
}

/// Returns what went wrong without the numbers that differ from call to call.
fn reason_of(what: &str) -> String {
    let words = what.split(' ').map(|word| {
        let is_name = word.contains("load-") || (word.len() >= 12 && word.is_ascii());
        if is_name { "…" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Ends the clients when the test leaves its rounds, also by a panic.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Which process a long-lived container is.
#[derive(Debug, PartialEq, Eq)]
struct Life {
    state: String,
    pid: i64,
    started_at: String,
    restarts: i64,
    /// When the kernel started it: process numbers are used again.
    kernel_time: String,
}

impl Life {
    fn of(socket: &Path, number: usize) -> Self {
        let path = format!("/containers/load-{number}/json");
        let found = expect(socket, "GET", &path, "", 200).unwrap().json();
        let pid = found["State"]["Pid"].as_i64().unwrap();
        Self {
            state: found["State"]["Status"].as_str().unwrap().to_owned(),
            pid,
            started_at: found["State"]["StartedAt"].as_str().unwrap().to_owned(),
            restarts: found["RestartCount"].as_i64().unwrap(),
            kernel_time: kernel_time(pid),
        }
    }
}

/// Checks that every process is the one it was, that the daemon lists it as running, and of some
/// containers all that it knows.
fn all_live_on(socket: &Path, lives: &[Life], random: &mut Random, moment: &str) {
    let listed = expect(socket, "GET", "/containers/json", "", 200).unwrap();
    let listed = listed.json();
    let running: BTreeSet<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|container| container["Names"][0].as_str())
        .collect();
    for (number, life) in lives.iter().enumerate() {
        assert_eq!(
            kernel_time(life.pid),
            life.kernel_time,
            "load-{number}; {moment}"
        );
        let name = format!("/load-{number}");
        assert!(
            running.contains(name.as_str()),
            "{name} is not listed; {moment}"
        );
    }
    for _ in 0..INSPECTED {
        let number = random.below(lives.len() as u64) as usize;
        assert_eq!(
            Life::of(socket, number),
            lives[number],
            "load-{number}; {moment}"
        );
    }
}

/// Returns when the kernel started a process.
fn kernel_time(pid: i64) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit(") ").next();
    let ticks = rest.and_then(|rest| rest.split(' ').nth(19));
    ticks.unwrap_or("gone").to_owned()
}

/// A container that ends by itself, and what must come of it.
struct Short {
    name: String,
    policy: &'static str,
    script: String,
    code: i64,
    lines: Vec<&'static str>,
    restarts: i64,
}

impl Short {
    fn new(round: usize, number: usize, random: &mut Random) -> Self {
        let name = format!("short-{round}-{number}");
        let code = i64::try_from(1 + random.below(100)).unwrap();
        let micros = random.below(600_000);
        if number == 0 {
            return Self {
                name,
                policy: "on-failure:2",
                script: format!("echo run; usleep {}; exit {code}", micros / 4),
                code,
                lines: vec!["run"; 3],
                restarts: 2,
            };
        }
        Self {
            name,
            policy: "no",
            script: format!("echo first; usleep {micros}; echo last; exit {code}"),
            code,
            lines: vec!["first", "last"],
            restarts: 0,
        }
    }

    /// Checks what came of it; `was_reported` says that its start was answered.
    fn check(&self, d: &Daemon, was_reported: bool, moment: &str) {
        let path = format!("/containers/{}/json", self.name);
        let found = raw::call(d, "GET", &path, "").unwrap();
        if found.status == 404 && !was_reported {
            return;
        }
        assert_eq!(found.status, 200, "{} is lost; {moment}", self.name);
        if found.json()["State"]["Status"] == "created" && !was_reported {
            remove(d, &self.name);
            return;
        }
        let (mut state, mut restarts) = (found.json()["State"].clone(), 0);
        eventually(&format!("the end of {}; {moment}", self.name), || {
            let found = raw::call(d, "GET", &path, "").unwrap().json();
            state = found["State"].clone();
            restarts = found["RestartCount"].as_i64().unwrap();
            state["Status"] == "exited"
        });
        assert_eq!(
            state["ExitCode"], self.code,
            "{}: {state}; {moment}",
            self.name
        );
        assert_eq!(restarts, self.restarts, "{}: {state}; {moment}", self.name);
        let lines = d.ok(Client::Wharf, &["logs", &self.name]);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines, self.lines, "{}; {moment}", self.name);
        remove(d, &self.name);
    }
}

/// Starts short-lived containers, kills the daemon meanwhile, starts it again and looks at everything.
fn one_round(d: &mut Daemon, round: usize, random: &mut Random, lives: &[Life]) {
    let short: Vec<Short> = (0..SHORT)
        .map(|number| Short::new(round, number, random))
        .collect();
    let wait = Duration::from_millis(random.below(LATEST_KILL_MS));
    let moment = format!(
        "WHARF_TEST_SEED={}, round {round}, killed after {wait:?}",
        random.seed()
    );
    let socket = d.socket();
    let phoenix = state_of(d, "phoenix")["Pid"].as_i64();
    let killed = phoenix.filter(|pid| *pid != 0 && round % 10 == 5);
    let reported: Vec<bool> = std::thread::scope(|scope| {
        let started: Vec<_> = short
            .iter()
            .map(|short| {
                let socket = &socket;
                scope.spawn(move || {
                    try_run(socket, &short.name, &short.script, "none", short.policy).is_ok()
                })
            })
            .collect();
        std::thread::sleep(wait);
        d.kill_by_pid();
        started
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    d.kill();
    if let Some(pid) = killed {
        kill_process(pid);
    }
    if random.below(3) == 0 {
        // What ends now ends unseen.
        std::thread::sleep(Duration::from_millis(random.below(800)));
    }
    d.launch();
    all_live_on(&socket, lives, random, &moment);
    for (short, was_reported) in short.iter().zip(reported) {
        short.check(d, was_reported, &moment);
    }
    if let Some(killed) = killed {
        eventually(
            &format!("the container that was killed runs again; {moment}"),
            || {
                let state = state_of(d, "phoenix");
                state["Status"] == "running" && state["Pid"] != killed
            },
        );
    }
    let state = state_of(d, "stopped");
    assert_eq!(
        state["Status"], "exited",
        "a stopped container was started; {moment}"
    );
}

fn state_of(d: &Daemon, name: &str) -> serde_json::Value {
    let path = format!("/containers/{name}/json");
    raw::call(d, "GET", &path, "").unwrap().json()["State"].clone()
}

/// Kills a container's process, while no daemon is there to see it.
fn kill_process(pid: i64) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Looks at the logs of all that counted, and at what is left when all are removed.
fn finish(d: &Daemon, size: &Size, before: &Traces) {
    eventually("each run of a restarted container is in its log", || {
        let found = raw::call(d, "GET", "/containers/again/json", "").unwrap();
        let found = found.json();
        // A restart counts from the exit on.
        let runs = found["RestartCount"].as_u64().unwrap()
            + u64::from(found["State"]["Status"] == "running");
        d.ok(Client::Wharf, "logs again").lines().count() as u64 == runs
    });
    let state = state_of(d, "again");
    assert!(
        state["Running"] == true || state["Restarting"] == true,
        "{state}"
    );
    for number in (0..size.containers).step_by(COUNTERS) {
        let name = format!("load-{number}");
        d.ok(Client::Wharf, &["stop", "-t", "20", &name]);
        assert_eq!(state_of(d, &name)["ExitCode"], 9, "{name}");
        let said = d.ok(Client::Wharf, &["logs", &name]);
        let mut lines: Vec<&str> = said.lines().collect();
        let last = lines.pop().and_then(|line| line.strip_prefix("last "));
        assert_eq!(last, Some(lines.len().to_string().as_str()), "{name}");
        let is_whole = lines
            .iter()
            .zip(1..)
            .all(|(line, expected)| *line == format!("{expected}"));
        assert!(is_whole && lines.len() > 10, "{name}: log lines are lost");
    }
    let containers = d.ok(Client::Wharf, "ps -aq");
    let containers: Vec<&str> = containers.lines().collect();
    spread(containers.len(), |number| remove(d, containers[number]));
    nothing_is_left(d, before);
}
