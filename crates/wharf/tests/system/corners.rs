//! Corners of the API in which docker's behaviour was found by comparing the two, call by call.

use crate::harness::{Client, Daemon};
use crate::raw::{Answer, call};
use serde_json::{Value, json};

fn ask(d: &Daemon, method: &str, path: &str, body: &Value) -> Answer {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    call(d, method, path, &body).unwrap()
}

/// Calls and expects a status; returns what was answered.
fn expect(d: &Daemon, method: &str, path: &str, body: &Value, status: u16) -> Value {
    let answer = ask(d, method, path, body);
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, status, "{method} {path} {body}: {said}");
    answer.json()
}

fn create(d: &Daemon, name: &str, more: Value) {
    let mut body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"]});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    let path = format!("/containers/create?name={name}");
    expect(d, "POST", &path, &body, 201);
}

fn start(d: &Daemon, name: &str) {
    let path = format!("/containers/{name}/start");
    expect(d, "POST", &path, &Value::Null, 204);
}

fn inspect(d: &Daemon, name: &str) -> Value {
    expect(
        d,
        "GET",
        &format!("/containers/{name}/json"),
        &Value::Null,
        200,
    )
}

/// Runs a container to its end and returns what it said.
fn output(d: &Daemon, name: &str, script: &str, host: Value) -> String {
    create(
        d,
        name,
        json!({"Cmd": ["sh", "-c", script], "Tty": true, "HostConfig": host}),
    );
    start(d, name);
    expect(
        d,
        "POST",
        &format!("/containers/{name}/wait"),
        &Value::Null,
        200,
    );
    let path = format!("/containers/{name}/logs?stdout=1");
    let answer = ask(d, "GET", &path, &Value::Null);
    String::from_utf8_lossy(&answer.body).replace('\r', "")
}

#[test]
fn links_hold_to_the_container_and_not_to_its_name() {
    let d = Daemon::with_busybox();
    create(&d, "one", json!({}));
    start(&d, "one");
    create(&d, "two", json!({}));
    start(&d, "two");
    let links = json!({"HostConfig": {"Links": ["one:al", "two"]}});
    create(&d, "parent", links);
    let shown = |name: &str| inspect(&d, name)["HostConfig"]["Links"].clone();
    assert_eq!(
        shown("parent"),
        json!(["/one:/parent/al", "/two:/parent/two"])
    );
    expect(
        &d,
        "POST",
        "/containers/one/rename?name=uno",
        &Value::Null,
        204,
    );
    create(&d, "one", json!({}));
    expect(
        &d,
        "POST",
        "/containers/parent/rename?name=pp",
        &Value::Null,
        204,
    );
    assert_eq!(shown("pp"), json!(["/uno:/pp/al", "/two:/pp/two"]));
    let found = expect(&d, "GET", "/containers/pp/al/json", &Value::Null, 200);
    assert_eq!(found["Name"], "/uno");
    // Who removes a container removes the links to it.
    expect(&d, "DELETE", "/containers/uno?force=1", &Value::Null, 204);
    assert_eq!(shown("pp"), json!(["/two:/pp/two"]));
    start(&d, "pp");
    expect(&d, "DELETE", "/containers/two?force=1", &Value::Null, 204);
    assert_eq!(shown("pp"), Value::Null);
}

#[test]
fn what_was_given_empty_is_told_from_what_was_not_given() {
    let d = Daemon::with_busybox();
    let host = json!({"Dns": [], "Devices": [], "Binds": null, "links": []});
    create(&d, "given", json!({"HostConfig": host}));
    let given = inspect(&d, "given")["HostConfig"].clone();
    for (key, value) in [
        ("Dns", json!([])),
        ("Devices", json!([])),
        ("PortBindings", json!({})),
        ("Binds", Value::Null),
        ("DnsSearch", Value::Null),
        ("Links", Value::Null),
    ] {
        assert_eq!(given[key], value, "{key}");
    }
}

#[test]
fn a_signal_that_comes_as_the_process_ends_is_no_error() {
    let d = Daemon::with_busybox();
    create(&d, "c1", json!({"HostConfig": {"NetworkMode": "none"}}));
    for _ in 0..10 {
        start(&d, "c1");
        let path = "/containers/c1/stop?t=0&signal=KILL";
        expect(&d, "POST", path, &Value::Null, 204);
        assert_eq!(inspect(&d, "c1")["State"]["Status"], "exited");
        start(&d, "c1");
        std::thread::scope(|scope| {
            scope.spawn(|| expect(&d, "POST", "/containers/c1/kill", &Value::Null, 204));
            // Whoever is second is told that it runs no more, and never that something broke.
            let answer = ask(&d, "POST", "/containers/c1/kill?signal=USR1", &Value::Null);
            assert!([204, 409].contains(&answer.status), "{answer:?}");
        });
    }
}

