//! The character machine behind word expansion.

use std::collections::BTreeSet;

use super::{Environment, Expander, Expansion, MAX_DEPTH, MAX_RESULT_BYTES};
use crate::expand::pattern::{MAX_CELLS, Pattern, TOO_LONG};

type Reason = String;

pub(super) struct WordScanner<'a> {
    options: &'a Expander,
    env: &'a dyn Environment,
    characters: Vec<char>,
    position: usize,
    depth: usize,
    words: WordSplitter,
    raw_escapes: bool,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
    /// Work that patterns may still be: many small matches are as long as a large one.
    cells_left: usize,
}

impl<'a> WordScanner<'a> {
    pub fn new(options: &'a Expander, word: &str, env: &'a dyn Environment) -> Self {
        Self {
            options,
            env,
            characters: word.chars().collect(),
            position: 0,
            depth: 0,
            words: WordSplitter::default(),
            raw_escapes: options.raw_escapes,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
            cells_left: MAX_CELLS,
        }
    }

    pub fn run(&mut self) -> Result<Expansion, Reason> {
        let result = self.until(None)?;
        Ok(Expansion {
            result,
            words: std::mem::take(&mut self.words).finish(),
            matched: std::mem::take(&mut self.matched),
            unmatched: std::mem::take(&mut self.unmatched),
        })
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.position).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.position += usize::from(next.is_some());
        next
    }

    /// Reads up to the stop character, which is taken too; without one, to the end.
    fn until(&mut self, stop: Option<char>) -> Result<String, Reason> {
        let mut result = String::new();
        while let Some(character) = self.peek() {
            if stop == Some(character) {
                self.position += 1;
                return Ok(result);
            }
            match character {
                '$' => {
                    let value = self.dollar()?;
                    self.split(|words| words.push_splitting(&value));
                    result.push_str(&value);
                }
                '\'' | '"' if !self.options.skip_process_quotes => {
                    let value = if character == '"' {
                        self.double_quote()?
                    } else {
                        self.single_quote()?
                    };
                    self.split(|words| words.push_whole(&value));
                    result.push_str(&value);
                }
                '<' => self.less_than(&mut result),
                _ => self.plain(&mut result),
            }
            check_length(&result)?;
        }
        match stop {
            None => Ok(result),
            Some(stop) => Err(format!(
                "unexpected end of statement while looking for matching {stop}"
            )),
        }
    }

    /// Takes one character that is neither `$` nor a quote, or an escaped one.
    fn plain(&mut self, result: &mut String) {
        let Some(character) = self.next() else { return };
        if character != self.options.escape {
            self.split(|words| words.push(character));
            result.push(character);
            return;
        }
        if self.raw_escapes {
            self.split(|words| words.push_escaped(character));
            result.push(character);
        }
        if let Some(escaped) = self.next() {
            self.split(|words| words.push_escaped(escaped));
            result.push(escaped);
        }
    }

    /// Takes `<`, or `<<` with the blanks behind it: `<< EOF` is one word.
    fn less_than(&mut self, result: &mut String) {
        let start = self.position;
        self.position += 1;
        if self.peek() == Some('<') {
            self.position += 1;
            self.skip_while(|character| matches!(character, ' ' | '\t' | '\r'));
        }
        let text: String = self
            .characters
            .get(start..self.position)
            .unwrap_or_default()
            .iter()
            .collect();
        self.split(|words| words.push_whole(&text));
        result.push_str(&text);
    }

    fn single_quote(&mut self) -> Result<String, Reason> {
        let mut result = String::new();
        let open = self.next();
        result.extend(open.filter(|_| self.options.raw_quotes));
        loop {
            match self.next() {
                None => return Err(open_quote("single")),
                Some('\'') => {
                    result.extend(open.filter(|_| self.options.raw_quotes));
                    return Ok(result);
                }
                Some(character) => result.push(character),
            }
        }
    }

    fn double_quote(&mut self) -> Result<String, Reason> {
        let mut result = String::new();
        let open = self.next();
        result.extend(open.filter(|_| self.options.raw_quotes));
        loop {
            match self.peek() {
                None => return Err(open_quote("double")),
                Some('"') => {
                    self.position += 1;
                    result.extend(open.filter(|_| self.options.raw_quotes));
                    return Ok(result);
                }
                Some('$') => {
                    let value = self.dollar()?;
                    result.push_str(&value);
                }
                Some(mut character) => {
                    self.position += 1;
                    if character == self.options.escape {
                        if self.raw_escapes {
                            result.push(character);
                        }
                        match self.peek() {
                            // An escape character at the end of the word stands for nothing.
                            None => continue,
                            Some(next)
                                if matches!(next, '"' | '$') || next == self.options.escape =>
                            {
                                self.position += 1;
                                character = next;
                            }
                            Some(_) => {}
                        }
                    }
                    result.push(character);
                }
            }
            check_length(&result)?;
        }
    }

    fn dollar(&mut self) -> Result<String, Reason> {
        self.position += 1;
        if self.peek() == Some('{') {
            self.position += 1;
            return self.braces();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match self.lookup(&name) {
            None if self.options.skip_unset_env => Ok(format!("${name}")),
            value => Ok(value.unwrap_or_default()),
        }
    }

    /// Reads what follows `${`, the closing brace included.
    fn braces(&mut self) -> Result<String, Reason> {
        match self.peek() {
            None => return Err(missing_brace()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        let name = self.name();
        let modifier = self.next();
        match modifier {
            Some('}') => match self.lookup(&name) {
                None if self.options.skip_unset_env => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            Some(':') => {
                let modifier = self.next();
                self.modified(&name, modifier, true)
            }
            Some('+' | '-' | '?' | '#' | '%') => self.modified(&name, modifier, false),
            Some('/') => self.replacement(&name),
            _ => Err(unsupported(false, modifier)),
        }
    }

    /// Reads and applies `-w`, `+w`, `?w`, `#p` and `%p`.
    fn modified(
        &mut self,
        name: &str,
        modifier: Option<char>,
        empty_is_unset: bool,
    ) -> Result<String, Reason> {
        let is_pattern = matches!(modifier, Some('#' | '%'));
        if empty_is_unset && is_pattern {
            return Err(unsupported(empty_is_unset, modifier));
        }
        let word = self.nested('}', is_pattern, missing_brace)?;
        let value = self.lookup(name);
        if value.is_none() && self.options.skip_unset_env {
            let colon = if empty_is_unset { ":" } else { "" };
            let modifier = modifier.map(String::from).unwrap_or_default();
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let usable = value
            .clone()
            .filter(|value| !(empty_is_unset && value.is_empty()));
        match modifier {
            Some('-') => Ok(usable.unwrap_or(word)),
            Some('+') => Ok(usable.map(|_| word).unwrap_or_default()),
            Some('?') => usable.ok_or_else(|| {
                let default = if value.is_none() { "unset" } else { "empty" };
                match word.as_str() {
                    "" => format!("{name}: is not allowed to be {default}"),
                    message => format!("{name}: {message}"),
                }
            }),
            Some(side @ ('#' | '%')) => {
                let (greedy, pattern) = match word.strip_prefix(side) {
                    Some(rest) => (true, rest),
                    None => (false, word.as_str()),
                };
                let pattern = Pattern::parse(pattern)?;
                let value = value.unwrap_or_default();
                self.charge(&pattern, &value)?;
                if side == '#' {
                    pattern.strip_prefix(&value, greedy)
                } else {
                    pattern.strip_suffix(&value, greedy)
                }
            }
            _ => Err(unsupported(empty_is_unset, modifier)),
        }
    }

    /// Reads and applies `/p/r` and `//p/r`.
    fn replacement(&mut self, name: &str) -> Result<String, Reason> {
        let all = self.peek() == Some('/');
        self.position += usize::from(all);
        let missing_slash = || "syntax error: missing '/' in ${}".to_owned();
        let pattern = self.nested('/', true, missing_slash)?;
        let replacement = self.nested('}', true, missing_brace)?;
        match self.lookup(name) {
            None if self.options.skip_unset_env => {
                Ok(format!("${{{name}/{pattern}/{replacement}}}"))
            }
            value => {
                let pattern = Pattern::parse(&pattern)?;
                let value = value.unwrap_or_default();
                self.charge(&pattern, &value)?;
                pattern.replace(&value, &replacement, all)
            }
        }
    }

    /// Takes the work of a match from what is left.
    fn charge(&mut self, pattern: &Pattern, value: &str) -> Result<(), Reason> {
        let left = self.cells_left.checked_sub(pattern.cells(value));
        self.cells_left = left.ok_or_else(|| TOO_LONG.to_owned())?;
        Ok(())
    }

    /// Reads a word inside braces up to `stop`.
    fn nested(
        &mut self,
        stop: char,
        raw_escapes: bool,
        at_end: impl Fn() -> Reason,
    ) -> Result<String, Reason> {
        if self.depth >= MAX_DEPTH {
            return Err(format!(
                "substitutions are nested more than {MAX_DEPTH} deep"
            ));
        }
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        self.depth += 1;
        let word = self.until(Some(stop));
        self.depth -= 1;
        self.raw_escapes = outer;
        // The reference loses the unfinished word here; here-documents and EXPOSE depend on it.
        self.words.word.clear();
        word.map_err(|reason| {
            if self.peek().is_none() {
                at_end()
            } else {
                reason
            }
        })
    }

    /// Notes text of the outermost level for the split into words.
    fn split(&mut self, note: impl FnOnce(&mut WordSplitter)) {
        if self.depth == 0 {
            note(&mut self.words);
        }
    }

    /// Reads a variable name: digits, one special character, or a word.
    fn name(&mut self) -> String {
        let start = self.position;
        match self.peek() {
            Some(first) if first.is_numeric() => self.skip_while(char::is_numeric),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.position += 1,
            _ => self.skip_while(|character| character.is_alphanumeric() || character == '_'),
        }
        self.characters
            .get(start..self.position)
            .unwrap_or_default()
            .iter()
            .collect()
    }

    fn skip_while(&mut self, condition: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&condition) {
            self.position += 1;
        }
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        let value = self.env.value(name);
        let names = if value.is_some() {
            &mut self.matched
        } else {
            &mut self.unmatched
        };
        names.insert(name.to_owned());
        value
    }
}

/// Collects words; blanks in plain text and variables separate, quoted and escaped ones do not.
#[derive(Default)]
struct WordSplitter {
    words: Vec<String>,
    word: String,
}

impl WordSplitter {
    fn push(&mut self, character: char) {
        if !character.is_whitespace() {
            self.word.push(character);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn push_escaped(&mut self, character: char) {
        self.word.push(character);
    }

    fn push_splitting(&mut self, text: &str) {
        text.chars().for_each(|character| self.push(character));
    }

    fn push_whole(&mut self, text: &str) {
        self.word.push_str(text);
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

fn check_length(text: &str) -> Result<(), Reason> {
    if text.len() > MAX_RESULT_BYTES {
        return Err(format!("result is longer than {MAX_RESULT_BYTES} bytes"));
    }
    Ok(())
}

fn open_quote(kind: &str) -> Reason {
    format!("unexpected end of statement while looking for matching {kind}-quote")
}

fn missing_brace() -> Reason {
    "syntax error: missing '}'".to_owned()
}

fn unsupported(with_colon: bool, modifier: Option<char>) -> Reason {
    let colon = if with_colon { ":" } else { "" };
    let modifier = modifier.unwrap_or(char::REPLACEMENT_CHARACTER);
    format!("unsupported modifier ({colon}{modifier}) in substitution")
}
