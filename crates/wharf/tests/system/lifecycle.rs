//! Lives of containers: hijacked streams of all kinds, policies across a killed daemon, health.

use crate::harness::{Client, Daemon, clients, eventually, skip};
use crate::raw;
use serde_json::json;
use std::io::{BufReader, Read, Write};
use std::net::Shutdown;

/// The head of an answer that gives the connection away.
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";

fn create(daemon: &Daemon, name: &str, body: serde_json::Value) {
    let path = format!("/containers/create?name={name}");
    let created = raw::call(daemon, "POST", &path, &body.to_string()).unwrap();
    assert_eq!(
        created.status,
        201,
        "{}",
        String::from_utf8_lossy(&created.body)
    );
}

fn start(daemon: &Daemon, name: &str) {
    let path = format!("/containers/{name}/start");
    assert_eq!(raw::call(daemon, "POST", &path, "").unwrap().status, 204);
}

fn state(daemon: &Daemon, name: &str) -> String {
    let format = "{{.State.Status}} {{.State.ExitCode}}";
    daemon.ok(Client::Wharf, &["inspect", "--format", format, name])
}

/// Clients that send no `Upgrade` header use the connection all the same, also one that carried
/// other requests before.
#[test]
fn streams_are_hijacked_without_an_upgrade_header() {
    let d = Daemon::with_busybox();
    let cat = json!({"Image": "busybox", "Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true});
    create(&d, "cat", cat);
    let mut stream = raw::connect(&d).unwrap();
    raw::send(&mut stream, "GET", "/containers/cat/json", "").unwrap();
    let first = raw::receive(&mut BufReader::new(stream.try_clone().unwrap())).unwrap();
    assert_eq!(first.status, 200);
    let path = "/containers/cat/attach?stream=1&stdin=1&stdout=1";
    raw::send(&mut stream, "POST", path, "").unwrap();
    start(&d, "cat");
    stream.write_all(b"through\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let expected = [HEAD.as_bytes(), b"\x01\0\0\0\0\0\0\x08through\n"].concat();
    assert_eq!(text, expected, "{}", String::from_utf8_lossy(&text));

    create(
        &d,
        "up",
        json!({"Image": "busybox", "Cmd": ["sleep", "1000"]}),
    );
    start(&d, "up");
    let exec = json!({"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true, "Tty": false});
    let made = raw::call(&d, "POST", "/containers/up/exec", &exec.to_string()).unwrap();
    let id = made.json()["Id"].as_str().unwrap().to_owned();
    let mut stream = raw::connect(&d).unwrap();
    // The input comes right behind the body.
    let path = format!("/exec/{id}/start");
    raw::send(
        &mut stream,
        "POST",
        &path,
        "{\"Detach\":false,\"Tty\":true}",
    )
    .unwrap();
    stream.write_all(b"raw").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    text.clear();
    stream.read_to_end(&mut text).unwrap();
    assert_eq!(text, [HEAD.as_bytes(), b"raw"].concat());
    let inspected = raw::call(&d, "GET", &format!("/exec/{id}/json"), "").unwrap();
    assert_eq!(
        inspected.json()["ExitCode"],
        0,
        "known before the stream ended"
    );
    let again = raw::call(&d, "POST", &path, "{}").unwrap();
    assert_eq!(again.status, 409);
}

#[test]
fn several_clients_see_the_same_output() {
    let d = Daemon::with_busybox();
    let script = "read x; echo got $x; echo more >&2";
    create(
        &d,
        "many",
        json!({"Image": "busybox", "Cmd": ["sh", "-c", script], "OpenStdin": true}),
    );
    let mut streams: Vec<_> = (0..3)
        .map(|number| {
            let mut stream = raw::connect(&d).unwrap();
            let path = format!(
                "/containers/many/attach?stream=1&stdout=1&stderr=1&stdin={}",
                u8::from(number == 1)
            );
            raw::send(&mut stream, "POST", &path, "").unwrap();
            let mut head = [0; HEAD.len()];
            stream.read_exact(&mut head).unwrap();
            stream
        })
        .collect();
    start(&d, "many");
    streams[1].write_all(b"this\n").unwrap();
    for stream in &mut streams {
        let mut output = Vec::new();
        stream.read_to_end(&mut output).unwrap();
        let expected = b"\x01\0\0\0\0\0\0\x09got this\n\x02\0\0\0\0\0\0\x05more\n";
        assert!(output.ends_with(expected), "{output:?}");
    }
}

/// A stop by a user is remembered by `unless-stopped` and forgotten by `always`; `--rm` is kept; what
/// ended meanwhile has its exit code.
#[test]
fn policies_survive_a_killed_daemon() {
    let mut d = Daemon::with_busybox();
    let up = |d: &Daemon, name: &str, policy: &str, script: &str| {
        let arguments = ["run", "-d", "--name", name, "--restart", policy, "busybox"];
        d.ok(
            Client::Wharf,
            &[&arguments[..], &["sh", "-c", script]].concat(),
        );
    };
    up(&d, "always", "always", "exec sleep 1000");
    up(&d, "unless", "unless-stopped", "exec sleep 1000");
    up(&d, "crashes", "on-failure:2", "usleep 300000; exit 4");
    let gone = [
        "run", "-d", "--rm", "-v", "/data", "--name", "gone", "busybox", "sleep", "0.5",
    ];
    d.ok(Client::Wharf, &gone);
    d.ok(Client::Wharf, "stop -t 0 always unless");
    let volumes = d.ok(Client::Wharf, "volume ls -q");
    assert_eq!(volumes.lines().count(), 1);
    d.kill();
    std::thread::sleep(std::time::Duration::from_millis(800));
    d.launch();
    eventually("always runs again", || {
        state(&d, "always").starts_with("running")
    });
    eventually("the retries are used up", || {
        let format = "{{.State.Status}} {{.RestartCount}}";
        d.ok(Client::Wharf, &["inspect", "--format", format, "crashes"]) == "exited 2"
    });
    assert_eq!(state(&d, "unless"), "exited 137");
    eventually("--rm removes, its volume too", || {
        d.call(Client::Wharf, "inspect gone").code != 0
            && d.ok(Client::Wharf, "volume ls -q").is_empty()
    });
    d.ok(Client::Wharf, "stop -t 0 always");
    assert!(
        state(&d, "always").starts_with("exited"),
        "a stop holds until the daemon starts"
    );
}

#[test]
fn health_is_told_and_a_check_that_hangs_is_killed() {
    let d = Daemon::with_busybox();
    let run = |name: &str, check: &str| {
        let arguments = [
            "run",
            "-d",
            "--name",
            name,
            "--health-cmd",
            check,
            "--health-interval",
            "200ms",
            "--health-timeout",
            "300ms",
            "--health-retries",
            "2",
            "busybox",
            "sleep",
            "1000",
        ];
        d.ok(Client::Wharf, &arguments);
    };
    run("well", "true");
    run("hangs", "echo said; exec sleep 777");
    let health = |name: &str| {
        let format = "{{.State.Health.Status}}";
        d.ok(Client::Wharf, &["inspect", "--format", format, name])
    };
    eventually("well is healthy", || health("well") == "healthy");
    eventually("hangs is unhealthy", || health("hangs") == "unhealthy");
    let format = "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}";
    let first = d.ok(Client::Wharf, &["inspect", "--format", format, "hangs"]);
    assert_eq!(
        first.trim(),
        "-1 Health check exceeded timeout (300ms): said"
    );
    d.ok(Client::Wharf, "stop -t 0 hangs");
    assert_eq!(health("hangs"), "unhealthy");
    let events = [
        "events",
        "--since",
        "1m",
        "--until",
        "0s",
        "--filter",
        "event=health_status",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ];
    let events = d.ok(Client::Wharf, &events);
    let mut lines: Vec<&str> = events.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "health_status: healthy well",
            "health_status: unhealthy hangs"
        ]
    );
}

/// Before the first check the list of results is empty, not missing; a check whose program is not there has no exit
/// code; of a long output the beginning is kept.
#[test]
fn results_of_health_checks_are_told_as_docker_does() {
    let d = Daemon::with_busybox();
    let run = |name: &str, test: serde_json::Value, interval_ns: u64| {
        let check = json!({"Test": test, "Interval": interval_ns, "Timeout": 60_000_000_000_u64});
        let body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "Healthcheck": check});
        create(&d, name, body);
        start(&d, name);
    };
    run("later", json!(["CMD", "true"]), 3_600_000_000_000);
    run("absent", json!(["CMD", "nosuch"]), 50_000_000);
    let long = "yes 0123456 | head -c 5000";
    run("long", json!(["CMD-SHELL", long]), 50_000_000);
    let health = |name: &str| {
        let path = format!("/containers/{name}/json");
        raw::call(&d, "GET", &path, "").unwrap().json()["State"]["Health"].clone()
    };
    assert_eq!(
        health("later"),
        json!({"Status": "starting", "FailingStreak": 0, "Log": []})
    );
    for name in ["absent", "long"] {
        eventually("a check", || health(name)["Log"][0].is_object());
    }
    let absent = &health("absent")["Log"][0];
    assert_eq!(absent["ExitCode"], -1);
    let said = absent["Output"].as_str().unwrap();
    assert!(said.contains("nosuch") && said.trim() == said, "{said:?}");
    let long = &health("long")["Log"][0];
    assert_eq!(long["ExitCode"], 0);
    let kept = "0123456\n".repeat(4096 / 8);
    assert_eq!(long["Output"], format!("{kept}..."));
}

/// What is copied into a stopped container's volume is there, and what the runtime makes does not
/// show among the changes.
#[test]
fn volumes_of_stopped_containers_are_reached_by_cp() {
    let d = Daemon::with_busybox();
    d.write(
        "context/Dockerfile",
        "FROM busybox\nRUN mkdir -p /etc && touch /etc/made\n",
    );
    d.ok(Client::Wharf, "build -q -t with-etc context");
    let script = "echo kept > /vol/file; touch /own";
    d.ok(
        Client::Wharf,
        &[
            "run", "--name", "cc", "-v", "/vol", "with-etc", "sh", "-c", script,
        ],
    );
    d.ok(Client::Wharf, "cp cc:/vol/file back");
    assert_eq!(std::fs::read_to_string(d.path("back")).unwrap(), "kept\n");
    d.write("new", "new\n");
    d.ok(Client::Wharf, "cp new cc:/vol/");
    d.ok(Client::Wharf, "cp cc:/vol/new back");
    assert_eq!(std::fs::read_to_string(d.path("back")).unwrap(), "new\n");
    assert_eq!(d.ok(Client::Wharf, "diff cc"), "A /own");
}

/// A separator behind a link asks for what the link names, `..` ends at the root, and `cp -a` keeps owners where the
/// container has no user of its own.
#[test]
fn cp_follows_links_where_it_is_asked_to_and_keeps_owners() {
    let d = Daemon::with_busybox();
    let script = "mkdir /d; echo x > /d/x; ln -s /d /ld; ln -s x /d/lx; sleep 1000";
    d.ok(
        Client::Wharf,
        &["run", "-d", "--name", "cc", "busybox", "sh", "-c", script],
    );
    eventually("the links are there", || {
        d.call(Client::Wharf, "exec cc test -L /d/lx").code == 0
    });
    d.write("f", "new\n");
    std::os::unix::fs::chown(d.path("f"), Some(5), Some(6)).unwrap();
    for client in clients() {
        let name = format!("{client:?}");
        for (from, file) in [("cc:/ld/", "x"), ("cc:/ld/.", "x"), ("cc:../../d", "x")] {
            let to = format!("{name}{}", from.replace(['/', ':'], "-"));
            d.ok(client, &["cp", from, &to]);
            let found = std::fs::read_to_string(d.path(&to).join(file));
            assert_eq!(found.unwrap(), "x\n", "{client:?} {from}");
        }
        let into = format!("cc:/ld/{name}");
        d.ok(client, &["cp", "-a", "f", &into]);
        d.ok(client, "cp f cc:/ld/");
        for path in [format!("/d/{name}"), "/d/f".to_owned()] {
            let owner = d.ok(client, &["exec", "cc", "stat", "-c", "%u:%g", &path]);
            assert_eq!(owner.trim(), "5:6", "{client:?} {path}");
        }
    }
}

/// Lists find containers by the ports of the host, and events tell of images with their labels; removing a running
/// container by force does not tell that it was stopped.
#[test]
fn ports_are_filtered_at_the_host_and_events_are_whole() {
    let d = Daemon::with_busybox();
    let create = [
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "127.0.0.1::80",
        "--expose",
        "53/udp",
    ];
    d.ok(
        Client::Wharf,
        &[&create[..], &["busybox", "sleep", "1000"]].concat(),
    );
    let port = d.ok(Client::Wharf, "port web 80");
    let port = port.trim().rsplit(':').next().unwrap().to_owned();
    for (filter, expected) in [
        (format!("publish={port}"), "web"),
        ("publish=80".to_owned(), ""),
        ("expose=80".to_owned(), "web"),
        ("expose=53/udp".to_owned(), "web"),
        (format!("expose={port}"), ""),
    ] {
        let names = d.ok(
            Client::Wharf,
            &["ps", "--filter", &filter, "--format", "{{.Names}}"],
        );
        assert_eq!(names.trim(), expected, "{filter}");
    }
    let commit = ["commit", "-c", "LABEL kind=test", "web", "made:1"];
    d.ok(Client::Wharf, &commit);
    d.ok(Client::Wharf, "exec web true");
    d.ok(Client::Wharf, "rm -f web");
    let told = |filters: &[&str], format: &str| {
        let mut line = vec![
            "events", "--since", "1m", "--until", "0s", "--format", format,
        ];
        line.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
        let told = d.ok(Client::Wharf, &line);
        told.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        told(
            &["type=image", "label=kind=test"],
            "{{.Action}} {{.Actor.Attributes.kind}}"
        ),
        ["create test", "tag test"]
    );
    let actions = told(&["container=web"], "{{.Action}}|");
    for action in [
        "exec_create: true |",
        "exec_start: true |",
        "die|",
        "destroy|",
    ] {
        assert!(
            actions.iter().any(|told| told == action),
            "{action}: {actions:?}"
        );
    }
    assert!(!actions.iter().any(|told| told == "stop|"), "{actions:?}");
}

/// testcontainers for Python starts, waits for, uses and stops three containers.
#[test]
fn testcontainers_work() {
    let Some(python) = std::env::var_os("WHARF_TEST_PYTHON") else {
        skip("testcontainers (set WHARF_TEST_PYTHON to a python that has it)");
        return;
    };
    let d = Daemon::with_busybox();
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/system/three_containers.py"
    );
    let output = std::process::Command::new(python)
        .arg(script)
        .env(
            "DOCKER_HOST",
            format!("unix://{}", d.path("wharf.sock").display()),
        )
        .env("TESTCONTAINERS_RYUK_DISABLED", "true")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{}", d.log());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "hello 0\nhello 1\nhello 2\n"
    );
    assert!(d.ok(Client::Wharf, "ps -aq").is_empty());
}
