//! The functions that docker adds to Go's templates.

use std::sync::{Arc, Mutex};

use gotmpl::{TemplateError, Value};

use crate::MARSHAL_METHOD;
use crate::values::{KeyOrder, to_json};

/// Widest padding `pad` makes, in characters.
pub const PAD_LIMIT_CHARACTERS: i64 = 4096;

/// Adds docker's functions (documented under "Format command and log output").
pub(crate) fn functions(
    template: gotmpl::Template,
    order: &Arc<Mutex<KeyOrder>>,
) -> gotmpl::Template {
    let order = Arc::clone(order);
    template
        .func("json", move |args| {
            let order = order.lock().map_err(|_| wrong("json: broken state"))?;
            let given = argument("json", args, 0)?;
            let value = to_json(given, &order);
            let json = serde_json::to_string(&value).map_err(|error| wrong(error.to_string()))?;
            Ok(text(if has_own_marshal(given) {
                html_safe(&json)
            } else {
                json
            }))
        })
        .func("upper", |args| {
            Ok(text(string("upper", args, 0)?.to_uppercase()))
        })
        .func("lower", |args| {
            Ok(text(string("lower", args, 0)?.to_lowercase()))
        })
        .func("title", |args| Ok(text(title(string("title", args, 0)?))))
        .func("split", |args| {
            let (whole, separator) = (string("split", args, 0)?, string("split", args, 1)?);
            Ok(Value::List(
                whole
                    .split(separator)
                    .map(|part| Value::String(part.into()))
                    .collect(),
            ))
        })
        .func("join", join)
        .func("pad", |args| {
            let whole = string("pad", args, 0)?;
            if whole.is_empty() {
                return Ok(text(String::new()));
            }
            let blanks = |index| -> gotmpl::Result<String> {
                Ok(" ".repeat(integer("pad", args, index)?.clamp(0, PAD_LIMIT_CHARACTERS) as usize))
            };
            Ok(text(format!("{}{whole}{}", blanks(1)?, blanks(2)?)))
        })
        .func("truncate", |args| {
            let (whole, length) = (string("truncate", args, 0)?, integer("truncate", args, 1)?);
            Ok(text(
                whole
                    .chars()
                    .take(usize::try_from(length).unwrap_or(0))
                    .collect(),
            ))
        })
        .func("index", index)
}

/// Returns whether a value writes itself as JSON, as the rows of docker's lists do, or is a list of such values.
fn has_own_marshal(value: &Value) -> bool {
    match value {
        Value::Map(map) => matches!(map.get(MARSHAL_METHOD), Some(Value::Function(_))),
        Value::List(items) => items.iter().any(has_own_marshal),
        _ => false,
    }
}

/// Returns JSON with the characters escaped that Go's encoder escapes unless told not to.
fn html_safe(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// Go's `join` takes the list first, so that it can also follow a pipe the other way round.
fn join(args: &[Value]) -> gotmpl::Result<Value> {
    let separator = string("join", args, 1)?;
    match argument("join", args, 0)? {
        Value::List(items) => {
            let parts: Vec<String> = items.iter().map(ToString::to_string).collect();
            Ok(text(parts.join(separator)))
        }
        Value::Nil => Ok(text(String::new())),
        other => Err(wrong(format!(
            "join: expected a list, found {}",
            other.type_name()
        ))),
    }
}

/// Go's `index` gives the zero value for a key that a map of strings does not have, where the value has no type here.
fn index(args: &[Value]) -> gotmpl::Result<Value> {
    let mut current = argument("index", args, 0)?.clone();
    for key in &args[1..] {
        current = match (&current, key) {
            (Value::Nil, Value::String(_)) => text(String::new()),
            (Value::Map(map), Value::String(name)) => match map.get(name.as_ref()) {
                Some(found) => found.clone(),
                None if map.values().all(|value| matches!(value, Value::String(_))) => {
                    text(String::new())
                }
                None => Value::Nil,
            },
            (value, key) => value.index(key)?,
        };
    }
    Ok(current)
}

fn title(whole: &str) -> String {
    let mut capital = true;
    whole
        .chars()
        .flat_map(|character| {
            let mapped: Vec<char> = if capital {
                character.to_uppercase().collect()
            } else {
                vec![character]
            };
            capital = character.is_whitespace();
            mapped
        })
        .collect()
}

fn text(text: String) -> Value {
    Value::String(text.into())
}

fn wrong(message: impl Into<String>) -> TemplateError {
    TemplateError::Exec(message.into())
}

fn argument<'a>(name: &str, args: &'a [Value], index: usize) -> gotmpl::Result<&'a Value> {
    args.get(index).ok_or_else(|| {
        wrong(format!(
            "wrong number of args for {name}: want at least {}, got {}",
            index + 1,
            args.len()
        ))
    })
}

fn string<'a>(name: &str, args: &'a [Value], index: usize) -> gotmpl::Result<&'a str> {
    let value = argument(name, args, index)?;
    value.as_str().ok_or_else(|| {
        wrong(format!(
            "{name}: expected a string, found {}",
            value.type_name()
        ))
    })
}

fn integer(name: &str, args: &[Value], index: usize) -> gotmpl::Result<i64> {
    let value = argument(name, args, index)?;
    value.as_int().ok_or_else(|| {
        wrong(format!(
            "{name}: expected an integer, found {}",
            value.type_name()
        ))
    })
}
