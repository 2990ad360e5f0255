//! Finds the word the author probably meant.

/// Words further away than this many edits are not offered.
const MAX_DISTANCE: usize = 2;
/// Longer words are not compared: it costs more than it helps.
const MAX_WORD_CHARS: usize = 128;

/// Returns the candidate nearest to `word`, at most two edits away; the first of equals.
///
/// Returns `None` if `word` equals a candidate, upper and lower case counting only if `case_sensitive`.
pub fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    case_sensitive: bool,
) -> Option<&'a str> {
    let is_long = |text: &str| text.chars().count() > MAX_WORD_CHARS;
    let fold = |text: &str| {
        if case_sensitive {
            text.to_owned()
        } else {
            text.to_lowercase()
        }
    };
    if is_long(word) {
        return None;
    }
    let word = fold(word);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if is_long(candidate) {
            continue;
        }
        let distance = strsim::levenshtein(&word, &fold(candidate));
        if distance == 0 {
            return None;
        }
        if distance <= MAX_DISTANCE && best.is_none_or(|(nearest, _)| distance < nearest) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::{MAX_WORD_CHARS, nearest};

    #[test]
    fn nearest_word() {
        let words = ["ADD", "ARG", "FROM", "RUN"];
        let files = ["st0", "st1", "main.go", "src"];
        for (word, candidates, expected) in [
            ("runn", words, Some("RUN")),
            ("AS", words, Some("ADD")),
            ("FOO", words, Some("FROM")),
            ("123", words, None),
            ("run", words, None),
            ("st2", files, Some("st0")),
            ("mian.go", files, Some("main.go")),
            ("1", files, Some("st1")),
            ("src", files, None),
            ("readme", files, None),
        ] {
            assert_eq!(nearest(word, candidates, false), expected, "{word}");
        }
        assert_eq!(nearest("run", words, true), None);
    }

    #[test]
    fn long_words_are_not_compared() {
        let longest = "a".repeat(MAX_WORD_CHARS);
        let near = format!("b{}", "a".repeat(MAX_WORD_CHARS - 1));
        assert_eq!(
            nearest(&longest, [near.as_str()], true),
            Some(near.as_str())
        );
        let longer = format!("{longest}a");
        assert_eq!(nearest(&longer, [longest.as_str()], true), None);
        assert_eq!(nearest(&longest, [longer.as_str()], true), None);
    }
}
