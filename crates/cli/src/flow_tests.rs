//! Whole commands against a scripted daemon.

use std::ffi::OsString;

use clap::FromArgMatches;

use crate::arguments::{self, Arguments};
use crate::connection::Host;
use crate::dispatch;
use crate::error::CliError;
use crate::fake_daemon::{FakeDaemon, Rule};
use crate::http::{Client, ClientOptions};
use crate::output::capture;
use crate::session::Session;

/// What a command did: its exit status, standard output and standard error.
pub(crate) struct Done {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn run(daemon: &FakeDaemon, line: &[&str]) -> Done {
    let mut words = vec![OsString::from("wharf")];
    words.extend(line.iter().map(OsString::from));
    let matches = arguments::command_for(&words)
        .try_get_matches_from(words)
        .unwrap();
    let command = Arguments::from_arg_matches(&matches).unwrap().command;
    let (output, stdout, stderr) = capture::output();
    let client = Client::new(
        Host::parse(&daemon.url(), None).unwrap(),
        ClientOptions::default(),
        std::sync::Arc::new(|_| {}),
    );
    let mut session = Session::new(client, output, "wharf".into(), daemon.directory());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let result = runtime.block_on(dispatch::run_command(&mut session, command));
    runtime.shutdown_background();
    let status = match result {
        Ok(()) => 0,
        Err(error) => {
            if let Some(report) = CliError::report(&error) {
                session.output.talk(&report);
            }
            error.exit_status()
        }
    };
    Done {
        status,
        stdout: stdout.text(),
        stderr: stderr.text(),
    }
}

fn lines(daemon: &FakeDaemon) -> Vec<String> {
    daemon
        .requests()
        .iter()
        .map(|request| request.lines().next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn run_creates_attaches_waits_and_starts_in_this_order() {
    let daemon = FakeDaemon::start(vec![
        Rule::json(
            "POST /v1.51/containers/create",
            201,
            r#"{"Id":"abc","Warnings":["careful"]}"#,
        ),
        Rule::hijack(
            "POST /v1.51/containers/abc/attach",
            b"\x01\0\0\0\0\0\0\x03hi\n\x02\0\0\0\0\0\0\x04err\n",
        ),
        Rule::json(
            "POST /v1.51/containers/abc/wait",
            200,
            r#"{"StatusCode":3}"#,
        ),
        Rule::raw(
            "POST /v1.51/containers/abc/start",
            b"HTTP/1.1 204 No Content\r\n\r\n",
        ),
    ]);
    let done = run(
        &daemon,
        &["run", "--rm", "-e", "A=1", "busybox", "sh", "-c", "exit 3"],
    );
    assert_eq!((done.status, done.stdout.as_str()), (3, "hi\n"));
    assert_eq!(done.stderr, "WARNING: careful\nerr\n");
    let lines = lines(&daemon);
    assert!(lines[0].contains("/containers/create"), "{lines:?}");
    assert!(
        lines[1].contains("/attach?stream=1&stdout=1&stderr=1"),
        "{lines:?}"
    );
    assert!(lines[2].contains("/wait?condition=removed"), "{lines:?}");
    assert!(lines[3].contains("/start"), "{lines:?}");
    let body: serde_json::Value =
        serde_json::from_str(daemon.requests()[0].split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["Cmd"], serde_json::json!(["sh", "-c", "exit 3"]));
    assert_eq!(body["Env"], serde_json::json!(["A=1"]));
    assert_eq!(body["HostConfig"]["AutoRemove"], true);
}

#[test]
fn run_pulls_an_image_that_is_missing() {
    let daemon = FakeDaemon::start(vec![
        Rule::json(
            "POST /v1.51/containers/create",
            404,
            r#"{"message":"No such image: busybox:latest"}"#,
        ),
        Rule::json(
            "POST /v1.51/images/create",
            200,
            "{\"status\":\"Pulling from library/busybox\",\"id\":\"latest\"}\r\n{\"errorDetail\":{\"message\":\"boom\"},\"error\":\"boom\"}\r\n",
        ),
    ]);
    let done = run(&daemon, &["run", "busybox"]);
    assert_eq!(done.status, 125);
    assert_eq!(
        done.stderr,
        "Unable to find image 'busybox:latest' locally\nlatest: Pulling from library/busybox\nwharf: boom\n\nRun 'wharf run --help' for more information\n"
    );
    assert!(lines(&daemon)[1].contains("fromImage=docker.io%2Flibrary%2Fbusybox&tag=latest"));
    let done = run(&daemon, &["run", "--pull=never", "busybox"]);
    assert_eq!(
        done.stderr,
        "wharf: Error response from daemon: No such image: busybox:latest\n\nRun 'wharf run --help' for more information\n"
    );
}

#[test]
fn a_failed_start_tells_by_its_status_why() {
    for (message, status) in [
        ("exec: \\\"x\\\": executable file not found in $PATH", 127),
        ("is a directory", 126),
        ("no", 125),
    ] {
        let daemon = FakeDaemon::start(vec![
            Rule::json(
                "POST /v1.51/containers/create",
                201,
                r#"{"Id":"abc","Warnings":[]}"#,
            ),
            Rule::hijack("POST /v1.51/containers/abc/attach", b""),
            Rule::json(
                "POST /v1.51/containers/abc/wait",
                200,
                r#"{"StatusCode":127}"#,
            ),
            Rule::json(
                "POST /v1.51/containers/abc/start",
                400,
                &format!(r#"{{"message":"{message}"}}"#),
            ),
        ]);
        assert_eq!(
            run(&daemon, &["run", "--rm", "busybox", "x"]).status,
            status,
            "{message}"
        );
    }
}

#[test]
fn exec_takes_its_status_from_inspect() {
    let daemon = FakeDaemon::start(vec![
        Rule::json("POST /v1.51/containers/web/exec", 201, r#"{"Id":"e1"}"#),
        Rule::hijack("POST /v1.51/exec/e1/start", b"\x01\0\0\0\0\0\0\x02ok"),
        Rule::json("GET /v1.51/exec/e1/json", 200, r#"{"ExitCode":7}"#),
    ]);
    let done = run(&daemon, &["exec", "web", "true"]);
    assert_eq!((done.status, done.stdout.as_str()), (7, "ok"));
}

#[test]
fn several_targets_fail_one_by_one() {
    let daemon = FakeDaemon::start(vec![
        Rule::raw(
            "POST /v1.51/containers/a/stop",
            b"HTTP/1.1 204 No Content\r\n\r\n",
        ),
        Rule::json(
            "POST /v1.51/containers/b/stop",
            404,
            r#"{"message":"No such container: b"}"#,
        ),
        Rule::raw(
            "POST /v1.51/containers/c/stop",
            b"HTTP/1.1 304 Not Modified\r\n\r\n",
        ),
    ]);
    let done = run(&daemon, &["stop", "-t", "0", "a", "b", "c"]);
    assert_eq!((done.status, done.stdout.as_str()), (1, "a\nc\n"));
    assert_eq!(
        done.stderr,
        "Error response from daemon: No such container: b\n"
    );
}

#[test]
fn an_older_daemon_is_spoken_to_in_its_version() {
    let daemon = FakeDaemon::start(vec![
        Rule::json(
            "GET /v1.51/",
            400,
            r#"{"message":"client version 1.51 is too new. Maximum supported API version is 1.44"}"#,
        ),
        Rule::json("GET /v1.44/containers/json", 200, "[]"),
    ]);
    let done = run(&daemon, &["ps", "-a"]);
    assert_eq!(done.status, 0, "{}", done.stderr);
    assert_eq!(
        done.stdout,
        "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
    );
}

#[test]
fn no_daemon_and_no_permission_have_their_own_texts() {
    let daemon = FakeDaemon::start(Vec::new());
    let missing = Host::parse("unix:///nonexistent/sock", None).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime
        .block_on(missing.connect())
        .err()
        .unwrap()
        .to_string();
    assert_eq!(
        error,
        "Cannot connect to the Docker daemon at unix:///nonexistent/sock. Is the docker daemon running?"
    );
    let done = run(&daemon, &["inspect", "nothing"]);
    assert_eq!((done.status, done.stdout.as_str()), (1, "[]\n"));
    assert_eq!(done.stderr, "error: no such object: nothing\n");
}

#[test]
fn a_build_sends_its_context_or_only_its_name() {
    let answer = "{\"stream\":\"Step 1/1 : FROM x\\n\"}\r\n{\"aux\":{\"ID\":\"sha256:1\"}}\r\n";
    for in_place in [false, true] {
        let header = if in_place {
            "Wharf-Context: dir\r\n"
        } else {
            ""
        };
        let daemon = FakeDaemon::start(vec![
            Rule::raw(
                "GET /_ping",
                format!("HTTP/1.1 200 OK\r\n{header}Content-Length: 2\r\n\r\nOK").as_bytes(),
            ),
            Rule::json("POST /v1.51/build", 200, answer),
        ]);
        let directory = daemon.directory().join("context");
        crate::host_files::create_directories(&directory).unwrap();
        crate::host_files::write(&directory.join("Dockerfile"), b"FROM x").unwrap();
        let iidfile = daemon.directory().join("iid");
        let done = run(
            &daemon,
            &[
                "build",
                "-t",
                "a:b",
                "--iidfile",
                iidfile.to_str().unwrap(),
                directory.to_str().unwrap(),
            ],
        );
        assert_eq!(
            (done.status, done.stdout.as_str()),
            (0, "Step 1/1 : FROM x\n"),
            "{}",
            done.stderr
        );
        assert_eq!(crate::host_files::read(&iidfile, 100).unwrap(), b"sha256:1");
        let request = daemon.requests().pop().unwrap();
        assert_eq!(request.contains("contextdir="), in_place);
        assert_eq!(request.contains("FROM x"), !in_place);
        assert!(request.contains("t=a%3Ab"));

        let compressed = ["build", "--compress", directory.to_str().unwrap()];
        let done = run(&daemon, &compressed);
        let request = daemon.requests().pop().unwrap();
        // What gzip begins with, its second byte being no text.
        assert_eq!(request.contains("\u{1f}\u{fffd}\u{8}"), !in_place);
        assert!(!request.contains("FROM x"));
        assert_eq!(
            done.stderr.contains("--compress has no effect"),
            in_place,
            "{}",
            done.stderr
        );
    }
}

#[test]
fn a_failing_build_step_gives_its_status() {
    let daemon = FakeDaemon::start(vec![
        Rule::raw(
            "GET /_ping",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
        ),
        Rule::json(
            "POST /v1.51/build",
            200,
            "{\"errorDetail\":{\"code\":9,\"message\":\"The command 'x' returned a non-zero code: 9\"},\"error\":\"x\"}\r\n",
        ),
    ]);
    let directory = daemon.directory().join("context");
    crate::host_files::create_directories(&directory).unwrap();
    crate::host_files::write(&directory.join("Dockerfile"), b"FROM x").unwrap();
    let done = run(&daemon, &["build", directory.to_str().unwrap()]);
    assert_eq!(done.status, 9);
    assert_eq!(done.stderr, "The command 'x' returned a non-zero code: 9\n");
}

#[test]
fn logs_of_a_container_go_where_they_came_from() {
    let daemon = FakeDaemon::start(vec![
        Rule::json("GET /v1.51/containers/web/json", 200, r#"{"Id":"abc","Config":{"Tty":false}}"#),
        Rule::raw(
            "GET /v1.51/containers/abc/logs?",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\x01\0\0\0\0\0\0\x02a\n\x02\0\0\0\0\0\0\x02b\n",
        ),
    ]);
    let done = run(&daemon, &["logs", "-n", "5", "web"]);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("a\n", "b\n"));
    assert!(lines(&daemon)[1].contains("tail=5"));
}

#[test]
fn standard_input_of_the_exec_reaches_the_stream() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let daemon = FakeDaemon::start(vec![Rule::echo("POST /v1.51/containers/abc/attach")]);
    let client = Client::new(
        Host::parse(&daemon.url(), None).unwrap(),
        ClientOptions::default(),
        std::sync::Arc::new(|_| {}),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(async {
        let mut stream = client
            .upgrade(crate::http::Request::post("/containers/abc/attach"))
            .await
            .unwrap();
        stream.write_all(b"typed").await.unwrap();
        // Closing one direction must leave the other open.
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    });
    assert_eq!(answer, b"\x01\0\0\0\0\0\0\x05typed");
}

#[test]
fn the_api_socket_comes_with_the_credentials() {
    let daemon = FakeDaemon::start(vec![
        Rule::json("POST /v1.51/containers/create", 201, r#"{"Id":"abc"}"#),
        Rule::json("PUT /v1.51/containers/abc/archive?path=%2F", 200, ""),
    ]);
    let auths = r#"{"auths":{"reg.example":{"auth":"dTpw"}},"detachKeys":"ctrl-x"}"#;
    let config = daemon.directory().join("config.json");
    crate::host_files::write(&config, auths.as_bytes()).unwrap();
    let done = run(&daemon, &["create", "--use-api-socket", "busybox"]);
    assert_eq!(
        (done.status, done.stdout.as_str(), done.stderr.as_str()),
        (0, "abc\n", "")
    );
    let body = |request: &str| -> serde_json::Value {
        serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    };
    let created = body(&daemon.requests()[0]);
    let socket = daemon.url().replace("unix://", "");
    assert_eq!(
        created["HostConfig"]["Mounts"],
        serde_json::json!([{
            "Type": "bind", "Source": socket, "Target": "/var/run/docker.sock", "BindOptions": {},
        }])
    );
    assert_eq!(
        created["Env"],
        serde_json::json!(["DOCKER_CONFIG=/run/secrets/docker"])
    );
    let archive = &daemon.requests()[1];
    assert!(
        archive.contains("run/secrets/docker/config.json"),
        "{archive}"
    );
    assert!(archive.contains(r#""auth": "dTpw""#), "{archive}");
    assert!(!archive.contains("detachKeys"), "{archive}");

    // A configuration of its own is the container's own affair.
    run(
        &daemon,
        &[
            "create",
            "--use-api-socket",
            "-e",
            "DOCKER_CONFIG=/x",
            "busybox",
        ],
    );
    assert_eq!(daemon.requests().len(), 3);
    assert_eq!(
        body(&daemon.requests()[2])["Env"],
        serde_json::json!(["DOCKER_CONFIG=/x"])
    );
}

#[test]
fn what_changes_nothing_is_said_and_what_is_not_there_is_refused() {
    let daemon = FakeDaemon::start(vec![Rule::json(
        "POST /v1.51/containers/create",
        201,
        r#"{"Id":"abc"}"#,
    )]);
    let done = run(&daemon, &["create", "--kernel-memory", "4m", "busybox"]);
    assert_eq!(done.status, 0);
    assert!(done.stderr.contains("--kernel-memory has no effect"));
    assert!(daemon.requests()[0].contains(r#""KernelMemory":4194304"#));
    for (line, told) in [
        (
            &["create", "--cpu-count", "2", "busybox"][..],
            "\"--cpu-count\" is only supported on a Docker daemon running on windows",
        ),
        (
            &["volume", "create", "--scope", "multi"],
            "error: --scope: cluster volumes are not supported",
        ),
        (
            &["build", "--provenance", "max", "."],
            "error: --provenance is not supported",
        ),
        (
            &["build", "--builder", "other", "."],
            "error: no builder \"other\"",
        ),
        (
            &["build", "--push", "."],
            "error: tag is needed when pushing to registry",
        ),
    ] {
        let done = run(&daemon, line);
        assert_eq!(done.status, 1, "{line:?}");
        assert!(done.stderr.starts_with(told), "{line:?}: {}", done.stderr);
    }
    assert_eq!(daemon.requests().len(), 1);
}

#[test]
fn volumes_of_a_cluster_are_listed_apart() {
    let daemon = FakeDaemon::start(vec![Rule::json(
        "GET /v1.51/volumes",
        200,
        r#"{"Volumes":[{"Name":"a","Driver":"local"},{"Name":"b","Driver":"csi","ClusterVolume":
        {"Spec":{"Group":"g","Availability":"drain"},"Info":{"VolumeID":"v"},"PublishStatus":[{}]}}]}"#,
    )]);
    let done = run(&daemon, &["volume", "ls", "--cluster"]);
    let lines: Vec<Vec<&str>> = done
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines,
        [
            vec![
                "VOLUME",
                "NAME",
                "GROUP",
                "DRIVER",
                "AVAILABILITY",
                "STATUS"
            ],
            vec!["b", "g", "csi", "drain", "in", "use", "(1", "node)"],
        ]
    );
}
