//! What a Dockerfile can be given, and which stages it has.

use serde_json::{Value, json};
use wharf_build::outline_dockerfile;
use wharf_dockerfile::{Outline, OutlineNeed, Target, load, targets};

use super::plan::{MISSING, bases, frontend, is_missing};
use super::text;
use crate::{Document, Vector, Verdict};

/// Compares both answers, or the texts of the mistakes.
pub(super) fn check(vector: &Vector, document: &Document) -> Verdict {
    let (input, expected) = (&vector.input, &vector.expected);
    let source = text(input, "dockerfile");
    let mut find = bases(input, document);
    let found = frontend(input)
        .and_then(|options| {
            outline_dockerfile(source, &options, &mut find).map_err(|error| error.to_string())
        })
        .map(|outline| outline_json(&outline));
    same("outline", found, expected)?;
    let (dockerfile, diagnostics) = load(source);
    let found = match diagnostics.iter().find(|diagnostic| diagnostic.is_error()) {
        Some(mistake) => Err(mistake.headline()),
        None => Ok(json!({
            "sources": null,
            "targets": targets(&dockerfile).iter().map(target_json).collect::<Vec<_>>(),
        })),
    };
    same("targets", found, expected)
}

fn same(what: &str, found: Result<Value, String>, expected: &Value) -> Verdict {
    let wanted = expected[format!("{what}_error")].as_str();
    match (found, wanted) {
        (Err(found), Some(wanted)) if is_same_mistake(&found, wanted) => Ok(()),
        (Err(found), _) => Err(format!("{what} refused: {found}")),
        (Ok(found), None) if sorted(found.clone()) == sorted(expected[what].clone()) => Ok(()),
        (Ok(found), _) => Err(format!("{what}: found {found}")),
    }
}

/// Compares what is said; where an image is missing, any of those that are missing may be told first.
fn is_same_mistake(found: &str, wanted: &str) -> bool {
    found.contains(wanted) || wanted.ends_with(MISSING) && is_missing(found)
}

/// Puts arguments in one order: the reference has no order among those of one line.
fn sorted(mut value: Value) -> Value {
    if let Some(args) = value["args"].as_array_mut() {
        args.sort_by_key(Value::to_string);
    }
    value
}

/// Leaves out what is empty, as the reference does.
fn member(object: &mut Value, key: &str, value: Value) {
    let is_nothing = match &value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    if !is_nothing {
        object[key] = value;
    }
}

fn outline_json(outline: &Outline) -> Value {
    let args = outline.args.iter().map(|arg| {
        let mut value = json!({"name": arg.name});
        member(&mut value, "description", json!(arg.description));
        member(&mut value, "value", json!(arg.value));
        value
    });
    let mut value = json!({});
    member(&mut value, "name", json!(outline.name));
    member(&mut value, "description", json!(outline.description));
    member(&mut value, "args", args.collect());
    member(&mut value, "secrets", needs_json(&outline.secrets));
    member(&mut value, "ssh", needs_json(&outline.ssh));
    value
}

fn needs_json(needs: &[OutlineNeed]) -> Value {
    let needs = needs.iter().map(|need| {
        let mut value = json!({"name": need.id});
        member(&mut value, "required", json!(need.is_required));
        value
    });
    needs.collect()
}

fn target_json(target: &Target) -> Value {
    let mut value = json!({});
    member(&mut value, "name", json!(target.name));
    member(&mut value, "default", json!(target.is_default));
    member(&mut value, "description", json!(target.description));
    member(&mut value, "base", json!(target.base));
    member(&mut value, "platform", json!(target.platform));
    value
}
