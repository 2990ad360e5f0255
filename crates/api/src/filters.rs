//! The `filters` parameter in both its spellings (spec engine-api §3).

use crate::limits::MAX_FILTER_VALUES;
use crate::query::Query;
use crate::respond::Failure;
use serde::Deserialize;
use std::collections::BTreeMap;
use wharf_engine::model::request::Filters;

/// Reads the `filters` parameter. The keys are checked by whoever applies them.
///
/// # Errors
/// 400 `invalid filter` for another shape.
pub(crate) fn from_query(query: &Query) -> Result<Filters, Failure> {
    parse(query.text("filters"))
}

/// Refuses keys that a call does not take.
///
/// # Errors
/// 400 `invalid filter 'x'`.
pub(crate) fn accept(filters: &Filters, keys: &[&str]) -> Result<(), Failure> {
    match filters.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(Failure::bad_request(format!("invalid filter '{key}'"))),
        None => Ok(()),
    }
}

/// Parses a filter document: `{"key":{"value":true}}`, or `{"key":["value"]}` of older clients.
pub(crate) fn parse(text: &str) -> Result<Filters, Failure> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Values {
        Set(BTreeMap<String, bool>),
        List(Vec<String>),
    }
    if text.is_empty() {
        return Ok(Filters::new());
    }
    let document: Option<BTreeMap<String, Values>> =
        serde_json::from_str(text).map_err(|_| Failure::bad_request("invalid filter"))?;
    let filters: Filters = document
        .unwrap_or_default()
        .into_iter()
        .map(|(key, values)| {
            let mut values: Vec<String> = match values {
                // The truth value has no meaning: a key that is there counts (as docker reads it).
                Values::Set(set) => set.into_keys().collect(),
                Values::List(list) => list,
            };
            values.sort_unstable();
            values.dedup();
            (key, values)
        })
        .collect();
    if filters.values().map(Vec::len).sum::<usize>() > MAX_FILTER_VALUES {
        return Err(Failure::bad_request(format!(
            "invalid filter: at most {MAX_FILTER_VALUES} values are accepted"
        )));
    }
    Ok(filters)
}

/// Tells whether `source` is one of a key's values; a key without values matches everything.
pub(crate) fn matches_exactly(filters: &Filters, key: &str, source: &str) -> bool {
    filters
        .get(key)
        .is_none_or(|values| values.is_empty() || values.iter().any(|value| value == source))
}

/// Tells whether every `k` or `k=v` of a key is among `pairs`.
pub(crate) fn matches_pairs(
    filters: &Filters,
    key: &str,
    pairs: &BTreeMap<String, String>,
) -> bool {
    filters.get(key).is_none_or(|values| {
        values.iter().all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => pairs.get(name).is_some_and(|found| found == value),
            None => pairs.contains_key(wanted.as_str()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_keys_a_call_does_not_take() {
        let query = Query::parse("filters=%7B%22foo%22:[%22x%22]%7D").expect("a query");
        let filters = from_query(&query).expect("filters");
        let failure = accept(&filters, &["label"]).expect_err("foo is unknown");
        assert_eq!(failure.message(), "invalid filter 'foo'");
        assert!(accept(&filters, &["foo"]).is_ok());
    }

    #[test]
    fn stops_at_the_limit_of_values() {
        let document = |count: usize| {
            let values: Vec<String> = (0..count).map(|index| format!("\"{index}\"")).collect();
            format!("{{\"a\":[{}]}}", values.join(","))
        };
        assert!(parse(&document(MAX_FILTER_VALUES)).is_ok());
        assert!(parse(&document(MAX_FILTER_VALUES + 1)).is_err());
    }
}
