//! Where a container's output is recorded (spec runtime §7).

mod apart;
mod file;
mod journald;
mod json;
mod line;
mod local;
mod remote;
mod secure;
mod syslog;
mod time;

use std::os::fd::RawFd;

use crate::error::Result;
use crate::request::{LogConfig, LogDriver};
use apart::FileApart;
use file::RotatingFile;
pub use line::LogStream;
use line::{Line, Part, Pending};
use remote::Remote;
pub(crate) use time::format_time;

/// The longest line written as one entry; longer ones are split.
pub const MAX_LINE_BYTES: usize = 16 << 10;

/// Writes a log.
pub struct LogWriter {
    file: Option<LogFile>,
    format: LogDriver,
    attributes: String,
    remote: Option<Remote>,
    pending: [Pending; 2],
    /// Entries of one read, written at once.
    entries: Vec<u8>,
}

/// A log file: written at once, or by a process that may fall behind.
enum LogFile {
    Direct(RotatingFile),
    Apart(FileApart),
}

impl LogFile {
    /// A log that must not block is written apart, but for the copy of what a log daemon gets.
    fn open(config: &LogConfig) -> Result<Self> {
        match config.max_buffer_bytes.filter(|_| config.remote.is_none()) {
            Some(most) => FileApart::open(config, most).map(Self::Apart),
            None => RotatingFile::open(config).map(Self::Direct),
        }
    }

    fn apart(&mut self) -> Option<&mut FileApart> {
        match self {
            Self::Direct(_) => None,
            Self::Apart(file) => Some(file),
        }
    }
}

impl LogWriter {
    /// Opens a log; none where nothing is recorded.
    ///
    /// # Errors
    /// [`crate::RuntimeError::Invalid`] for compression without rotation; file errors; a log daemon
    /// that cannot be reached.
    pub fn open(config: &LogConfig) -> Result<Option<Self>> {
        if config.driver == LogDriver::None && config.remote.is_none() {
            return Ok(None);
        }
        let file = match config.driver {
            LogDriver::None => None,
            LogDriver::JsonFile | LogDriver::Local => Some(LogFile::open(config)?),
        };
        let remote = config
            .remote
            .as_ref()
            .map(|remote| Remote::open(remote, config.max_buffer_bytes))
            .transpose()?;
        let attributes = if config.attributes.is_empty() {
            String::new()
        } else {
            let object = serde_json::to_string(&config.attributes).unwrap_or_default();
            format!(",\"attrs\":{object}")
        };
        Ok(Some(Self {
            file,
            format: config.driver,
            attributes,
            remote,
            pending: Default::default(),
            entries: Vec::new(),
        }))
    }

    /// Says whether no more output may be handed in now: a log daemon does not keep up.
    pub fn is_full(&self) -> bool {
        self.remote.as_ref().is_some_and(Remote::is_full)
    }

    /// Returns where entries wait to be sent.
    pub fn waiting(&self) -> Option<RawFd> {
        let remote = self.remote.as_ref().and_then(Remote::waiting);
        remote.or_else(|| match &self.file {
            Some(LogFile::Apart(file)) => file.waiting(),
            _ => None,
        })
    }

    /// Sends entries that wait.
    pub fn flush(&mut self) {
        if let Some(remote) = &mut self.remote {
            remote.flush();
        }
        if let Some(file) = self.file.as_mut().and_then(LogFile::apart) {
            file.flush();
        }
    }

    /// Records output read at a time, in nanoseconds since 1970. Each line gets a time of its own, so that a
    /// reader who knows one knows which come after it, also in another file.
    pub fn write(&mut self, stream: LogStream, mut bytes: &[u8], now_ns: u64) {
        let mut times_ns = now_ns..;
        let index = usize::from(stream == LogStream::Stderr);
        let [stdout, stderr] = std::mem::take(&mut self.pending);
        let mut pending = [stdout, stderr];
        if let Some(pending) = pending.get_mut(index) {
            while !bytes.is_empty() {
                let room = MAX_LINE_BYTES - pending.bytes.len();
                let window = bytes.get(..room.min(bytes.len())).unwrap_or_default();
                let line_end = window.iter().position(|byte| *byte == b'\n');
                let take = line_end.map_or(window.len(), |end| end + 1);
                let (now, later) = bytes.split_at_checked(take).unwrap_or((bytes, &[]));
                bytes = later;
                if line_end.is_none() && pending.bytes.len() + now.len() < MAX_LINE_BYTES {
                    pending.bytes.extend_from_slice(now);
                    break;
                }
                let time_ns = times_ns.next().unwrap_or(now_ns);
                self.complete(stream, pending, now, time_ns, line_end.is_some());
            }
        }
        self.pending = pending;
        self.write_entries();
    }

    /// Records a line that ends, or that is as long as a part gets.
    fn complete(
        &mut self,
        stream: LogStream,
        pending: &mut Pending,
        now: &[u8],
        now_ns: u64,
        is_last: bool,
    ) {
        let time_ns = pending.first_part_ns.unwrap_or(now_ns);
        let part = (!is_last || pending.first_part_ns.is_some()).then(|| {
            pending.parts += 1;
            Part {
                ordinal: pending.parts,
                is_last,
            }
        });
        let mut held = std::mem::take(&mut pending.bytes);
        let bytes = if held.is_empty() {
            now
        } else {
            held.extend_from_slice(now);
            &held
        };
        self.record(&Line {
            stream,
            bytes,
            time_ns,
            part,
        });
        if is_last {
            *pending = Pending::default();
        } else {
            pending.first_part_ns = Some(time_ns);
        }
    }

