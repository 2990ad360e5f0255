//! Sizes, durations and limits as people write and read them (the conventions of docker's go-units).

use std::fmt;

const DECIMAL_UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY_UNITS: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

const MINUTE_SECONDS: i64 = 60;
const HOUR_SECONDS: i64 = 60 * MINUTE_SECONDS;

/// Returns a size in powers of 1000 with four significant digits: `1.967MB`.
#[must_use]
pub fn human_size(bytes: f64) -> String {
    scaled(bytes, 1000.0, 4, &DECIMAL_UNITS)
}

/// Returns a size in powers of 1000 with three significant digits, as docker's tables show: `1.97MB`.
#[must_use]
pub fn human_size_short(bytes: f64) -> String {
    scaled(bytes, 1000.0, 3, &DECIMAL_UNITS)
}

/// Returns a size in powers of 1024 with four significant digits: `29.27KiB`.
#[must_use]
pub fn bytes_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, 4, &BINARY_UNITS)
}

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

/// Returns the bytes that a memory size names, powers of 1024: `512m` is 536870912.
pub fn ram_in_bytes(text: &str) -> Result<i64, UnitError> {
    parse_size(text, 1024.0)
}

/// A value in one of the notations of this module that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(pub String);

/// One `--ulimit`: a soft and a hard limit; -1 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// Resource name as in setrlimit(2), lower-case, without `RLIMIT_`.
    pub name: String,
    /// The limit that is in force.
    pub soft: i64,
    /// The ceiling the soft limit may be raised to.
    pub hard: i64,
}

impl fmt::Display for Ulimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}:{}", self.name, self.soft, self.hard)
    }
}

const ULIMIT_NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Returns the limit written as `name=soft[:hard]`.
pub fn parse_ulimit(text: &str) -> Result<Ulimit, UnitError> {
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| UnitError(format!("invalid ulimit argument: {text}")))?;
    if !ULIMIT_NAMES.contains(&name) {
        return Err(UnitError(format!("invalid ulimit type: {name}")));
    }
    let (soft_text, hard_text) = match limits.split_once(':') {
        Some((soft, hard)) => (soft, Some(hard)),
        None => (limits, None),
    };
    let number = |part: &str| {
        part.parse::<i64>()
            .map_err(|_| UnitError(format!("invalid ulimit value: {part:?} is not an integer")))
    };
    if hard_text.is_some_and(|hard| hard.contains(':')) {
        return Err(UnitError(format!(
            "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
        )));
    }
    let soft = number(soft_text)?;
    let hard = hard_text.map(number).transpose()?.unwrap_or(soft);
    if hard != -1 {
        if soft == -1 {
            return Err(UnitError(format!(
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
            )));
        }
        if soft > hard {
            return Err(UnitError(format!(
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            )));
        }
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

/// Returns the nanoseconds of a duration such as `1h30m`, `1.5s`, `-100ms` (Go's notation).
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

/// Returns `count` and the singular or plural of a noun.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

/// Formats a number like C's and Go's `%.<digits>g`.
#[must_use]
pub fn significant_digits(value: f64, digits: usize) -> String {
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!(
            "{}e{sign}{:02}",
            without_trailing_zeros(mantissa),
            exponent.abs()
        );
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    without_trailing_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn without_trailing_zeros(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

fn scaled(mut size: f64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut unit = units.iter();
    let mut name = unit.next().copied().unwrap_or_default();
    while size >= base {
        let Some(next) = unit.next() else { break };
        size /= base;
        name = next;
    }
    format!("{}{name}", significant_digits(size, digits))
}

fn parse_size(text: &str, base: f64) -> Result<i64, UnitError> {
    let invalid = || UnitError(format!("invalid size: '{text}'"));
    let last = text
        .rfind(|character: char| character.is_ascii_digit() || character == '.' || character == ' ')
        .ok_or_else(invalid)?;
    let (number, suffix) = text.split_at(last + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let value: f64 = number.replace('_', "").parse().map_err(|_| {
        UnitError(format!(
            "invalid size: '{text}': {number:?} is not a number"
        ))
    })?;
    if value < 0.0 {
        return Err(invalid());
    }
    let power = suffix_power(&suffix.to_ascii_lowercase())
        .ok_or_else(|| UnitError(format!("invalid suffix: '{suffix}'")))?;
    let bytes = value * base.powi(power);
    if bytes >= i64::MAX as f64 {
        return Err(UnitError(format!("invalid size: '{text}': too large")));
    }
    Ok(bytes as i64)
}

fn suffix_power(suffix: &str) -> Option<i32> {
    if suffix.is_empty() || suffix == "b" {
        return Some(0);
    }
    let mut characters = suffix.chars();
    let first = characters.next()?;
    if !matches!(characters.as_str(), "" | "b" | "ib") {
        return None;
    }
    "kmgtp".find(first).map(|index| index as i32 + 1)
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
