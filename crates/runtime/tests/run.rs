//! Containers from launch to release.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

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
    assert_eq!(lines, ["err\n", "out\n", "part\n"]);
}