    /// Records what is left of unfinished lines, which stay without a line feed, and sends what waits.
    pub fn finish(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for (stream, mut pending) in [LogStream::Stdout, LogStream::Stderr]
            .into_iter()
            .zip(pending)
        {
            if !pending.bytes.is_empty() {
                let now_ns = crate::state::now_ns();
                self.complete(stream, &mut pending, &[], now_ns, false);
            }
        }
        self.write_entries();
        if let Some(remote) = &mut self.remote {
            remote.finish();
        }
        if let Some(file) = self.file.as_mut().and_then(LogFile::apart) {
            file.finish();
        }
    }

    fn record(&mut self, line: &Line<'_>) {
        match self.format {
            LogDriver::JsonFile => json::encode(&mut self.entries, line, &self.attributes),
            LogDriver::Local => local::encode(&mut self.entries, line),
            LogDriver::None => {}
        }
        if let Some(remote) = &mut self.remote {
            remote.send(line);
        }
    }

    fn write_entries(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        let entries = std::mem::take(&mut self.entries);
        match &mut self.file {
            Some(LogFile::Direct(file)) => file.write(&entries),
            Some(LogFile::Apart(file)) => file.write(&entries),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};
    use wharf_safefs::trusted;

    const TIME: u64 = 1_714_557_600_123_456_000;

    fn writer(directory: &Path, max_size_bytes: Option<u64>, max_files: u32) -> LogWriter {
        writer_of(LogDriver::JsonFile, directory, max_size_bytes, max_files)
    }

    fn writer_of(
        driver: LogDriver,
        directory: &Path,
        max_size_bytes: Option<u64>,
        max_files: u32,
    ) -> LogWriter {
        let config = LogConfig {
            path: directory.join("x-json.log"),
            driver,
            max_size_bytes,
            max_files,
            compress: false,
            attributes: Default::default(),
            remote: None,
            max_buffer_bytes: None,
        };
        LogWriter::open(&config).unwrap().unwrap()
    }

    fn text(path: PathBuf) -> String {
        trusted::read_to_string(path, 1 << 20).unwrap()
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
        assert!(lines[2].starts_with(r#"{"log":"half","stream":"stderr""#));
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

    #[test]
    fn what_is_read_at_once_is_parted_among_files() {
        const MAX_SIZE_BYTES: u64 = 1000;
        for driver in [LogDriver::JsonFile, LogDriver::Local] {
            let directory = tempfile::tempdir().unwrap();
            let mut log = writer_of(driver, directory.path(), Some(MAX_SIZE_BYTES), 100);
            let lines: Vec<String> = (0..200).map(|n| "x".repeat(n % 50) + "\n").collect();
            for batch in lines.chunks(70) {
                log.write(LogStream::Stdout, batch.concat().as_bytes(), TIME);
            }
            // One entry of the longest line, in the longer of the formats.
            let entry_bytes = 130;
            let mut entries = 0;
            let mut files = 0;
            for number in (1..100).rev() {
                let path = directory.path().join(format!("x-json.log.{number}"));
                let Ok(bytes) = trusted::read_limited(&path, 1 << 20) else {
                    continue;
                };
                let length = bytes.len() as u64;
                assert!(
                    (MAX_SIZE_BYTES..MAX_SIZE_BYTES + entry_bytes).contains(&length),
                    "{driver:?} {number}: {length}"
                );
                entries += count_entries(driver, &bytes);
                files += 1;
            }
            let last = trusted::read(directory.path().join("x-json.log")).unwrap();
            assert_eq!(entries + count_entries(driver, &last), lines.len());
            assert!(files > 5, "{files}");
        }
    }

    /// Counts the entries of a file and makes sure that they are whole.
    fn count_entries(driver: LogDriver, mut bytes: &[u8]) -> usize {
        let whole = match driver {
            LogDriver::Local => local::whole_entries,
            _ => json::whole_entries,
        };
        let mut count = 0;
        while !bytes.is_empty() {
            let (entry, rest) = bytes.split_at(whole(bytes, 1));
            match driver {
                LogDriver::Local => assert_eq!(entry[..4], entry[entry.len() - 4..]),
                _ => drop(serde_json::from_slice::<serde_json::Value>(entry).unwrap()),
            }
            bytes = rest;
            count += 1;
        }
        count
    }

    #[test]
    fn whole_entries_are_the_fewest_that_take_so_much() {
        let json = b"{1}\n{22}\n{3}\n";
        let local = b"\0\0\0\x01a\0\0\0\x01\0\0\0\x02bb\0\0\0\x02";
        for (least, of_json, of_local) in [
            (0, 4, 9),
            (1, 4, 9),
            (4, 4, 9),
            (5, 9, 9),
            (9, 9, 9),
            (10, 13, 19),
            (14, 13, 19),
            (99, 13, 19),
        ] {
            assert_eq!(json::whole_entries(json, least), of_json, "{least}");
            assert_eq!(local::whole_entries(local, least), of_local, "{least}");
        }
        // Never stands still, whatever it is given.
        assert_eq!(json::whole_entries(b"xy", 1), 2);
        assert_eq!(local::whole_entries(b"xy", 1), 2);
        assert_eq!(local::whole_entries(b"\0\0\0\x09xy", 1), 6);
    }
}
