//! Attached clients, terminals, exec, input.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

mod common;

use std::time::Duration;

use common::{Fixture, can_run, exec_request, log_lines, unframe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use wharf_runtime::{AttachRequest, RuntimeError, Shim, Stdio};

const ALL: AttachRequest = AttachRequest {
    stdin: true,
    stdout: true,
    stderr: true,
};

async fn read_all(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .unwrap()
        .unwrap();
    bytes
}

async fn read_until(stream: &mut UnixStream, text: &str) -> String {
    let mut found = String::new();
    let mut buffer = [0; 4096];
    while !found.contains(text) {
        let read = stream.read(&mut buffer);
        let count = tokio::time::timeout(Duration::from_secs(10), read)
            .await
            .unwrap()
            .unwrap();
        assert!(count > 0, "ended after {found:?}");
        found.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    found
}

#[tokio::test]
async fn input_flows_and_ends() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::new(&["sh", "-c", "wc -c; echo end"]);
    fixture.request.stdio = Stdio {
        open_stdin: true,
        stdin_once: true,
        ..Stdio::default()
    };
    let shim = fixture.launch().await.unwrap();
    let mut stream = shim.attach(ALL).await.unwrap();
    shim.start().await.unwrap();
    let block = vec![b'x'; 1 << 20];
    stream.write_all(&block).await.unwrap();
    stream.shutdown().await.unwrap();
    let (stdout, _) = unframe(&read_all(&mut stream).await);
    assert_eq!(stdout, "1048576\nend\n");
    assert_eq!(shim.wait().await.unwrap().code, 0);
    shim.release().await.unwrap();
}

#[tokio::test]
async fn much_output_to_several_clients_is_complete() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::shell("yes 0123456789 | head -n 200000");
    let shim = fixture.launch().await.unwrap();
    let mut first = shim.attach(ALL).await.unwrap();
    let mut second = shim.attach(ALL).await.unwrap();
    shim.start().await.unwrap();
    let both = tokio::join!(read_all(&mut first), read_all(&mut second));
    for bytes in [both.0, both.1] {
        assert_eq!(unframe(&bytes).0.len(), 2_200_000);
    }
    shim.wait().await.unwrap();
    assert_eq!(
        log_lines(&fixture.request.log.as_ref().unwrap().path).len(),
        200_000
    );
    shim.release().await.unwrap();
}

#[tokio::test]
async fn terminals() {
    if !can_run() {
        return;
    }
    let script = "tty; stty size; trap 'stty size; exit 3' WINCH; ls -l /dev/console | cut -c1; \
        echo console > /dev/console; echo ready; while :; do sleep 0.05; done";
    let mut fixture = Fixture::shell(script);
    fixture.request.stdio = Stdio {
        tty: true,
        open_stdin: true,
        stdin_once: true,
        console_size: Some((24, 80)),
    };
    let shim = fixture.launch().await.unwrap();
    let mut stream = shim.attach(ALL).await.unwrap();
    shim.start().await.unwrap();
    let text = read_until(&mut stream, "ready").await;
    assert!(text.contains("/dev/pts/0\r\n24 80\r\n"), "{text}");
    assert!(text.contains("console\r\n"), "{text}");
    shim.resize(None, 50, 132).await.unwrap();
    let rest = read_all(&mut stream).await;
    assert!(String::from_utf8_lossy(&rest).contains("50 132"));
    assert_eq!(shim.wait().await.unwrap().code, 3);
    shim.release().await.unwrap();
}

async fn sleeping(fixture: &Fixture) -> Shim {
    let shim = fixture.launch().await.unwrap();
    shim.start().await.unwrap();
    shim
}

