//! Small text helpers of the tables: ellipsis, short ids, times, labels.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};

/// Length of a short identifier, in hexadecimal digits.
pub const SHORT_ID_LENGTH: usize = 12;

/// Returns `text` cut to `width` terminal columns, ending in `…` where something was cut.
///
/// East Asian wide characters count two columns.
#[must_use]
pub fn ellipsis(text: &str, width: usize) -> String {
    if width == 0 {
        return String::new();
    }
    if width == 1 {
        return text.chars().next().map(String::from).unwrap_or_default();
    }
    let total: usize = text.chars().map(columns).sum();
    if total <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for character in text.chars() {
        if used + columns(character) > width - 1 {
            break;
        }
        used += columns(character);
        cut.push(character);
    }
    cut.push('…');
    cut
}

/// Returns the first 12 digits of an identifier, without its algorithm prefix.
#[must_use]
pub fn short_id(id: &str) -> &str {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..SHORT_ID_LENGTH).unwrap_or(digits)
}

/// Returns labels as `k=v,k2=v2`, sorted by key.
#[must_use]
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

/// Returns a point in time as Go prints it, in the local zone: `2017-07-14 02:40:00 +0000 UTC`.
#[must_use]
pub fn local_time(unix_seconds: i64) -> String {
    go_time(unix_seconds, TimeZone::system())
}

/// Returns an RFC 3339 timestamp as Go prints it, to the nanosecond, or the text itself when it is none.
#[must_use]
pub fn go_timestamp(timestamp: &str) -> String {
    let Ok(time) = timestamp.parse::<Timestamp>() else {
        return timestamp.to_owned();
    };
    time.to_zoned_datetime(zone_of(timestamp))
        .strftime("%Y-%m-%d %H:%M:%S%.f %z %Z")
        .to_string()
}

/// Returns the zone that a timestamp is written in.
fn zone_of(timestamp: &str) -> TimeZone {
    let offset = jiff::fmt::temporal::Pieces::parse(timestamp)
        .ok()
        .and_then(|pieces| pieces.to_numeric_offset());
    match offset {
        Some(offset) if !offset.is_zero() => offset.to_time_zone(),
        _ => TimeZone::UTC,
    }
}

/// Returns how long ago a point in time was, with docker's rounding: `5 minutes ago`.
#[must_use]
pub fn time_ago(unix_seconds: i64) -> String {
    let elapsed = Timestamp::now()
        .as_millisecond()
        .saturating_sub(unix_seconds.saturating_mul(1000));
    format!("{} ago", crate::units::human_duration(elapsed))
}

/// Returns the unix time of an RFC 3339 timestamp, or nothing when it is absent or Go's zero time.
#[must_use]
pub fn unix_seconds(timestamp: &str) -> Option<i64> {
    let parsed: Timestamp = timestamp.parse().ok()?;
    (parsed.as_second() > -62_135_596_800).then(|| parsed.as_second())
}

fn go_time(unix_seconds: i64, zone: TimeZone) -> String {
    match Timestamp::from_second(unix_seconds) {
        Ok(time) => time
            .to_zoned_datetime(zone)
            .strftime("%Y-%m-%d %H:%M:%S %z %Z")
            .to_string(),
        Err(_) => String::new(),
    }
}

/// Returns how many terminal columns a character takes (the wide ranges of Unicode's EastAsianWidth.txt).
fn columns(character: char) -> usize {
    const WIDE: [(u32, u32); 12] = [
        (0x1100, 0x115F),
        (0x2E80, 0x303E),
        (0x3041, 0x33FF),
        (0x3400, 0x4DBF),
        (0x4E00, 0x9FFF),
        (0xA000, 0xA4CF),
        (0xAC00, 0xD7A3),
        (0xF900, 0xFAFF),
        (0xFE30, 0xFE6F),
        (0xFF00, 0xFF60),
        (0x1F300, 0x1F64F),
        (0x20000, 0x3FFFD),
    ];
    let code = u32::from(character);
    if WIDE
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&code))
    {
        2
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_and_times() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
        assert_eq!(
            go_time(1_500_000_000, TimeZone::UTC),
            "2017-07-14 02:40:00 +0000 UTC"
        );
        assert_eq!(unix_seconds("0001-01-01T00:00:00Z"), None);
        assert_eq!(unix_seconds("2017-07-14T02:40:00.5Z"), Some(1_500_000_000));
    }
}
