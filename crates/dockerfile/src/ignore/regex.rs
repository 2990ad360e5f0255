//! The small regular expression language that ignore patterns turn into.
//!
//! Literals, escapes, classes, `.`, `*` and `?` behind one item, the group
//! `(.*/)?`, `^` and `$`. Matching keeps the set of live places, so that its
//! time is bounded by expression length times path length.

use std::iter::Peekable;
use std::str::Chars;

/// A parsed expression.
#[derive(Debug, Clone)]
pub(super) struct Regex {
    steps: Vec<Step>,
    /// Every match starts with this.
    prefix: String,
    /// Every match ends with this.
    suffix: String,
}

#[derive(Debug, Clone)]
struct Step {
    item: Item,
    repeat: Repeat,
}

impl Step {
    /// Returns the one character the step stands for, if it is plain.
    fn fixed(&self) -> Option<char> {
        match (&self.item, self.repeat) {
            (Item::Literal(character), Repeat::One) => Some(*character),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    One,
    Optional,
    Any,
}

#[derive(Debug, Clone)]
enum Item {
    Literal(char),
    /// Anything but a line end.
    Dot,
    Class(Class),
    /// Where `(.*/)?` starts: it may be left out. Always followed by `Directories`.
    MaybeDirectories,
    /// The `.*/` of `(.*/)?`.
    Directories,
    Start,
    End,
    WordBoundary {
        negated: bool,
    },
}

#[derive(Debug, Clone, Default)]
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
    /// Negated classes inside (`\D`, `[:^alpha:]`).
    negated_sets: Vec<Vec<(char, char)>>,
}

impl Class {
    fn contains(&self, character: char) -> bool {
        let within = |ranges: &[(char, char)]| {
            ranges
                .iter()
                .any(|(low, high)| (*low..=*high).contains(&character))
        };
        let found = within(&self.ranges) || self.negated_sets.iter().any(|set| !within(set));
        found != self.negated
    }
}

impl Regex {
    /// Parses an expression; nothing if it is not well formed or not between `^` and `$`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut steps: Vec<Step> = Vec::new();
        let mut can_repeat = false;
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let repeat = match character {
                '*' => Some(Repeat::Any),
                '?' => Some(Repeat::Optional),
                _ => None,
            };
            if let Some(repeat) = repeat {
                if !std::mem::take(&mut can_repeat) {
                    return None;
                }
                steps.last_mut()?.repeat = repeat;
                continue;
            }
            let item = match character {
                '^' => Item::Start,
                '$' => Item::End,
                '.' => Item::Dot,
                '(' => {
                    for expected in ".*/)?".chars() {
                        characters.next_if_eq(&expected)?;
                    }
                    steps.push(Step {
                        item: Item::MaybeDirectories,
                        repeat: Repeat::One,
                    });
                    Item::Directories
                }
                '[' => Item::Class(parse_class(&mut characters)?),
                '\\' => parse_escape(&mut characters)?,
                other => Item::Literal(other),
            };
            can_repeat = !matches!(item, Item::Directories);
            steps.push(Step {
                item,
                repeat: Repeat::One,
            });
        }
        let prefix = steps.iter().skip(1).map_while(Step::fixed).collect();
        let suffix: Vec<char> = steps.iter().rev().skip(1).map_while(Step::fixed).collect();
        let suffix = suffix.into_iter().rev().collect();
        let is_anchored = matches!(steps.first().map(|step| &step.item), Some(Item::Start))
            && matches!(steps.last().map(|step| &step.item), Some(Item::End));
        is_anchored.then_some(Self {
            steps,
            prefix,
            suffix,
        })
    }

    /// Returns whether the expression matches the text.
    pub fn is_match(&self, text: &str) -> bool {
        // Most paths are refused by their beginning or end, without a run.
        if !text.starts_with(&self.prefix) || !text.ends_with(&self.suffix) {
            return false;
        }
        let live = self.run(text, true);
        live.last().copied().unwrap_or(false)
    }

    /// Returns whether the expression matches the path or one of its parents, in one run over the path.
    pub fn matches_or_parent(&self, path: &str) -> bool {
        let can_end = |end: usize| {
            path.get(..end)
                .is_some_and(|whole| whole.ends_with(&self.suffix))
        };
        let slashes = path.match_indices('/').map(|(slash, _)| slash);
        let mut ends = slashes.chain([path.len()]);
        if !path.starts_with(&self.prefix) || !ends.any(can_end) {
            return false;
        }
        let mut live = self.beginning();
        let mut next = live.clone();
        let mut before: Option<char> = None;
        let places = path
            .char_indices()
            .map(|(at, character)| (at, Some(character)));
        for (at, character) in places.chain([(path.len(), None)]) {
            if matches!(character, None | Some('/')) && can_end(at) {
                let mut ended = live.clone();
                self.follow(&mut ended, before, None, true);
                if ended.last() == Some(&true) {
                    return true;
                }
            }
            let Some(character) = character else {
                break;
            };
            self.follow(&mut live, before, Some(character), false);
            self.advance(&live, &mut next, character);
            std::mem::swap(&mut live, &mut next);
            before = Some(character);
        }
        false
    }

    /// Returns whether a text that starts with `beginning` may match.
    pub fn may_match_beginning(&self, beginning: &str) -> bool {
        self.run(beginning, false).contains(&true)
    }

    /// Feeds a text; returns which steps are live behind it (the last entry: all done).
    fn run(&self, text: &str, is_whole: bool) -> Vec<bool> {
        let mut live = self.beginning();
        let mut next = live.clone();
        let mut before: Option<char> = None;
        let mut characters = text.chars();
        loop {
            let character = characters.next();
            self.follow(
                &mut live,
                before,
                character,
                character.is_none() && is_whole,
            );
            let Some(character) = character else {
                return live;
            };
            self.advance(&live, &mut next, character);
            std::mem::swap(&mut live, &mut next);
            before = Some(character);
        }
    }

    /// Returns the steps that are live before anything was read.
    fn beginning(&self) -> Vec<bool> {
        let mut live = vec![false; self.steps.len() + 1];
        if let Some(first) = live.first_mut() {
            *first = true;
        }
        live
    }

    /// Adds the steps that can be reached without taking a character.
    fn follow(&self, live: &mut [bool], before: Option<char>, after: Option<char>, at_end: bool) {
        let is_word = |character: Option<char>| {
            character.is_some_and(|character| character.is_ascii_alphanumeric() || character == '_')
        };
        for (index, step) in self.steps.iter().enumerate() {
            if live.get(index) != Some(&true) {
                continue;
            }
            let mut reach = |index: usize| {
                if let Some(place) = live.get_mut(index) {
                    *place = true;
                }
            };
            let passes = match &step.item {
                Item::MaybeDirectories => {
                    reach(index + 2);
                    true
                }
                Item::Start => before.is_none(),
                Item::End => at_end,
                Item::WordBoundary { negated } => (is_word(before) != is_word(after)) != *negated,
                _ => false,
            };
            if passes || step.repeat != Repeat::One {
                reach(index + 1);
            }
        }
    }

    /// Sets `next` to the steps that are live after taking a character.
    fn advance(&self, live: &[bool], next: &mut [bool], character: char) {
        next.fill(false);
        let mut set = |index: usize| {
            if let Some(place) = next.get_mut(index) {
                *place = true;
            }
        };
        for (index, step) in self.steps.iter().enumerate() {
            if live.get(index) != Some(&true) {
                continue;
            }
            let takes = match &step.item {
                Item::Literal(literal) => *literal == character,
                Item::Dot => character != '\n',
                Item::Class(class) => class.contains(character),
                Item::Directories => {
                    // A slash may end the group or stand inside of it.
                    if character != '\n' {
                        set(index);
                    }
                    character == '/'
                }
                Item::MaybeDirectories | Item::Start | Item::End | Item::WordBoundary { .. } => {
                    false
                }
            };
            if takes {
                set(if step.repeat == Repeat::Any {
                    index
                } else {
                    index + 1
                });
            }
        }
    }
}