#[tokio::test]
async fn exec_runs_beside() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::new(&["sleep", "1000"]);
    let shim = sleeping(&fixture).await;
    let request = exec_request(
        "one",
        &[
            "sh",
            "-c",
            "echo $$; cat /proc/1/cmdline; grep CapBnd /proc/self/status; hostname; cat /proc/self/cgroup | grep pids; exit 7",
        ],
    );
    let (started, stream) = shim.exec(request).await.unwrap();
    assert!(started.pid > 1);
    let (stdout, stderr) = unframe(&read_all(&mut stream.unwrap()).await);
    assert!(stdout.contains("sleep\u{0}1000"), "{stdout}{stderr}");
    assert!(stdout.contains("00000000a80425fb"), "{stdout}");
    assert!(stdout.contains("\nbox\n"), "{stdout}");
    assert!(stdout.contains(&fixture.id), "{stdout}");
    assert_eq!(shim.wait_exec("one").await.unwrap(), 7);
    // Input to an exec, and its end.
    let mut request = exec_request("two", &["cat"]);
    request.stdio.open_stdin = true;
    request.attach = Some(ALL);
    let (_, stream) = shim.exec(request).await.unwrap();
    let mut stream = stream.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(unframe(&read_all(&mut stream).await).0, "hello");
    assert_eq!(shim.wait_exec("two").await.unwrap(), 0);
    // A terminal of its own.
    let mut request = exec_request("three", &["sh", "-c", "tty; stty size"]);
    request.stdio = Stdio {
        tty: true,
        console_size: Some((10, 20)),
        ..Stdio::default()
    };
    let (_, stream) = shim.exec(request).await.unwrap();
    let text = read_all(&mut stream.unwrap()).await;
    assert_eq!(String::from_utf8_lossy(&text), "/dev/pts/0\r\n10 20\r\n");
    let error = shim
        .exec(exec_request("four", &["nope"]))
        .await
        .unwrap_err();
    let text = "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": executable file not found in $PATH";
    assert_eq!(error.to_string(), text);
    assert!(matches!(
        shim.wait_exec("five").await,
        Err(RuntimeError::NoSuchExec { .. })
    ));
    assert_eq!(shim.processes().await.unwrap(), [shim.pid()]);
    // Execs end with the container.
    shim.exec(exec_request("six", &["sleep", "1000"]))
        .await
        .unwrap();
    assert_eq!(shim.processes().await.unwrap().len(), 2);
    shim.signal(libc::SIGKILL, false).await.unwrap();
    assert_eq!(shim.wait().await.unwrap().code, 137);
    assert_eq!(shim.wait_exec("six").await.unwrap(), 137);
    shim.release().await.unwrap();
    common::assert_nothing_left(&fixture);
}

#[tokio::test]
async fn signals_and_the_small_init() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell(
        "trap 'exit 5' TERM; echo pid $$; (sleep 0.1 &) ; while :; do sleep 0.05; done",
    );
    fixture.request.init = true;
    let shim = fixture.launch().await.unwrap();
    let mut stream = shim.attach(ALL).await.unwrap();
    shim.start().await.unwrap();
    let text = read_until(&mut stream, "pid ").await;
    assert!(text.contains("pid 2"), "{text}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let request = exec_request("ps", &["ps", "-o", "pid,stat,comm"]);
    let (_, output) = shim.exec(request).await.unwrap();
    let (listing, _) = unframe(&read_all(&mut output.unwrap()).await);
    assert!(listing.contains("wharf-init"), "{listing}");
    assert!(!listing.contains(" Z"), "{listing}");
    shim.signal(libc::SIGTERM, false).await.unwrap();
    assert_eq!(shim.wait().await.unwrap().code, 5);
    shim.release().await.unwrap();
    let mut fixture =
        Fixture::shell("tty; stty size; ps -o pid,pgid,tpgid,comm 2>/dev/null; exit 6");
    fixture.request.init = true;
    fixture.request.stdio.tty = true;
    fixture.request.stdio.console_size = Some((7, 8));
    let ran = fixture.run().await.unwrap();
    assert_eq!(ran.status.code, 6, "{}", ran.stdout);
    assert!(
        ran.stdout.contains("/dev/pts/0\r\n7 8\r\n"),
        "{}",
        ran.stdout
    );
    let mut fixture = Fixture::new(&["nope"]);
    fixture.request.init = true;
    let error = fixture.run().await.err().unwrap().to_string();
    assert!(error.contains("executable file not found"), "{error}");
}

#[tokio::test]
async fn a_client_that_goes_or_does_not_read_harms_nobody() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::shell("yes | head -c 3000000; sleep 0.2; echo done");
    let shim = fixture.launch().await.unwrap();
    let stuck = shim.attach(ALL).await.unwrap();
    shim.start().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(stuck);
    let status = tokio::time::timeout(Duration::from_secs(20), shim.wait())
        .await
        .unwrap();
    assert_eq!(status.unwrap().code, 0);
    let lines = log_lines(&fixture.request.log.as_ref().unwrap().path);
    assert_eq!(lines.len(), 1_500_001);
    assert_eq!(lines.last().unwrap(), "done\n");
    shim.release().await.unwrap();
}

