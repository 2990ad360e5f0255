//! A container's places on networks field by field, as docker 28 answers them: what was asked for, before, while and
//! after it runs, and what is told of it.

use crate::harness::{Client, Daemon, PATIENCE};
use crate::raw::{Answer, call};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Version of the API that the tests speak.
const VERSION: &str = "/v1.51";

fn post(d: &Daemon, path: &str, body: &Value) -> Answer {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    call(d, "POST", &format!("{VERSION}{path}"), &body).unwrap()
}

fn get(d: &Daemon, path: &str) -> Value {
    let answer = call(d, "GET", path, "").unwrap();
    assert_eq!(answer.status, 200, "{path}");
    answer.json()
}

fn create(d: &Daemon, name: &str, more: &Value) {
    let mut body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "StopTimeout": 0});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    let answer = post(d, &format!("/containers/create?name={name}"), &body);
    assert_eq!(answer.status, 201, "{}", answer.json());
}

fn connect(d: &Daemon, network: &str, container: &str, settings: &Value) -> Answer {
    let body = json!({"Container": container, "EndpointConfig": settings});
    post(d, &format!("/networks/{network}/connect"), &body)
}

fn endpoint(d: &Daemon, container: &str, network: &str) -> Value {
    let inspected = get(d, &format!("{VERSION}/containers/{container}/json"));
    inspected["NetworkSettings"]["Networks"][network].clone()
}

/// Returns what was asked of an endpoint: addresses, links, aliases, driver options.
fn asked(endpoint: &Value) -> Value {
    let keys = ["IPAMConfig", "Links", "Aliases", "DriverOpts"];
    Value::Array(keys.map(|key| endpoint[key].clone()).into())
}

#[test]
fn what_was_asked_for_is_shown_as_it_was_given() {
    let d = Daemon::with_busybox();
    for name in ["front", "back", "side"] {
        d.ok(Client::Wharf, &["network", "create", name]);
    }
    let empty = json!({"IPAMConfig": {}, "Links": [], "Aliases": [], "DriverOpts": {}});
    let shown_empty = json!([{}, [], [], {}]);
    let shown_null = json!([null, null, null, null]);
    create(
        &d,
        "web",
        &json!({"HostConfig": {"NetworkMode": "front"},
            "NetworkingConfig": {"EndpointsConfig": {"front": empty.clone()}}}),
    );
    assert_eq!(asked(&endpoint(&d, "web", "front")), shown_empty);
    assert_eq!(connect(&d, "back", "web", &Value::Null).status, 200);
    assert_eq!(asked(&endpoint(&d, "web", "back")), shown_null);
    // A second call for a network it is on changes nothing before the start, and fails after it.
    assert_eq!(connect(&d, "back", "web", &empty).status, 200);
    let back = endpoint(&d, "web", "back");
    assert_eq!(asked(&back), shown_null);
    assert_eq!(
        (&back["NetworkID"], &back["MacAddress"]),
        (&json!(""), &json!(""))
    );

    assert_eq!(post(&d, "/containers/web/start", &Value::Null).status, 204);
    let running = endpoint(&d, "web", "back");
    assert_eq!(running["NetworkID"].as_str().unwrap().len(), 64);
    assert_eq!(running["MacAddress"].as_str().unwrap().len(), 17);
    assert_eq!(connect(&d, "back", "web", &empty).status, 403);
    let options = json!({"Aliases": ["a", "a"], "DriverOpts": {"k": "v"}, "GwPriority": 2});
    assert_eq!(connect(&d, "side", "web", &options).status, 200);
    let side = endpoint(&d, "web", "side");
    assert_eq!(asked(&side), json!([null, null, ["a", "a"], {"k": "v"}]));
    assert_eq!(side["GwPriority"], 2);
    // Old clients find more aliases, each once; a list has none of all this.
    let old = get(&d, "/v1.44/containers/web/json");
    let id = old["Id"].as_str().unwrap();
    let aliases = &old["NetworkSettings"]["Networks"]["side"]["Aliases"];
    assert_eq!(*aliases, json!(["a", id[..12]]));
    let listed = get(&d, &format!("{VERSION}/containers/json"));
    let listed = &listed[0]["NetworkSettings"]["Networks"]["side"];
    assert_eq!(asked(listed), shown_null);
    assert_eq!(listed["DNSNames"], Value::Null);
    assert_eq!(listed["IPAddress"], side["IPAddress"]);

    assert_eq!(post(&d, "/containers/web/stop", &Value::Null).status, 204);
    let stopped = endpoint(&d, "web", "back");
    assert_eq!(stopped["NetworkID"], running["NetworkID"]);
    for key in ["MacAddress", "EndpointID", "IPAddress", "Gateway"] {
        assert_eq!(stopped[key], "", "{key}");
    }
    assert_eq!(asked(&endpoint(&d, "web", "front")), shown_empty);
}

#[test]
fn addresses_of_interfaces_are_found_where_old_clients_look() {
    let d = Daemon::with_busybox();
    let mac = "02:42:0a:00:00:09";
    create(
        &d,
        "web",
        &json!({"NetworkingConfig": {"EndpointsConfig": {"default": {"MacAddress": mac}}}}),
    );
    let inspected = || get(&d, &format!("{VERSION}/containers/web/json"));
    assert_eq!(inspected()["Config"]["MacAddress"], mac);
    assert_eq!(endpoint(&d, "web", "bridge")["MacAddress"], mac);
    assert_eq!(post(&d, "/containers/web/start", &Value::Null).status, 204);
    assert_eq!(endpoint(&d, "web", "bridge")["MacAddress"], mac);
    assert_eq!(post(&d, "/containers/web/stop", &Value::Null).status, 204);
    assert_eq!(inspected()["Config"]["MacAddress"], mac);
    assert_eq!(endpoint(&d, "web", "bridge")["MacAddress"], "");
}

