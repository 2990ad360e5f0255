//! Shell patterns in the syntax of Go's `path.Match` (and `filepath.Match` on Linux, which is the same).

/// Holds a checked pattern: `*` and `?` do not match `/`; `[a-z]`, `[^a-z]` and `\` as in a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Star,
    Any,
    Literal(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Says whether a text holds characters that make it a pattern.
    #[must_use]
    pub fn is_pattern(text: &str) -> bool {
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' => drop(characters.next()),
                '*' | '?' | '[' => return true,
                _ => {}
            }
        }
        false
    }

    /// Parses a pattern; `None` when it is malformed.
    #[must_use]
    pub fn parse(pattern: &str) -> Option<Self> {
        let mut rest = pattern.chars().peekable();
        let mut tokens = Vec::new();
        while let Some(next) = rest.next() {
            tokens.push(match next {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => Token::Literal(rest.next()?),
                '[' => {
                    let negated = rest.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
                        let low = class_char(&mut rest)?;
                        let high = if rest.next_if_eq(&'-').is_some() {
                            class_char(&mut rest)?
                        } else {
                            low
                        };
                        ranges.push((low, high));
                    }
                    Token::Class { negated, ranges }
                }
                literal => Token::Literal(literal),
            });
        }
        Some(Self(tokens))
    }

    /// Tells whether the whole name matches. Time is at most pattern length times name length.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut token_at, mut name_at) = (0, 0);
        // Where to go on after the latest star: the token behind it and the first character it has
        // not swallowed yet.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(token_at), name.get(name_at)) {
                (None, None) => return true,
                (Some(Token::Star), _) => {
                    token_at += 1;
                    retry = Some((token_at, name_at));
                    continue;
                }
                (Some(token), Some(character)) if token.matches(*character) => {
                    token_at += 1;
                    name_at += 1;
                    continue;
                }
                _ => {}
            }
            let Some((behind_star, swallowed_to)) = retry else {
                return false;
            };
            match name.get(swallowed_to) {
                None | Some('/') => return false,
                Some(_) => {
                    (token_at, name_at) = (behind_star, swallowed_to + 1);
                    retry = Some((behind_star, swallowed_to + 1));
                }
            }
        }
    }
}

impl Token {
    fn matches(&self, character: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => character != '/',
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

/// Takes one character of a class: `-` and `]` must be escaped, and something must follow.
fn class_char(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    let character = match rest.next()? {
        '-' | ']' => return None,
        '\\' => rest.next()?,
        character => character,
    };
    rest.peek().map(|_| character)
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn matches_like_go_path_match() {
        let cases = [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*", "", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "ab/c", Some(false)),
            ("a*/b", "abc/b", Some(true)),
            ("a*/b", "a/c/b", Some(false)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[^b-d]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a???b", "aébcb", Some(true)),
            ("a[^a]b", "aéb", Some(true)),
            ("a?b", "a/b", Some(false)),
            ("arr[[]0].txt", "arr[0].txt", Some(true)),
            ("***x", "abx", Some(true)),
            ("", "", Some(true)),
            ("[\\]a]", "]", Some(true)),
            ("[\\-x]", "-", Some(true)),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[a-]", "a", None),
            ("[^]", "a", None),
            ("\\", "a", None),
            ("[", "a", None),
            ("a[", "x", None),
            ("a/b[", "x", None),
        ];
        for (pattern, name, expected) in cases {
            let found = Glob::parse(pattern).map(|glob| glob.matches(name));
            assert_eq!(found, expected, "pattern {pattern:?} name {name:?}");
        }
    }
    #[test]
    fn many_stars_take_no_time() {
        let matches = |name: &str| Glob::parse(&"*a".repeat(2_000)).map(|glob| glob.matches(name));
        assert_eq!(matches(&"a".repeat(1_999)), Some(false));
        assert_eq!(matches(&"a".repeat(2_000)), Some(true));
    }

    #[test]
    fn patterns_are_recognised() {
        assert!(Glob::is_pattern("a/*.c"));
        assert!(Glob::is_pattern("x[0]"));
        assert!(!Glob::is_pattern("a\\*b"));
        assert!(!Glob::is_pattern("plain"));
    }
}
