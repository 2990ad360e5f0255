//! Parser directives: `# name=value` at the very top of the file (spec/llb.md §6.2).

use crate::ast::{Directives, Word};
use crate::error::Error;
use crate::parser::lines::Line;

/// Collects directives until the first line that is none.
#[derive(Debug, Default)]
pub(super) struct DirectiveReader {
    pub directives: Directives,
    is_done: bool,
    has_escape: bool,
}

impl DirectiveReader {
    /// Looks at one physical line. Returns whether it was a directive.
    pub fn read(&mut self, line: &Line<'_>) -> Result<bool, Error> {
        if self.is_done {
            return Ok(false);
        }
        let Some((name, value)) = split_directive(line) else {
            self.is_done = true;
            return Ok(false);
        };
        let repeated = |name: &str| Error::RepeatedDirective {
            name: name.to_owned(),
        };
        match name.as_str() {
            "syntax" if self.directives.syntax.is_some() => return Err(repeated("syntax")),
            "check" if self.directives.check.is_some() => return Err(repeated("check")),
            "escape" if self.has_escape => return Err(repeated("escape")),
            "syntax" => self.directives.syntax = Some(value),
            "check" => self.directives.check = Some(value),
            "escape" => {
                self.has_escape = true;
                self.directives.escape = match value.text.as_str() {
                    "\\" => '\\',
                    "`" => '`',
                    _ => return Err(Error::InvalidEscapeToken { value: value.text }),
                };
            }
            _ => {
                self.is_done = true;
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Splits `# name = value` into the name in lower case and the value.
fn split_directive(line: &Line<'_>) -> Option<(String, Word)> {
    let blank = [' ', '\t', '\u{c}', '\r', '\n'];
    let content = line.content();
    let body = content.trim_start().strip_prefix('#')?;
    let (name, value) = body.split_once('=')?;
    let name = name.trim_matches(blank);
    let mut characters = name.chars();
    let starts_well = characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic());
    if !starts_well || !characters.all(|character| character.is_ascii_alphanumeric()) {
        return None;
    }
    let trimmed = value.trim_start_matches(blank);
    let start = line.start + (content.len() - trimmed.len());
    let text = trimmed.trim_end_matches(blank);
    if text.is_empty() {
        return None;
    }
    let span = start..start + text.len();
    Some((
        name.to_ascii_lowercase(),
        Word {
            text: text.to_owned(),
            span,
        },
    ))
}
