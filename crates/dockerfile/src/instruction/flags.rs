//! `--name[=value]` flags of instructions (spec/llb.md §6.3).

use std::collections::BTreeMap;

use crate::ast::Word;
use crate::error::Error;
use crate::instruction::interpret::Problem;
use crate::suggest::nearest;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlagKind {
    /// Nothing, `true` or `false`; once.
    Bool,
    /// A value; once.
    Text,
    /// A value; as often as wanted.
    List,
}

/// A flag's name and what it takes.
pub(super) type FlagSpec = (&'static str, FlagKind);

/// The flags given to one instruction.
#[derive(Debug, Default)]
pub(super) struct Flags {
    values: BTreeMap<&'static str, Vec<Word>>,
}

impl Flags {
    /// Reads flags and tells all that is wrong; `specs` in alphabetical order (suggestions take the first of equals).
    pub fn parse(words: &[Word], specs: &[FlagSpec]) -> Result<Self, Problem> {
        let mut flags = Self::default();
        let added = words.iter().map(|word| {
            flags
                .add(word, specs)
                .map_err(|problem| problem.at(word.span.clone()))
        });
        Problem::collect(added)?;
        Ok(flags)
    }

    fn add(&mut self, word: &Word, specs: &[FlagSpec]) -> Result<(), Problem> {
        let body = word.text.strip_prefix("--").unwrap_or(&word.text);
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let flag = name.to_owned();
        let Some((name, kind)) = specs.iter().find(|(known, _)| *known == name) else {
            let help = nearest(name, specs.iter().map(|(known, _)| *known), true);
            return Err(Problem::from(Error::UnknownFlag { flag }).help(help));
        };
        if *kind != FlagKind::List && self.values.contains_key(name) {
            return Err(Error::DuplicateFlag { flag }.into());
        }
        let value = match (kind, value) {
            (FlagKind::Bool, None) => "true".to_owned(),
            (FlagKind::Bool, Some("")) | (FlagKind::Text | FlagKind::List, None) => {
                return Err(Error::MissingFlagValue { flag }.into());
            }
            (FlagKind::Bool, Some(value)) => match value.to_lowercase().as_str() {
                lower @ ("true" | "false") => lower.to_owned(),
                _ => {
                    return Err(Error::FlagNotBoolean {
                        flag,
                        value: value.to_owned(),
                    }
                    .into());
                }
            },
            (FlagKind::Text | FlagKind::List, Some(value)) => value.to_owned(),
        };
        self.values.entry(name).or_default().push(Word {
            text: value,
            span: word.span.clone(),
        });
        Ok(())
    }

    /// Returns the names of the flags given, sorted.
    pub fn used(&self) -> Vec<&'static str> {
        self.values.keys().copied().collect()
    }

    /// Returns the values of a flag with their places.
    pub fn words(&self, name: &str) -> &[Word] {
        self.values.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the value of a flag, if given and not empty.
    pub fn text(&self, name: &str) -> Option<String> {
        self.words(name)
            .first()
            .map(|word| word.text.clone())
            .filter(|text| !text.is_empty())
    }

    /// Returns the values of a flag.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.words(name)
            .iter()
            .map(|word| word.text.clone())
            .collect()
    }

    /// Returns the value of a boolean flag, if given.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        self.words(name).first().map(|word| word.text == "true")
    }
}
