//! What the Engine API answers to requests sent one after the other.

use serde_json::Value;

use super::text;
use crate::live::http::Reply;
use crate::live::{Daemon, http};
use crate::{Document, Verdict};

/// The newest version of the recorded server; ours speaks less.
const RECORDED_VERSION: &str = "1.56";

/// Replays all requests against a daemon of their own.
pub(super) fn check(document: &Document) -> Result<Vec<Verdict>, String> {
    let daemon = Daemon::start()?;
    let mut verdicts = Vec::with_capacity(document.vectors.len());
    for vector in &document.vectors {
        let request = recorded_request(&vector.input);
        let reply = http::exchange(&daemon.socket(), &request);
        verdicts.push(
            reply.and_then(|reply| compare(text(&vector.input, "path"), &vector.expected, &reply)),
        );
    }
    Ok(verdicts)
}

fn recorded_request(input: &Value) -> Vec<u8> {
    let extra = input["headers"].as_object().into_iter().flatten();
    let mut headers: Vec<(&str, &str)> = extra
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))
        .collect();
    if let Some(content_type) = input["content_type"].as_str() {
        headers.push(("Content-Type", content_type));
    }
    let body = text(input, "body").as_bytes();
    http::request(text(input, "method"), text(input, "path"), &headers, body)
}

fn compare(path: &str, expected: &Value, reply: &Reply) -> Verdict {
    if expected["status"] != reply.status {
        return Err(format!(
            "status {} instead of {}: {}",
            reply.status,
            expected["status"],
            reply.text()
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
    let is_versioned = path.starts_with("/v1.51/");
    match &expected["json_shape"] {
        Value::Array(keys) if is_versioned => compare_keys(keys, &reply.json()),
        Value::String(kind) if kind == "list" && !reply.json().is_array() => {
            Err("no list".to_owned())
        }
        _ => Ok(()),
    }
}

fn compare_headers(expected: &Value, reply: &Reply) -> Verdict {
    for (name, wanted) in expected["headers"].as_object().into_iter().flatten() {
        let wanted = match name.as_str() {
            "api-version" => wharf_api::API_VERSION,
            _ => wanted.as_str().unwrap_or_default(),
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

fn compare_keys(keys: &[Value], found: &Value) -> Verdict {
    let Value::Object(object) = found else {
        return Ok(());
    };
    let is_missing = |key: &&Value| !object.contains_key(key.as_str().unwrap_or_default());
    match keys.iter().find(is_missing) {
        Some(missing) => Err(format!("key {missing} is missing")),
        None => Ok(()),
    }
}
