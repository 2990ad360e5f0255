//! Docker's list filters (spec engine-api §3).

use crate::error::{EngineError, Result};
use crate::model::request::Filters;
use std::collections::BTreeMap;

use jiff::tz::TimeZone;

/// Refuses filter keys that a call does not know.
///
/// # Errors
/// Docker's `invalid filter 'x'`.
pub(crate) fn allow(filters: &Filters, known: &[&str]) -> Result<()> {
    match filters.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(EngineError::invalid(format!("invalid filter '{key}'"))),
        None => Ok(()),
    }
}

/// Returns the values of a key.
pub(crate) fn values<'a>(filters: &'a Filters, key: &str) -> &'a [String] {
    filters.get(key).map_or(&[], Vec::as_slice)
}

/// Reads a filter that is true or false.
///
/// # Errors
/// Docker's text for anything else.
pub(crate) fn flag(filters: &Filters, key: &str) -> Result<Option<bool>> {
    let Some(values) = filters.get(key).filter(|values| !values.is_empty()) else {
        return Ok(None);
    };
    let parse = |value: &String| match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "t" => Some(true),
        "0" | "false" | "f" => Some(false),
        _ => None,
    };
    let invalid = || EngineError::invalid(format!("invalid filter '{key}=[{}]'", values.join(" ")));
    values.first().and_then(parse).ok_or_else(invalid).map(Some)
}

/// Tells whether labels match every `label` (`k` or `k=v`) and none of `label!`.
pub(crate) fn labels_match(filters: &Filters, labels: &BTreeMap<String, String>) -> bool {
    let has = |wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
        None => labels.contains_key(wanted),
    };
    values(filters, "label").iter().all(has) && !values(filters, "label!").iter().any(has)
}

/// Reads the `until` filter: a duration before now, seconds since 1970, a date or RFC 3339 text.
///
/// # Errors
/// A text that is none of these, or more than one value.
pub(crate) fn until_ns(filters: &Filters) -> Result<Option<i64>> {
    match values(filters, "until") {
        [] => Ok(None),
        [text] => {
            let now = jiff::Timestamp::now();
            let moment = wharf_units::parse_moment(text, now, &TimeZone::system())
                .map_err(|error| EngineError::invalid(error.to_string()))?;
            i64::try_from(moment.as_nanosecond())
                .map(Some)
                .map_err(|_| EngineError::invalid(format!("invalid filter 'until={text}'")))
        }
        _ => Err(EngineError::invalid("more than one until filter specified")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_takes_a_time_and_only_one() {
        let until = |values: &[&str]| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            until_ns(&Filters::from([("until".to_owned(), values)]))
                .map_err(|error| error.message().to_owned())
        };
        assert_eq!(until(&[]), Ok(None));
        assert_eq!(until(&["1.5"]), Ok(Some(1_500_000_000)));
        for text in ["nonsense", "1x", ""] {
            let expected = format!("failed to parse value as time or duration: {text:?}");
            assert_eq!(until(&[text]), Err(expected));
        }
        let expected = "more than one until filter specified";
        assert_eq!(until(&["1h", "2h"]), Err(expected.to_owned()));
    }

    #[test]
    fn labels() {
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let filter =
            |key: &str, value: &str| Filters::from([(key.to_owned(), vec![value.to_owned()])]);
        for (key, value, expected) in [
            ("label", "a", true),
            ("label", "a=b", true),
            ("label", "a=c", false),
            ("label!", "a", false),
            ("label!", "x", true),
        ] {
            assert_eq!(
                labels_match(&filter(key, value), &labels),
                expected,
                "{key} {value}"
            );
        }
    }
}
