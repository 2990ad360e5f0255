//! Reading entries of log files: docker's json-file and local formats, rotated and compressed too
//! (spec runtime §7).

use crate::clock::parse_rfc3339;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::view::LogLine;
use serde::Deserialize;
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use wharf_safefs::trusted;

/// Longest entry of a log file in bytes; what the shim writes is far below.
const MAX_ENTRY_BYTES: usize = 1024 * 1024;
/// Bytes read at a time.
const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of a local entry's length, before and after it.
const LENGTH_BYTES: usize = 4;

/// How entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    JsonFile,
    /// Framed protocol buffers.
    Local,
}

/// What the next entry of a file is.
pub(crate) enum Entry {
    /// A line.
    Line(LogLine),
    /// Something that cannot be read.
    Unreadable,
}

/// An open log file.
pub(crate) struct LogFile {
    file: File,
    reader: Box<dyn BufRead + Send>,
    format: LogFormat,
    /// The file's number, by which it is known after it was renamed.
    pub(crate) inode: u64,
    /// Bytes of it when it was opened.
    pub(crate) length: u64,
    /// Bytes of whole entries read so far, after decompression.
    pub(crate) position: u64,
    is_compressed: bool,
    /// The beginning of an entry whose end is not written yet.
    partial: Vec<u8>,
}

impl LogFile {
    /// Opens a file; None when there is none.
    pub(crate) fn open(path: &Path, format: LogFormat) -> Result<Option<Self>> {
        let file = match trusted::open(path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(broken(error)),
        };
        let metadata = file.metadata().map_err(broken)?;
        let is_compressed = path.extension().is_some_and(|extension| extension == "gz");
        Ok(Some(Self {
            reader: open_reader(file.try_clone().map_err(broken)?, is_compressed)?,
            file,
            format,
            inode: metadata.ino(),
            length: metadata.len(),
            position: 0,
            is_compressed,
            partial: Vec::new(),
        }))
    }

    /// Opens the `number`th rotated file, compressed or not.
    pub(crate) fn open_rotated(
        path: &Path,
        number: u32,
        format: LogFormat,
    ) -> Result<Option<Self>> {
        let plain = rotated_path(path, number, "");
        match Self::open(&plain, format)? {
            Some(file) => Ok(Some(file)),
            None => Self::open(&rotated_path(path, number, ".gz"), format),
        }
    }

    /// Begins from the file's first entry again.
    pub(crate) fn rewind(&mut self) -> Result<()> {
        let mut file = self.file.try_clone().map_err(broken)?;
        file.rewind().map_err(broken)?;
        self.reader = open_reader(file, self.is_compressed)?;
        self.position = 0;
        self.partial.clear();
        Ok(())
    }

    /// Returns the next whole entry; None at the end for now.
    pub(crate) fn next_entry(&mut self) -> Option<Entry> {
        match self.format {
            LogFormat::JsonFile => {
                let line = self.read_line()?;
                Some(parse_json(&line).map_or(Entry::Unreadable, Entry::Line))
            }
            LogFormat::Local => {
                let message = self.read_frame()?;
                let message = message.get(LENGTH_BYTES..message.len() - LENGTH_BYTES);
                Some(
                    message
                        .and_then(parse_local)
                        .map_or(Entry::Unreadable, Entry::Line),
                )
            }
        }
    }

    /// Tells whether the entries up to the length at opening were read.
    pub(crate) fn is_past_opening(&self) -> bool {
        !self.is_compressed && self.position >= self.length
    }

    /// Tells whether the file at `path` is another one by now.
    pub(crate) fn was_rotated(&self, path: &Path) -> bool {
        trusted::metadata(path).is_ok_and(|metadata| metadata.ino != self.inode)
    }

    fn read_line(&mut self) -> Option<Vec<u8>> {
        let room = MAX_ENTRY_BYTES.saturating_sub(self.partial.len());
        let mut limited = (&mut self.reader).take(room as u64);
        let count = limited.read_until(b'\n', &mut self.partial).ok()?;
        if count == 0 && room > 0 {
            return None;
        }
        let is_whole = self.partial.last() == Some(&b'\n') || self.partial.len() >= MAX_ENTRY_BYTES;
        is_whole.then(|| self.take_entry())
    }

