//! One pattern made ready for matching: plain comparison where possible, else an expression.

use super::regex::Regex;

/// How a pattern is compared with a path.
#[derive(Debug, Clone)]
pub(super) enum Matcher {
    /// The path is the pattern.
    Exact(String),
    /// The path starts with this (`x/**`).
    Prefix(String),
    /// The path ends with this (`**x`); `**/x` also matches `x` alone.
    Suffix(String),
    /// Anything else.
    Expression(Regex),
    /// Well formed at first sight, but not as an expression (`C:\\x`). Only an
    /// error when it is tried on a path, as in the reference.
    Broken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Prefix,
    Suffix,
    Expression,
}

impl Matcher {
    /// Returns the matcher of a cleaned pattern.
    ///
    /// The reference turns patterns into regular expressions by text, and what
    /// stands in brackets reaches the expression as it is; so does it here.
    pub fn compile(pattern: &str) -> Self {
        let mut expression = String::from("^");
        let mut kind = Kind::Exact;
        let mut is_first = true;
        let mut characters = pattern.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '*' if characters.next_if_eq(&'*').is_some() => {
                    characters.next_if_eq(&'/');
                    let at_end = characters.peek().is_none();
                    kind = match (at_end, is_first) {
                        (_, true) => Kind::Suffix,
                        (true, false) if kind == Kind::Exact => Kind::Prefix,
                        _ => Kind::Expression,
                    };
                    expression.push_str(if at_end { ".*" } else { "(.*/)?" });
                }
                '*' => {
                    kind = Kind::Expression;
                    expression.push_str("[^/]*");
                }
                '?' => {
                    kind = Kind::Expression;
                    expression.push_str("[^/]");
                }
                '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => {
                    expression.push('\\');
                    expression.push(character);
                }
                '\\' => {
                    expression.push('\\');
                    if let Some(escaped) = characters.next() {
                        kind = Kind::Expression;
                        expression.push(escaped);
                    }
                }
                '[' | ']' => {
                    kind = Kind::Expression;
                    expression.push(character);
                }
                _ => expression.push(character),
            }
            is_first = false;
        }
        let matcher = match kind {
            Kind::Exact => Some(Self::Exact(pattern.to_owned())),
            Kind::Prefix => pattern
                .strip_suffix("**")
                .map(|rest| Self::Prefix(rest.to_owned())),
            Kind::Suffix => pattern
                .strip_prefix("**")
                .map(|rest| Self::Suffix(rest.to_owned())),
            Kind::Expression => {
                expression.push('$');
                Regex::parse(&expression).map(Self::Expression)
            }
        };
        matcher.unwrap_or(Self::Broken)
    }

    /// Returns whether the pattern matches the path itself.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(pattern) => path == pattern,
            Self::Prefix(prefix) => path.starts_with(prefix),
            Self::Suffix(suffix) => {
                path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path)
            }
            Self::Expression(regex) => regex.is_match(path),
            Self::Broken => false,
        }
    }

    /// Returns whether the pattern matches the path or one of its parents.
    pub fn matches_or_parent(&self, path: &str) -> bool {
        if let Self::Expression(regex) = self {
            return regex.matches_or_parent(path);
        }
        let mut parents = path.match_indices('/').map(|(slash, _)| path.get(..slash));
        self.matches(path)
            || parents.any(|parent| parent.is_some_and(|parent| self.matches(parent)))
    }

    /// Returns whether the pattern can match a path that starts with `directory` (which ends with `/`).
    ///
    /// May say yes where no file would match, never no where one would.
    pub fn may_match_below(&self, directory: &str) -> bool {
        match self {
            Self::Exact(pattern) => pattern.starts_with(directory),
            Self::Prefix(prefix) => prefix.starts_with(directory) || directory.starts_with(prefix),
            Self::Suffix(_) | Self::Broken => true,
            Self::Expression(regex) => regex.may_match_beginning(directory),
        }
    }
}
