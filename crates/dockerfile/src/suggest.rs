//! Finds the word the author probably meant.

/// Words further away than this many edits are not offered.
const MAX_DISTANCE: usize = 2;
/// Longer words are not compared: no valid word is near them.
const MAX_WORD_CHARS: usize = 64;

/// Returns the candidate nearest to `word`, at most two edits away; the first of equals.
///
/// Returns `None` if `word` equals a candidate.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    case_sensitive: bool,
) -> Option<&'a str> {
    if word.chars().count() > MAX_WORD_CHARS {
        return None;
    }
    let fold = |text: &str| {
        if case_sensitive {
            text.to_owned()
        } else {
            text.to_lowercase()
        }
    };
    let word = fold(word);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let folded = fold(candidate);
        if folded == word {
            return None;
        }
        let distance = edit_distance(&word, &folded);
        if distance <= MAX_DISTANCE && best.is_none_or(|(nearest, _)| distance < nearest) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Returns the Levenshtein distance of two words.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, left_char) in left.chars().enumerate() {
        let mut diagonal = index;
        let mut previous = index + 1;
        let mut next_row = Vec::with_capacity(row.len());
        next_row.push(previous);
        for (right_char, above) in right.iter().zip(row.iter().skip(1)) {
            let substitution = diagonal + usize::from(left_char != *right_char);
            previous = substitution.min(above + 1).min(previous + 1);
            diagonal = *above;
            next_row.push(previous);
        }
        row = next_row;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{edit_distance, nearest};

    #[test]
    fn distances() {
        for (left, right, distance) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("runn", "run", 1),
        ] {
            assert_eq!(edit_distance(left, right), distance, "{left} {right}");
        }
    }

    #[test]
    fn nearest_word() {
        let words = ["ADD", "ARG", "FROM", "RUN"];
        assert_eq!(nearest("runn", words, false), Some("RUN"));
        assert_eq!(nearest("AS", words, false), Some("ADD"));
        assert_eq!(nearest("FOO", words, false), Some("FROM"));
        assert_eq!(nearest("123", words, false), None);
        assert_eq!(nearest("run", words, false), None);
        assert_eq!(nearest("run", words, true), None);
    }
}
