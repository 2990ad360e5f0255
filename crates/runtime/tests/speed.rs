//! Figures, printed: `cargo test --release -p wharf-runtime --test speed -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

mod common;

use std::time::{Duration, Instant};

use common::{Fixture, can_run, exec_request};

fn report(name: &str, mut times: Vec<[Duration; 3]>, labels: [&str; 3]) {
    let mut line = format!("{name}:");
    for (index, label) in labels.iter().enumerate() {
        times.sort_by_key(|time| time[index]);
        let at = |position: usize| times[position][index].as_secs_f64() * 1000.0;
        line += &format!(
            " {label} {:.2} ms (min {:.2}, max {:.2})",
            at(times.len() / 2),
            at(0),
            at(times.len() - 1)
        );
    }
    eprintln!("{line}");
}

async fn measure(
    name: &str,
    count: usize,
    gap: Duration,
    warm: bool,
    change: impl Fn(&mut Fixture),
) {
    let mut times = Vec::new();
    for _ in 0..count {
        let mut fixture = Fixture::new(&["/bin/true"]);
        let names = wharf_runtime::capabilities::default_names();
        fixture
            .linux()
            .set_seccomp(Some(wharf_runtime::defaults::seccomp_profile(&names)));
        change(&mut fixture);
        tokio::time::sleep(gap).await;
        if warm {
            wharf_runtime::warm_cgroups();
            tokio::time::sleep(Duration::from_millis(12)).await;
        }
        let begin = Instant::now();
        let shim = fixture.launch().await.unwrap();
        let created = begin.elapsed();
        shim.start().await.unwrap();
        let started = begin.elapsed();
        shim.wait().await.unwrap();
        let waited = begin.elapsed();
        shim.release().await.unwrap();
        times.push([created, started, waited]);
    }
    report(name, times, ["created", "started", "waited"]);
}

#[tokio::test]
#[ignore = "prints figures, proves nothing"]
async fn create_start_wait() {
    if !can_run() {
        return;
    }
    measure("first", 3, Duration::ZERO, false, |_| {}).await;
    measure("back to back", 50, Duration::ZERO, false, |_| {}).await;
    measure(
        "no network namespace",
        50,
        Duration::ZERO,
        false,
        |fixture| {
            let mut namespaces = wharf_runtime::defaults::namespaces(false);
            namespaces.retain(|kind| kind.typ() != oci_spec::runtime::LinuxNamespaceType::Network);
            fixture
                .linux()
                .set_namespaces(Some(namespaces))
                .set_sysctl(None);
        },
    )
    .await;
    measure(
        "after 0.5 s of idling",
        12,
        Duration::from_millis(500),
        false,
        |_| {},
    )
    .await;
    measure(
        "after 0.5 s, warmed 12 ms before",
        12,
        Duration::from_millis(500),
        true,
        |_| {},
    )
    .await;
    let begin = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let fixture = Fixture::new(&["/bin/true"]);
        tasks.push(tokio::spawn(async move {
            let begin = Instant::now();
            let shim = fixture.launch().await.unwrap();
            let created = begin.elapsed();
            shim.start().await.unwrap();
            let started = begin.elapsed();
            shim.wait().await.unwrap();
            let waited = begin.elapsed();
            shim.release().await.unwrap();
            [created, started, waited]
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.push(task.await.unwrap());
    }
    report("20 at once", times, ["created", "started", "waited"]);
    eprintln!(
        "20 at once, all: {:.1} ms",
        begin.elapsed().as_secs_f64() * 1000.0
    );
    let fixture = Fixture::new(&["sleep", "1000"]);
    let shim = fixture.launch().await.unwrap();
    shim.start().await.unwrap();
    let mut times = Vec::new();
    for number in 0..50 {
        let id = format!("e{number}");
        let begin = Instant::now();
        let (_, stream) = shim.exec(exec_request(&id, &["/bin/true"])).await.unwrap();
        let started = begin.elapsed();
        shim.wait_exec(&id).await.unwrap();
        times.push([started, begin.elapsed(), begin.elapsed()]);
        drop(stream);
    }
    report("exec", times, ["started", "waited", "waited"]);
    let state = std::fs::read_to_string(fixture.request.state_dir.join("shim.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let shim_pid = state["shim_pid"].as_u64().unwrap();
    let memory = std::fs::read_to_string(format!("/proc/{shim_pid}/smaps_rollup")).unwrap();
    for line in memory
        .lines()
        .filter(|line| line.starts_with("Pss:") || line.starts_with("Private"))
    {
        eprintln!("shim {line}");
    }
    shim.release().await.unwrap();
}
