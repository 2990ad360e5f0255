//! Points in time as docker lets people write them (`--since`, `--until`, the filter `until`).

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::{UnitError, parse_duration};

/// Digits of a fraction of a second that count.
const FRACTION_DIGITS: usize = 9;

/// Returns a point in time.
///
/// Accepted are a Go duration before `now`; a date, or a date and time of the precision of hours, minutes or seconds,
/// with the zone of RFC 3339 or without, `zone` being taken then; and seconds since 1970 with an optional fraction,
/// which is cut after nine digits. Daemons and clients read the same notations (spec engine-api §3).
///
/// # Errors
/// A text that is none of these, or a time out of range.
pub fn parse_moment(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, UnitError> {
    if text != "0"
        && let Ok(nanoseconds) = parse_duration(text)
    {
        let moment = now.checked_sub(SignedDuration::from_nanos(nanoseconds));
        return moment.map_err(|_| out_of_range(text));
    }
    if text.contains('-') {
        return parse_date(text, zone);
    }
    parse_seconds(text)
}

/// Reads `seconds[.fraction]`.
fn parse_seconds(text: &str) -> Result<Timestamp, UnitError> {
    let malformed = || {
        UnitError(format!(
            "failed to parse value as time or duration: {text:?}"
        ))
    };
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let number: i64 = seconds.parse().map_err(|_| malformed())?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    let digits = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let nanoseconds = format!("{digits:0<FRACTION_DIGITS$}").parse().unwrap_or(0);
    Timestamp::new(number, nanoseconds).map_err(|_| out_of_range(text))
}

/// Reads a date with as much of a time behind it as there is.
fn parse_date(text: &str, zone: &TimeZone) -> Result<Timestamp, UnitError> {
    let malformed = || {
        UnitError(format!(
            "parsing time {text:?}: expected a date such as 2024-05-01 or 2024-05-01T10:00:00Z"
        ))
    };
    let date_length = text
        .find('T')
        .unwrap_or_else(|| text.len().min("2006-01-02".len()));
    let (date, rest) = text.split_at_checked(date_length).ok_or_else(malformed)?;
    let date = parse_day(date).ok_or_else(malformed)?;
    let rest = rest.strip_prefix('T').unwrap_or(rest);
    let time_length = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (time, offset) = rest.split_at(time_length);
    let time = parse_time(time).ok_or_else(malformed)?;
    let civil = DateTime::from_parts(date, time);
    let zone = if offset.is_empty() {
        zone.clone()
    } else {
        parse_offset(offset).ok_or_else(malformed)?
    };
    zone.to_timestamp(civil).map_err(|_| out_of_range(text))
}

fn parse_day(text: &str) -> Option<Date> {
    let [year, month, day] = fields(text, '-')?;
    let number = |text: &str, digits: usize| two_digits(text, digits);
    Date::new(
        number(year, 4)?,
        number(month, 2)?.try_into().ok()?,
        number(day, 2)?.try_into().ok()?,
    )
    .ok()
}

/// Reads nothing, `15`, `15:04`, `15:04:05` or `15:04:05.999`.
fn parse_time(text: &str) -> Option<Time> {
    if text.is_empty() {
        return Some(Time::midnight());
    }
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = [0_i8; 3];
    let mut count = 0;
    for part in clock.split(':') {
        *parts.get_mut(count)? = two_digits(part, 2)?.try_into().ok()?;
        count += 1;
    }
    let is_fraction = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !is_fraction || fraction.len() > FRACTION_DIGITS || (count < 3 && text.contains('.')) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<FRACTION_DIGITS$}").parse().ok()?;
    let [hour, minute, second] = parts;
    Time::new(hour, minute, second, nanoseconds).ok()
}

/// Reads `Z` or `±07:00`.
fn parse_offset(text: &str) -> Option<TimeZone> {
    if text == "Z" {
        return Some(TimeZone::UTC);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let (hours, minutes) = (two_digits(hours, 2)?, two_digits(minutes, 2)?);
    if hours > 24 || minutes > 59 {
        return None;
    }
    let seconds = sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60);
    Some(TimeZone::fixed(
        jiff::tz::Offset::from_seconds(seconds).ok()?,
    ))
}

fn fields(text: &str, separator: char) -> Option<[&str; 3]> {
    let mut parts = text.split(separator);
    let found = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(found)
}

/// Reads a number of exactly this many digits.
fn two_digits(text: &str, digits: usize) -> Option<i16> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn out_of_range(text: &str) -> UnitError {
    UnitError(format!("time {text:?} is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_the_notations() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let cases = [
            ("1700000000", 1_700_000_000_000_000_000),
            ("1700000000.5", 1_700_000_000_500_000_000),
            ("10m", 1_699_999_400_000_000_000),
            ("0", 0),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
            ("2023-11-14T22:13:20.25Z", 1_700_000_000_250_000_000),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000_000_000_000),
            ("2023-11-14T22:13:20", 1_700_000_000_000_000_000),
            ("2023-11-14T22:13", 1_699_999_980_000_000_000),
            ("2023-11-14T22", 1_699_999_200_000_000_000),
            ("2023-11-14", 1_699_920_000_000_000_000),
            ("2023-11-14Z", 1_699_920_000_000_000_000),
        ];
        for (text, expected) in cases {
            let found = parse_moment(text, now, &TimeZone::UTC).unwrap();
            assert_eq!(found.as_nanosecond(), expected, "{text}");
        }
        for bad in [
            "",
            " ",
            "yesterday",
            "2023-13-01",
            "2023-1-01",
            "2023-11-14T",
            "1.x",
            "1e3",
        ] {
            let found = parse_moment(bad, now, &TimeZone::UTC);
            assert_eq!(found.is_err(), bad != "2023-11-14T", "{bad}: {found:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,40}|[0-9TZ:.+-]{0,30}") {
            let _ = parse_moment(&text, Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        }
    }
}
