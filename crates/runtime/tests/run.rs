//! Containers from launch to release.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

mod common;

use std::time::Duration;

use common::{Fixture, can_run, log_lines};

#[tokio::test]
async fn exit_codes() {
    if !can_run() {
        return;
    }
    for (script, code) in [
        ("true", 0),
        ("false", 1),
        ("exit 42", 42),
        ("kill -9 $$", 137),
    ] {
        let fixture = Fixture::new(&["sh", "-c", script]);
        let ran = fixture.run().await.unwrap();
        // Process 1 of a pid namespace ignores signals of its own.
        let code = if script.starts_with("kill") { 0 } else { code };
        assert_eq!(ran.status.code, code, "{script}: {}", ran.stderr);
        assert!(!ran.status.oom_killed);
        assert!(!fixture.request.state_dir.exists());
    }
}

#[tokio::test]
async fn output_is_framed_and_logged() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::shell("echo out; echo err >&2; printf part");
    let ran = fixture.run().await.unwrap();
    assert_eq!(ran.stdout, "out\npart");
    assert_eq!(ran.stderr, "err\n");
    let log = std::fs::metadata(&fixture.request.log.as_ref().unwrap().path).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&log);
    assert_eq!(mode & 0o7777, 0o640);
    let mut lines = log_lines(&fixture.request.log.as_ref().unwrap().path);
    lines.sort();
    assert_eq!(lines, ["err\n", "out\n", "part"]);
}

#[tokio::test]
async fn rotated_logs_are_compressed() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell("yes 0123456789 | head -n 5000");
    let log = fixture.request.log.as_mut().unwrap();
    log.max_size_bytes = Some(50_000);
    log.max_files = 3;
    log.compress = true;
    let path = log.path.clone();
    let ran = fixture.run().await.unwrap();
    assert_eq!(ran.stdout.lines().count(), 5000);
    assert!(log_lines(&path).len() > 1);
    // They are compressed by a process beside the container, which may take its time.
    let compressed =
        |number: u32| std::path::Path::new(&format!("{}.{number}.gz", path.display())).exists();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !(compressed(1) && compressed(2)) && std::time::Instant::now() < patience {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for number in 1..3 {
        let rotated = format!("{}.{number}.gz", path.display());
        let text = std::process::Command::new("gzip")
            .args(["-dc", &rotated])
            .output()
            .unwrap();
        assert!(text.status.success(), "{rotated}");
        assert!(
            (50_000..50_100).contains(&text.stdout.len()),
            "{rotated}: {}",
            text.stdout.len()
        );
        assert!(!std::path::Path::new(rotated.trim_end_matches(".gz")).exists());
    }
    assert!(!std::path::Path::new(&format!("{}.3.gz", path.display())).exists());
    let log = fixture.request.log.as_mut().unwrap();
    log.max_files = 1;
    assert!(fixture.launch().await.is_err());
    common::assert_nothing_left(&fixture);
}

/// A start can be given up at any moment: what is left is in the way of no other start, and a removal finds it.
#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    if !can_run() {
        return;
    }
    for round in 0..24 {
        let fixture = Fixture::shell("echo again");
        let moment = Duration::from_micros(round * 400);
        // Whether it came so far or not.
        let _given_up = tokio::time::timeout(moment, fixture.launch()).await;
        assert_eq!(fixture.output().await, "again\n", "after {moment:?}");
        let _given_up = tokio::time::timeout(moment, fixture.launch()).await;
        let (state_dir, group) = (&fixture.request.state_dir, &fixture.request.cgroup_path);
        wharf_runtime::remove_remains(state_dir, group).unwrap();
        assert!(!state_dir.exists());
        common::assert_nothing_left(&fixture);
    }
}

/// What a shim may have mapped while it rests, in KiB: well below what setting a container up needs.
const RESTING_KIB: u64 = 2048;

#[tokio::test]
async fn a_shim_at_rest_gives_memory_back_and_works_on() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::shell("sleep 1000");
    let shim = fixture.launch().await.unwrap();
    shim.start().await.unwrap();
    let state = std::fs::read(fixture.request.state_dir.join("shim.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let pid = state["shim_pid"].as_u64().unwrap();
    let most_kib = size_kib(&format!("/proc/{pid}/status"), "VmHWM:");
    assert!(most_kib > 2 * RESTING_KIB, "{most_kib}");
    for round in 0..3 {
        let patience = std::time::Instant::now() + Duration::from_secs(20);
        while resident_kib(pid) > RESTING_KIB {
            assert!(
                std::time::Instant::now() < patience,
                "{} KiB are mapped",
                resident_kib(pid)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let request = common::exec_request(&format!("e{round}"), &["echo", "awake"]);
        let (_, stream) = shim.exec(request).await.unwrap();
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream.unwrap(), &mut bytes)
            .await
            .unwrap();
        assert_eq!(common::unframe(&bytes).0, "awake\n");
    }
    shim.release().await.unwrap();
    common::assert_nothing_left(&fixture);
}

/// Returns the resident set size of a process.
fn resident_kib(pid: u64) -> u64 {
    size_kib(&format!("/proc/{pid}/smaps_rollup"), "Rss:")
}

fn size_kib(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap()
        .trim()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}
