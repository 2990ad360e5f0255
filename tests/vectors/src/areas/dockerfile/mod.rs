//! The Dockerfile language: the tree, instructions, checks, words and ignore files.

mod git_url;
mod ignore;
mod instructions;
mod lint;
mod parse;
mod words;

use serde_json::Value;
use std::collections::BTreeMap;

use crate::Verdict;

pub(super) use git_url::git_url;
pub(super) use ignore::dockerignore;
pub(super) use instructions::instructions;
pub(super) use lint::lint;
pub(super) use parse::parse;
pub(super) use words::shell_words;

/// Compares an answer in the shape of `expected`.
fn verdict(found: &Value, expected: &Value) -> Verdict {
    let (found, expected) = (normalized(found), normalized(expected));
    if found == expected || is_failed_build(&found, &expected) {
        Ok(())
    } else {
        Err(format!("found {found}"))
    }
}

/// The reference's checks end where its build fails; here they go on, so that
/// its warnings need only be among those found.
fn is_failed_build(found: &Value, expected: &Value) -> bool {
    let list = |value: &Value| value["warnings"].as_array().cloned().unwrap_or_default();
    let found = list(found);
    expected.get("build_error").is_some()
        && list(expected).iter().all(|warning| found.contains(warning))
}

/// Drops empty members, so that an absent list equals an empty one.
fn normalized(value: &Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(key, value)| (key.clone(), normalized(value)))
                .filter(|(_, value)| !is_nothing(value))
                .collect::<BTreeMap<_, _>>()
                .into_iter()
                .collect(),
        ),
        Value::Array(items) => {
            let items: Vec<Value> = items.iter().map(normalized).collect();
            let is_warnings = items.iter().any(|item| item.get("rule").is_some());
            Value::Array(if is_warnings { sorted(items) } else { items })
        }
        other => other.clone(),
    }
}

/// Puts warnings in one order: where rules are checked in another order, nothing is wrong.
fn sorted(mut warnings: Vec<Value>) -> Vec<Value> {
    warnings.sort_by_key(Value::to_string);
    warnings
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(true) => false,
    }
}
