//! Runs the recorded vectors that concern this room's own rules.

use crate::filters;
use crate::stdcopy::{Decoder, FrameError, Stream};
use crate::timestamp::parse_unix;
use crate::version::compare;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::BTreeMap;

fn vectors(text: &str) -> Vec<Value> {
    let mut document: Value = serde_json::from_str(text).expect("vectors are JSON");
    match document["vectors"].take() {
        Value::Array(vectors) => vectors,
        _ => panic!("a list of vectors"),
    }
}

/// Returns the vectors of one function of the daemon's helpers.
fn daemon_misc(function: &str) -> Vec<Value> {
    let mut all = vectors(include_str!("../tests/vectors/daemon-misc.json"));
    all.retain(|vector| vector["input"]["fn"] == function);
    assert!(!all.is_empty(), "{function}");
    all
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD
        .decode(value.as_str().expect("base64"))
        .expect("base64")
}

#[test]
fn stdcopy_decodes_as_docker() {
    for vector in vectors(include_str!("../tests/vectors/stdcopy.json")) {
        let (id, expected) = (&vector["id"], &vector["expected"]);
        let mut decoder = Decoder::default();
        decoder.push(&bytes(&vector["input"]["stream_b64"]));
        let (mut output, mut error_output) = (Vec::new(), Vec::new());
        let failure = loop {
            match decoder.next_frame() {
                Ok(Some((Stream::Error, payload))) => error_output.extend_from_slice(&payload),
                Ok(Some((_, payload))) => output.extend_from_slice(&payload),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        assert_eq!(output, bytes(&expected["stdout_b64"]), "{id}");
        assert_eq!(error_output, bytes(&expected["stderr_b64"]), "{id}");
        match (failure, expected["error"].as_str()) {
            (None, None) => {}
            (Some(error @ FrameError::UnknownStream(_)), Some(text)) => {
                assert_eq!(error.to_string(), text, "{id}");
            }
            (Some(_), Some(_)) => {}
            (failure, text) => panic!("{id}: {failure:?} instead of {text:?}"),
        }
    }
}

#[test]
fn versions_compare_as_in_docker() {
    for vector in daemon_misc("version_cmp") {
        let text = |key: &str| vector["input"][key].as_str().expect("a text").to_owned();
        let order = compare(&text("a"), &text("b"));
        for (key, expected) in [
            ("lt", Ordering::Less),
            ("eq", Ordering::Equal),
            ("gt", Ordering::Greater),
        ] {
            assert_eq!(
                order == expected,
                vector["expected"][key] == true,
                "{}",
                vector["id"]
            );
        }
    }
}

#[test]
fn unix_timestamps_parse_as_in_docker() {
    for vector in daemon_misc("unix_timestamp") {
        let (id, expected) = (&vector["id"], &vector["expected"]);
        match parse_unix(vector["input"]["s"].as_str().expect("a text")) {
            Err(text) => assert_eq!(expected["error"], json!(text), "{id}"),
            Ok(None) => assert_eq!(expected["zero"], true, "{id}"),
            Ok(Some(time_ns)) => {
                let number = |key: &str| expected[key].as_i64().expect("a number");
                let sign = if number("unix") < 0 { -1 } else { 1 };
                let total = number("unix") * 1_000_000_000 + sign * number("nanos");
                assert!(
                    time_ns == total || time_ns == number("unix") * 1_000_000_000 + number("nanos"),
                    "{id}: {time_ns}"
                );
            }
        }
    }
}

#[test]
fn filters_parse_and_match_as_in_docker() {
    for vector in daemon_misc("filters") {
        let (id, input, expected) = (&vector["id"], &vector["input"], &vector["expected"]);
        let parsed = filters::parse(input["json"].as_str().expect("a text"));
        let Ok(filters) = parsed else {
            assert_eq!(expected["error"], "invalid filter", "{id}");
            continue;
        };
        let mut wanted: BTreeMap<String, Vec<String>> =
            serde_json::from_value(expected["filters"].clone()).expect("lists by key");
        wanted.values_mut().for_each(|values| values.sort());
        assert_eq!(filters, wanted, "{id}");
        let Some(field) = input["match"]["field"].as_str() else {
            continue;
        };
        let source = input["match"]["source"].as_str().expect("a text");
        assert_eq!(
            filters::matches_exactly(&filters, field, source),
            expected["exact"] == true,
            "{id}"
        );
        let pairs: BTreeMap<String, String> =
            serde_json::from_value(input["match"]["kv"].clone()).expect("pairs");
        assert_eq!(
            filters::matches_pairs(&filters, field, &pairs),
            expected["kv"] == true,
            "{id}"
        );
    }
}
