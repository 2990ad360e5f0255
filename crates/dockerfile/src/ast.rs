//! The tree a Dockerfile parses to: one node per instruction, with the bytes it came from.

use std::fmt;
use std::ops::Range;

/// A Dockerfile as a flat list of instruction nodes and the text they came from.
///
/// Printing it (`Display`) gives the source back byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ast {
    /// The whole source text.
    pub source: String,
    /// The parser directives at the top.
    pub directives: Directives,
    /// The instructions in source order.
    pub nodes: Vec<Node>,
    /// Whether something is missing that nothing is known of: lines beyond a limit, or the escape character, so that
    /// nobody can say what belongs together.
    pub has_gap: bool,
}

/// The parser directives (`# name=value` lines at the very top); spec/llb.md §6.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The frontend image of `syntax`, if given.
    pub syntax: Option<Word>,
    /// The value of `check`, if given.
    pub check: Option<Word>,
    /// The escape character: a backslash (default) or a backtick.
    pub escape: char,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            syntax: None,
            check: None,
            escape: '\\',
        }
    }
}

/// A piece of text with the bytes of the source it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The text after joining continuation lines (and unquoting, for flags and JSON strings).
    pub text: String,
    /// Byte range in the source.
    pub span: Range<usize>,
}

/// Where a node stands in the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Byte range in the source, from the keyword to the end of the last line's
    /// text, here-documents included.
    pub span: Range<usize>,
    /// First line, from 1.
    pub start_line: usize,
    /// Last line, from 1.
    pub end_line: usize,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The first word, as written.
    pub keyword: Word,
    /// `--name[=value]` words before the arguments, unquoted.
    pub flags: Vec<Word>,
    /// The arguments. ENV and LABEL give three words a pair: key, value, and
    /// `=` (or nothing in the old `key value` form).
    pub arguments: Vec<Word>,
    /// The instruction below ONBUILD.
    pub child: Option<Box<Node>>,
    /// Whether the arguments were a JSON array (exec form).
    pub is_json: bool,
    /// Here-documents, in order.
    pub heredocs: Vec<Heredoc>,
    /// The instruction's text with continuation lines joined, without here-document bodies.
    pub original: String,
    /// The comment lines since the previous instruction, without `#`.
    pub comments: Vec<String>,
    /// Where the instruction stands.
    pub location: Location,
    /// Whether a syntax error was reported for this node, so that nothing can
    /// be said about its arguments.
    pub is_broken: bool,
}

/// A here-document: `<<NAME` and the lines up to `NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The terminator without quotes; also the file name for COPY and ADD.
    pub name: String,
    /// The file descriptor before `<<`, 0 if not given.
    pub file_descriptor: u32,
    /// Whether variables in the content may be expanded (no part of the name was quoted).
    pub expand: bool,
    /// Whether leading tabs are dropped (`<<-`).
    pub chomp: bool,
    /// The lines between, each with its line end; tabs are still there.
    pub content: String,
    /// Bytes of the content in the source.
    pub span: Range<usize>,
}

impl Heredoc {
    /// Returns the content as the instruction sees it: without leading tabs for `<<-`.
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

impl Node {
    /// Returns the instruction as text that parses to it again: the original
    /// line and the here-documents with their terminators.
    pub fn to_source(&self) -> String {
        let mut text = self.original.clone();
        for heredoc in &self.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        text
    }
}

impl fmt::Display for Ast {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printed = 0;
        for node in &self.nodes {
            let span = &node.location.span;
            formatter.write_str(self.source.get(printed..span.start).unwrap_or_default())?;
            formatter.write_str(self.source.get(span.clone()).unwrap_or_default())?;
            printed = span.end;
        }
        formatter.write_str(self.source.get(printed..).unwrap_or_default())
    }
}

/// Returns the line and column of a byte offset, both from 1; columns count characters.
pub fn line_and_column(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (
        line,
        before.get(line_start..).unwrap_or_default().chars().count() + 1,
    )
}
