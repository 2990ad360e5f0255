//! One instruction's text to a [`Node`]: keyword, flags and arguments by kind (spec/llb.md §6.3).

use std::ops::Range;

use crate::ast::{Location, Node, Word};
use crate::error::Error;
use crate::parser::json::{self, JsonArray};
use crate::parser::lines::LogicalLine;
use crate::parser::words::{self, Piece};

/// ONBUILD inside ONBUILD beyond this depth is not taken apart (it is an error anyway).
const MAX_ONBUILD_DEPTH: usize = 8;

/// Errors of one node with the bytes they are about.
pub(super) type NodeErrors = Vec<(Error, Range<usize>)>;

/// How the text after an instruction's keyword is taken apart.
#[derive(Clone, Copy)]
enum Grammar {
    /// The whole text is one argument.
    Text,
    /// Words at blanks.
    Words,
    /// Words with quotes, as `name[=value]`.
    QuotedWords,
    /// `key=value …` or the old `key value`.
    Pairs(&'static str),
    /// JSON array, else one text.
    JsonOrText,
    /// JSON array, else words.
    JsonOrWords,
    /// A word, then JSON array or text.
    Healthcheck,
    /// Another instruction.
    Instruction,
    /// Not an instruction.
    Unknown,
}

fn grammar(keyword: &str) -> Grammar {
    match keyword {
        "add" | "copy" | "volume" => Grammar::JsonOrWords,
        "arg" => Grammar::QuotedWords,
        "cmd" | "entrypoint" | "run" | "shell" => Grammar::JsonOrText,
        "env" => Grammar::Pairs("ENV"),
        "expose" | "from" => Grammar::Words,
        "healthcheck" => Grammar::Healthcheck,
        "label" => Grammar::Pairs("LABEL"),
        "maintainer" | "stopsignal" | "user" | "workdir" => Grammar::Text,
        "onbuild" => Grammar::Instruction,
        _ => Grammar::Unknown,
    }
}

/// Builds the node of one instruction. Its line numbers and span are the caller's to set.
pub(super) fn build(line: &LogicalLine, escape: char) -> (Node, NodeErrors) {
    let mut errors = Vec::new();
    let builder = Builder { line, escape };
    let node = builder.node(0..line.text.len(), 0, &mut errors);
    (node, errors)
}

struct Builder<'a> {
    line: &'a LogicalLine,
    escape: char,
}

