//! Durations as the reference's language writes them: `1h30m`, `1.5s`, `100ms`.

use crate::error::Error;
use crate::quote::quoted;

const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// Returns a duration in nanoseconds.
pub(super) fn parse_ns(text: &str) -> Result<i64, Error> {
    let invalid = || Error::InvalidDuration {
        reason: format!("invalid duration {}", quoted(text)),
    };
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(0);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut total_ns = 0.0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let number_length = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_length);
        let value: f64 = number.parse().map_err(|_| invalid())?;
        let unit_length = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        if unit.is_empty() {
            let reason = format!("missing unit in duration {}", quoted(text));
            return Err(Error::InvalidDuration { reason });
        }
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let reason = format!("unknown unit {} in duration {}", quoted(unit), quoted(text));
            return Err(Error::InvalidDuration { reason });
        };
        total_ns += value * factor;
        rest = tail;
    }
    if total_ns >= i64::MAX as f64 {
        return Err(invalid());
    }
    let total_ns = total_ns as i64;
    Ok(if text.starts_with('-') {
        -total_ns
    } else {
        total_ns
    })
}

#[cfg(test)]
mod tests {
    use super::parse_ns;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("30s", Ok(30_000_000_000)),
            ("1h1m1.5s", Ok(3_661_500_000_000)),
            ("0", Ok(0)),
            ("-1ms", Ok(-1_000_000)),
            ("abc", Err("time: invalid duration \"abc\"")),
            ("5", Err("time: missing unit in duration \"5\"")),
            ("5x", Err("time: unknown unit \"x\" in duration \"5x\"")),
            ("", Err("time: invalid duration \"\"")),
            ("9999999h", Err("time: invalid duration \"9999999h\"")),
        ] {
            let found = parse_ns(text).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }
}