#[tokio::test]
async fn reconnecting_after_the_client_went_away() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::shell("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done; exit 9");
    drop(sleeping(&fixture).await);
    tokio::time::sleep(Duration::from_millis(250)).await;
    let shim = Shim::connect(&fixture.request.state_dir).await.unwrap();
    assert_eq!(shim.wait().await.unwrap().code, 9);
    assert_eq!(
        log_lines(&fixture.request.log.as_ref().unwrap().path).len(),
        8
    );
    // And once more when even the shim is gone.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let shim = Shim::connect(&fixture.request.state_dir).await.unwrap();
    assert_eq!(shim.wait().await.unwrap().code, 9);
    shim.release().await.unwrap();
    common::assert_nothing_left(&fixture);
    let lost = Shim::connect(&fixture.request.state_dir).await;
    assert!(matches!(lost, Err(RuntimeError::ShimLost { .. })));
}

#[tokio::test]
async fn stop_on_disconnect_and_a_killed_shim() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    fixture.request.stop_on_disconnect = true;
    let shim = sleeping(&fixture).await;
    let pid = shim.pid();
    drop(shim);
    common::assert_ends(pid).await;
    let shim = Shim::connect(&fixture.request.state_dir).await.unwrap();
    assert_eq!(shim.wait().await.unwrap().code, 137);
    shim.release().await.unwrap();
    // The container does not outlive its shim.
    let fixture = Fixture::new(&["sleep", "1000"]);
    let shim = sleeping(&fixture).await;
    let state = std::fs::read_to_string(fixture.request.state_dir.join("shim.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    // SAFETY: plain system call on this test's own shim.
    unsafe { libc::kill(state["shim_pid"].as_i64().unwrap() as i32, libc::SIGKILL) };
    common::assert_ends(shim.pid()).await;
    assert!(matches!(
        shim.wait().await,
        Err(RuntimeError::ShimLost { .. })
    ));
    let problems = wharf_runtime::sweep(fixture.directory.path(), "/wharf-test-none", &[]);
    assert!(problems.is_empty(), "{problems:?}");
    common::assert_nothing_left(&fixture);
}

/// Returns the process that writes a container's log, a child of its shim, as soon as it has its name.
async fn log_writer(fixture: &Fixture) -> i32 {
    let state = fixture.request.state_dir.join("shim.json");
    let state: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(state).unwrap()).unwrap();
    let shim = state["shim_pid"].as_u64().unwrap();
    let is_writer = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains("(wharf-log)") && stat.contains(&format!(" {shim} "))
    };
    for _ in 0..1000 {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        if let Some(writer) = pids.find(is_writer) {
            return writer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no process writes the log of shim {shim}");
}

#[tokio::test]
async fn a_log_that_does_not_block_loses_lines_and_holds_nobody_up() {
    if !can_run() {
        return;
    }
    let count = 20_000;
    let line = "x".repeat(90);
    let mut fixture = Fixture::shell(&format!(
        "i=0; while [ $i -lt {count} ]; do echo $i {line}; i=$((i+1)); done; echo > /flag; sleep 1000"
    ));
    fixture.request.log.as_mut().unwrap().max_buffer_bytes = Some(64 << 10);
    let shim = fixture.launch().await.unwrap();
    let writer = log_writer(&fixture).await;
    // SAFETY: plain system call; the process is this test's own.
    let signal = |signal| assert_eq!(unsafe { libc::kill(writer, signal) }, 0);
    signal(libc::SIGSTOP);
    shim.start().await.unwrap();
    // The container goes on although its log does not.
    while !fixture.upper().join("flag").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    signal(libc::SIGCONT);
    shim.signal(libc::SIGKILL, false).await.unwrap();
    shim.wait().await.unwrap();
    shim.release().await.unwrap();
    let lines = log_lines(&fixture.request.log.as_ref().unwrap().path);
    assert!(lines.len() < count && lines.len() > 100, "{}", lines.len());
    assert!(lines[0].starts_with("0 "), "{}", lines[0]);
    let last = lines.last().unwrap();
    assert!(last.starts_with(&format!("{} ", count - 1)), "{last}");
    assert!(lines.iter().all(|line| line.ends_with("xxx\n")));
}

#[tokio::test]
async fn a_log_that_does_not_block_is_whole_by_the_end() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell("for i in 1 2 3 4 5 6 7 8 9; do echo $i; done");
    fixture.request.log.as_mut().unwrap().max_buffer_bytes = Some(1 << 20);
    fixture.output().await;
    let lines = log_lines(&fixture.request.log.as_ref().unwrap().path);
    assert_eq!(lines.concat(), "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
}
