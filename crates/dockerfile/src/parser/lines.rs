//! Physical lines, and logical lines joined from continuations.

use std::ops::Range;

use crate::ast::Word;

/// One physical line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// The text with its line end.
    pub text: &'a str,
    /// Byte offset of the text in the source.
    pub start: usize,
    /// Line number, from 1.
    pub number: usize,
}

impl<'a> Line<'a> {
    /// Returns the text without its line end.
    pub fn content(&self) -> &'a str {
        self.text.trim_end_matches(['\r', '\n'])
    }

    /// Returns whether the first visible character is `#`.
    pub fn is_comment(&self) -> bool {
        self.content().trim_start().starts_with('#')
    }

    /// Returns the offset of the end of the text, line end excluded.
    pub fn end(&self) -> usize {
        self.start + self.content().len()
    }
}

/// Walks the physical lines of a source.
pub(super) struct Lines<'a> {
    source: &'a str,
    offset: usize,
    number: usize,
}

impl<'a> Lines<'a> {
    /// Returns the lines of `source`; a byte order mark at its start is skipped.
    pub fn new(source: &'a str) -> Self {
        let offset = if source.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        Self {
            source,
            offset,
            number: 0,
        }
    }

    /// Returns the byte offset of the next line.
    pub fn next_offset(&self) -> usize {
        self.offset
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = self
            .source
            .get(self.offset..)
            .filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        let line = Line {
            text: rest.get(..length)?,
            start: self.offset,
            number: self.number + 1,
        };
        self.offset += length;
        self.number += 1;
        Some(line)
    }
}

/// The text of one instruction with continuation lines joined, and where each part came from.
#[derive(Debug, Default)]
pub(super) struct LogicalLine {
    pub text: String,
    /// (offset in `text`, offset in the source), ascending.
    pieces: Vec<(usize, usize)>,
}

impl LogicalLine {
    /// Appends the part of a physical line that starts at `source_start`.
    pub fn push(&mut self, part: &str, source_start: usize) {
        self.pieces.push((self.text.len(), source_start));
        self.text.push_str(part);
    }

    /// Returns the source bytes of a range of the joined text.
    pub fn span(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.source_offset(range.start);
        if range.is_empty() {
            return start..start;
        }
        start..self.source_offset(range.end - 1) + 1
    }

    /// Returns a word for a range of the joined text.
    pub fn word(&self, text: impl Into<String>, range: &Range<usize>) -> Word {
        Word {
            text: text.into(),
            span: self.span(range),
        }
    }

    fn source_offset(&self, offset: usize) -> usize {
        let index = self.pieces.partition_point(|(start, _)| *start <= offset);
        match index
            .checked_sub(1)
            .and_then(|index| self.pieces.get(index))
        {
            Some((start, source)) => source + (offset - start),
            None => offset,
        }
    }
}

/// Splits a trailing continuation character off; tells whether there was one.
///
/// The character counts at the end of the line, with blanks and tabs allowed
/// behind it, unless the same character stands before it (spec/llb.md §6.1).
pub(super) fn split_continuation(content: &str, escape: char) -> (&str, bool) {
    let trimmed = content.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (content, false),
    }
}

#[cfg(test)]
mod tests {
    use super::{LogicalLine, split_continuation};

    #[test]
    fn continuation_character() {
        for (line, rest, continues) in [
            ("a \\", "a ", true),
            ("a \\ \t", "a ", true),
            ("a \\\\", "a \\\\", false),
            ("\\", "", true),
            ("a \\ b", "a \\ b", false),
            ("", "", false),
        ] {
            assert_eq!(
                split_continuation(line, '\\'),
                (rest, continues),
                "{line:?}"
            );
        }
        assert_eq!(split_continuation("a `", '`'), ("a ", true));
        assert_eq!(split_continuation("a \\", '`'), ("a \\", false));
    }

    #[test]
    fn spans_cross_pieces() {
        let mut line = LogicalLine::default();
        line.push("RUN a", 10);
        line.push("b c", 20);
        assert_eq!(line.span(&(4..6)), 14..21);
        assert_eq!(line.span(&(5..6)), 20..21);
        assert_eq!(line.span(&(8..8)), 23..23);
    }
}
