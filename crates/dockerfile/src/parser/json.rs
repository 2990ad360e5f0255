//! The exec form: a JSON array of strings (spec/llb.md §6.1).

use serde_json::value::RawValue;

/// What the text after a keyword is, seen as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JsonArray {
    /// An array of strings.
    Strings(Vec<JsonString>),
    /// A well-formed array with something else than strings in it.
    OtherElements,
    /// No array, not well formed, or with something behind it: plain text.
    NotJson,
}

/// One string of the array.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JsonString {
    /// The decoded string.
    pub text: String,
    /// Byte offset and length of the string with its quotes.
    pub offset: usize,
    /// Length in bytes, quotes included.
    pub length: usize,
}

/// Reads `text` as a JSON array of strings.
pub(super) fn parse_array(text: &str) -> JsonArray {
    if !text.trim_start().starts_with('[') {
        return JsonArray::NotJson;
    }
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) else {
        return JsonArray::NotJson;
    };
    let mut strings = Vec::with_capacity(elements.len());
    let mut only_strings = true;
    for element in elements {
        let raw = element.get();
        match raw
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        {
            Some(inner) => strings.push(JsonString {
                text: unescape(inner),
                offset: (raw.as_ptr() as usize).saturating_sub(text.as_ptr() as usize),
                length: raw.len(),
            }),
            None if is_unrepresentable_number(raw) => return JsonArray::NotJson,
            None => only_strings = false,
        }
    }
    if only_strings {
        JsonArray::Strings(strings)
    } else {
        JsonArray::OtherElements
    }
}

/// A number beyond the range of a double is a decoding error in the reference.
fn is_unrepresentable_number(raw: &str) -> bool {
    raw.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// Decodes the inside of a well-formed JSON string; lone surrogates become U+FFFD.
fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(backslash) = rest.find('\\') {
        let (plain, escaped) = rest.split_at(backslash);
        out.push_str(plain);
        let mut characters = escaped.chars();
        characters.next();
        match characters.next() {
            Some('u') => {
                let (character, used) = unescape_unicode(escaped);
                out.push(character);
                rest = escaped.get(used..).unwrap_or_default();
                continue;
            }
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some(other) => out.push(other),
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out
}

/// Decodes `\uXXXX` or a surrogate pair at the start of `text`; returns the bytes used.
fn unescape_unicode(text: &str) -> (char, usize) {
    let unit = |at: usize| {
        text.get(at..at + 2)
            .filter(|prefix| *prefix == "\\u")
            .and_then(|_| text.get(at + 2..at + 6))
            .and_then(|hex| u16::from_str_radix(hex, 16).ok())
    };
    let Some(first) = unit(0) else {
        return (char::REPLACEMENT_CHARACTER, text.len());
    };
    if let Some(character) = char::from_u32(u32::from(first)) {
        return (character, 6);
    }
    let pair = unit(6).and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    match pair {
        Some(character) => (character, 12),
        None => (char::REPLACEMENT_CHARACTER, 6),
    }
}

#[cfg(test)]
mod tests {
    use super::{JsonArray, parse_array};

    fn strings(text: &str) -> Option<Vec<String>> {
        match parse_array(text) {
            JsonArray::Strings(strings) => {
                for string in &strings {
                    assert!(text[string.offset..string.offset + string.length].starts_with('"'));
                }
                Some(strings.into_iter().map(|string| string.text).collect())
            }
            _ => None,
        }
    }

    #[test]
    fn arrays() {
        let owned = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(
            strings(r#" ["a", "b\"\u00e9\n"] "#),
            owned(&["a", "b\"é\n"])
        );
        assert_eq!(parse_array(r#"["a"] trailing"#), JsonArray::NotJson);
        assert_eq!(strings(r#"["\ud83d\ude00\ud83d"]"#), owned(&["😀\u{fffd}"]));
        assert_eq!(strings("[]"), owned(&[]));
        assert_eq!(parse_array("[1]"), JsonArray::OtherElements);
        assert_eq!(
            parse_array(r#"["a", [1, {"b": null}]]"#),
            JsonArray::OtherElements
        );
        assert_eq!(parse_array("[1e999]"), JsonArray::NotJson);
        assert_eq!(parse_array("[a]"), JsonArray::NotJson);
        assert_eq!(parse_array(r#"["a""#), JsonArray::NotJson);
        assert_eq!(parse_array("x"), JsonArray::NotJson);
    }
}
