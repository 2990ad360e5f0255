//! Shell patterns in `${name#pattern}` and its relatives: `*` and `?`, no brackets (spec/llb.md §6.4).

use super::MAX_RESULT_BYTES;

/// Pattern length times value length, summed over one word, may not exceed this.
pub(super) const MAX_CELLS: usize = 64 << 20;

/// What is said where it does.
pub(super) const TOO_LONG: &str = "pattern and value are too long to be matched";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    AnyOne,
    AnyRun,
}

/// A parsed pattern.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Parses a pattern; a backslash may stand before `*`, `?`, `\`, `}` and `/`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::AnyRun,
                '?' => Token::AnyOne,
                '\\' => match characters.peek() {
                    Some('}' | '/') => continue,
                    Some(&escaped @ ('*' | '?' | '\\')) => {
                        characters.next();
                        Token::Literal(escaped)
                    }
                    other => {
                        let other = other.copied().unwrap_or(char::REPLACEMENT_CHARACTER);
                        return Err(format!("invalid escape '\\{other}'"));
                    }
                },
                other => Token::Literal(other),
            });
        }
        Ok(Self { tokens })
    }

    /// Returns how much work a match with `value` is.
    pub fn cells(&self, value: &str) -> usize {
        let width = value.chars().count() + 1;
        width.saturating_mul(self.tokens.len() + 1)
    }

    /// Returns `value` without the shortest or longest prefix that matches.
    pub fn strip_prefix(&self, value: &str, greedy: bool) -> Result<String, String> {
        let characters: Vec<char> = value.chars().collect();
        let matcher = Matcher::new(self.tokens.clone(), &characters)?;
        let end = matcher.match_end(0, greedy).unwrap_or(0);
        Ok(characters.get(end..).unwrap_or_default().iter().collect())
    }

    /// Returns `value` without the shortest or longest suffix that matches.
    pub fn strip_suffix(&self, value: &str, greedy: bool) -> Result<String, String> {
        let mut characters: Vec<char> = value.chars().rev().collect();
        let tokens = self.tokens.iter().rev().copied().collect();
        let matcher = Matcher::new(tokens, &characters)?;
        let end = matcher.match_end(0, greedy).unwrap_or(0);
        characters.drain(..end.min(characters.len()));
        Ok(characters.iter().rev().collect())
    }

    /// Replaces the first match, or all; the longest one at each place.
    pub fn replace(&self, value: &str, replacement: &str, all: bool) -> Result<String, String> {
        let characters: Vec<char> = value.chars().collect();
        let matcher = Matcher::new(self.tokens.clone(), &characters)?;
        let mut result = String::new();
        let mut position = 0;
        let mut previous_end = None;
        while position <= characters.len() {
            let end = matcher.match_end(position, true);
            // An empty match right behind another match does not count.
            let end = end.filter(|end| !(*end == position && previous_end == Some(position)));
            match end {
                Some(end) => {
                    result.push_str(replacement);
                    if end == position {
                        result.extend(characters.get(position));
                    }
                    previous_end = Some(end);
                    position = end.max(position + 1);
                    if !all {
                        break;
                    }
                }
                None => {
                    result.extend(characters.get(position));
                    position += 1;
                }
            }
            if result.len() > MAX_RESULT_BYTES {
                return Err(format!("result is longer than {MAX_RESULT_BYTES} bytes"));
            }
        }
        result.extend(characters.get(position..).unwrap_or_default());
        Ok(result)
    }
}

/// A table of which pattern rests match at which places; work is bounded by pattern × value.
struct Matcher<'a> {
    tokens: Vec<Token>,
    characters: &'a [char],
    /// `matches[token * (length + 1) + place]`.
    matches: Vec<bool>,
}

