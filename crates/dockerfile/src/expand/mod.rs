//! Word expansion: variables, quotes and escapes in instruction arguments (spec/llb.md §6.4).

mod pattern;
mod scanner;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::Error;
use scanner::WordScanner;

/// `${a:-${b:-…}}` may nest this deep.
pub const MAX_DEPTH: usize = 64;
/// The longest result of one word, in bytes.
pub const MAX_RESULT_BYTES: usize = 1 << 20;

/// Gives the values of variables.
///
/// Implemented for maps, for lists of pairs (the last one of a name counts)
/// and for functions from a name to a value.
pub trait Environment {
    /// Returns the value of a variable, or nothing if it is not set.
    fn value(&self, name: &str) -> Option<String>;
}

impl Environment for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

impl Environment for HashMap<String, String> {
    fn value(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

impl Environment for [(String, String)] {
    fn value(&self, name: &str) -> Option<String> {
        self.iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    }
}

impl Environment for Vec<(String, String)> {
    fn value(&self, name: &str) -> Option<String> {
        self.as_slice().value(name)
    }
}

impl<F: Fn(&str) -> Option<String>> Environment for F {
    fn value(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// Expands words. The fields change what is kept of the word's own syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expander {
    /// The escape character: a backslash, or a backtick after `# escape`.
    pub escape: char,
    /// Keeps quotes in the result.
    pub raw_quotes: bool,
    /// Keeps escape characters in the result.
    pub raw_escapes: bool,
    /// Leaves references to variables that are not set as they are.
    pub skip_unset_env: bool,
    /// Takes quotes as plain characters.
    pub skip_process_quotes: bool,
}

/// An expanded word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expansion {
    /// The whole text; blanks in it do not split it.
    pub result: String,
    /// The same text split at blanks outside of quotes, also at those that came from variables.
    pub words: Vec<String>,
    /// Names of variables that were asked for and are set.
    pub matched: BTreeSet<String>,
    /// Names of variables that were asked for and are not set.
    pub unmatched: BTreeSet<String>,
}

impl Expander {
    /// Returns an expander that takes quotes and escapes away and gives nothing for unset variables.
    pub fn new(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            skip_unset_env: false,
            skip_process_quotes: false,
        }
    }

    /// Expands one word and tells which variables it used.
    ///
    /// # Errors
    /// [`Error::Expansion`] for an open quote or brace, an unknown modifier, a
    /// `${name:?message}` that applies, and results beyond [`MAX_RESULT_BYTES`].
    pub fn expand(&self, word: &str, env: &dyn Environment) -> Result<Expansion, Error> {
        let mut scanner = WordScanner::new(self, word, env);
        scanner.run().map_err(|reason| Error::Expansion {
            word: word.to_owned(),
            reason,
        })
    }

    /// Expands one word to one text.
    ///
    /// # Errors
    /// As [`Expander::expand`].
    pub fn expand_word(&self, word: &str, env: &dyn Environment) -> Result<String, Error> {
        self.expand(word, env).map(|expansion| expansion.result)
    }

    /// Expands one word and splits the result at blanks (EXPOSE).
    ///
    /// # Errors
    /// As [`Expander::expand`].
    pub fn expand_words(&self, word: &str, env: &dyn Environment) -> Result<Vec<String>, Error> {
        self.expand(word, env).map(|expansion| expansion.words)
    }
}

#[cfg(test)]
mod tests {
    use super::{Expander, MAX_DEPTH, MAX_RESULT_BYTES};

    fn expand(word: &str) -> Result<String, String> {
        let env = |name: &str| match name {
            "A" => Some("foo bar".to_owned()),
            "BIG" => Some("x".repeat(MAX_RESULT_BYTES / 2)),
            _ => None,
        };
        Expander::new('\\')
            .expand_word(word, &env)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| format!("{}x{}", "${U:-".repeat(depth), "}".repeat(depth));
        assert_eq!(expand(&nested(MAX_DEPTH)), Ok("x".to_owned()));
        assert!(expand(&nested(MAX_DEPTH + 1)).is_err_and(|error| error.contains("nested")));
    }

    #[test]
    fn results_are_limited() {
        assert!(expand("$BIG$BIG").is_ok());
        assert!(expand("$BIG${BIG}x").is_err_and(|error| error.contains("longer")));
        assert!(expand("${BIG//x/xxxx}").is_err_and(|error| error.contains("longer")));
    }

    #[test]
    fn work_of_patterns_is_limited_for_the_whole_word() {
        let value = "x".repeat((1 << 20) - 1);
        let env = |_: &str| Some(value.clone());
        let expand = |count: usize| Expander::new('\\').expand_word(&"${V##*}".repeat(count), &env);
        assert_eq!(expand(32), Ok(String::new()));
        assert!(expand(33).is_err_and(|error| error.to_string().contains("too long")));
    }

    #[test]
    fn words_split_at_blanks_of_variables_but_not_of_quotes() {
        let env = |_: &str| Some("a b".to_owned());
        let words = Expander::new('\\')
            .expand_words("x$V \"$V\"", &env)
            .expect("words");
        assert_eq!(words, ["xa", "b", "a b"]);
    }
}
