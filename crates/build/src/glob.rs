//! Go's `filepath.Match` for one path component (spec llb §2.3, wildcards).

/// Says whether a path holds characters that make it a pattern.
pub(crate) fn is_pattern(path: &str) -> bool {
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// A compiled pattern of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// Any number of characters.
    Star,
    /// One character.
    Any,
    /// This character.
    Literal(char),
    /// One character in (or, negated, outside of) these ranges.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Compiles a pattern; nothing where it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut tokens = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => Token::Literal(characters.next()?),
                '[' => parse_class(&mut characters)?,
                character => Token::Literal(character),
            });
        }
        tokens.dedup_by(|second, first| *first == Token::Star && *second == Token::Star);
        Some(Self { tokens })
    }

    /// Says whether the pattern matches a whole name.
    ///
    /// Takes time proportional to pattern × name: a later `*` makes earlier ones final.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut token, mut position) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match (self.tokens.get(token), name.get(position)) {
                (None, None) => return true,
                (Some(Token::Star), _) => {
                    retry = Some((token + 1, position));
                    token += 1;
                    continue;
                }
                (Some(one), Some(character)) if one.accepts(*character) => {
                    token += 1;
                    position += 1;
                    continue;
                }
                _ => {}
            }
            let Some((star, from)) = retry.filter(|(_, from)| *from < name.len()) else {
                return false;
            };
            retry = Some((star, from + 1));
            (token, position) = (star, from + 1);
        }
    }
}

impl Token {
    fn accepts(&self, character: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => true,
            Self::Literal(literal) => *literal == character,
            Self::Class { negated, ranges } => {
                ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&character))
                    != *negated
            }
        }
    }
}

fn parse_class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if characters.peek() == Some(&']') && !ranges.is_empty() {
            characters.next();
            return Some(Token::Class { negated, ranges });
        }
        let low = class_character(characters)?;
        let high = if characters.next_if_eq(&'-').is_some() {
            class_character(characters)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn class_character(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match characters.next()? {
        '-' | ']' => None,
        '\\' => characters.next(),
        character => Some(character),
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, is_pattern};

    #[test]
    fn matching() {
        for (pattern, name, expected) in [
            ("*.go", "main.go", true),
            ("*.go", "main.rs", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abcb", false),
            ("?.txt", "é.txt", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("arr[[]0].txt", "arr[0].txt", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*", "", true),
            ("", "", true),
            ("***x", "abx", true),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().matches(name),
                expected,
                "{pattern} {name}"
            );
        }
        for bad in ["[", "[]", "[a", "a\\", "[-]", "[a-]"] {
            assert_eq!(Pattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = Pattern::parse(&"*a".repeat(2_000)).unwrap();
        assert!(!pattern.matches(&"a".repeat(1_999)));
        assert!(pattern.matches(&"a".repeat(2_000)));
    }

    #[test]
    fn patterns_are_recognised() {
        assert!(is_pattern("a/*.c"));
        assert!(is_pattern("x[0]"));
        assert!(!is_pattern("a\\*b"));
        assert!(!is_pattern("plain"));
    }
}
