//! Sizes in powers of 1000 and 1024.

use crate::UnitError;

const DECIMAL_UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY_UNITS: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

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

/// Returns the bytes that a size names, powers of 1000: `10m` and `10MiB` are 10000000 (docker's limits of log files).
///
/// # Errors
/// A text that is no size, is below zero or too large.
pub fn size_in_bytes(text: &str) -> Result<i64, UnitError> {
    parse_size(text, 1000.0)
}

/// Returns the bytes that a memory size names, powers of 1024: `512m` is 536870912.
///
/// # Errors
/// A text that is no size, is below zero or too large.
pub fn ram_in_bytes(text: &str) -> Result<i64, UnitError> {
    parse_size(text, 1024.0)
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
