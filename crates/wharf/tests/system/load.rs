//! Many containers and clients at once, one of them stuck, and a daemon that is killed meanwhile:
//! reads never wait (DESIGN invariant 6), containers outlive the daemon (invariant 8).

use crate::harness::{Client, Daemon, eventually, skip};
use crate::raw;
use crate::traces::Traces;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Containers that run at once where memory allows.
const CONTAINERS: usize = 200;
/// Memory one container takes at most, its shim included.
const BYTES_PER_CONTAINER: usize = 8 << 20;
/// Clients at once, and how long each rests between two calls.
const CLIENTS: usize = 50;
const REST: Duration = Duration::from_millis(400);
/// How much slower a list may be under load than when idle: the 99th of 100 against the idle median.
const WORST_RATIO: f64 = 10.0;

/// Longest time of a list that may be the machine's fault; whoever waits for the stuck container
/// waits far longer.
const STUCK: Duration = Duration::from_secs(2);

/// Returns how many processes wanted a core in the last minute.
fn runnable() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    load.split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.0)
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn containers_that_fit() -> usize {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let available = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|text| text.trim().trim_end_matches(" kB").parse::<usize>().ok())
        .unwrap_or(0);
    let fits = available * 1024 / 2 / BYTES_PER_CONTAINER;
    number("WHARF_TEST_LOAD_CONTAINERS", CONTAINERS).min(fits)
}