impl<'a> Matcher<'a> {
    fn new(tokens: Vec<Token>, characters: &'a [char]) -> Result<Self, String> {
        let width = characters.len() + 1;
        let cells = width.saturating_mul(tokens.len() + 1);
        if cells > MAX_CELLS {
            return Err(TOO_LONG.to_owned());
        }
        let mut matcher = Self {
            tokens,
            characters,
            matches: vec![false; cells],
        };
        for place in 0..width {
            matcher.set(matcher.tokens.len(), place);
        }
        for index in (0..matcher.tokens.len()).rev() {
            for place in (0..width).rev() {
                if matcher.rest_matches(index, place) {
                    matcher.set(index, place);
                }
            }
        }
        Ok(matcher)
    }

    fn rest_matches(&self, index: usize, place: usize) -> bool {
        let character = self.characters.get(place).copied();
        // As in a regular expression's `.`, wildcards stop at line ends.
        let in_line = character.is_some_and(|character| character != '\n');
        match self.tokens.get(index) {
            Some(Token::Literal(literal)) => {
                character == Some(*literal) && self.get(index + 1, place + 1)
            }
            Some(Token::AnyOne) => in_line && self.get(index + 1, place + 1),
            Some(Token::AnyRun) => {
                self.get(index + 1, place) || (in_line && self.get(index, place + 1))
            }
            None => true,
        }
    }

    /// Returns where a match that starts at `start` ends; runs take as much or as little as they can.
    fn match_end(&self, start: usize, greedy: bool) -> Option<usize> {
        if !self.get(0, start) {
            return None;
        }
        let mut place = start;
        for (index, token) in self.tokens.iter().enumerate() {
            if *token != Token::AnyRun {
                place += 1;
                continue;
            }
            let line_length = self
                .characters
                .get(place..)
                .unwrap_or_default()
                .iter()
                .take_while(|character| **character != '\n')
                .count();
            let mut ends = place..=place + line_length;
            let fits = |end: &usize| self.get(index + 1, *end);
            place = if greedy {
                ends.rev().find(fits)?
            } else {
                ends.find(fits)?
            };
        }
        Some(place)
    }

    fn cell(&self, token: usize, place: usize) -> usize {
        token * (self.characters.len() + 1) + place
    }

    fn get(&self, token: usize, place: usize) -> bool {
        place <= self.characters.len()
            && self
                .matches
                .get(self.cell(token, place))
                .copied()
                .unwrap_or(false)
    }

    fn set(&mut self, token: usize, place: usize) {
        let cell = self.cell(token, place);
        if let Some(value) = self.matches.get_mut(cell) {
            *value = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn prefixes_and_suffixes() {
        for (pattern, value, short, long) in [
            ("*/", "a/b/c", "b/c", "c"),
            ("?", "abc", "bc", "bc"),
            ("x", "abc", "abc", "abc"),
            ("*", "abc", "abc", ""),
            ("*", "a\nb", "a\nb", "\nb"),
            ("\\*", "*a", "a", "a"),
        ] {
            let pattern = Pattern::parse(pattern).expect("pattern");
            assert_eq!(
                pattern.strip_prefix(value, false).as_deref(),
                Ok(short),
                "{pattern:?}"
            );
            assert_eq!(
                pattern.strip_prefix(value, true).as_deref(),
                Ok(long),
                "{pattern:?}"
            );
        }
        let pattern = Pattern::parse(".*").expect("pattern");
        assert_eq!(pattern.strip_suffix("a.b.c", false).as_deref(), Ok("a.b"));
        assert_eq!(pattern.strip_suffix("a.b.c", true).as_deref(), Ok("a"));
    }

    #[test]
    fn replacements() {
        for (pattern, value, all, expected) in [
            ("a", "banana", false, "bXnana"),
            ("a", "banana", true, "bXnXnX"),
            ("*", "abc", true, "X"),
            ("", "ab", true, "XaXbX"),
            ("", "ab", false, "Xab"),
            ("z", "ab", true, "ab"),
        ] {
            let pattern = Pattern::parse(pattern).expect("pattern");
            assert_eq!(
                pattern.replace(value, "X", all).as_deref(),
                Ok(expected),
                "{pattern:?}"
            );
        }
        assert_eq!(
            Pattern::parse("\\a"),
            Err("invalid escape '\\a'".to_owned())
        );
    }
}
