//! What is wrong in a Dockerfile, and how it is shown.

use std::ops::{Range, RangeInclusive};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::ast::line_and_column;
use crate::error::Error;

/// Rule name of the warning about empty lines in a continuation.
pub(crate) const RULE_NO_EMPTY_CONTINUATION: &str = "NoEmptyContinuation";
/// Snippets of one rendering; more diagnostics are counted in one line.
const MAX_RENDERED: usize = 50;
/// Source lines longer than this are left out of snippets.
const MAX_SNIPPET_LINE_BYTES: usize = 1024;

/// How bad a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The build can go on.
    Warning,
    /// The file cannot be built.
    Error,
}

/// Which step found it; decides how the message starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The parser. Messages stand alone, as in the reference.
    Syntax,
    /// An instruction. Messages start with `dockerfile parse error on line N: `.
    Instruction,
    /// The file as a whole or a check. Messages stand alone.
    File,
}

/// One thing that is wrong, with its place in the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Which step found it.
    pub phase: Phase,
    /// What is wrong, without line number and suggestion.
    pub message: String,
    /// Byte range in the source.
    pub span: Range<usize>,
    /// First and last line of the instruction, from 1.
    pub lines: RangeInclusive<usize>,
    /// The valid word the author probably meant.
    pub help: Option<String>,
    /// The name of the check that found it, for warnings.
    pub rule: Option<&'static str>,
}

impl Diagnostic {
    /// Returns an error of `phase`.
    pub(crate) fn error(
        phase: Phase,
        error: &Error,
        span: Range<usize>,
        lines: RangeInclusive<usize>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            phase,
            message: error.to_string(),
            span,
            lines,
            help: None,
            rule: None,
        }
    }

    /// Returns a warning of a check.
    pub(crate) fn warning(
        rule: &'static str,
        message: impl Into<String>,
        span: Range<usize>,
        lines: RangeInclusive<usize>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            phase: Phase::File,
            message: message.into(),
            span,
            lines,
            help: None,
            rule: Some(rule),
        }
    }

    /// Returns whether the file cannot be built because of this.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Returns the first line the instruction stands on, from 1.
    pub fn line(&self) -> usize {
        *self.lines.start()
    }

    /// Returns the message as docker prints it, with line and suggestion.
    ///
    /// For example `dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)`.
    pub fn headline(&self) -> String {
        let mut text = match self.phase {
            Phase::Instruction => {
                format!(
                    "dockerfile parse error on line {}: {}",
                    self.lines.start(),
                    self.message
                )
            }
            Phase::Syntax | Phase::File => self.message.clone(),
        };
        if let Some(word) = &self.help {
            text.push_str(&format!(" (did you mean {word}?)"));
        }
        text
    }
}

/// Returns the diagnostics as plain text, each with its source line and a marker below it.
///
/// The first line of each is [`Diagnostic::headline`]. Ends with a line end;
/// empty for no diagnostics.
pub fn render(file_name: &str, source: &str, diagnostics: &[Diagnostic]) -> String {
    render_with(&Renderer::plain(), file_name, source, diagnostics)
}

/// Returns the same as [`render`] with terminal colours.
pub fn render_colored(file_name: &str, source: &str, diagnostics: &[Diagnostic]) -> String {
    render_with(&Renderer::styled(), file_name, source, diagnostics)
}

fn render_with(
    renderer: &Renderer,
    file_name: &str,
    source: &str,
    diagnostics: &[Diagnostic],
) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics.iter().take(MAX_RENDERED) {
        text.push_str(&render_one(renderer, file_name, source, diagnostic));
        text.push('\n');
    }
    if let Some(more) = diagnostics
        .len()
        .checked_sub(MAX_RENDERED)
        .filter(|more| *more > 0)
    {
        text.push_str(&format!("… and {more} more\n"));
    }
    text
}

fn render_one(
    renderer: &Renderer,
    file_name: &str,
    source: &str,
    diagnostic: &Diagnostic,
) -> String {
    let headline = printable(&diagnostic.headline());
    let title = match diagnostic.severity {
        Severity::Error => Level::ERROR.no_name().primary_title(headline),
        Severity::Warning => Level::WARNING.primary_title(headline),
    };
    let Some((excerpt, span)) = excerpt(source, &diagnostic.span) else {
        return renderer.render(&[Group::with_title(title)]);
    };
    let (line, _) = line_and_column(source, diagnostic.span.start);
    let label = diagnostic
        .help
        .as_ref()
        .map(|word| format!("did you mean `{word}`?"));
    let snippet = Snippet::source(printable(excerpt))
        .path(file_name)
        .line_start(line)
        .annotation(AnnotationKind::Primary.span(span).label(label));
    renderer.render(&[title.element(snippet)])
}

/// Returns the source line that a span starts on, and the span's part in it.
fn excerpt<'a>(source: &'a str, span: &Range<usize>) -> Option<(&'a str, Range<usize>)> {
    let before = source.get(..span.start)?;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let rest = source.get(line_start..)?;
    let line = rest.lines().next().unwrap_or_default();
    if line.is_empty() || line.len() > MAX_SNIPPET_LINE_BYTES {
        return None;
    }
    let start = (span.start - line_start).min(line.len());
    let end = span.end.saturating_sub(line_start).clamp(start, line.len());
    Some((line, start..end))
}

/// Replaces characters that would act on a terminal; keeps byte offsets.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_ascii_control() && character != '\t' {
                '?'
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::load;

    #[test]
    fn snippet_below_the_reference_message() {
        let source = "FROM busybox\n\nRUNN echo hi\nCOPY --form=a b c\n";
        let (_, diagnostics) = load(source);
        insta::assert_snapshot!(render("Dockerfile", source, &diagnostics), @r"
        dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)
         --> Dockerfile:3:1
          |
        3 | RUNN echo hi
          | ^^^^ did you mean `RUN`?
        dockerfile parse error on line 4: unknown flag: --form (did you mean from?)
         --> Dockerfile:4:6
          |
        4 | COPY --form=a b c
          |      ^^^^^^^^ did you mean `from`?
        ");
    }

    #[test]
    fn all_flags_of_an_instruction() {
        let source = "FROM busybox\nRUN --mont=x --network=nowhere --securty=y true\nCOPY --link=1 --lnk a b\n";
        let (_, diagnostics) = load(source);
        insta::assert_snapshot!(render("Dockerfile", source, &diagnostics), @r"
        dockerfile parse error on line 2: unknown flag: --mont (did you mean mount?)
         --> Dockerfile:2:5
          |
        2 | RUN --mont=x --network=nowhere --securty=y true
          |     ^^^^^^^^ did you mean `mount`?
        dockerfile parse error on line 2: unknown flag: --securty (did you mean security?)
         --> Dockerfile:2:32
          |
        2 | RUN --mont=x --network=nowhere --securty=y true
          |                                ^^^^^^^^^^^ did you mean `security`?
        dockerfile parse error on line 3: expecting boolean value for flag --link, not: 1
         --> Dockerfile:3:6
          |
        3 | COPY --link=1 --lnk a b
          |      ^^^^^^^^
        dockerfile parse error on line 3: unknown flag: --lnk (did you mean link?)
         --> Dockerfile:3:15
          |
        3 | COPY --link=1 --lnk a b
          |               ^^^^^ did you mean `link`?
        ");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let source = "FROM a\n\u{1b}[31mRUN x\n";
        let (_, diagnostics) = load(source);
        assert!(!render("Dockerfile", source, &diagnostics).contains('\u{1b}'));
    }
}
