//! Addresses in JSON documents: what is none is refused in the words of Go's `netip.ParseAddr`, which
//! docker's answers carry.

use crate::respond::Failure;
use std::net::IpAddr;

/// Checks that a text is an address; an empty one is none given.
///
/// # Errors
/// 400 with docker's text.
pub(crate) fn check(text: &str) -> Result<(), Failure> {
    let bare = text.split('%').next().unwrap_or(text);
    if text.is_empty() || bare.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(Failure::bad_request(format!(
        "invalid JSON: ParseAddr({text:?}): {}",
        reason(text)
    )))
}

fn reason(text: &str) -> String {
    match text.find(['.', ':', '%']) {
        Some(at) if text.get(at..=at) == Some(".") => reason_v4(text),
        _ => "unable to parse IP".to_owned(),
    }
}

fn reason_v4(text: &str) -> String {
    let fields: Vec<&str> = text.split('.').collect();
    for (index, field) in fields.iter().enumerate() {
        if index == 4 {
            return "IPv4 address too long".to_owned();
        }
        if let Some(at) = field.find(|letter: char| !letter.is_ascii_digit()) {
            let start: usize = fields.iter().take(index).map(|field| field.len() + 1).sum();
            let rest = text.get(start + at..).unwrap_or_default();
            return format!("unexpected character (at {rest:?})");
        }
        if field.is_empty() {
            return "IPv4 field must have at least one digit".to_owned();
        }
        if field.len() > 1 && field.starts_with('0') {
            return "IPv4 field has octet with leading zero".to_owned();
        }
        if field.parse::<u32>().is_ok_and(|value| value > 255) || field.len() > 3 {
            return "IPv4 field has value >255".to_owned();
        }
    }
    "IPv4 address too short".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for good in ["", "1.2.3.4", "::1", "fe80::1%eth0"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, text) in [
            ("bad", "unable to parse IP"),
            ("1.2.3.4.5", "IPv4 address too long"),
            ("1.2.3", "IPv4 address too short"),
            ("1.2.3.256", "IPv4 field has value >255"),
            ("1..2.3", "IPv4 field must have at least one digit"),
            ("1.2.x.3", "unexpected character (at \"x.3\")"),
        ] {
            assert_eq!(reason(bad), text, "{bad}");
        }
    }
}
