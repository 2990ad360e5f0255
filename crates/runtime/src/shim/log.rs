//! The container's log in docker's json-file format (spec runtime §7).

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use wharf_safefs::trusted;

use crate::error::{Result, RuntimeError};
use crate::request::{LogConfig, LogDriver};
use crate::sys;

/// The longest line written as one entry; longer ones are split.
pub const MAX_LINE_BYTES: usize = 16 << 10;

/// Permissions of a log file (spec runtime §7).
const LOG_MODE: u32 = 0o640;

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

    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Writes a log; a disk that is full or gone loses lines but never the container.
pub struct LogWriter {
    path: PathBuf,
    file: Option<File>,
    size_bytes: u64,
    max_size_bytes: Option<u64>,
    max_files: u32,
    compress: bool,
    /// The process that compresses the file rotated last, if it may still run.
    compressor: Option<i32>,
    attributes: String,
    pending: [Pending; 2],
    entry: Vec<u8>,
}

/// A line that is not complete yet.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    /// The time of the first part, if parts were written already.
    first_part_ns: Option<u64>,
}

impl LogWriter {
    /// Opens a log; none where nothing is recorded.
    ///
    /// # Errors
    /// [`RuntimeError::Invalid`] for compression without rotation; file errors.
    pub fn open(config: &LogConfig) -> Result<Option<Self>> {
        if config.driver == LogDriver::None {
            return Ok(None);
        }
        let rotates = config.max_files >= 2 && config.max_size_bytes.is_some_and(|size| size > 0);
        if config.compress && !rotates {
            let reason = "compression needs a max-size and a max-file of at least 2";
            return Err(RuntimeError::invalid("log option compress", reason));
        }
        let (file, size_bytes) = open_file(&config.path)?;
        let attributes = if config.attributes.is_empty() {
            String::new()
        } else {
            let object = serde_json::to_string(&config.attributes).unwrap_or_default();
            format!(",\"attrs\":{object}")
        };
        Ok(Some(Self {
            path: config.path.clone(),
            file: Some(file),
            size_bytes,
            max_size_bytes: config.max_size_bytes.filter(|size| *size > 0),
            max_files: config.max_files.max(1),
            compress: config.compress,
            compressor: None,
            attributes,
            pending: Default::default(),
            entry: Vec::new(),
        }))
    }

    /// Records output read at a time, in nanoseconds since 1970.
    pub fn write(&mut self, stream: LogStream, mut bytes: &[u8], now_ns: u64) {
        while !bytes.is_empty() {
            let index = usize::from(stream == LogStream::Stderr);
            let Some(pending) = self.pending.get_mut(index) else {
                return;
            };
            let room = MAX_LINE_BYTES - pending.bytes.len();
            let window = bytes.get(..room.min(bytes.len())).unwrap_or_default();
            let line_end = window.iter().position(|byte| *byte == b'\n');
            let take = line_end.map_or(window.len(), |end| end + 1);
            let (now, later) = bytes.split_at_checked(take).unwrap_or((bytes, &[]));
            bytes = later;
            pending.bytes.extend_from_slice(now);
            if line_end.is_none() && pending.bytes.len() < MAX_LINE_BYTES {
                return;
            }
            let line = std::mem::take(&mut pending.bytes);
            let time = pending.first_part_ns.unwrap_or(now_ns);
            pending.first_part_ns = line_end.is_none().then_some(time);
            self.write_entry(stream, &line, time);
        }
    }

    /// Records what is left of unfinished lines.
    pub fn finish(&mut self) {
        for (stream, index) in [(LogStream::Stdout, 0), (LogStream::Stderr, 1)] {
            let Some(pending) = self.pending.get_mut(index) else {
                continue;
            };
            let mut line = std::mem::take(&mut pending.bytes);
            let first = pending.first_part_ns.take();
            if line.is_empty() && first.is_none() {
                continue;
            }
            line.push(b'\n');
            let now = crate::state::now_ns();
            self.write_entry(stream, &line, first.unwrap_or(now));
        }
    }

