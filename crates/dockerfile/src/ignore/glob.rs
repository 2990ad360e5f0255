//! Path cleaning and the syntax check of patterns.

/// Returns the shortest path equal to `path` by its text: no empty or `.`
/// parts, `..` resolved as far as possible; `.` for nothing.
pub(super) fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(last) if *last != ".." => {
                    parts.pop();
                }
                _ if is_rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    match (is_rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Returns whether brackets are closed and not empty, ranges have two ends and
/// no backslash stands at the end.
pub(super) fn is_well_formed(pattern: &str) -> bool {
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.next().is_none() => return false,
            '[' if !skip_brackets(&mut characters) => return false,
            _ => {}
        }
    }
    true
}

/// Skips what follows `[`, up to and including `]`. Returns whether it is well formed.
fn skip_brackets(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    characters.next_if_eq(&'^');
    let mut is_empty = true;
    loop {
        if !is_empty && characters.next_if_eq(&']').is_some() {
            return true;
        }
        if !skip_bracket_character(characters) {
            return false;
        }
        if characters.next_if_eq(&'-').is_some() && !skip_bracket_character(characters) {
            return false;
        }
        is_empty = false;
    }
}

fn skip_bracket_character(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    match characters.next() {
        None | Some('-' | ']') => false,
        Some('\\') => characters.next().is_some() && characters.peek().is_some(),
        Some(_) => characters.peek().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::{clean, is_well_formed};

    #[test]
    fn cleaning() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("a//b/", "a/b"),
            ("./a/../b", "b"),
            ("../a", "../a"),
            ("/..//a", "/a"),
            ("a/..", "."),
            ("/", "/"),
            ("a/../../b", "../b"),
        ] {
            assert_eq!(clean(path), expected, "{path:?}");
        }
    }

    #[test]
    fn syntax() {
        for (pattern, expected) in [
            ("a*?b", true),
            ("[a-c]", true),
            ("[^a]", true),
            ("[]a]", false),
            ("[]", false),
            ("[a", false),
            ("[-]", false),
            ("[a-]", false),
            ("a\\", false),
            ("\\[", true),
            ("]", true),
            ("[\\]]", true),
        ] {
            assert_eq!(is_well_formed(pattern), expected, "{pattern:?}");
        }
    }
}
