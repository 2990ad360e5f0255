//! Comma-separated fields in which a field may be quoted (RFC 4180, one record).

use crate::error::{CliError, Result};

/// Longest accepted value, in bytes.
pub const VALUE_LIMIT_BYTES: usize = 64 * 1024;

/// Returns the fields of one record.
///
/// A field that begins with `"` ends at the closing quote; a doubled quote inside stands for one.
pub fn fields(record: &str) -> Result<Vec<String>> {
    if record.len() > VALUE_LIMIT_BYTES {
        return Err(CliError::usage(format!(
            "value is longer than {VALUE_LIMIT_BYTES} bytes"
        )));
    }
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted, record)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                if field.contains('"') {
                    return Err(CliError::usage(format!(
                        "parse error in {record:?}: bare \" in non-quoted field"
                    )));
                }
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

fn quoted_field<'a>(quoted: &'a str, record: &str) -> Result<(String, &'a str)> {
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"').ok_or_else(|| {
            CliError::usage(format!("parse error in {record:?}: missing closing \""))
        })?;
        field.push_str(&rest[..end]);
        let after = &rest[end + 1..];
        match after.as_bytes().first() {
            Some(b'"') => {
                field.push('"');
                rest = &after[1..];
            }
            None | Some(b',') => return Ok((field, after)),
            Some(_) => {
                return Err(CliError::usage(format!(
                    "parse error in {record:?}: extraneous \" in field"
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_fields_may_hold_commas() {
        assert_eq!(
            fields(r#"type=bind,"src=a,b",x"#).unwrap(),
            ["type=bind", "src=a,b", "x"]
        );
        assert_eq!(fields("").unwrap(), [""]);
        assert_eq!(fields(r#""a""b""#).unwrap(), ["a\"b"]);
        assert!(fields(r#"a"b"#).is_err());
        assert!(fields(&"x".repeat(VALUE_LIMIT_BYTES)).is_ok());
        assert!(fields(&"x".repeat(VALUE_LIMIT_BYTES + 1)).is_err());
    }
}
