//! Limits: CPUs, memory, block devices.

use serde_json::{Value as Json, json};

use crate::error::{CliError, Result};
use crate::units;

/// Returns the billionths of a CPU that a decimal such as `1.5` names.
pub fn nano_cpus(text: &str) -> Result<i64> {
    let not_a_number = || CliError::usage(format!("failed to parse {text} as a rational number"));
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (
            &text[..at],
            text[at + 1..].parse::<i32>().map_err(|_| not_a_number())?,
        ),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = [whole, fraction].concat();
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(not_a_number());
    }
    let shift = 9 + exponent - i32::try_from(fraction.len()).map_err(|_| not_a_number())?;
    let value: i128 = all.parse().map_err(|_| not_a_number())?;
    let power = |exponent: i32| {
        10_i128
            .checked_pow(exponent.unsigned_abs())
            .ok_or_else(not_a_number)
    };
    let nanos = if shift >= 0 {
        value.checked_mul(power(shift)?).ok_or_else(not_a_number)?
    } else {
        let divisor = power(shift)?;
        if value % divisor != 0 {
            return Err(CliError::usage("value is too precise"));
        }
        value / divisor
    };
    i64::try_from(if negative { -nanos } else { nanos }).map_err(|_| not_a_number())
}

/// Returns the bytes of a memory value.
pub fn memory(flag: &str, text: &str) -> Result<i64> {
    let shown = match flag {
        "memory" => "-m, --memory".to_owned(),
        other => format!("--{other}"),
    };
    units::ram_in_bytes(text).map_err(|error| CliError::value(&shown, text, error))
}

/// Returns the bytes of `--memory-swap`, where -1 means no limit.
pub fn memory_swap(text: &str) -> Result<i64> {
    if text == "-1" {
        Ok(-1)
    } else {
        memory("memory-swap", text)
    }
}

/// Returns the throttle entry of `--device-read-bps` and its kin: `PATH:RATE[UNIT]`.
pub fn throttle_bytes(value: &str) -> Result<Json> {
    let wrong = || {
        CliError::usage(format!(
            "invalid rate for device: {value}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ))
    };
    let (path, rate) = device_and_value(value)?;
    let rate = units::ram_in_bytes(rate).map_err(|_| wrong())?;
    Ok(json!({"Path": path, "Rate": rate}))
}

/// Returns the throttle entry of `--device-read-iops` and its kin: `PATH:RATE`.
pub fn throttle_operations(value: &str) -> Result<Json> {
    let (path, rate) = device_and_value(value)?;
    let rate: u64 = rate.parse().map_err(|_| {
        CliError::usage(format!(
            "invalid rate for device: {value}. The correct format is <device-path>:<number>. Number must be a positive integer"
        ))
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

/// Returns the entry of `--blkio-weight-device`: `PATH:WEIGHT`, the weight 0 or 10 to 1000.
pub fn device_weight(value: &str) -> Result<Json> {
    let (path, weight) = device_and_value(value)?;
    let weight: u16 = weight
        .parse()
        .ok()
        .filter(|weight| *weight == 0 || (10..=1000).contains(weight))
        .ok_or_else(|| CliError::usage(format!("invalid weight for device: {value}")))?;
    Ok(json!({"Path": path, "Weight": weight}))
}

fn device_and_value(value: &str) -> Result<(&str, &str)> {
    let (path, rest) = value
        .split_once(':')
        .ok_or_else(|| CliError::usage(format!("bad format: {value}")))?;
    if !path.starts_with("/dev/") {
        return Err(CliError::usage(format!(
            "bad format for device path: {value}"
        )));
    }
    Ok((path, rest))
}
