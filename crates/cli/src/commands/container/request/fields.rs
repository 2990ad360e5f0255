//! Fields of the request's objects, left out where nothing was said.

use serde_json::{Map, Value as Json, json};

use crate::error::{CliError, Result};

/// Adds a text that was given.
pub(super) fn put_text(object: &mut Map<String, Json>, key: &str, text: Option<&String>) {
    if let Some(text) = text {
        object.insert(key.into(), text.as_str().into());
    }
}

/// Adds a list that holds something.
pub(super) fn put_list(object: &mut Map<String, Json>, key: &str, list: &[String]) {
    if !list.is_empty() {
        object.insert(key.into(), json!(list));
    }
}

/// Adds an object that holds something.
pub(super) fn put_map(object: &mut Map<String, Json>, key: &str, map: Map<String, Json>) {
    if !map.is_empty() {
        object.insert(key.into(), Json::Object(map));
    }
}

/// Adds names as the keys of an object with empty values, as the API has sets.
pub(super) fn put_set(object: &mut Map<String, Json>, key: &str, names: Vec<String>) {
    put_map(
        object,
        key,
        names.into_iter().map(|name| (name, json!({}))).collect(),
    );
}

/// Adds what the values of a flag say, each read by `parse`; an error names the flag and the value.
pub(super) fn put_parsed<'a>(
    object: &mut Map<String, Json>,
    (key, flag): (&str, &str),
    values: impl IntoIterator<Item = &'a String>,
    parse: impl Fn(&str) -> Result<Json>,
) -> Result<()> {
    let parsed = values
        .into_iter()
        .map(|value| parse(value).map_err(|error| CliError::value(flag, value, error)))
        .collect::<Result<Vec<_>>>()?;
    if !parsed.is_empty() {
        object.insert(key.into(), parsed.into());
    }
    Ok(())
}
