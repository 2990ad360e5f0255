//! Docker's list filters (spec engine-api §3).

use crate::clock::now_ns;
use crate::error::{EngineError, Result};
use crate::model::request::Filters;
use std::collections::BTreeMap;

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
    let invalid = || EngineError::invalid(format!("invalid filter '{key}={values:?}'"));
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
        [text] => parse_time_ns(text)
            .map(Some)
            .ok_or_else(|| EngineError::invalid(format!("invalid filter 'until={text}'"))),
        _ => Err(EngineError::invalid("more than one until filter specified")),
    }
}

fn parse_time_ns(text: &str) -> Option<i64> {
    if let Some(duration_ns) = parse_duration_ns(text) {
        return Some(now_ns() - duration_ns);
    }
    if let Some((seconds, nanos)) = text.split_once('.').or(Some((text, "0")))
        && let Ok(seconds) = seconds.parse::<i64>()
    {
        let nanos: i64 = format!("{nanos:0<9}").get(..9)?.parse().ok()?;
        return seconds.checked_mul(1_000_000_000)?.checked_add(nanos);
    }
    let local = |time: jiff::civil::DateTime| {
        let timestamp = jiff::tz::TimeZone::system().to_timestamp(time).ok()?;
        i64::try_from(timestamp.as_nanosecond()).ok()
    };
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return i64::try_from(time.as_nanosecond()).ok();
    }
    if let Ok(time) = text.parse::<jiff::civil::DateTime>() {
        return local(time);
    }
    text.parse::<jiff::civil::Date>()
        .ok()
        .and_then(|date| local(date.at(0, 0, 0, 0)))
}

/// Parses Go's durations: `1h30m`, `10s`, `250ms`.
pub(crate) fn parse_duration_ns(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total_ns = 0f64;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit_ns = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total_ns += number.parse::<f64>().ok()? * unit_ns;
        rest = tail;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates at the ends of i64"
    )]
    (!text.is_empty()).then_some(total_ns as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, valid) in [
            ("10m", true),
            ("1h30m", true),
            ("1700000000", true),
            ("1700000000.5", true),
            ("2024-01-02", true),
            ("2024-01-02T03:04:05Z", true),
            ("soon", false),
            ("", false),
        ] {
            assert_eq!(parse_time_ns(text).is_some(), valid, "{text}");
        }
        assert_eq!(parse_duration_ns("1m30s"), Some(90_000_000_000));
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
