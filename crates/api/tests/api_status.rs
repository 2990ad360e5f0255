//! Replays recorded requests against a running server and compares what it answers.
//!
//! The server's socket is named by `WHARF_TEST_SOCKET`; it must hold the image `busybox:latest`, no
//! other image and no container. Without the variable the test says so and does nothing.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Names the socket of the server under test.
const SOCKET_VARIABLE: &str = "WHARF_TEST_SOCKET";
/// The newest version of the recorded server; ours speaks less.
const RECORDED_VERSION: &str = "1.56";

/// What a server answered.
struct Reply {
    status: u64,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

#[test]
fn recorded_requests_get_the_recorded_answers() {
    let Ok(socket) = std::env::var(SOCKET_VARIABLE) else {
        eprintln!("SKIP: {SOCKET_VARIABLE} names no socket");
        return;
    };
    let document: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/own/api-status.json")).unwrap();
    let (mut failures, mut skipped, mut passed) = (Vec::new(), 0, 0);
    for vector in document["vectors"].as_array().unwrap() {
        let id = vector["id"].as_str().unwrap();
        let (input, expected) = (&vector["input"], &vector["expected"]);
        let title = format!("{id} {} {}", text(&input["method"]), text(&input["path"]));
        if let Some(reason) = difference(input, expected) {
            eprintln!("SKIP: {title}: {reason}");
            skipped += 1;
            // Later requests rely on what this one makes.
            let _ = exchange(&socket, input);
            continue;
        }
        match exchange(&socket, input).map(|reply| compare(input, expected, &reply)) {
            Ok(Ok(())) => passed += 1,
            Ok(Err(problem)) => failures.push(format!("{title}: {problem}")),
            Err(error) => failures.push(format!("{title}: {error}")),
        }
    }
    eprintln!(
        "{passed} passed, {skipped} skipped, {} failed",
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Tells why an answer is meant to differ from the recorded one.
fn difference(input: &Value, expected: &Value) -> Option<&'static str> {
    let (method, path) = (text(&input["method"]), text(&input["path"]));
    let (version, route) = path
        .strip_prefix("/v")
        .and_then(|rest| rest.split_once('/'))
        .filter(|(version, _)| version.starts_with(|first: char| first.is_ascii_digit()))
        .map_or(("", path.trim_start_matches('/')), |(version, route)| {
            (version, route)
        });
    let message = text(&expected["message"]);
    let is_network_change = method == "POST" && route.starts_with("networks/");
    match () {
        () if ["1.51.1", "1.52", "1.53", "1.54", "1.55", "1.56"].contains(&version) => {
            Some("a version that is not spoken here")
        }
        () if is_network_change && expected["status"] != 400 => {
            Some("user-defined networks are not supported yet")
        }
        () if is_network_change && message.starts_with("invalid network config") => {
            Some("user-defined networks are not supported yet")
        }
        () if is_network_change && message.contains("netip.") => {
            Some("user-defined networks are not supported yet")
        }
        () if route.starts_with("images/search") || route.starts_with("distribution/") => {
            Some("registry lookups are not supported yet")
        }
        () if route.starts_with("plugins/") && method == "POST" => Some("there are no plugins"),
        () if route.starts_with("swarm/") && method == "POST" => Some("there are no swarms"),
        () if route.starts_with("build?version=2") => {
            Some("BuildKit sessions are not supported yet")
        }
        _ => None,
    }
}

fn compare(input: &Value, expected: &Value, reply: &Reply) -> Result<(), String> {
    if expected["status"] != reply.status {
        let body = String::from_utf8_lossy(&reply.body);
        return Err(format!(
            "status {} instead of {}: {body}",
            reply.status, expected["status"]
        ));
    }
    let content_type = reply.header("content-type");
    if let Some(wanted) = expected["content_type"].as_str()
        && content_type != Some(wanted)
    {
        return Err(format!("content type {content_type:?} instead of {wanted}"));
    }
    compare_headers(expected, reply)?;
    if let Some(message) = expected["message"].as_str().filter(|text| is_stable(text)) {
        let wanted = message.replace(RECORDED_VERSION, wharf_api::API_VERSION);
        let found = reply.json();
        if found["message"] != wanted.as_str() {
            return Err(format!(
                "message {} instead of {wanted:?}",
                found["message"]
            ));
        }
    }
    let is_versioned = text(&input["path"]).starts_with("/v1.51/");
    match &expected["json_shape"] {
        Value::Array(keys) if is_versioned => compare_keys(keys, &reply.json()),
        Value::String(kind) if kind == "list" && !reply.json().is_array() => {
            Err("no list".to_owned())
        }
        _ => Ok(()),
    }
}

fn compare_headers(expected: &Value, reply: &Reply) -> Result<(), String> {
    for (name, wanted) in expected["headers"].as_object().into_iter().flatten() {
        let wanted = match name.as_str() {
            "api-version" => wharf_api::API_VERSION,
            // Builds go without BuildKit's session here.
            "builder-version" => "1",
            _ => text(wanted),
        };
        if reply.header(name) != Some(wanted) {
            return Err(format!(
                "{name}: {:?} instead of {wanted}",
                reply.header(name)
            ));
        }
    }
    Ok(())
}

/// Tells whether a text is docker's own and not one of Go's libraries.
fn is_stable(message: &str) -> bool {
    ![
        "json:",
        "strconv.",
        "invalid character",
        "dial tcp",
        "invalid syntax",
        "Get \"",
        "out of range",
    ]
    .iter()
    .any(|foreign| message.contains(foreign))
}

fn compare_keys(keys: &[Value], found: &Value) -> Result<(), String> {
    let Value::Object(object) = found else {
        return Ok(());
    };
    match keys.iter().find(|key| !object.contains_key(text(key))) {
        Some(missing) => Err(format!("key {missing} is missing")),
        None => Ok(()),
    }
}

fn exchange(socket: &str, input: &Value) -> Result<Reply, String> {
    let fail = |error: std::io::Error| error.to_string();
    let mut stream = UnixStream::connect(socket).map_err(fail)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .map_err(fail)?;
    stream.write_all(&request(input)).map_err(fail)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(fail)?;
    parse(&bytes).ok_or_else(|| "no HTTP answer".to_owned())
}

fn request(input: &Value) -> Vec<u8> {
    let body = text(&input["body"]);
    let mut head = format!(
        "{} {} HTTP/1.1\r\n",
        text(&input["method"]),
        text(&input["path"])
    );
    let extra = input["headers"].as_object().into_iter().flatten();
    let extra: Vec<(&str, &str)> = extra
        .map(|(name, value)| (name.as_str(), text(value)))
        .collect();
    let has = |name: &str| {
        extra
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    for (name, value) in [("Host", "localhost"), ("Connection", "close")] {
        if !has(name) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for (name, value) in &extra {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(content_type) = input["content_type"].as_str() {
        head.push_str(&format!("Content-Type: {content_type}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &bytes[end + 4..];
    let is_chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if is_chunked {
        unchunk(body)
    } else {
        body.to_vec()
    };
    Some(Reply {
        status,
        headers,
        body,
    })
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = String::from_utf8_lossy(&bytes[..end]);
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else {
            break;
        };
        let start = end + 2;
        if size == 0 || bytes.len() < start + size + 2 {
            break;
        }
        body.extend_from_slice(&bytes[start..start + size]);
        bytes = &bytes[start + size + 2..];
    }
    body
}
