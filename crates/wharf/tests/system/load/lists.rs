//! Lists stay fast while containers churn and one is stuck.

use super::{Size, Stuck, churn, clients_of, exec, expect, remove, run, spread};
use crate::harness::{Daemon, PATIENCE, skip};
use crate::raw;
use crate::traces::Traces;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How much slower a list may be under load than when idle: the 99th of 100 against the idle median.
const WORST_RATIO: f64 = 10.0;
/// Longest time of a list that may be the machine's fault; whoever waits for the stuck container
/// waits far longer.
const STUCK: Duration = Duration::from_secs(2);

/// Returns how many other processes want a core, on average over a second.
fn runnable_others() -> f64 {
    const SAMPLES: u32 = 20;
    let mut sum = 0.0;
    for _ in 0..SAMPLES {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap();
        let running = load
            .split([' ', '/'])
            .nth(3)
            .and_then(|text| text.parse::<f64>().ok());
        // Whoever reads it runs.
        sum += running.unwrap_or(1.0) - 1.0;
        std::thread::sleep(Duration::from_millis(50));
    }
    sum / f64::from(SAMPLES)
}

fn time_of_list(daemon: &Daemon) -> Duration {
    let begun = Instant::now();
    expect(&daemon.socket(), "GET", "/containers/json?all=1", "", 200).unwrap();
    begun.elapsed()
}

#[test]
fn lists_stay_fast_under_load_and_nothing_is_left_over() {
    let size = Size::from_environment();
    let cores = std::thread::available_parallelism().unwrap().get() as f64;
    let d = Daemon::with_busybox();
    let socket = d.socket();
    churn(&socket, "warm-up").unwrap();
    let before = Traces::of(&d);
    spread(size.containers, |number| {
        let network = if number % 10 == 0 { "bridge" } else { "none" };
        let script = "echo started; exec sleep 100000";
        run(&d, &format!("load-{number}"), script, network, "no");
    });
    let others = runnable_others();
    let mut idle: Vec<Duration> = (0..200).map(|_| time_of_list(&d)).collect();
    idle.sort();
    let idle_median = idle[idle.len() / 2];

    let stuck = Stuck::start(&d);
    let over = AtomicBool::new(false);
    let (turns, churned) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = |what: String| panic!("{what}");
    let mut loaded = Vec::new();
    std::thread::scope(|scope| {
        // Both wait for the shim that does not answer, and so does whoever stops it.
        scope.spawn(|| exec(&socket, "stuck"));
        scope.spawn(|| raw::call(&d, "POST", "/containers/stuck/stop?t=1", ""));
        clients_of(scope, &socket, &size, &over, &turns, &failed);
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let round = churned.fetch_add(1, Ordering::SeqCst);
                churn(&socket, &format!("churn-{round}")).unwrap();
            }
        });
        let until = Instant::now() + Duration::from_secs(size.seconds as u64);
        while Instant::now() < until {
            loaded.push(time_of_list(&d));
            std::thread::sleep(Duration::from_millis(10));
        }
        over.store(true, Ordering::SeqCst);
        drop(stuck);
    });
    loaded.sort();
    let p99 = loaded[loaded.len() * 99 / 100];
    let ratio = p99.as_secs_f64() / idle_median.as_secs_f64();
    println!(
        "{} containers, {} clients, {} s: list idle median {idle_median:?}, under {} calls and {} churned containers \
         median {:?}, p99 {p99:?} of {} ({ratio:.1}x)",
        size.containers,
        size.clients,
        size.seconds,
        turns.load(Ordering::SeqCst),
        churned.load(Ordering::SeqCst),
        loaded[loaded.len() / 2],
        loaded.len(),
    );
    assert!(p99 < STUCK, "lists waited for the stuck container: {p99:?}");
    if others > cores / 2.0 {
        skip(&format!(
            "ratio of list times ({ratio:.1}): {others:.1} other processes want the {cores} cores"
        ));
    } else {
        assert!(
            ratio <= WORST_RATIO,
            "p99 {p99:?} is {ratio:.1} times {idle_median:?}"
        );
    }

    spread(size.containers, |number| {
        remove(&d, &format!("load-{number}"))
    });
    remove(&d, "stuck");
    nothing_is_left(&d, &before);
}

/// Waits until the traces are those from before.
pub(super) fn nothing_is_left(d: &Daemon, before: &Traces) {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut after = Traces::of(d);
        // Threads and pools of the daemon may keep a few descriptors.
        if after.open_files <= before.open_files + 40 {
            after.open_files = before.open_files;
        }
        if after == *before {
            return;
        }
        assert!(
            Instant::now() < until,
            "this is left over:\nbefore {before:#?}\nafter {after:#?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
