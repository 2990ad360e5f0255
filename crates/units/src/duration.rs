//! Durations in words and in Go's notation.

use crate::UnitError;

const MINUTE_SECONDS: i64 = 60;
const HOUR_SECONDS: i64 = 60 * MINUTE_SECONDS;

/// Returns a duration rounded the way docker's tables do: `About an hour`, `5 minutes`.
#[must_use]
pub fn human_duration(milliseconds: i64) -> String {
    let seconds = milliseconds / 1000;
    let minutes = seconds / MINUTE_SECONDS;
    // The engine rounds to the nearest hour, so that 1 h 31 min is two hours.
    let hours = (milliseconds as f64 / 3_600_000.0).round() as i64;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < MINUTE_SECONDS => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / HOUR_SECONDS / 24 / 365),
    }
}

/// Returns the nanoseconds of a duration such as `1h30m`, `1.5s`, `-100ms` (Go's notation).
///
/// # Errors
/// Go's text for a number without a unit, an unknown unit, or a duration above 292 years.
pub fn parse_duration(text: &str) -> Result<i64, UnitError> {
    let invalid = || UnitError(format!("time: invalid duration {text:?}"));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number_length = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_length);
        let unit_length = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, remaining) = after.split_at(unit_length);
        if unit.is_empty() {
            return Err(UnitError(format!(
                "time: missing unit in duration {text:?}"
            )));
        }
        let scale = unit_nanoseconds(unit).ok_or_else(|| {
            UnitError(format!("time: unknown unit {unit:?} in duration {text:?}"))
        })?;
        total += scaled_decimal(number, scale).ok_or_else(invalid)?;
        if total > 1 << 63 {
            return Err(invalid());
        }
        rest = remaining;
    }
    let signed = if negative {
        -(total as i128)
    } else {
        total as i128
    };
    i64::try_from(signed).map_err(|_| invalid())
}

fn unit_nanoseconds(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Returns `number × scale` for a plain decimal, rounded down, without going through floating point.
fn scaled_decimal(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut result = whole.checked_mul(scale)?;
    let mut step = scale;
    for digit in fraction.bytes() {
        // Digits past the resolution of the unit cannot change the result.
        if step == 0 {
            break;
        }
        result += u128::from(digit - b'0') * step / 10;
        step /= 10;
    }
    Some(result)
}
