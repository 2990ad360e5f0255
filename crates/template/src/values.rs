//! JSON as template values and back, with the keys of an object in their order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gotmpl::Value;
use serde_json::Value as Json;

/// Order of the keys of each JSON object, by the address of its template value.
///
/// Template maps are sorted; `{{json .}}` must print an API object in the daemon's order.
pub(crate) type KeyOrder = HashMap<usize, Vec<String>>;

/// Returns a JSON value as a template value and notes the order of its keys.
pub(crate) fn from_json(json: &Json, order: &mut KeyOrder) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(signed), _) => Value::Int(signed),
            (None, Some(unsigned)) => Value::Uint(unsigned),
            (None, None) => Value::Float(number.as_f64().unwrap_or(0.0)),
        },
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(items) => {
            Value::List(items.iter().map(|item| from_json(item, order)).collect())
        }
        Json::Object(members) => {
            let map: BTreeMap<Arc<str>, Value> = members
                .iter()
                .map(|(key, value)| (key.as_str().into(), from_json(value, order)))
                .collect();
            let map = Arc::new(map);
            order.insert(address(&map), members.keys().cloned().collect());
            Value::Map(map)
        }
    }
}

fn address(map: &Arc<BTreeMap<Arc<str>, Value>>) -> usize {
    Arc::as_ptr(map) as usize
}

/// Returns a template value as JSON, its keys in the order noted.
pub(crate) fn to_json(value: &Value, order: &KeyOrder) -> Json {
    match value {
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Int(number) => Json::from(*number),
        Value::Uint(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::String(text) => Json::from(text.as_ref()),
        Value::List(items) => items.iter().map(|item| to_json(item, order)).collect(),
        Value::Map(map) => {
            let keys = order.get(&address(map));
            let member = |key: &str| {
                map.get(key)
                    .map(|value| (key.to_owned(), to_json(value, order)))
            };
            match keys {
                Some(keys) => Json::Object(keys.iter().filter_map(|key| member(key)).collect()),
                None => Json::Object(
                    map.iter()
                        .filter(|(_, value)| !matches!(value, Value::Function(_)))
                        .filter_map(|(key, _)| member(key))
                        .collect(),
                ),
            }
        }
        _ => Json::Null,
    }
}