impl Builder<'_> {
    fn text(&self, range: &Range<usize>) -> &str {
        self.line.text.get(range.clone()).unwrap_or_default()
    }

    fn trimmed(&self, range: Range<usize>) -> Range<usize> {
        let text = self.text(&range);
        let start = range.end - text.trim_start().len();
        let end = range.start + text.trim_end().len();
        start..end.max(start)
    }

    fn words(&self, pieces: Vec<Piece>) -> Vec<Word> {
        pieces
            .into_iter()
            .map(|piece| self.line.word(piece.text, &piece.range))
            .collect()
    }

    fn node(&self, range: Range<usize>, depth: usize, errors: &mut NodeErrors) -> Node {
        let original = self.text(&range).to_owned();
        let body = self.trimmed(range.clone());
        let keyword_length = self
            .text(&body)
            .find(words::is_separator)
            .unwrap_or(body.len());
        let keyword_range = body.start..body.start + keyword_length;
        let (flags, rest_start) =
            words::split_flags(&self.line.text, self.trimmed(keyword_range.end..body.end));
        let mut node = Node {
            keyword: self.line.word(self.text(&keyword_range), &keyword_range),
            flags: self.words(flags),
            arguments: Vec::new(),
            child: None,
            is_json: false,
            heredocs: Vec::new(),
            original,
            comments: Vec::new(),
            location: Location {
                span: self.line.span(&range),
                start_line: 0,
                end_line: 0,
            },
            is_broken: false,
        };
        let rest = self.trimmed(rest_start..body.end);
        let kind = grammar(&node.keyword.text.to_lowercase());
        if rest.is_empty() {
            return node;
        }
        if let Err(problem) = self.arguments(&mut node, kind, &rest, depth, errors) {
            node.is_broken = true;
            errors.push(problem);
        }
        node
    }

    fn arguments(
        &self,
        node: &mut Node,
        kind: Grammar,
        rest: &Range<usize>,
        depth: usize,
        errors: &mut NodeErrors,
    ) -> Result<(), (Error, Range<usize>)> {
        match kind {
            Grammar::Text => node.arguments = vec![self.whole(rest)],
            Grammar::Words => {
                node.arguments = self.words(words::split_plain(&self.line.text, rest.clone()));
            }
            Grammar::QuotedWords => {
                let pieces = words::split_quoted(&self.line.text, rest.clone(), self.escape);
                node.arguments = self.words(pieces);
            }
            Grammar::Pairs(keyword) => node.arguments = self.pairs(keyword, rest)?,
            Grammar::JsonOrText => {
                if !self.json(node, rest)? {
                    node.arguments.push(self.whole(rest));
                }
            }
            Grammar::JsonOrWords => {
                if !self.json(node, rest)? {
                    let pieces = words::split_plain(&self.line.text, rest.clone());
                    node.arguments = self.words(pieces);
                }
            }
            Grammar::Healthcheck => self.healthcheck(node, rest)?,
            Grammar::Instruction if depth < MAX_ONBUILD_DEPTH => {
                let child = self.node(rest.clone(), depth + 1, errors);
                node.is_broken = child.is_broken;
                node.child = Some(Box::new(child));
            }
            Grammar::Instruction => return Err((Error::ChainedOnbuild, self.line.span(rest))),
            Grammar::Unknown => {}
        }
        Ok(())
    }

    fn whole(&self, range: &Range<usize>) -> Word {
        self.line.word(self.text(range), range)
    }

    /// Reads `rest` as exec form. Returns whether it is one.
    fn json(&self, node: &mut Node, rest: &Range<usize>) -> Result<bool, (Error, Range<usize>)> {
        match json::parse_array(self.text(rest)) {
            JsonArray::NotJson => Ok(false),
            JsonArray::OtherElements => Err((Error::JsonNotStrings, self.line.span(rest))),
            JsonArray::Strings(strings) => {
                node.is_json = true;
                for string in strings {
                    let start = rest.start + string.offset;
                    let range = start..start + string.length;
                    node.arguments.push(self.line.word(string.text, &range));
                }
                Ok(true)
            }
        }
    }

    fn healthcheck(
        &self,
        node: &mut Node,
        rest: &Range<usize>,
    ) -> Result<(), (Error, Range<usize>)> {
        let text = self.text(rest);
        let kind_length = text.find(char::is_whitespace).unwrap_or(text.len());
        let kind = rest.start..rest.start + kind_length;
        node.arguments.push(self.whole(&kind));
        let command = self.trimmed(kind.end..rest.end);
        if !command.is_empty() && !self.json(node, &command)? {
            node.arguments.push(self.whole(&command));
        }
        Ok(())
    }

    /// Reads `key=value …`, or `key rest` if the first word has no `=`.
    fn pairs(
        &self,
        keyword: &'static str,
        rest: &Range<usize>,
    ) -> Result<Vec<Word>, (Error, Range<usize>)> {
        let pieces = words::split_quoted(&self.line.text, rest.clone(), self.escape);
        let Some(first) = pieces.first() else {
            return Ok(Vec::new());
        };
        if !first.text.contains('=') {
            return self.old_pair(keyword, rest);
        }
        let mut arguments = Vec::with_capacity(pieces.len() * 3);
        for piece in pieces {
            let Some((key, value)) = piece.text.split_once('=') else {
                let span = self.line.span(&piece.range);
                return Err((Error::MissingEquals { word: piece.text }, span));
            };
            let equals = piece.range.start + key.len();
            let value_range = equals + 1..piece.range.end.max(equals + 1);
            arguments.push(self.line.word(key, &(piece.range.start..equals)));
            arguments.push(self.line.word(value, &value_range));
            arguments.push(self.line.word("=", &(equals..equals + 1)));
        }
        Ok(arguments)
    }

    fn old_pair(
        &self,
        keyword: &'static str,
        rest: &Range<usize>,
    ) -> Result<Vec<Word>, (Error, Range<usize>)> {
        let text = self.text(rest);
        let Some(key_length) = text.find(words::is_separator) else {
            return Err((Error::MissingPairValue { keyword }, self.line.span(rest)));
        };
        let after_key = text.get(key_length..).unwrap_or_default();
        let value = rest.end - after_key.trim_start_matches(words::is_separator).len()..rest.end;
        let key = rest.start..rest.start + key_length;
        let none = self.line.word("", &(key.end..key.end));
        Ok(vec![self.whole(&key), self.whole(&value), none])
    }
}

impl Node {
    /// Returns whether here-documents can follow: ADD, COPY and RUN in shell form, also below ONBUILD.
    pub(super) fn can_announce_heredocs(&self) -> bool {
        let node = match self.child.as_deref() {
            Some(child) => child,
            None => self,
        };
        let keyword = node.keyword.text.to_lowercase();
        matches!(keyword.as_str(), "add" | "copy" | "run") && !node.is_json
    }
}