fn parse_escape(characters: &mut Peekable<Chars<'_>>) -> Option<Item> {
    let escaped = characters.next()?;
    Some(match escaped {
        'A' => Item::Start,
        'z' => Item::End,
        'b' => Item::WordBoundary { negated: false },
        'B' => Item::WordBoundary { negated: true },
        _ => {
            let mut class = Class::default();
            match class_escape(escaped, &mut class)? {
                Some(character) => Item::Literal(character),
                None => Item::Class(class),
            }
        }
    })
}

/// Reads an escape that is allowed in classes: a character, or a set added to the class.
fn class_escape(escaped: char, class: &mut Class) -> Option<Option<char>> {
    let digits = vec![('0', '9')];
    let blanks = vec![('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
    let words = vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
    match escaped {
        'd' => class.ranges.extend(digits),
        's' => class.ranges.extend(blanks),
        'w' => class.ranges.extend(words),
        'D' => class.negated_sets.push(digits),
        'S' => class.negated_sets.push(blanks),
        'W' => class.negated_sets.push(words),
        _ => return plain_escape(escaped).map(Some),
    }
    Some(None)
}

fn plain_escape(escaped: char) -> Option<char> {
    match escaped {
        'a' => Some('\u{7}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\u{b}'),
        other if other.is_ascii_alphanumeric() || !other.is_ascii() => None,
        other => Some(other),
    }
}

/// Reads what follows `[`, up to and including `]`.
fn parse_class(characters: &mut Peekable<Chars<'_>>) -> Option<Class> {
    let mut class = Class {
        negated: characters.next_if_eq(&'^').is_some(),
        ..Class::default()
    };
    let mut is_first = true;
    loop {
        let character = characters.next()?;
        if character == ']' && !is_first {
            return Some(class);
        }
        is_first = false;
        let low = match character {
            '[' if characters.peek() == Some(&':') => match posix_class(characters, &mut class) {
                true => continue,
                false => '[',
            },
            '\\' => match class_escape(characters.next()?, &mut class)? {
                Some(character) => character,
                None => continue,
            },
            other => other,
        };
        class.ranges.push((low, range_end(low, characters)?));
    }
}

/// Reads the `-x` of a range; the low end itself if there is none.
fn range_end(low: char, characters: &mut Peekable<Chars<'_>>) -> Option<char> {
    let mut ahead = characters.clone();
    if ahead.next() != Some('-') || ahead.peek() == Some(&']') || ahead.peek().is_none() {
        return Some(low);
    }
    characters.next();
    let high = match characters.next()? {
        '\\' => plain_escape(characters.next()?)?,
        other => other,
    };
    (low <= high).then_some(high)
}

/// Reads `:name:]` behind a `[`. Returns false, with nothing taken, if it is no known name.
fn posix_class(characters: &mut Peekable<Chars<'_>>, class: &mut Class) -> bool {
    let rest: String = characters.clone().collect();
    let Some((name, _)) = rest
        .strip_prefix(':')
        .and_then(|rest| rest.split_once(":]"))
    else {
        return false;
    };
    let (negated, plain) = match name.strip_prefix('^') {
        Some(plain) => (true, plain),
        None => (false, name),
    };
    let ranges: &[(char, char)] = match plain {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\u{7f}')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return false,
    };
    if negated {
        class.negated_sets.push(ranges.to_vec());
    } else {
        class.ranges.extend(ranges);
    }
    for _ in 0..name.chars().count() + 3 {
        characters.next();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::Regex;

    #[test]
    fn matching() {
        for (expression, text, expected) in [
            ("^a[^/]*$", "abc", true),
            ("^a[^/]*$", "ab/c", false),
            ("^(.*/)?x$", "x", true),
            ("^(.*/)?x$", "a/b/x", true),
            ("^(.*/)?x$", "ax", false),
            ("^a/.*$", "a/b", true),
            ("^[a-c]$", "b", true),
            ("^[^a-c]$", "b", false),
            ("^\\d$", "7", true),
            ("^[\\D]$", "7", false),
            ("^[[:alpha:]]$", "q", true),
            ("^[[^/]*]$", "[^/]", true),
            ("^\\bx$", "x", true),
        ] {
            let regex = Regex::parse(expression).expect(expression);
            assert_eq!(regex.is_match(text), expected, "{expression} {text}");
        }
        for expression in ["^\\x$", "^[b-a]$", "^[a$", "*", "a**"] {
            assert!(Regex::parse(expression).is_none(), "{expression}");
        }
    }

    #[test]
    fn beginnings() {
        for (expression, text, expected) in [
            ("^a/[^/]*$", "a/", true),
            ("^a/[^/]*$", "a/b/", false),
            ("^(.*/)?x$", "a/b/", true),
            ("^b[^/]*/x$", "a/", false),
        ] {
            let regex = Regex::parse(expression).expect(expression);
            assert_eq!(
                regex.may_match_beginning(text),
                expected,
                "{expression} {text}"
            );
        }
    }
}