#[test]
fn a_tmpfs_takes_the_mode_of_the_directory_it_hides() {
    let d = Daemon::with_busybox();
    let tmpfs = json!({"/hidden": "", "/new": "", "/chosen": "mode=711,sync"});
    let image = json!({"Cmd": ["sh", "-c", "mkdir -m 2750 /hidden; mkdir -m 700 /chosen"]});
    create(&d, "maker", image);
    start(&d, "maker");
    expect(&d, "POST", "/containers/maker/wait", &Value::Null, 200);
    expect(
        &d,
        "POST",
        "/commit?container=maker&repo=made",
        &json!({}),
        201,
    );
    create(
        &d,
        "c1",
        json!({"Image": "made", "Tty": true, "HostConfig": {"Tmpfs": tmpfs},
               "Cmd": ["stat", "-c", "%a %n", "/hidden", "/new", "/chosen"]}),
    );
    start(&d, "c1");
    expect(&d, "POST", "/containers/c1/wait", &Value::Null, 200);
    let said = ask(&d, "GET", "/containers/c1/logs?stdout=1", &Value::Null);
    let said = String::from_utf8_lossy(&said.body).replace('\r', "");
    assert_eq!(said, "2750 /hidden\n1777 /new\n711 /chosen\n");
}

#[test]
fn a_mount_point_can_be_copied_to_before_the_first_start() {
    let d = Daemon::with_busybox();
    create(&d, "c1", json!({"Volumes": {"/data": {}}}));
    d.write("file", "content");
    d.ok(Client::Wharf, "cp file c1:/data/");
    let answer = ask(&d, "GET", "/containers/c1/archive?path=/data", &Value::Null);
    assert_eq!(answer.status, 200);
    let answer = ask(&d, "GET", "/containers/c1/archive?path=/date", &Value::Null);
    assert_eq!(answer.status, 404);
    start(&d, "c1");
    assert_eq!(d.ok(Client::Wharf, "exec c1 cat /data/file"), "content");
}

#[test]
fn an_exec_tells_whose_rights_it_has() {
    let d = Daemon::with_busybox();
    create(&d, "c1", json!({"User": "1000:2000"}));
    start(&d, "c1");
    for (asked, told) in [("", "1000:2000"), ("5", "5")] {
        let body = json!({"Cmd": ["true"], "User": asked});
        let made = expect(&d, "POST", "/containers/c1/exec", &body, 201);
        let path = format!("/exec/{}/json", made["Id"].as_str().unwrap());
        let exec = expect(&d, "GET", &path, &Value::Null, 200);
        assert_eq!(exec["ProcessConfig"]["user"], told);
    }
}

#[test]
fn limits_and_paths_that_cannot_be_are_refused_in_dockers_words() {
    let d = Daemon::with_busybox();
    create(&d, "c1", json!({"HostConfig": {"NanoCpus": 500_000_000}}));
    for (body, text) in [
        (
            json!({"Memory": 33_554_432}),
            "Memory limit should be smaller than already set memoryswap limit",
        ),
        (
            json!({"CpuPeriod": 10_000}),
            "CPU Period cannot be updated as NanoCPUs has already been set",
        ),
    ] {
        let said = expect(&d, "POST", "/containers/c1/update", &body, 409);
        let said = said["message"].as_str().unwrap();
        assert!(said.contains(text), "{said}");
    }
    let both = json!({"Memory": 33_554_432, "MemorySwap": 67_108_864});
    expect(&d, "POST", "/containers/c1/update", &both, 200);
    let options = json!({"Subpath": "not/there"});
    let mount = json!({"Type": "volume", "Source": "vv", "Target": "/v", "VolumeOptions": options});
    create(&d, "sub", json!({"HostConfig": {"Mounts": [mount]}}));
    let said = expect(&d, "POST", "/containers/sub/start", &Value::Null, 404);
    let said = said["message"].as_str().unwrap();
    assert!(said.starts_with("cannot access path "), "{said}");
    assert!(
        said.ends_with("_data/not/there: no such file or directory"),
        "{said}"
    );
    let said = expect(
        &d,
        "POST",
        "/containers/c1/rename?name=a%20b",
        &Value::Null,
        400,
    );
    assert!(
        said["message"].as_str().unwrap().contains("(/a b)"),
        "{said}"
    );
}

#[test]
fn a_health_check_of_an_unknown_kind_is_none() {
    let d = Daemon::with_busybox();
    create(
        &d,
        "c1",
        json!({"Healthcheck": {"Test": ["FOO", "x"], "Interval": 1_000_000}}),
    );
    start(&d, "c1");
    assert_eq!(inspect(&d, "c1")["State"]["Health"], Value::Null);
}

#[test]
fn the_details_of_a_log_line_have_its_tag() {
    let d = Daemon::with_busybox();
    let log = json!({"Type": "json-file", "Config": {"tag": "{{.Name}}", "labels": "l"}});
    let said = output(&d, "c1", "echo hi", json!({"LogConfig": log}));
    assert_eq!(said, "hi\n");
    let path = "/containers/c1/logs?stdout=1&details=1";
    let said = ask(&d, "GET", path, &Value::Null);
    assert_eq!(String::from_utf8_lossy(&said.body), "tag=c1 hi\r\n");
}

#[test]
fn clients_before_1_42_get_the_whole_of_the_disk_usage() {
    let d = Daemon::with_busybox();
    let old = expect(&d, "GET", "/v1.41/system/df?type=volume", &Value::Null, 200);
    assert_eq!(old["Images"].as_array().map(Vec::len), Some(1), "{old}");
    let new = expect(&d, "GET", "/v1.42/system/df?type=volume", &Value::Null, 200);
    assert_eq!(new["Images"], Value::Null);
}
