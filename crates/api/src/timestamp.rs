//! Times on the wire: query parameters in, RFC 3339 texts out (spec engine-api §3, §8).

use jiff::Timestamp;
use jiff::fmt::strtime;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// What Go prints for a time that was never set.
pub(crate) const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Parses `seconds[.fraction]` since 1970 into nanoseconds; an empty text is None.
///
/// Digits past the ninth of the fraction are dropped. What lies past the year 2262 is that year.
///
/// # Errors
/// docker's text without its `invalid value for …` head.
pub(crate) fn parse_unix(text: &str) -> Result<Option<i64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let fail = |part: &str| {
        format!("invalid timestamp {text:?}: invalid seconds {part:?}: invalid syntax")
    };
    let (seconds_text, fraction_text) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds_text.parse().map_err(|_| fail(seconds_text))?;
    let nanos = parse_fraction(fraction_text).ok_or_else(|| {
        format!("invalid timestamp {text:?}: invalid nanoseconds {fraction_text:?}: invalid syntax")
    })?;
    Ok(Some(
        seconds
            .saturating_mul(NANOS_PER_SECOND)
            .saturating_add(nanos),
    ))
}

/// Reads up to nine digits of a decimal fraction as nanoseconds.
fn parse_fraction(text: &str) -> Option<i64> {
    let digits = text.get(..text.len().min(9))?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{digits:0<9}").parse().ok()
}

/// Returns RFC 3339 with as many digits of the second as are needed, as Go's `RFC3339Nano` does;
/// 0 is [`ZERO_TIME`].
pub(crate) fn rfc3339_nano(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return ZERO_TIME.to_owned();
    }
    to_timestamp(nanoseconds).to_string()
}

/// Returns RFC 3339 with nine digits of the second, as log lines carry it (spec engine-api §11).
pub(crate) fn rfc3339_fixed(nanoseconds: i64) -> String {
    strtime::format("%Y-%m-%dT%H:%M:%S.%9fZ", to_timestamp(nanoseconds)).unwrap_or_default()
}

/// Returns RFC 3339 without a fraction.
pub(crate) fn rfc3339_seconds(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return ZERO_TIME.to_owned();
    }
    strtime::format("%Y-%m-%dT%H:%M:%SZ", to_timestamp(nanoseconds)).unwrap_or_default()
}

/// Returns nanoseconds since 1970, now.
pub(crate) fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Returns whole seconds since 1970 of a time in nanoseconds.
pub(crate) fn seconds(nanoseconds: i64) -> i64 {
    nanoseconds.div_euclid(NANOS_PER_SECOND)
}

fn to_timestamp(nanoseconds: i64) -> Timestamp {
    // Every i64 of nanoseconds lies between the years 1677 and 2262.
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_times_are_the_last_one() {
        assert_eq!(
            parse_unix("9223372036"),
            Ok(Some(9_223_372_036_000_000_000))
        );
        assert_eq!(parse_unix("9999999999.5"), Ok(Some(i64::MAX)));
        assert_eq!(parse_unix("-9999999999"), Ok(Some(i64::MIN)));
        assert!(parse_unix("99999999999999999999").is_err());
    }

    #[test]
    fn prints_times_as_go_does() {
        assert_eq!(rfc3339_nano(0), ZERO_TIME);
        assert_eq!(
            rfc3339_nano(1_714_557_600_000_000_001),
            "2024-05-01T10:00:00.000000001Z"
        );
        assert_eq!(
            rfc3339_nano(1_714_557_600_120_000_000),
            "2024-05-01T10:00:00.12Z"
        );
        assert_eq!(
            rfc3339_fixed(1_714_557_600_120_000_000),
            "2024-05-01T10:00:00.120000000Z"
        );
        assert_eq!(
            rfc3339_seconds(1_714_557_600_120_000_000),
            "2024-05-01T10:00:00Z"
        );
    }
}
