//! The default system call filter. That the compiled filter does what the profile says is tested in the room.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wharf_runtime::defaults::seccomp_profile;

use super::{same, strings};
use crate::{Document, Vector, Verdict};

pub(super) fn check(vector: &Vector, _: &Document) -> Verdict {
    let profile = serde_json::to_value(seccomp_profile(&strings(&vector.input["caps"]))).unwrap();
    let expected = &vector.expected;
    same(
        "architectures",
        &profile["architectures"],
        &expected["archs"],
    )?;
    same(
        "default",
        &profile["defaultAction"],
        &expected["default_action"],
    )?;
    same(
        "default errno",
        &profile["defaultErrnoRet"],
        &expected["default_errno"],
    )?;
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for call in profile["syscalls"].as_array().unwrap() {
        for name in strings(&call["names"]) {
            found.entry(name).or_default().push(rule(call));
        }
    }
    let expected: BTreeMap<String, Vec<Value>> =
        serde_json::from_value(expected["syscalls"].clone()).unwrap();
    for (name, rules) in &expected {
        same(name, found.get(name), Some(rules))?;
    }
    match found.keys().find(|name| !expected.contains_key(*name)) {
        Some(name) => Err(format!("{name} is not in the recorded profile")),
        None => Ok(()),
    }
}

/// Puts one of the profile's rules into the form of the vectors.
fn rule(call: &Value) -> Value {
    let mut rule = json!({"action": call["action"]});
    if let Some(errno) = call["errnoRet"].as_u64() {
        rule["errno"] = errno.into();
    }
    let arguments = call["args"].as_array().into_iter().flatten().map(|argument| {
        let mut shown =
            json!({"index": argument["index"], "value": argument["value"], "op": argument["op"]});
        if argument["valueTwo"].as_u64().is_some_and(|value| value != 0) {
            shown["value_two"] = argument["valueTwo"].clone();
        }
        shown
    });
    let arguments: Vec<Value> = arguments.collect();
    if !arguments.is_empty() {
        rule["args"] = Value::Array(arguments);
    }
    rule
}
