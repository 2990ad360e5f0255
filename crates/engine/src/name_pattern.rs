//! The regular expressions of name filters.

use std::cell::RefCell;

use regex::{Regex, RegexBuilder};

/// Longest pattern that is tried; longer ones match nothing.
const MAX_PATTERN_BYTES: usize = 256;
/// Most memory a compiled pattern takes, in bytes.
const MAX_COMPILED_BYTES: usize = 256 * 1024;

thread_local! {
    /// The pattern tried last: a list tries the same one on every name.
    static LAST: RefCell<Option<(String, Option<Regex>)>> = const { RefCell::new(None) };
}

/// Tells whether `pattern` is found anywhere in `text`; what is no pattern is found nowhere.
///
/// The time a search takes grows with the length of both only.
pub(crate) fn search(pattern: &str, text: &str) -> bool {
    if pattern.len() > MAX_PATTERN_BYTES {
        return false;
    }
    LAST.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|(known, _)| known != pattern) {
            let compiled = RegexBuilder::new(pattern)
                .size_limit(MAX_COMPILED_BYTES)
                .build()
                .ok();
            *last = Some((pattern.to_owned(), compiled));
        }
        let compiled = last.as_ref().and_then(|(_, compiled)| compiled.as_ref());
        compiled.is_some_and(|compiled| compiled.is_match(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("web", "my-web-1", true),
            ("^web", "my-web-1", false),
            ("^/web$", "/web", true),
            ("^web.*1$", "web-x-1", true),
            ("w[aeiou]b", "web", true),
            ("a|b", "xbx", true),
            ("(web|db)-[0-9]+", "db-12", true),
            ("web\\.1", "webx1", false),
            ("", "anything", true),
            ("(", "(", false),
        ] {
            assert_eq!(search(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_has_limits_and_takes_no_time() {
        assert!(search(
            &"a".repeat(MAX_PATTERN_BYTES),
            &"a".repeat(MAX_PATTERN_BYTES)
        ));
        assert!(!search(
            &"a".repeat(MAX_PATTERN_BYTES + 1),
            &"a".repeat(MAX_PATTERN_BYTES + 1)
        ));
        assert!(!search(&format!("{}b", "a*".repeat(100)), &"a".repeat(200)));
    }
}
