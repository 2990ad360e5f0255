//! Lines of output, whole and in parts.

/// A process's output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output, or a terminal's output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl LogStream {
    /// Returns the stream's number in frames (spec engine-api §2.1).
    pub fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// Returns the stream's name in entries.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A line, or a part of one that is too long.
pub(super) struct Line<'a> {
    pub(super) stream: LogStream,
    /// With its line end, where it has one.
    pub(super) bytes: &'a [u8],
    /// When its first part was read.
    pub(super) time_ns: u64,
    /// Set for parts of a long line.
    pub(super) part: Option<Part>,
}

/// A part's place in its line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Counted from 1.
    pub(super) ordinal: u32,
    pub(super) is_last: bool,
}

impl Line<'_> {
    /// Says whether the line ends here.
    pub(super) fn is_last(&self) -> bool {
        self.part.is_none_or(|part| part.is_last)
    }

    /// Returns the text without its line end.
    pub(super) fn text(&self) -> &[u8] {
        self.bytes.strip_suffix(b"\n").unwrap_or(self.bytes)
    }
}

/// A line that is not complete yet.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) bytes: Vec<u8>,
    /// The time of the first part, if parts were written already.
    pub(super) first_part_ns: Option<u64>,
    pub(super) parts: u32,
}