/// Creates and starts a container; returns its ID.
fn run(daemon: &Daemon, name: &str, script: &str, network: &str, policy: &str) -> String {
    let body = json!({
        "Image": "busybox", "Cmd": ["sh", "-c", script], "StopTimeout": 0,
        "HostConfig": {"NetworkMode": network, "RestartPolicy": {"Name": policy}},
    });
    let path = format!("/containers/create?name={name}");
    let created = raw::call(daemon, "POST", &path, &body.to_string()).unwrap();
    let id = created.json()["Id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        created.status,
        201,
        "{}",
        String::from_utf8_lossy(&created.body)
    );
    let started = raw::call(daemon, "POST", &format!("/containers/{id}/start"), "").unwrap();
    assert_eq!(
        started.status,
        204,
        "{}",
        String::from_utf8_lossy(&started.body)
    );
    id
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

fn time_of_list(daemon: &Daemon) -> Duration {
    let begun = Instant::now();
    let answer = raw::call(daemon, "GET", "/containers/json?all=1", "").unwrap();
    assert_eq!(answer.status, 200);
    begun.elapsed()
}

fn exec(daemon: &Daemon, container: &str) -> Option<Vec<u8>> {
    let body = json!({"Cmd": ["echo", "x"], "AttachStdout": true}).to_string();
    let path = format!("/containers/{container}/exec");
    let created = raw::call(daemon, "POST", &path, &body).ok()?;
    let id = created.json()["Id"].as_str()?.to_owned();
    let path = format!("/exec/{id}/start");
    let answer = raw::call(daemon, "POST", &path, "{\"Detach\":false}").ok()?;
    Some(answer.body)
}

/// One call of a client; `turn` chooses which.
fn one_call(daemon: &Daemon, turn: usize, count: usize) {
    let container = format!("load-{}", turn * 7 % count);
    let get = |path: String| raw::call(daemon, "GET", &path, "").map(|answer| answer.status);
    let status = match turn % 4 {
        0 => get("/containers/json?all=1".to_owned()),
        1 => get(format!("/containers/{container}/json")),
        2 => get(format!("/containers/{container}/logs?stdout=1&tail=5")),
        _ => {
            let output = exec(daemon, &container).unwrap_or_default();
            assert!(
                output.ends_with(b"x\n"),
                "exec in {container} gave {output:?}"
            );
            Ok(200)
        }
    };
    assert_eq!(status.unwrap(), 200, "call {turn} on {container}");
}

/// Creates, runs and removes a container.
fn churn(daemon: &Daemon, name: &str) {
    run(daemon, name, "echo hello", "bridge", "no");
    let path = format!("/containers/{name}?force=1&v=1");
    let removed = raw::call(daemon, "DELETE", &path, "").unwrap();
    assert_eq!(
        removed.status,
        204,
        "{}",
        String::from_utf8_lossy(&removed.body)
    );
}

/// Stops the shim of a container where it is, so that whatever asks it waits.
fn stick(daemon: &Daemon, id: &str) -> rustix::process::Pid {
    let path = daemon.path(&format!("run/containers/{id}/shim.json"));
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let pid = i32::try_from(state["shim_pid"].as_i64().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    pid
}

#[test]
fn lists_stay_fast_under_load_and_nothing_is_left_over() {
    let count = containers_that_fit();
    let seconds = number("WHARF_TEST_LOAD_SECONDS", 15);
    let cores = std::thread::available_parallelism().unwrap().get() as f64;
    let others = runnable();
    let d = Daemon::with_busybox();
    churn(&d, "warm-up");
    let before = Traces::of(&d);
    spread(count, |number| {
        let network = if number % 10 == 0 { "bridge" } else { "none" };
        let script = "echo started; exec sleep 100000";
        run(&d, &format!("load-{number}"), script, network, "no");
    });
    let stuck = run(&d, "stuck", "exec sleep 100000", "none", "no");
    let mut idle: Vec<Duration> = (0..100).map(|_| time_of_list(&d)).collect();
    idle.sort();
    let idle_median = idle[idle.len() / 2];

    let shim = stick(&d, &stuck);
    let over = AtomicBool::new(false);
    let turns = AtomicUsize::new(0);
    let mut loaded = Vec::new();
    std::thread::scope(|scope| {
        // Both wait for the shim that does not answer, and so does whoever stops it.
        scope.spawn(|| exec(&d, "stuck"));
        scope.spawn(|| raw::call(&d, "POST", "/containers/stuck/stop?t=1", ""));
        for client in 0..CLIENTS {
            let (over, turns, d) = (&over, &turns, &d);
            scope.spawn(move || {
                std::thread::sleep(REST * u32::try_from(client).unwrap() / 50);
                while !over.load(Ordering::SeqCst) {
                    one_call(d, turns.fetch_add(1, Ordering::SeqCst), count);
                    std::thread::sleep(REST);
                }
            });
        }
        scope.spawn(|| {
            for round in 0.. {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                churn(&d, &format!("churn-{round}"));
            }
        });
        let until = Instant::now() + Duration::from_secs(seconds as u64);
        while Instant::now() < until {
            loaded.push(time_of_list(&d));
            std::thread::sleep(Duration::from_millis(10));
        }
        over.store(true, Ordering::SeqCst);
        rustix::process::kill_process(shim, rustix::process::Signal::CONT).unwrap();
    });
    loaded.sort();
    let p99 = loaded[loaded.len() * 99 / 100];
    let ratio = p99.as_secs_f64() / idle_median.as_secs_f64();
    println!(
        "{count} containers: list idle median {idle_median:?}, p99 {p99:?} under {} calls ({ratio:.1}x)",
        turns.load(Ordering::SeqCst)
    );
    assert!(p99 < STUCK, "lists waited for the stuck container: {p99:?}");
    if others > cores {
        skip(&format!(
            "ratio of list times ({ratio:.1}): {others:.0} other processes want the {cores} cores"
        ));
    } else {
        assert!(
            ratio <= WORST_RATIO,
            "p99 {p99:?} is {ratio:.1} times {idle_median:?}"
        );
    }

    spread(count, |number| {
        let path = format!("/containers/load-{number}?force=1&v=1");
        assert_eq!(raw::call(&d, "DELETE", &path, "").unwrap().status, 204);
    });
    let removed = raw::call(&d, "DELETE", "/containers/stuck?force=1", "").unwrap();
    assert_eq!(removed.status, 204);
    eventually("nothing is left over", || {
        let mut after = Traces::of(&d);
        // Threads and pools of the daemon may keep a few descriptors.
        let few = before.open_files + 40;
        after.open_files = if after.open_files <= few {
            before.open_files
        } else {
            after.open_files
        };
        let is_same = after == before;
        if !is_same {
            std::fs::write(d.path("left.txt"), format!("{before:#?}\n{after:#?}")).unwrap();
        }
        is_same
    });
}

/// The daemon is killed under load: no container stops, no log line is lost, exit codes and restart
/// policies stay right.
#[test]
fn a_daemon_killed_under_load_loses_nothing() {
    let rounds = number("WHARF_TEST_LOAD_KILLS", 5);
    let mut d = Daemon::with_busybox();
    let count_up = "i=0; while :; do i=$((i+1)); echo $i; usleep 20000; done";
    for number in 0..4 {
        run(&d, &format!("load-{number}"), count_up, "none", "no");
    }
    let restarting = "echo run; usleep 300000; exit 3";
    run(&d, "again", restarting, "none", "always");
    let pids: Vec<String> = (0..4).map(|number| pid_of(&d, number)).collect();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..rounds {
        let name = format!("ends-{round}");
        run(&d, &name, "usleep 400000; exit 7", "none", "no");
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let wait = Duration::from_micros(seed % 400_000);
        std::thread::scope(|scope| {
            let d = &d;
            for client in 0..6 {
                scope.spawn(move || {
                    for turn in 0..20 {
                        // The daemon dies in the middle of some of these.
                        let path = format!("/containers/load-{}/logs?stdout=1&tail=3", client % 4);
                        let _cut_off = raw::call(d, "GET", &path, "");
                        let _cut_off = exec(d, &format!("load-{}", turn % 4));
                    }
                });
            }
            std::thread::sleep(wait);
            d.kill_by_pid();
        });
        d.kill();
        if round % 2 == 1 {
            std::thread::sleep(Duration::from_millis(500));
        }
        d.launch();
        let now: Vec<String> = (0..4).map(|number| pid_of(&d, number)).collect();
        assert_eq!(now, pids, "round {round}: a container did not live on");
        let format = "{{.State.Status}} {{.State.ExitCode}}";
        eventually("the exit code is known", || {
            d.ok(Client::Wharf, &["inspect", "--format", format, &name]) == "exited 7"
        });
    }
    let runs = d.ok(Client::Wharf, &["logs", "again"]).lines().count();
    eventually("the restart policy still works", || {
        d.ok(Client::Wharf, &["logs", "again"]).lines().count() > runs
    });
    for number in 0..4 {
        let name = format!("load-{number}");
        d.ok(Client::Wharf, &["kill", &name]);
        let lines = d.ok(Client::Wharf, &["logs", &name]);
        let is_whole = lines
            .lines()
            .zip(1..)
            .all(|(line, expected)| line == format!("{expected}"));
        assert!(
            is_whole && lines.lines().count() > 10,
            "{name}: log lines are lost"
        );
    }
}

fn pid_of(daemon: &Daemon, number: usize) -> String {
    let name = format!("load-{number}");
    daemon.ok(
        Client::Wharf,
        &["inspect", "--format", "{{.State.Pid}}", &name],
    )
}