#[test]
fn a_container_comes_and_goes_between_networks_and_none() {
    let d = Daemon::with_busybox();
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    d.ok(Client::Wharf, "network create front");
    create(&d, "web", &json!({"HostConfig": {"NetworkMode": "none"}}));
    create(&d, "deaf", &json!({"NetworkDisabled": true}));
    assert_eq!(post(&d, "/containers/web/start", &Value::Null).status, 204);
    assert_eq!(connect(&d, "front", "web", &Value::Null).status, 400);
    let leave = |network: &str| {
        let body = json!({"Container": "web"});
        post(&d, &format!("/networks/{network}/disconnect"), &body).status
    };
    assert_eq!(leave("none"), 200);
    assert_eq!(connect(&d, "front", "web", &Value::Null).status, 200);
    // What it is on counts at the next start, not what it was made for.
    assert_eq!(
        post(&d, "/containers/web/restart", &Value::Null).status,
        204
    );
    assert_ne!(endpoint(&d, "web", "front")["IPAddress"], "");
    assert_eq!(leave("front"), 200);
    assert_eq!(connect(&d, "none", "web", &Value::Null).status, 200);
    assert_ne!(endpoint(&d, "web", "none")["EndpointID"], "");
    assert_eq!(connect(&d, "front", "deaf", &Value::Null).status, 404);

    let filters = "%7B%22type%22%3A%5B%22network%22%5D%2C%22event%22%3A%5B%22connect%22%2C%22disconnect%22%5D%7D";
    let now = since.as_secs() + 3600;
    let path = format!(
        "{VERSION}/events?since={}&until={now}&filters={filters}",
        since.as_secs()
    );
    let expected = [
        "connect none",
        "disconnect none",
        "connect front",
        "disconnect front",
        "connect front",
        "disconnect front",
        "connect none",
    ];
    assert_eq!(told(&d, &path, expected.len()), expected);
}

/// Reads so many events, each as its action and its network's name.
fn told(d: &Daemon, path: &str, count: usize) -> Vec<String> {
    use std::io::BufRead;
    let mut stream = crate::raw::connect(d).unwrap();
    crate::raw::send(&mut stream, "GET", path, "").unwrap();
    let lines = std::io::BufReader::new(stream).lines();
    let events = lines.map_while(Result::ok).filter_map(|line| {
        let event: Value = serde_json::from_str(&line).ok()?;
        let name = event["Actor"]["Attributes"]["name"].as_str()?.to_owned();
        Some(format!("{} {name}", event["Action"].as_str()?))
    });
    events.take(count).collect()
}

#[test]
fn a_failed_start_leaves_what_it_joined() {
    let d = Daemon::with_busybox();
    for name in ["alpha", "beta"] {
        d.ok(Client::Wharf, &["network", "create", name]);
    }
    create(
        &d,
        "web",
        &json!({"HostConfig": {"NetworkMode": "alpha"},
            "NetworkingConfig": {"EndpointsConfig": {"alpha": {}, "beta": {}}}}),
    );
    d.ok(Client::Wharf, "network rm beta");
    let answer = post(&d, "/containers/web/start", &Value::Null);
    let text = answer.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(
        (answer.status, text.as_str()),
        (
            404,
            "failed to set up container networking: network beta not found"
        )
    );
    let again = post(&d, "/containers/web/restart", &Value::Null);
    assert_eq!(again.status, 500);
    assert_eq!(
        again.json()["message"],
        format!("Cannot restart container web: {text}")
    );
    let filters = "%7B%22network%22%3A%5B%22alpha%22%5D%7D";
    let path = format!("{VERSION}/events?since=1&until=4000000000&filters={filters}");
    let expected = ["create", "connect", "disconnect", "connect", "disconnect"];
    assert_eq!(
        told(&d, &path, 5),
        expected.map(|action| format!("{action} alpha"))
    );
}

#[test]
fn an_exec_that_races_with_a_pause_runs_or_is_refused() {
    let d = Daemon::with_busybox();
    create(&d, "web", &json!({}));
    assert_eq!(post(&d, "/containers/web/start", &Value::Null).status, 204);
    let done = AtomicBool::new(false);
    let (mut ran, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(post(&d, "/containers/web/pause", &Value::Null).status, 204);
                assert_eq!(
                    post(&d, "/containers/web/unpause", &Value::Null).status,
                    204
                );
            }
        });
        let until = Instant::now() + PATIENCE;
        while (ran < 20 || refused < 20) && Instant::now() < until {
            let made = post(&d, "/containers/web/exec", &json!({"Cmd": ["true"]}));
            let answer = match made.status {
                201 => {
                    let id = made.json()["Id"].as_str().unwrap().to_owned();
                    post(&d, &format!("/exec/{id}/start"), &json!({"Detach": true}))
                }
                _ => made,
            };
            match answer.status {
                200 => ran += 1,
                status => {
                    let text = answer.json()["message"].to_string();
                    let expected = "is paused, unpause the container before exec";
                    assert!(status == 409 && text.contains(expected), "{status} {text}");
                    refused += 1;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(
        ran >= 20 && refused >= 20,
        "{ran} ran, {refused} were refused"
    );
    d.ok(Client::Wharf, "exec web true");
}
