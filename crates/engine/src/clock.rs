//! Time as the engine keeps it: nanoseconds since 1970, and RFC 3339 text in documents.

use jiff::Timestamp;

/// Returns the current time in nanoseconds since 1970.
pub fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Formats nanoseconds since 1970 as RFC 3339 with as many fractional digits as needed (Go's
/// `RFC3339Nano`); 0 becomes Go's zero time.
pub fn rfc3339(time_ns: i64) -> String {
    if time_ns == 0 {
        return "0001-01-01T00:00:00Z".to_owned();
    }
    Timestamp::from_nanosecond(i128::from(time_ns)).map_or_else(
        |_| "0001-01-01T00:00:00Z".to_owned(),
        |time| time.to_string(),
    )
}

/// Parses RFC 3339 text to nanoseconds since 1970; anything else is 0.
pub fn parse_rfc3339(text: &str) -> i64 {
    text.parse::<Timestamp>()
        .ok()
        .and_then(|time| i64::try_from(time.as_nanosecond()).ok())
        .unwrap_or(0)
}
