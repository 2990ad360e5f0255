//! The parser: text to [`Ast`], in one pass, never failing (spec/llb.md §6.1–6.3).
//!
//! Each error becomes a [`Diagnostic`] and parsing goes on with the next line,
//! so that an editor or a check sees all of them. The first error is the one
//! the reference builder would stop at.

mod directive;
pub(crate) mod heredoc;
mod json;
mod lines;
mod node;
mod words;

use std::ops::{Range, RangeInclusive};

use crate::ast::{Ast, Directives, Heredoc, Node};
use crate::diagnostic::{Diagnostic, Phase, RULE_NO_EMPTY_CONTINUATION};
use crate::error::Error;
use directive::DirectiveReader;
use lines::{Line, Lines, LogicalLine};

/// The longest physical line accepted, in bytes without its line end (spec/llb.md §6.1).
pub const MAX_LINE_BYTES: usize = 65_535;
/// The largest Dockerfile accepted, in bytes.
pub const MAX_FILE_BYTES: usize = 4 << 20;

/// The largest number of instructions accepted.
pub const MAX_INSTRUCTIONS: usize = 100_000;

/// A tree and what was found wrong on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The tree; nodes with a syntax error are marked as broken.
    pub ast: Ast,
    /// Errors and warnings in source order.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a Dockerfile.
///
/// Never fails: what cannot be understood is reported in `diagnostics` and
/// marked in the tree. A source beyond [`MAX_FILE_BYTES`] gives an empty tree.
pub fn parse(source: &str) -> Parsed {
    let mut ast = Ast {
        source: source.to_owned(),
        directives: Directives::default(),
        nodes: Vec::new(),
        has_gap: false,
    };
    if source.len() > MAX_FILE_BYTES {
        let error = Error::FileTooLarge {
            size_bytes: source.len(),
            limit_bytes: MAX_FILE_BYTES,
        };
        ast.has_gap = true;
        return Parsed {
            ast,
            diagnostics: vec![Diagnostic::error(Phase::Syntax, &error, 0..0, 1..=1)],
        };
    }
    let mut parser = Parser {
        lines: Lines::new(source),
        directives: DirectiveReader::default(),
        nodes: Vec::new(),
        diagnostics: Vec::new(),
        has_gap: false,
    };
    parser.run();
    ast.has_gap = parser.has_gap;
    ast.directives = parser.directives.directives;
    ast.nodes = parser.nodes;
    let mut diagnostics = parser.diagnostics;
    if ast.nodes.is_empty() && !diagnostics.iter().any(Diagnostic::is_error) {
        diagnostics.push(Diagnostic::error(
            Phase::Syntax,
            &Error::NoInstructions,
            0..0,
            1..=1,
        ));
    }
    Parsed { ast, diagnostics }
}

struct Parser<'a> {
    lines: Lines<'a>,
    directives: DirectiveReader,
    nodes: Vec<Node>,
    diagnostics: Vec<Diagnostic>,
    has_gap: bool,
}

/// One instruction's joined text and where it ended.
struct Assembled {
    line: LogicalLine,
    span: Range<usize>,
    start_line: usize,
    end_line: usize,
    has_empty_continuation: bool,
}

impl<'a> Parser<'a> {
    fn run(&mut self) {
        let mut comments: Vec<String> = Vec::new();
        while let Some(line) = self.next_line() {
            match self.directives.read(&line) {
                Ok(false) => {}
                Ok(true) => continue,
                Err(error) => {
                    self.has_gap |= matches!(error, Error::InvalidEscapeToken { .. });
                    self.report(&error, line.start..line.end(), line.number..=line.number);
                    continue;
                }
            }
            if line.is_comment() {
                // Only a comment at the start of its line loses its `#`, as in the reference.
                let content = line.content();
                let text = content.strip_prefix('#').unwrap_or(content).trim();
                if !text.is_empty() {
                    comments.push(text.to_owned());
                }
                continue;
            }
            if let Some(assembled) = self.assemble(&line) {
                if self.nodes.len() == MAX_INSTRUCTIONS {
                    let error = Error::TooManyInstructions {
                        limit: MAX_INSTRUCTIONS,
                    };
                    self.has_gap = true;
                    return self.report(&error, assembled.span, line.number..=line.number);
                }
                self.add_node(assembled, std::mem::take(&mut comments));
            }
        }
    }