    fn write_entry(&mut self, stream: LogStream, line: &[u8], time_ns: u64) {
        // Looked at before a write, so that the current file is never left empty.
        if self
            .max_size_bytes
            .is_some_and(|max| self.size_bytes >= max)
        {
            self.rotate();
        }
        let mut entry = std::mem::take(&mut self.entry);
        entry.clear();
        encode(&mut entry, line, stream.name(), &self.attributes, time_ns);
        if self.file.is_none() {
            self.reopen();
        }
        if let Some(file) = &mut self.file {
            match file.write_all(&entry) {
                Ok(()) => self.size_bytes += entry.len() as u64,
                // A full disk: this line is lost, the next one may fit again.
                Err(_) => self.file = None,
            }
        }
        entry.clear();
        entry.shrink_to(0);
        self.entry = entry;
    }

    fn reopen(&mut self) {
        if let Ok((file, size_bytes)) = open_file(&self.path) {
            self.file = Some(file);
            self.size_bytes = size_bytes;
        }
    }

    /// Moves `log` to `log.1`, `log.1` to `log.2` and so on, and starts a new file.
    fn rotate(&mut self) {
        if let Some(compressor) = self.compressor.take() {
            // It knows its file by a name that is about to change.
            // SAFETY: plain system call; somebody else may have reaped it already.
            unsafe { libc::waitpid(compressor, std::ptr::null_mut(), 0) };
        }
        self.file = None;
        for number in (1..self.max_files.saturating_sub(1)).rev() {
            for ending in ["", ".gz"] {
                let from = self.rotated(number, ending);
                // A file that is not there yet, early in the log's life.
                if trusted::rename(from, self.rotated(number + 1, ending)).is_ok() {
                    let other = if ending.is_empty() { ".gz" } else { "" };
                    let _ = trusted::remove_file(self.rotated(number + 1, other));
                }
            }
        }
        if self.max_files > 1 {
            let _ = trusted::rename(&self.path, self.rotated(1, ""));
        } else {
            let _ = trusted::remove_file(&self.path);
        }
        if self.compress {
            self.compress_last();
        }
        self.size_bytes = 0;
        self.reopen();
    }

    fn rotated(&self, number: u32, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}{ending}"));
        PathBuf::from(path)
    }

    /// Compresses the file rotated last in a process of its own, so that the container never waits.
    fn compress_last(&mut self) {
        let plain = self.rotated(1, "");
        let temporary = self.rotated(1, ".gz.tmp");
        let compressed = self.rotated(1, ".gz");
        // SAFETY: the shim has one thread.
        match unsafe { sys::fork() } {
            Ok(0) => {
                sys::close_from(3);
                let done = compress(&plain, &temporary)
                    .and_then(|()| Ok(trusted::rename(&temporary, &compressed)?))
                    .and_then(|()| Ok(trusted::remove_file(&plain)?));
                sys::exit_now(i32::from(done.is_err()))
            }
            Ok(compressor) => self.compressor = Some(compressor),
            // Without a process the file stays as it is, which readers take as well.
            Err(_) => {}
        }
    }
}

fn compress(from: &Path, to: &Path) -> Result<()> {
    let mut source = trusted::open(from)?;
    let target = trusted::create(to, LOG_MODE)?;
    let mut encoder = flate2::write::GzEncoder::new(target, flate2::Compression::default());
    std::io::copy(&mut source, &mut encoder)
        .and_then(|_| encoder.finish())
        .map(drop)
        .map_err(|error| RuntimeError::io("compress a rotated log", error))
}

fn open_file(path: &Path) -> Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(LOG_MODE);
    let file = trusted::open_with(path, &options)?;
    let size = trusted::file_metadata(&file, path)?.size_bytes;
    if size == 0 {
        // The shim's umask is stricter than docker's log files are.
        file.set_permissions(Permissions::from_mode(LOG_MODE))
            .map_err(|error| RuntimeError::io("set the log's mode", error))?;
    }
    Ok((file, size))
}

/// Appends one entry: `{"log":…,"stream":…,"attrs":…,"time":…}` and a line feed.
fn encode(entry: &mut Vec<u8>, line: &[u8], stream: &str, attributes: &str, time_ns: u64) {
    entry.extend_from_slice(b"{\"log\":\"");
    escape(entry, line);
    entry.extend_from_slice(b"\",\"stream\":\"");
    entry.extend_from_slice(stream.as_bytes());
    entry.push(b'"');
    entry.extend_from_slice(attributes.as_bytes());
    entry.extend_from_slice(b",\"time\":\"");
    entry.extend_from_slice(format_time(time_ns).as_bytes());
    entry.extend_from_slice(b"\"}\n");
}

