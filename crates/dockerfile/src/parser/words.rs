//! Splitting an instruction's text into words (spec/llb.md §6.1, §6.3).

use std::ops::Range;

/// A word of an instruction and its bytes in the instruction's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub text: String,
    pub range: Range<usize>,
}

/// Returns whether a character separates plain arguments.
pub(super) fn is_separator(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Splits at runs of blanks; quotes have no meaning.
pub(super) fn split_plain(text: &str, range: Range<usize>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut start = range.start;
    let content = text.get(range.clone()).unwrap_or_default();
    if content.is_empty() {
        return pieces;
    }
    let mut in_separator = false;
    let mut push = |start: usize, end: usize| {
        let text = text.get(start..end).unwrap_or_default().to_owned();
        pieces.push(Piece {
            text,
            range: start..end,
        });
    };
    for (offset, character) in content.char_indices() {
        let separator = is_separator(character);
        if separator && !in_separator {
            push(start, range.start + offset);
        } else if !separator && in_separator {
            start = range.start + offset;
        }
        in_separator = separator;
    }
    if in_separator {
        push(range.end, range.end)
    } else {
        push(start, range.end)
    }
    pieces
}

/// Splits into words where quotes and the escape character group; they stay in the words.
pub(super) fn split_quoted(text: &str, range: Range<usize>, escape: char) -> Vec<Piece> {
    let content = text.get(range.clone()).unwrap_or_default();
    let mut words = Vec::new();
    let mut word: Option<Piece> = None;
    let mut quote: Option<char> = None;
    let mut characters = content.char_indices().peekable();
    while let Some((offset, character)) = characters.next() {
        let start = range.start + offset;
        if quote.is_none() && character.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let current = word.get_or_insert_with(|| Piece {
            text: String::new(),
            range: start..start,
        });
        match quote {
            None if character == '\'' || character == '"' => quote = Some(character),
            Some(open) if open == character => quote = None,
            _ => {}
        }
        if character == escape && quote != Some('\'') {
            // An escape character at the very end stands for nothing.
            let Some((_, escaped)) = characters.next() else {
                break;
            };
            current.text.push(character);
            current.text.push(escaped);
            current.range.end = start + character.len_utf8() + escaped.len_utf8();
            continue;
        }
        current.text.push(character);
        current.range.end = start + character.len_utf8();
    }
    words.extend(word.filter(|word| !word.text.is_empty()));
    words
}

/// Takes leading `--name[=value]` words off; returns them unquoted, and where the rest starts.
pub(super) fn split_flags(text: &str, range: Range<usize>) -> (Vec<Piece>, usize) {
    let mut flags = Vec::new();
    let mut position = range.start;
    loop {
        let rest = text.get(position..range.end).unwrap_or_default();
        let trimmed = rest.trim_start();
        position = range.end - trimmed.len();
        if !trimmed.starts_with("--") {
            return (flags, position);
        }
        let flag = read_flag(trimmed, position);
        position = flag.range.end;
        if flag.text == "--" {
            return (flags, position);
        }
        if !flag.text.is_empty() {
            flags.push(flag);
        }
    }
}

/// Reads one flag word; quotes and backslashes are taken away.
fn read_flag(text: &str, start: usize) -> Piece {
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut end = text.len();
    let mut characters = text.char_indices();
    while let Some((offset, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => {
                end = offset;
                break;
            }
            None if character == '\'' || character == '"' => {
                quote = Some(character);
                continue;
            }
            Some(open) if open == character => {
                quote = None;
                continue;
            }
            _ => {}
        }
        if character == '\\' {
            match characters.next() {
                Some((_, escaped)) => word.push(escaped),
                None => break,
            }
            continue;
        }
        word.push(character);
    }
    Piece {
        text: word,
        range: start..start + end,
    }
}

#[cfg(test)]
mod tests {
    use super::{split_flags, split_plain, split_quoted};

    #[test]
    fn quoted_words() {
        for (text, expected) in [
            ("a b", vec!["a", "b"]),
            ("a='x y' b=\"p q\"", vec!["a='x y'", "b=\"p q\""]),
            ("a=x\\ y", vec!["a=x\\ y"]),
            ("a=\"x\\\" y\" z", vec!["a=\"x\\\" y\"", "z"]),
            ("'' x", vec!["''", "x"]),
            ("a\\", vec!["a"]),
            ("  ", vec![]),
        ] {
            let words: Vec<String> = split_quoted(text, 0..text.len(), '\\')
                .into_iter()
                .map(|word| word.text)
                .collect();
            assert_eq!(words, expected, "{text:?}");
        }
    }

    #[test]
    fn flags_end_at_the_first_other_word() {
        let check = |text: &str, expected: &[&str], rest: &str| {
            let (flags, end) = split_flags(text, 0..text.len());
            let flags: Vec<String> = flags.into_iter().map(|flag| flag.text).collect();
            assert_eq!(flags, expected, "{text:?}");
            assert_eq!(text[end..].trim(), rest, "{text:?}");
        };
        check("--a=1 --b x --c", &["--a=1", "--b"], "x --c");
        check("--a='x y' z", &["--a=x y"], "z");
        check("-- --b", &[], "--b");
        check("x", &[], "x");
        check("", &[], "");
    }

    #[test]
    fn plain_words() {
        let words: Vec<String> = split_plain("x a \t b", 2..7)
            .into_iter()
            .map(|word| word.text)
            .collect();
        assert_eq!(words, ["a", "b"]);
    }
}
