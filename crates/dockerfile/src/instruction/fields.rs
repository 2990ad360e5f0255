//! Values of flags that are lists of fields: the fields, and words and sizes in them.

use crate::error::Error;
use crate::instruction::interpret::Problem;

/// Splits one line of comma separated values; fields may be in double quotes.
pub(super) fn split_fields(text: &str) -> Result<Vec<String>, Problem> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (field, tail) = rest.split_at(end);
            if field.contains('"') {
                return Err(bad_quote(text));
            }
            fields.push(field.to_owned());
            match tail.strip_prefix(',') {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
            continue;
        };
        let (field, tail) = quoted_field(quoted).ok_or_else(|| bad_quote(text))?;
        fields.push(field);
        match tail.strip_prefix(',') {
            Some(next) => rest = next,
            None if tail.is_empty() => return Ok(fields),
            None => return Err(bad_quote(text)),
        }
    }
}

/// Reads the words that the reference takes as true and false.
pub(super) fn parse_bool(key: &str, value: &str) -> Result<bool, Problem> {
    parse_flag(value).ok_or_else(|| invalid(format!("invalid value for {key}: {value}")))
}

/// Reads a word that means true or false.
pub(crate) fn parse_flag(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads a size in bytes with an optional binary unit (`64m`, `1.5GiB`).
pub(super) fn parse_size(value: &str) -> Option<i64> {
    let lower = value.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = lower.get(digits.len()..)?;
    let exponent = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if matches!(unit, "" | "b") => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let number: f64 = digits.trim_end().parse().ok()?;
    let size = number * 1024_f64.powi(exponent);
    // Beyond 2^62 no memory can be; the cast below cannot lose the sign.
    (number >= 0.0 && size < 4.6e18).then_some(size as i64)
}

/// Reads a field behind its opening quote; returns it and what follows the closing one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, tail) = rest.split_once('"')?;
        field.push_str(part);
        match tail.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, tail)),
        }
    }
}

fn bad_quote(text: &str) -> Problem {
    invalid(format!(
        "failed to parse csv mounts: misplaced quote in '{text}'"
    ))
}

/// Returns the problem of a value that cannot be used.
pub(super) fn invalid(reason: impl Into<String>) -> Problem {
    Error::InvalidOption {
        reason: reason.into(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::{parse_size, split_fields};

    #[test]
    fn comma_separated_values() {
        assert_eq!(
            split_fields("a,\"b,\"\"c\",").ok(),
            Some(vec!["a".into(), "b,\"c".into(), "".into()])
        );
        assert!(split_fields("a\"b").is_err());
        assert!(split_fields("\"a").is_err());
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64", Some(64)),
            ("1k", Some(1024)),
            ("1.5m", Some(1_572_864)),
            ("2GiB", Some(2 << 30)),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
