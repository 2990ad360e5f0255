//! A small regular-expression search for name filters: literals, `.`, `*`, `+`, `?`, classes, `|` at
//! the top level, `^` and `$`, which is what container and volume names can use.

/// Longest pattern that is tried; longer ones match nothing.
const MAX_PATTERN_BYTES: usize = 256;

/// Tells whether `pattern` is found anywhere in `text`.
pub(crate) fn search(pattern: &str, text: &str) -> bool {
    if pattern.len() > MAX_PATTERN_BYTES {
        return false;
    }
    pattern
        .split('|')
        .any(|alternative| search_one(alternative.as_bytes(), text.as_bytes()))
}

fn search_one(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        Some((b'^', rest)) => matches_here(rest, text),
        _ => (0..=text.len())
            .any(|start| matches_here(pattern, text.get(start..).unwrap_or_default())),
    }
}

fn matches_here(pattern: &[u8], text: &[u8]) -> bool {
    let Some((atom, rest)) = next_atom(pattern) else {
        return true;
    };
    if atom == b"$" && rest.is_empty() {
        return text.is_empty();
    }
    let (least, most, rest) = match rest.split_first() {
        Some((b'*', rest)) => (0, usize::MAX, rest),
        Some((b'+', rest)) => (1, usize::MAX, rest),
        Some((b'?', rest)) => (0, 1, rest),
        _ => (1, 1, rest),
    };
    let run = text
        .iter()
        .take_while(|byte| atom_matches(atom, **byte))
        .count()
        .min(most);
    (least..=run)
        .rev()
        .any(|count| matches_here(rest, text.get(count..).unwrap_or_default()))
}

fn next_atom(pattern: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = match pattern.first()? {
        b'\\' if pattern.len() > 1 => 2,
        b'[' => pattern
            .iter()
            .skip(2)
            .position(|byte| *byte == b']')
            .map_or(1, |at| at + 3),
        _ => 1,
    };
    Some(pattern.split_at(length))
}

fn atom_matches(atom: &[u8], byte: u8) -> bool {
    match atom {
        [b'.'] => true,
        [b'\\', literal] => *literal == byte,
        [b'[', b'^', set @ .., b']'] => !set_contains(set, byte),
        [b'[', set @ .., b']'] => set_contains(set, byte),
        [literal] => *literal == byte,
        _ => false,
    }
}

fn set_contains(set: &[u8], byte: u8) -> bool {
    match set {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&byte) || set_contains(rest, byte),
        [one, rest @ ..] => *one == byte || set_contains(rest, byte),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::search;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("web", "my-web-1", true),
            ("^web", "my-web-1", false),
            ("^/web$", "/web", true),
            ("^web.*1$", "web-x-1", true),
            ("w[aeiou]b", "web", true),
            ("a|b", "xbx", true),
            ("w+eb?", "wwe", true),
            ("web\\.1", "web.1", true),
            ("web\\.1", "webx1", false),
            ("", "anything", true),
        ] {
            assert_eq!(search(pattern, text), expected, "{pattern} {text}");
        }
    }
}
