//! Finding `[fd]<<[-]WORD` in an instruction (spec/llb.md §6.1).

use crate::ast::Heredoc;
use crate::expand::Expander;

/// Returns the here-documents that a line announces, without their content.
pub(super) fn announced(line: &str) -> Vec<Heredoc> {
    let mut expander = Expander::new('\\');
    expander.raw_quotes = true;
    expander.raw_escapes = true;
    expander.skip_unset_env = true;
    let words = expander.expand_words(line, &nothing).unwrap_or_default();
    words.iter().filter_map(|word| parse_word(word)).collect()
}

/// Returns the here-document that a word announces, if it does.
pub(crate) fn parse_word(word: &str) -> Option<Heredoc> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (descriptor, rest) = word.split_at(digits);
    let rest = rest.strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches([' ', '\t', '\n', '\u{c}', '\r']);
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let mut expander = Expander::new('\\');
    expander.skip_unset_env = true;
    let plain = single(expander.expand_words(rest, &nothing).ok()?)?;
    expander.raw_quotes = true;
    let raw = single(expander.expand_words(rest, &nothing).ok()?)?;
    Some(Heredoc {
        // A quoted name differs from its unquoted form.
        expand: plain == raw,
        name: plain,
        file_descriptor: descriptor.parse().unwrap_or(0),
        chomp,
        content: String::new(),
        span: 0..0,
    })
}

fn nothing(_name: &str) -> Option<String> {
    None
}

fn single(words: Vec<String>) -> Option<String> {
    match <[String; 1]>::try_from(words) {
        Ok([word]) => Some(word),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{announced, parse_word};

    #[test]
    fn words() {
        let heredoc = parse_word("3<<-'E F'").expect("a heredoc");
        assert_eq!((heredoc.name.as_str(), heredoc.file_descriptor), ("E F", 3));
        assert!(heredoc.chomp && !heredoc.expand);
        assert!(parse_word("<< EOF").is_some_and(|heredoc| heredoc.name == "EOF"));
        assert!(parse_word("<<EOF").is_some_and(|heredoc| heredoc.expand));
        for word in ["<<", "<<-", "<EOF", "<<<EOF", "x<<EOF", "EOF"] {
            assert_eq!(parse_word(word), None, "{word}");
        }
    }

    #[test]
    fn several_in_a_line() {
        let names: Vec<String> = announced("RUN cat <<A 3<<\"B\" > $X")
            .into_iter()
            .map(|heredoc| heredoc.name)
            .collect();
        assert_eq!(names, ["A", "B"]);
        assert!(
            announced("RUN cat << EOF > /x")
                .iter()
                .any(|heredoc| heredoc.name == "EOF")
        );
    }
}
