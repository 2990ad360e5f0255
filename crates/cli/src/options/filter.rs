//! `--filter name=value`.

use serde_json::{Map, Value as Json, json};

use crate::error::{CliError, EXIT_ENGINE_FAILURE, Result};

/// Returns the `filters` query parameter of all `--filter` values, or nothing when there are none.
///
/// The form is `{"name":{"value":true}}` (engine-api.md §3).
pub fn query(filters: &[String]) -> Result<Option<String>> {
    let parsed = parse(filters)?;
    Ok((!parsed.is_empty()).then(|| Json::Object(parsed).to_string()))
}

/// Returns the filters as an object of objects; an empty value adds none.
pub fn parse(filters: &[String]) -> Result<Map<String, Json>> {
    let mut all = Map::new();
    for filter in filters.iter().filter(|filter| !filter.is_empty()) {
        let (name, value) = filter
            .split_once('=')
            .ok_or_else(|| {
                CliError::usage(format!(
                    "invalid argument {filter:?} for \"--filter\" flag: bad format of filter (expected name=value)"
                ))
                .with_status(EXIT_ENGINE_FAILURE)
            })?;
        let values = all
            .entry(name.trim().to_lowercase())
            .or_insert_with(|| json!({}));
        if let Some(values) = values.as_object_mut() {
            values.insert(value.trim().to_owned(), true.into());
        }
    }
    Ok(all)
}