    fn read_frame(&mut self) -> Option<Vec<u8>> {
        self.fill(LENGTH_BYTES)?;
        let length = self.partial.first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        if length > MAX_ENTRY_BYTES {
            // Nothing behind it can be found again.
            return None;
        }
        self.fill(length + 2 * LENGTH_BYTES)?;
        Some(self.take_entry())
    }

    /// Reads until the beginning of an entry is that long.
    fn fill(&mut self, length: usize) -> Option<()> {
        let missing = length.saturating_sub(self.partial.len());
        let mut limited = (&mut self.reader).take(missing as u64);
        limited.read_to_end(&mut self.partial).ok()?;
        (self.partial.len() >= length).then_some(())
    }

    fn take_entry(&mut self) -> Vec<u8> {
        let entry = std::mem::take(&mut self.partial);
        self.position += entry.len() as u64;
        entry
    }
}

fn open_reader(file: File, is_compressed: bool) -> Result<Box<dyn BufRead + Send>> {
    let file = BufReader::with_capacity(BUFFER_BYTES, file);
    if !is_compressed {
        return Ok(Box::new(file));
    }
    let (_, reader) = wharf_layer::decompress(file).map_err(broken)?;
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, reader)))
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::wrap(ErrorKind::Internal, "Error grabbing logs", error)
}

fn rotated_path(path: &Path, number: u32, ending: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(format!(".{number}{ending}"));
    PathBuf::from(text)
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

fn parse_json(line: &[u8]) -> Option<LogLine> {
    let record: Record<'_> = serde_json::from_slice(line).ok()?;
    Some(LogLine {
        stderr: record.stream == "stderr",
        time_ns: parse_rfc3339(&record.time),
        bytes: record.log.into_owned().into_bytes(),
    })
}

/// Reads docker's `LogEntry` message; fields that are not known are passed over.
fn parse_local(mut message: &[u8]) -> Option<LogLine> {
    let (mut stderr, mut time_ns, mut bytes) = (false, 0, Vec::new());
    let (mut is_partial, mut is_last) = (false, false);
    while !message.is_empty() {
        match take_field(&mut message)? {
            (1, Field::Bytes(source)) => stderr = source == b"stderr",
            (2, Field::Number(number)) => time_ns = i64::try_from(number).unwrap_or(i64::MAX),
            (3, Field::Bytes(line)) => bytes = line.to_vec(),
            (4, Field::Number(number)) => is_partial = number != 0,
            (5, Field::Bytes(mut metadata)) => {
                while !metadata.is_empty() {
                    if let (1, Field::Number(number)) = take_field(&mut metadata)? {
                        is_last = number != 0;
                    }
                }
            }
            _ => {}
        }
    }
    if !is_partial || is_last {
        bytes.push(b'\n');
    }
    Some(LogLine {
        stderr,
        time_ns,
        bytes,
    })
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Takes one field off a protocol buffer (protobuf.dev, encoding).
fn take_field<'a>(message: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let key = take_varint(message)?;
    let field = match key & 7 {
        0 => Field::Number(take_varint(message)?),
        1 => Field::Bytes(take_bytes(message, 8)?),
        2 => {
            let length = usize::try_from(take_varint(message)?).ok()?;
            Field::Bytes(take_bytes(message, length)?)
        }
        5 => Field::Bytes(take_bytes(message, 4)?),
        _ => return None,
    };
    Some((key >> 3, field))
}

fn take_bytes<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_entries() {
        let line = parse_local(b"\x0a\x06stderr\x10\xac\x02\x1a\x02hi").unwrap();
        assert_eq!(
            (line.stderr, line.time_ns, &line.bytes[..]),
            (true, 300, &b"hi\n"[..])
        );
        let part = parse_local(b"\x1a\x02hi\x20\x01\x2a\x02\x18\x01").unwrap();
        assert_eq!(part.bytes, b"hi");
        let last = parse_local(b"\x1a\x02hi\x20\x01\x2a\x02\x08\x01").unwrap();
        assert_eq!(last.bytes, b"hi\n");
        for cut in [&b"\x1a\x05hi"[..], b"\xff", b"\x0b"] {
            assert!(parse_local(cut).is_none(), "{cut:?}");
        }
    }
}
