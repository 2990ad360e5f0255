//! Limits, freezing, figures.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Fixture, can_run};
use wharf_runtime::{RuntimeError, Shim};

/// How long anything may take before it counts as hung; a shim that waits for a frozen process does so for a minute.
const LIMIT: Duration = Duration::from_secs(30);

fn resources(fixture: &mut Fixture, json: &str) {
    let mut resources: oci_spec::runtime::LinuxResources = serde_json::from_str(json).unwrap();
    resources.set_devices(Some(wharf_runtime::defaults::device_rules()));
    fixture.linux().set_resources(Some(resources));
}

#[tokio::test]
async fn memory_ends_a_container_that_takes_too_much() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell(
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; x=$(tail -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}",
    );
    resources(
        &mut fixture,
        r#"{"memory": {"limit": 16777216, "swap": 16777216}}"#,
    );
    let ran = fixture.run().await.unwrap();
    assert!(ran.status.oom_killed, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("16777216"), "{}", ran.stdout);
}

#[tokio::test]
async fn processes_are_limited() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell("for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait");
    resources(&mut fixture, r#"{"pids": {"limit": 4}}"#);
    let ran = fixture.run().await.unwrap();
    assert!(ran.stderr.contains("can't fork"), "{}", ran.stderr);
}

#[tokio::test]
async fn pause_update_figures() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell("while :; do echo tick; sleep 0.02; done");
    resources(
        &mut fixture,
        r#"{"memory": {"limit": 67108864}, "cpu": {"shares": 512}}"#,
    );
    let shim = fixture.launch().await.unwrap();
    shim.start().await.unwrap();
    let log = fixture.request.log.clone().unwrap().path;
    let size = || std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
    while size() < 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shim.pause().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = size();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(size(), before);
    shim.resume().await.unwrap();
    while size() == before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stats = shim.stats().await.unwrap();
    assert_eq!(stats.memory.limit_bytes, Some(67_108_864));
    assert!(stats.memory.usage_bytes > 0 && stats.cpu.total_ns > 0 && stats.pids.current > 0);
    let update = r#"{"memory": {"limit": 134217728, "swap": 268435456}, "pids": {"limit": 99}}"#;
    shim.update(&serde_json::from_str(update).unwrap())
        .await
        .unwrap();
    let stats = shim.stats().await.unwrap();
    assert_eq!(stats.memory.limit_bytes, Some(134_217_728));
    assert_eq!(stats.pids.limit, Some(99));
    // A paused container can be killed and released.
    shim.pause().await.unwrap();
    shim.signal(libc::SIGKILL, false).await.unwrap();
    shim.resume().await.unwrap();
    assert_eq!(shim.wait().await.unwrap().code, 137);
    shim.release().await.unwrap();
    common::assert_nothing_left(&fixture);
}

#[tokio::test]
async fn a_paused_container_is_released() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::new(&["sleep", "1000"]);
    let shim = fixture.launch().await.unwrap();
    shim.start().await.unwrap();
    shim.pause().await.unwrap();
    let refused = shim
        .exec(common::exec_request("e", &["true"]))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("paused"), "{refused}");
    tokio::time::timeout(Duration::from_secs(10), shim.release())
        .await
        .unwrap()
        .unwrap();
    common::assert_nothing_left(&fixture);
}