    /// Returns the next physical line; lines that are too long are reported and left out.
    fn next_line(&mut self) -> Option<Line<'a>> {
        loop {
            let line = self.lines.next()?;
            if line.text.trim_end_matches('\n').len() <= MAX_LINE_BYTES {
                return Some(line);
            }
            let error = Error::LineTooLong {
                limit_bytes: MAX_LINE_BYTES,
            };
            self.has_gap = true;
            self.report(&error, line.start..line.end(), line.number..=line.number);
        }
    }

    /// Joins a line with its continuations. Returns nothing for a blank line.
    fn assemble(&mut self, first: &Line<'a>) -> Option<Assembled> {
        let content = first.content().trim_start();
        let start = first.end() - content.len();
        let escape = self.directives.directives.escape;
        let (text, mut continues) = lines::split_continuation(content, escape);
        if text.is_empty() && !continues {
            return None;
        }
        let mut assembled = Assembled {
            line: LogicalLine::default(),
            span: start..first.end(),
            start_line: first.number,
            end_line: first.number,
            has_empty_continuation: false,
        };
        assembled.line.push(text, start);
        while continues {
            let Some(next) = self.next_line() else { break };
            assembled.end_line = next.number;
            assembled.span.end = next.end();
            if next.is_comment() {
                continue;
            }
            let content = next.content();
            if content.trim().is_empty() {
                assembled.has_empty_continuation = true;
                continue;
            }
            let (text, more) = lines::split_continuation(content, escape);
            assembled.line.push(text, next.start);
            continues = more;
        }
        Some(assembled)
    }

    fn add_node(&mut self, assembled: Assembled, comments: Vec<String>) {
        let Assembled {
            line,
            span,
            start_line,
            end_line,
            has_empty_continuation,
        } = assembled;
        let escape = self.directives.directives.escape;
        let (mut node, errors) = node::build(&line, escape);
        node.comments = comments;
        node.location.span = span;
        node.location.start_line = start_line;
        node.location.end_line = end_line;
        for (error, span) in errors {
            self.report(&error, span, start_line..=end_line);
        }
        if node.can_announce_heredocs() && line.text.contains("<<") {
            for heredoc in heredoc::announced(&line.text) {
                self.read_heredoc(&mut node, heredoc);
            }
        }
        if let Some(child) = node.child.as_deref_mut() {
            set_child_location(child, start_line, node.location.end_line);
        }
        if has_empty_continuation {
            let error = Error::EmptyContinuation {
                original: line.text,
            };
            let end_line = node.location.end_line;
            let warning = Diagnostic::warning(
                RULE_NO_EMPTY_CONTINUATION,
                error.to_string(),
                node.keyword.span.clone(),
                end_line..=end_line,
            );
            self.diagnostics.push(warning);
        }
        self.nodes.push(node);
    }

    /// Takes the lines up to the terminator; without one, all lines that are left.
    fn read_heredoc(&mut self, node: &mut Node, mut heredoc: Heredoc) {
        let start = self.lines.next_offset();
        heredoc.span = start..start;
        let mut is_terminated = false;
        while let Some(line) = self.next_line() {
            node.location.end_line = line.number;
            node.location.span.end = line.end();
            let content = line.content();
            let candidate = if heredoc.chomp {
                content.trim_start_matches('\t')
            } else {
                content
            };
            if candidate == heredoc.name {
                is_terminated = true;
                break;
            }
            heredoc.content.push_str(line.text);
            heredoc.span.end = line.start + line.text.len();
        }
        if !is_terminated {
            let lines = node.location.start_line..=node.location.end_line;
            self.report(
                &Error::UnterminatedHeredoc,
                node.location.span.clone(),
                lines,
            );
            node.is_broken = true;
        }
        node.heredocs.push(heredoc);
    }

    fn report(&mut self, error: &Error, span: Range<usize>, lines: RangeInclusive<usize>) {
        self.diagnostics
            .push(Diagnostic::error(Phase::Syntax, error, span, lines));
    }
}

fn set_child_location(child: &mut Node, start_line: usize, end_line: usize) {
    let mut current = Some(child);
    while let Some(node) = current {
        node.location.start_line = start_line;
        node.location.end_line = end_line;
        current = node.child.as_deref_mut();
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_FILE_BYTES, MAX_INSTRUCTIONS, MAX_LINE_BYTES, parse};
    use crate::diagnostic::Diagnostic;

    fn errors(source: &str) -> Vec<String> {
        parse(source)
            .diagnostics
            .iter()
            .map(Diagnostic::headline)
            .collect()
    }

    #[test]
    fn limits() {
        let line = |bytes: usize| format!("FROM a\n#{}\n", "x".repeat(bytes - 1));
        assert_eq!(errors(&line(MAX_LINE_BYTES)), [""; 0]);
        let expected = "dockerfile line greater than maximum allowed size of 65535";
        assert_eq!(errors(&line(MAX_LINE_BYTES + 1)), [expected]);

        assert_eq!(errors(&"RUN\n".repeat(MAX_INSTRUCTIONS)), [""; 0]);
        let expected = "dockerfile has more than the maximum of 100000 instructions";
        assert_eq!(errors(&"RUN\n".repeat(MAX_INSTRUCTIONS + 1)), [expected]);

        let file = |bytes: usize| format!("RUN\n{}", "\n".repeat(bytes - 4));
        assert_eq!(errors(&file(MAX_FILE_BYTES)), [""; 0]);
        assert_eq!(errors(&file(MAX_FILE_BYTES + 1)).len(), 1);
    }

    #[test]
    fn deep_onbuild_is_an_error_and_no_overflow() {
        let source = "FROM a\n".to_owned() + &"ONBUILD \\\n".repeat(50_000) + "RUN x\n";
        let expected = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed";
        assert_eq!(errors(&source), [expected]);
    }

    #[test]
    fn parsing_goes_on_behind_errors() {
        let source = "FROM a\nENV x\nLABEL y\nRUN [1]\nCOPY <<E /x\nrest\n";
        let expected = [
            "ENV must have two arguments",
            "LABEL must have two arguments",
            "when using JSON array syntax, arrays must be comprised of strings only",
            "unterminated heredoc",
        ];
        assert_eq!(errors(source), expected);
        assert_eq!(parse(source).ast.nodes.len(), 5);
    }

    #[test]
    fn words_know_their_place() {
        let source = "FROM a\nCOPY --from=x \\\n  # c\n  \"b c\" \\\n  /dest\n";
        let parsed = parse(source);
        let node = parsed.ast.nodes.last().expect("a node");
        let texts: Vec<&str> = node
            .flags
            .iter()
            .chain(&node.arguments)
            .map(|word| &source[word.span.clone()])
            .collect();
        assert_eq!(texts, ["--from=x", "\"b", "c\"", "/dest"]);
        assert_eq!((node.location.start_line, node.location.end_line), (2, 5));
    }
}
