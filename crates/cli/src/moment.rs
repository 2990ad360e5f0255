//! `--since` and `--until`: points in time as docker lets people write them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::error::{CliError, Result};
use crate::units;

/// Returns the API's `seconds.nanoseconds` for a point in time (engine-api.md §3); a time without a zone is in the
/// caller's.
pub fn to_query(text: &str) -> Result<String> {
    let moment = units::parse_moment(text, Timestamp::now(), &TimeZone::system()).map_err(|_| {
        CliError::usage(format!(
            "invalid time {text:?}: expected a unix time, a duration such as 10m, or a date such as 2024-05-01T10:00:00"
        ))
    })?;
    Ok(format!(
        "{}.{:09}",
        moment.as_second(),
        moment.subsec_nanosecond()
    ))
}

/// Returns today's date, or that of `SOURCE_DATE_EPOCH`, by which what is built again is the same
/// (reproducible-builds.org).
pub fn today() -> String {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let given = given.and_then(|seconds| Timestamp::from_second(seconds.parse().ok()?).ok());
    let moment = given.unwrap_or_else(Timestamp::now);
    moment.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits() {
        assert_eq!(to_query("1700000000.5").unwrap(), "1700000000.500000000");
        assert_eq!(
            to_query("2023-11-14T22:13:20Z").unwrap(),
            "1700000000.000000000"
        );
        assert!(to_query("yesterday").is_err());
    }
}