/// Appends text as the inside of a JSON string, the way docker writes it: HTML characters and
/// controls as `\u00xx`, invalid UTF-8 and U+2028/9 as escapes.
fn escape(entry: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => entry.extend_from_slice(&[b'\\', character as u8]),
                '\n' => entry.extend_from_slice(b"\\n"),
                '\r' => entry.extend_from_slice(b"\\r"),
                '<' | '>' | '&' | '\0'..' ' => {
                    entry.extend_from_slice(format!("\\u{:04x}", character as u32).as_bytes());
                }
                '\u{2028}' => entry.extend_from_slice(b"\\u2028"),
                '\u{2029}' => entry.extend_from_slice(b"\\u2029"),
                _ => {
                    let mut buffer = [0; 4];
                    entry.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                }
            }
        }
        for _ in chunk.invalid() {
            entry.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Formats a time as RFC 3339 in UTC with as many of nine fraction digits as are needed.
pub(crate) fn format_time(time_ns: u64) -> String {
    let seconds = time_ns / 1_000_000_000;
    let fraction = time_ns % 1_000_000_000;
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction != 0 {
        let digits = format!(".{fraction:09}");
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Returns the Gregorian date of a day counted from 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Years start in March here, so that the leap day is the last of its year.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: u64 = 1_714_557_600_123_456_000;

    fn writer(directory: &Path, max_size_bytes: Option<u64>, max_files: u32) -> LogWriter {
        let config = LogConfig {
            path: directory.join("x-json.log"),
            driver: LogDriver::JsonFile,
            max_size_bytes,
            max_files,
            compress: false,
            attributes: Default::default(),
        };
        LogWriter::open(&config).unwrap().unwrap()
    }

    fn text(path: PathBuf) -> String {
        trusted::read_to_string(path, 1 << 20).unwrap()
    }

    #[test]
    fn times_have_as_many_digits_as_they_need() {
        assert_eq!(format_time(TIME), "2024-05-01T10:00:00.123456Z");
        assert_eq!(format_time(0), "1970-01-01T00:00:00Z");
        assert_eq!(
            format_time(951_827_696_000_000_001),
            "2000-02-29T12:34:56.000000001Z"
        );
    }

    #[test]
    fn entries_are_dockers() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = writer(directory.path(), None, 1);
        log.write(
            LogStream::Stdout,
            b"a<b>&\"\\\t\r\n\xff\xe2\x80\xa8\xc3\xa9\n",
            TIME,
        );
        log.write(LogStream::Stderr, b"half", TIME);
        log.finish();
        let text = text(directory.path().join("x-json.log"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            r#"{"log":"a\u003cb\u003e\u0026\"\\\u0009\r\n","stream":"stdout","time":"2024-05-01T10:00:00.123456Z"}"#
        );
        assert!(lines[1].starts_with("{\"log\":\"\\ufffd\\u2028é\\n\",\"stream\":\"stdout\""));
        assert!(lines[2].starts_with(r#"{"log":"half\n","stream":"stderr""#));
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn long_lines_are_split_and_share_their_time() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = writer(directory.path(), None, 1);
        let mut line = vec![b'x'; MAX_LINE_BYTES + 10];
        line.push(b'\n');
        log.write(LogStream::Stdout, &line[..100], TIME);
        log.write(LogStream::Stdout, &line[100..MAX_LINE_BYTES + 5], TIME + 1);
        log.write(
            LogStream::Stdout,
            &line[MAX_LINE_BYTES + 5..],
            TIME + 2_000_000_000,
        );
        let text = text(directory.path().join("x-json.log"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].contains("xx\",\"stream\""),
            "a part has no line feed"
        );
        assert!(lines[1].starts_with(r#"{"log":"xxxxxxxxxx\n""#));
        assert_eq!(
            lines[0].rsplit("time").next(),
            lines[1].rsplit("time").next()
        );
    }

    #[test]
    fn files_are_rotated() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = writer(directory.path(), Some(10), 3);
        for number in 0..5 {
            log.write(LogStream::Stdout, format!("{number}\n").as_bytes(), TIME);
        }
        for (name, line) in [("log", 4), ("log.1", 3), ("log.2", 2)] {
            let text = text(directory.path().join(format!("x-json.{name}")));
            assert!(text.contains(&format!("\"{line}\\n\"")), "{name}: {text}");
        }
        assert!(!directory.path().join("x-json.log.3").exists());
    }
}
