//! `--since` and `--until`: points in time as docker lets people write them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::error::{CliError, Result};
use crate::units;

/// Returns the API's `seconds.nanoseconds` for a point in time (engine-api.md §3).
///
/// Accepted are unix seconds with an optional fraction, a Go duration before now, RFC 3339, and its forms without
/// zone (the caller's zone then) or without time.
pub fn to_query(text: &str) -> Result<String> {
    to_query_at(text, Timestamp::now(), TimeZone::system())
}

fn to_query_at(text: &str, now: Timestamp, zone: TimeZone) -> Result<String> {
    let is_number = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number {
        return Ok(text.to_owned());
    }
    let wrong = || {
        CliError::usage(format!(
            "invalid time {text:?}: expected a unix time, a duration such as 10m, or a date such as 2024-05-01T10:00:00"
        ))
    };
    if let Ok(nanoseconds) = units::parse_duration(text) {
        let moment = now
            .checked_sub(SignedDuration::from_nanos(nanoseconds))
            .map_err(|_| wrong())?;
        return Ok(format_moment(moment));
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(format_moment(moment));
    }
    let full = match text.split_once('T') {
        None => format!("{text}T00:00:00"),
        Some((_, time)) if time.matches(':').count() == 1 => format!("{text}:00"),
        Some((_, time)) if !time.contains(':') && time.len() == 2 => format!("{text}:00:00"),
        Some(_) => text.to_owned(),
    };
    let civil: DateTime = full.parse().map_err(|_| wrong())?;
    let zoned = zone.to_timestamp(civil).map_err(|_| wrong())?;
    Ok(format_moment(zoned))
}

fn format_moment(moment: Timestamp) -> String {
    format!("{}.{:09}", moment.as_second(), moment.subsec_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_the_notations() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let cases = [
            ("1700000000", "1700000000"),
            ("1700000000.5", "1700000000.5"),
            ("10m", "1699999400.000000000"),
            ("2023-11-14T22:13:20Z", "1700000000.000000000"),
            ("2023-11-14T22:13:20.25Z", "1700000000.250000000"),
            ("2023-11-14T22:13:20", "1700000000.000000000"),
            ("2023-11-14T22:13", "1699999980.000000000"),
            ("2023-11-14", "1699920000.000000000"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                to_query_at(text, now, TimeZone::UTC).unwrap(),
                expected,
                "{text}"
            );
        }
        for bad in ["", "yesterday", "2023-13-01"] {
            assert!(to_query_at(bad, now, TimeZone::UTC).is_err(), "{bad}");
        }
    }
}
