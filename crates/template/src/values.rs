//! JSON as template values and back, with the keys of an object in their order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use gotmpl::Value;
use serde_json::Value as Json;

/// What Go's type of the data says beyond its JSON: which fields there are that JSON leaves out where they are empty, and
/// what an empty one is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    /// Fields that are lists: without a value they are empty, and `null` as JSON.
    pub lists: &'static [&'static str],
    /// Fields that are maps: without a value they are empty, and `null` as JSON.
    pub maps: &'static [&'static str],
    /// Fields that are texts.
    pub texts: &'static [&'static str],
    /// Fields that are true or false.
    pub flags: &'static [&'static str],
    /// Fields that may be left out, by the field that they are in; the empty name is the top level.
    pub optional: &'static [(&'static str, &'static [&'static str])],
    /// Go's name of a field where JSON has another: the field that it is in, Go's name, JSON's name.
    pub go_names: &'static [(&'static str, &'static str, &'static str)],
}

/// What is known of template values beyond what they hold, by their addresses.
#[derive(Debug, Default)]
pub(crate) struct KeyOrder {
    /// Order of the keys of each JSON object.
    ///
    /// Template maps are sorted; `{{json .}}` must print an API object in the daemon's order.
    keys: HashMap<usize, Vec<String>>,
    /// Empty lists and maps that are `null` as JSON.
    nulls: HashSet<usize>,
}

/// Where a value stands.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    Top,
    /// A field of the top level.
    Field(&'a str),
    Deeper(&'a str),
}

impl<'a> Place<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Top => "",
            Self::Field(name) | Self::Deeper(name) => name,
        }
    }

    /// Says whether this is the top level, for the empty name, or a field of it.
    fn is(self, name: &str) -> bool {
        match self {
            Self::Top => name.is_empty(),
            Self::Field(field) => field == name,
            Self::Deeper(_) => false,
        }
    }

    fn inner<'b>(self, name: &'b str) -> Place<'b> {
        match self {
            Self::Top => Place::Field(name),
            _ => Place::Deeper(name),
        }
    }
}

impl KeyOrder {
    /// Returns a JSON value as a template value and notes what it does not hold.
    pub(crate) fn take(&mut self, json: &Json, shape: &Shape) -> Value {
        *self = Self::default();
        self.value(json, shape, Place::Top)
    }

    fn value(&mut self, json: &Json, shape: &Shape, at: Place<'_>) -> Value {
        match json {
            Json::Null => self.empty(at.name(), shape),
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(signed), _) => Value::Int(signed),
                (None, Some(unsigned)) => Value::Uint(unsigned),
                (None, None) => Value::Float(number.as_f64().unwrap_or(0.0)),
            },
            Json::String(text) => Value::String(text.as_str().into()),
            Json::Array(items) => {
                let items = items.iter();
                Value::List(
                    items
                        .map(|item| self.value(item, shape, at.inner("")))
                        .collect(),
                )
            }
            Json::Object(members) => {
                let mut map: BTreeMap<Arc<str>, Value> = members
                    .iter()
                    .map(|(key, value)| {
                        (key.as_str().into(), self.value(value, shape, at.inner(key)))
                    })
                    .collect();
                for (_, go_name, name) in shape.go_names.iter().filter(|(of, ..)| at.is(of)) {
                    if let Some(value) = map.get(*name).cloned() {
                        map.insert((*go_name).into(), value);
                    }
                }
                for name in optional(shape, at) {
                    if !map.contains_key(*name) {
                        map.insert((*name).into(), self.empty(name, shape));
                    }
                }
                let map = Arc::new(map);
                self.keys
                    .insert(address_of_map(&map), members.keys().cloned().collect());
                Value::Map(map)
            }
        }
    }

    /// Returns what a field holds that has no value.
    fn empty(&mut self, name: &str, shape: &Shape) -> Value {
        if shape.lists.contains(&name) {
            let list: Arc<[Value]> = Arc::from(Vec::new());
            self.nulls.insert(address_of_list(&list));
            Value::List(list)
        } else if shape.maps.contains(&name) {
            let map = Arc::default();
            self.nulls.insert(address_of_map(&map));
            Value::Map(map)
        } else if shape.texts.contains(&name) {
            Value::String("".into())
        } else if shape.flags.contains(&name) {
            Value::Bool(false)
        } else {
            Value::Nil
        }
    }
}

fn optional<'a>(shape: &'a Shape, at: Place<'a>) -> impl Iterator<Item = &'a &'static str> {
    let fields = shape.optional.iter();
    let here = fields.filter(move |(parent, _)| at.is(parent));
    here.flat_map(|(_, names)| names.iter())
}

fn address_of_map(map: &Arc<BTreeMap<Arc<str>, Value>>) -> usize {
    Arc::as_ptr(map) as usize
}

fn address_of_list(list: &Arc<[Value]>) -> usize {
    Arc::as_ptr(list).cast::<Value>() as usize
}

/// Returns a template value as JSON, its keys in the order noted.
pub(crate) fn to_json(value: &Value, order: &KeyOrder) -> Json {
    match value {
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Int(number) => Json::from(*number),
        Value::Uint(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::String(text) => Json::from(text.as_ref()),
        Value::List(items) if order.nulls.contains(&address_of_list(items)) => Json::Null,
        Value::List(items) => items.iter().map(|item| to_json(item, order)).collect(),
        Value::Map(map) if order.nulls.contains(&address_of_map(map)) => Json::Null,
        Value::Map(map) => {
            let keys = order.keys.get(&address_of_map(map));
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