/// Freezes and thaws a container all the time while processes are executed in it: each runs or is refused, and the
/// shim answers whatever the container is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_race_with_pauses() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::new(&["sleep", "1000"]);
    let shim = fixture.launch().await.unwrap();
    shim.start().await.unwrap();
    let (ran, refused) = race(&shim, 150).await;
    assert_eq!(ran + refused, 150);
    // Nothing of those that were refused is left.
    let until = Instant::now() + LIMIT;
    while shim.processes().await.unwrap().len() > 1 {
        assert!(Instant::now() < until, "a refused process is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    shim.release().await.unwrap();
    common::assert_nothing_left(&fixture);
}

/// Executes so many processes beside a loop of pauses; returns how many ran and how many were refused.
async fn race(shim: &Shim, count: usize) -> (usize, usize) {
    let done = Arc::new(AtomicBool::new(false));
    let pauses = tokio::spawn({
        let (shim, done) = (shim.clone(), Arc::clone(&done));
        async move {
            let mut hold = 0;
            while !done.load(Ordering::Relaxed) {
                shim.pause().await.unwrap();
                tokio::time::sleep(Duration::from_micros(hold % 3000)).await;
                shim.resume().await.unwrap();
                // Another moment of the exec each time.
                tokio::time::sleep(Duration::from_micros(hold * 7 % 5000)).await;
                hold += 331;
            }
        }
    });
    let (mut ran, mut refused) = (0, 0);
    for number in 0..count {
        let id = format!("e{number}");
        let mut request = common::exec_request(&id, &["true"]);
        request.attach = None;
        let answer = tokio::time::timeout(LIMIT, shim.exec(request)).await;
        match answer.expect("the shim answers") {
            Ok(_) => {
                let ended = tokio::time::timeout(LIMIT, shim.wait_exec(&id)).await;
                assert_eq!(ended.expect("it ends").unwrap(), 0);
                ran += 1;
            }
            Err(RuntimeError::Paused) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    done.store(true, Ordering::Relaxed);
    pauses.await.unwrap();
    (ran, refused)
}

/// A container that stays paused: whether the freeze met a process that was being made or one that ran, the shim
/// answers while it lasts.
#[tokio::test]
async fn a_pause_that_lasts_is_told_at_once() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::new(&["sleep", "1000"]);
    let shim = fixture.launch().await.unwrap();
    shim.start().await.unwrap();
    let mut met = 0;
    for number in 0..40_u64 {
        let request = common::exec_request(&format!("e{number}"), &["sleep", "1000"]);
        let exec = tokio::spawn({
            let shim = shim.clone();
            async move { shim.exec(request).await.map(drop) }
        });
        tokio::time::sleep(Duration::from_micros(number * 200)).await;
        shim.pause().await.unwrap();
        // Paused all the while: the answer comes nevertheless, and others are served.
        let answer = tokio::time::timeout(LIMIT, exec).await;
        match answer.expect("the shim answers").unwrap() {
            Ok(()) => {}
            Err(RuntimeError::Paused) => met += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(shim.started().await.unwrap().is_some());
        shim.resume().await.unwrap();
    }
    assert!(met > 0, "no pause met a process that was being made");
    shim.release().await.unwrap();
    common::assert_nothing_left(&fixture);
}

#[tokio::test]
async fn devices_and_hard_limits() {
    if !can_run() {
        return;
    }
    let script = "mknod /tmp/mem c 1 1; head -c1 /tmp/mem > /dev/null || echo denied; head -c3 /dev/zero | wc -c; ulimit -n; ulimit -Hn; ls -l /dev/extra | cut -c1-10";
    let mut fixture = Fixture::shell(script);
    let limits = r#"[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]"#;
    fixture
        .process()
        .set_rlimits(Some(serde_json::from_str(limits).unwrap()));
    let devices =
        r#"[{"path": "/dev/extra", "type": "c", "major": 1, "minor": 3, "fileMode": 384}]"#;
    fixture
        .linux()
        .set_devices(Some(serde_json::from_str(devices).unwrap()));
    let ran = fixture.run().await.unwrap();
    assert_eq!(
        ran.stdout, "denied\n3\n100\n200\ncrw-------\n",
        "{}",
        ran.stderr
    );
    let mut fixture = Fixture::new(&["true"]);
    let limits = r#"[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 900000000}]"#;
    fixture
        .process()
        .set_rlimits(Some(serde_json::from_str(limits).unwrap()));
    let error = fixture.launch().await.unwrap_err().to_string();
    assert!(
        error.contains("RLIMIT_NOFILE: hard limit 900000000 is above"),
        "{error}"
    );
}

#[tokio::test]
async fn odd_group_paths_are_refused() {
    if !can_run() {
        return;
    }
    for path in ["relative", "/a/../../b", "/", "/a//b"] {
        let mut fixture = Fixture::new(&["true"]);
        fixture.request.cgroup_path = path.to_owned();
        assert!(fixture.launch().await.is_err(), "{path}");
    }
}
