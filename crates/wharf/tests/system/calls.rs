//! Single calls of the API as docker answers them: status, text, and what they leave behind.

use crate::harness::{Client, Daemon, PATIENCE, clients};
use crate::helpers::sleeper;
use crate::raw::{Answer, call};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Calls and what they must answer: method, path, body, status, part of the answer.
type Expected<'a> = (&'a str, &'a str, Value, u16, &'a str);

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn ask(d: &Daemon, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    call(d, method, path, &body).unwrap()
}

fn check(d: &Daemon, calls: &[Expected<'_>]) {
    let wrong: Vec<String> = calls
        .iter()
        .filter_map(|(method, path, body, status, part)| {
            let answer = ask(d, method, path, body);
            // Texts are compared as they are in JSON.
            let part = part.replace('"', "\\\"");
            let said = text(&answer);
            (answer.status != *status || !said.contains(&part))
                .then(|| format!("{method} {path} {body}: {} {said}", answer.status))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn refusals_have_dockers_status_and_text() {
    let d = Daemon::with_busybox();
    sleeper(&d, Client::Wharf, "up", &[]);
    sleeper(
        &d,
        Client::Wharf,
        "swapped",
        &["-m", "64m", "--memory-swap", "64m"],
    );
    d.ok(Client::Wharf, "create --rm --name brief busybox true");
    let user = json!({"Cmd": ["true"], "User": "nosuch"});
    let policy = |name: &str, count: i64| json!({"Image": "busybox", "HostConfig": {"RestartPolicy": {"Name": name, "MaximumRetryCount": count}}});
    let filter = |key: &str, value: &str| {
        let filters = json!({ key: [value] }).to_string();
        let encoded: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
        format!("/containers/json?filters={encoded}")
    };
    let (tasks, exited) = (filter("is-task", "maybe"), filter("exited", "x"));
    check(
        &d,
        &[
            (
                "POST",
                "/containers/up/exec",
                user,
                400,
                "unable to find user nosuch: no matching entries in passwd file",
            ),
            (
                "POST",
                "/containers/up/attach?stream=1&stdout=1&detachKeys=bad",
                Value::Null,
                400,
                "",
            ),
            (
                "POST",
                "/containers/create",
                policy("", 3),
                400,
                "maximum retry count can only be used with 'on-failure'",
            ),
            (
                "POST",
                "/containers/up/rename?name=x!",
                Value::Null,
                400,
                "Error when allocating new name: Invalid container name",
            ),
            (
                "POST",
                "/containers/up/rename?name=brief",
                Value::Null,
                409,
                "Error when allocating new name: Conflict. The container name \"/brief\"",
            ),
            (
                "POST",
                "/containers/brief/update",
                json!({"RestartPolicy": {"Name": "always"}}),
                409,
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ),
            (
                "POST",
                "/containers/swapped/update",
                json!({"Memory": 134_217_728}),
                409,
                "Memory limit should be smaller than already set memoryswap limit",
            ),
            (
                "POST",
                "/containers/up/update",
                json!({"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 1}]}),
                400,
                "Ulimits of a container cannot be updated",
            ),
            (
                "POST",
                "/containers/up/update",
                Value::Null,
                200,
                "Warnings",
            ),
            (
                "POST",
                "/containers/up/resize?h=10&w=10",
                Value::Null,
                200,
                "",
            ),
            (
                "GET",
                "/events?since=5&until=3",
                Value::Null,
                400,
                "`since` time (5) cannot be after `until` time (3)",
            ),
            (
                "GET",
                "/containers/up/logs?stdout=1&since=9999999999",
                Value::Null,
                200,
                "",
            ),
            (
                "GET",
                "/volumes?filters=x",
                Value::Null,
                400,
                "error reading volume filters: invalid filter",
            ),
            (
                "GET",
                &tasks,
                Value::Null,
                400,
                "invalid filter 'is-task=[maybe]'",
            ),
            (
                "GET",
                &exited,
                Value::Null,
                400,
                "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                "POST",
                "/build/cancel",
                Value::Null,
                400,
                "build ID not provided",
            ),
            ("POST", "/build/cancel?id=none", Value::Null, 200, ""),
            (
                "POST",
                "/containers/up/kill?signal=99",
                Value::Null,
                400,
                "cannot kill container: up: the linux daemon does not support signal 99",
            ),
            (
                "POST",
                "/containers/up/kill?signal=-1",
                Value::Null,
                400,
                "cannot kill container: up: the linux daemon does not support signal -1",
            ),
            (
                "POST",
                "/containers/up/kill?signal=0",
                Value::Null,
                400,
                "cannot kill container: up: invalid signal: 0",
            ),
            (
                "GET",
                "/containers/up/archive?path=/etc/passwd/",
                Value::Null,
                400,
                "lstat /etc/passwd/: not a directory",
            ),
        ],
    );
}

#[test]
fn starts_that_fail_tell_why_and_leave_dockers_exit_code() {
    let d = Daemon::with_busybox();
    sleeper(&d, Client::Wharf, "up", &[]);
    d.ok(Client::Wharf, "create --name idle busybox");
    let device =
        json!([{"PathOnHost": "/nosuch", "PathInContainer": "/x", "CgroupPermissions": "rwm"}]);
    for (host, status, part, code) in [
        (
            json!({"Binds": ["/tmp:/etc/passwd"]}),
            400,
            "not a directory: Are you trying to mount a directory onto a file (or vice-versa)?",
            127,
        ),
        (
            json!({ "Devices": device }),
            500,
            "no such file or directory",
            128,
        ),
        (
            json!({"IpcMode": "container:up"}),
            400,
            "non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
            128,
        ),
        (
            json!({"PidMode": "container:idle"}),
            500,
            "is not running",
            128,
        ),
        (
            json!({"NetworkMode": "container:idle"}),
            409,
            "cannot join network namespace of a non running container: container idle is created",
            128,
        ),
    ] {
        let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": host});
        let made = ask(&d, "POST", "/containers/create?name=failing", &body);
        assert_eq!(made.status, 201, "{host}: {}", text(&made));
        let started = ask(&d, "POST", "/containers/failing/start", &Value::Null);
        let said = text(&started);
        assert!(
            started.status == status && said.contains(part),
            "{host}: {} {said}",
            started.status
        );
        let inspect = ask(&d, "GET", "/containers/failing/json", &Value::Null).json();
        assert_eq!(inspect["State"]["ExitCode"], code, "{host}");
        assert_eq!(inspect["State"]["Status"], "created", "{host}");
        ask(&d, "DELETE", "/containers/failing", &Value::Null);
    }
}

#[test]
fn execs_without_a_client_have_no_input_and_are_forgotten() {
    let d = Daemon::with_busybox();
    sleeper(&d, Client::Wharf, "up", &[]);
    let make = |body: Value| {
        let made = ask(&d, "POST", "/containers/up/exec", &body).json();
        made["Id"].as_str().unwrap().to_owned()
    };
    let cat = make(json!({"Cmd": ["cat"], "AttachStdin": true}));
    let path = format!("/exec/{cat}");
    let started = ask(
        &d,
        "POST",
        &format!("{path}/start"),
        &json!({"Detach": true}),
    );
    assert_eq!(started.status, 200);
    let until = Instant::now() + PATIENCE;
    while ask(&d, "GET", &format!("{path}/json"), &Value::Null).json()["ExitCode"] != 0 {
        assert!(Instant::now() < until, "cat waits for input");
        std::thread::sleep(Duration::from_millis(20));
    }
    let none = make(json!({"Cmd": ["nosuch"]}));
    let start = format!("/exec/{none}/start");
    let answer = ask(&d, "POST", &start, &json!({"Detach": true}));
    assert_eq!(answer.status, 400, "{}", text(&answer));
    let inspect = ask(&d, "GET", "/containers/up/json", &Value::Null).json();
    assert_eq!(inspect["ExecIDs"], Value::Null);
}

/// An exec that cannot start says so where its output would be; its keys are told as the bytes a terminal sends.
#[test]
fn execs_tell_their_keys_and_why_they_did_not_start() {
    let d = Daemon::with_busybox();
    sleeper(&d, Client::Wharf, "up", &[]);
    for client in clients() {
        d.fails(
            client,
            "exec -w relative up true",
            128,
            "OCI runtime exec failed: exec failed: Cwd must be an absolute path",
        );
    }
    let body = json!({
        "Cmd": ["true"], "AttachStdout": true, "WorkingDir": "relative", "DetachKeys": "ctrl-a,b",
    });
    let made = ask(&d, "POST", "/containers/up/exec", &body).json();
    let path = format!("/exec/{}", made["Id"].as_str().unwrap());
    let told = || {
        let exec = ask(&d, "GET", &format!("{path}/json"), &Value::Null).json();
        ["DetachKeys", "CanRemove", "ExitCode", "Pid"].map(|field| exec[field].clone())
    };
    assert_eq!(told(), [json!("AWI="), json!(false), Value::Null, json!(0)]);
    let answer = ask(&d, "POST", &format!("{path}/start"), &json!({}));
    assert_eq!(answer.status, 200);
    assert!(
        text(&answer).ends_with("absolute path\r\n"),
        "{}",
        text(&answer)
    );
    assert_eq!(told(), [json!("AWI="), json!(false), json!(128), json!(0)]);
}

#[test]
fn containers_have_what_the_init_layer_gives() {
    let d = Daemon::with_busybox();
    sleeper(&d, Client::Wharf, "up", &[]);
    let script = "ls -l /.dockerenv; readlink /etc/mtab; cat /etc/hosts";
    let shown = d.ok(Client::Wharf, &["exec", "up", "sh", "-c", script]);
    assert!(shown.starts_with("-rwxr-xr-x"), "{shown}");
    assert!(shown.contains("\n/proc/mounts\n"), "{shown}");
    if std::path::Path::new("/proc/sys/net/ipv6").exists() {
        assert!(
            shown.contains("::1\tlocalhost ip6-localhost ip6-loopback"),
            "{shown}"
        );
    }
    assert_eq!(d.ok(Client::Wharf, "diff up"), "");
    let without = [
        "run",
        "--rm",
        "--sysctl",
        "net.ipv6.conf.all.disable_ipv6=1",
        "busybox",
        "cat",
        "/etc/hosts",
    ];
    assert!(!d.ok(Client::Wharf, &without).contains("ip6-localhost"));
    let inspect = ask(&d, "GET", "/containers/up/json", &Value::Null).json();
    let lower = inspect["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap();
    assert!(std::path::Path::new(lower).join("bin").is_dir(), "{lower}");
}

#[test]
fn a_directory_s_contents_come_with_the_directory() {
    let d = Daemon::with_busybox();
    sleeper(&d, Client::Wharf, "up", &[]);
    d.ok(
        Client::Wharf,
        "exec up sh -c 'mkdir -m 750 /d; echo hi > /d/f'",
    );
    for (path, names) in [("/d", ["d/", "d/f"]), ("/d/.", ["./", "./f"])] {
        let answer = ask(
            &d,
            "GET",
            &format!("/containers/up/archive?path={path}"),
            &Value::Null,
        );
        let mut archive = tar::Archive::new(answer.body.as_slice());
        let entries: Vec<(String, u32)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                (name, entry.header().mode().unwrap() & 0o777)
            })
            .collect();
        let found: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(found, names);
        assert_eq!(entries[0].1, 0o750);
    }
}

#[test]
fn the_last_line_of_a_log_stays_as_it_was() {
    let d = Daemon::with_busybox();
    d.ok(
        Client::Wharf,
        "run --name part busybox sh -c 'echo whole; printf part'",
    );
    assert_eq!(d.ok(Client::Wharf, "logs part"), "whole\npart");
}

/// A client that sends its body only after the head must not find a closed connection.
#[test]
fn a_refused_request_is_read_to_its_end() {
    let d = Daemon::with_busybox();
    let body = vec![b' '; 200 * 1024];
    for path in [
        "/containers/create?platform=bad/bad/bad/bad",
        "/nosuch",
        "/volumes/none",
    ] {
        let mut stream = UnixStream::connect(d.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let method = if path.starts_with("/volumes") {
            "PUT"
        } else {
            "POST"
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // The answer is there before the body is.
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 "), "{path}");
        stream.write_all(&body).unwrap();
        // The connection is still good for another request.
        let next = b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
        stream.write_all(next).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("OK"), "{path}: {rest}");
    }
}
