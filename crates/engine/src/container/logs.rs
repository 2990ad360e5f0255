//! Reading and following a container's log files (spec runtime §7, engine-api §11).

use super::registry::Entry;
use super::start::log_path;
use crate::clock::parse_rfc3339;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::request::LogRequest;
use crate::model::view::LogLine;
use serde::Deserialize;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use wharf_safefs::trusted;

/// Lines that may wait for the reader.
const LINES_IN_FLIGHT: usize = 256;
/// How often a follower looks for more when the log has ended for now.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(20);
/// Longest line of a log file in bytes; what the shim writes is far below.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    log: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    stream: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    time: std::borrow::Cow<'a, str>,
}

impl Engine {
    /// Reads a container's log, oldest line first; follows it while the container runs if asked to.
    ///
    /// # Errors
    /// Docker's text when the log driver keeps nothing or no stream is chosen.
    pub async fn container_logs(
        self: &Arc<Self>,
        name: &str,
        request: LogRequest,
    ) -> Result<mpsc::Receiver<Result<LogLine>>> {
        let entry = self.containers.find(name)?;
        let container = entry.snapshot();
        if !request.stdout && !request.stderr {
            return Err(EngineError::invalid("you must choose at least one stream"));
        }
        if container.host_config.log_config.driver == "none" {
            return Err(EngineError::not_implemented(
                "configured logging driver does not support reading",
            ));
        }
        let path = log_path(&container);
        let (sender, receiver) = mpsc::channel(LINES_IN_FLIGHT);
        tokio::task::spawn_blocking(move || {
            let mut reader = LogReader {
                path,
                request,
                sender,
            };
            if let Err(error) = reader.run(&entry) {
                let _reader_gone = reader.sender.blocking_send(Err(error));
            }
        });
        Ok(receiver)
    }
}

struct LogReader {
    path: PathBuf,
    request: LogRequest,
    sender: mpsc::Sender<Result<LogLine>>,
}

/// Tells that the reader of a log went away.
struct ReaderGone;

impl LogReader {
    fn run(&mut self, entry: &Entry) -> Result<()> {
        let Some(mut current) = self.open(&self.path)? else {
            if !self.request.follow {
                return Ok(());
            }
            return self.wait_for_file(entry);
        };
        let length = current.length()?;
        if self.backlog(&mut current, length).is_err() || !self.request.follow {
            return Ok(());
        }
        self.follow(current, entry)
    }

    /// Waits for the log of a container that never wrote one.
    fn wait_for_file(&mut self, entry: &Entry) -> Result<()> {
        loop {
            let running = entry.life.borrow().running;
            if let Some(current) = self.open(&self.path)? {
                return self.follow(current, entry);
            }
            if !running || self.sender.is_closed() {
                return Ok(());
            }
            std::thread::sleep(FOLLOW_INTERVAL);
        }
    }

    /// Sends what the files hold up to `length` of the newest one, only the tail of it if asked to.
    fn backlog(
        &mut self,
        current: &mut OpenLog,
        length: u64,
    ) -> std::result::Result<(), ReaderGone> {
        if self.request.tail == Some(0) {
            let _position = current.reader.seek(SeekFrom::Start(length));
            return Ok(());
        }
        let mut tail: VecDeque<LogLine> = VecDeque::new();
        for number in (1..=super::log_options::DEFAULT_MAX_FILES.max(64)).rev() {
            if let Ok(Some(mut rotated)) = self.open(&rotated_path(&self.path, number)) {
                self.collect(&mut rotated, u64::MAX, &mut tail)?;
            }
        }
        self.collect(current, length, &mut tail)?;
        for line in tail {
            self.send(line)?;
        }
        Ok(())
    }

    fn collect(
        &mut self,
        log: &mut OpenLog,
        length: u64,
        tail: &mut VecDeque<LogLine>,
    ) -> std::result::Result<(), ReaderGone> {
        while log.position < length {
            let Some(line) = log.next_line() else { break };
            let Some(line) = line.filter(|line| self.wanted(line)) else {
                continue;
            };
            match self.request.tail {
                None => self.send(line)?,
                Some(most) => {
                    if tail.len() == most {
                        tail.pop_front();
                    }
                    tail.push_back(line);
                }
            }
        }
        Ok(())
    }

    fn follow(&mut self, mut current: OpenLog, entry: &Entry) -> Result<()> {
        loop {
            // Asked before reading: what was written before the end is read after it.
            let running = entry.life.borrow().running;
            while let Some(line) = current.next_line() {
                let Some(line) = line else { continue };
                if self.request.until_ns != 0 && line.time_ns > self.request.until_ns {
                    return Ok(());
                }
                if self.wanted(&line) && self.send(line).is_err() {
                    return Ok(());
                }
            }
            if current.was_rotated(&self.path) {
                if let Some(next) = self.open(&self.path)? {
                    while let Some(Some(line)) = current.next_line() {
                        if self.wanted(&line) && self.send(line).is_err() {
                            return Ok(());
                        }
                    }
                    current = next;
                }
                continue;
            }
            if !running || self.sender.is_closed() {
                return Ok(());
            }
            std::thread::sleep(FOLLOW_INTERVAL);
        }
    }

    fn wanted(&self, line: &LogLine) -> bool {
        let request = &self.request;
        (if line.stderr {
            request.stderr
        } else {
            request.stdout
        }) && line.time_ns >= request.since_ns
            && (request.until_ns == 0 || line.time_ns <= request.until_ns)
    }

    fn send(&self, line: LogLine) -> std::result::Result<(), ReaderGone> {
        self.sender.blocking_send(Ok(line)).map_err(|_| ReaderGone)
    }

    fn open(&self, path: &Path) -> Result<Option<OpenLog>> {
        if !trusted::exists(path).unwrap_or(false) {
            return Ok(None);
        }
        let file = trusted::open(path).map_err(super::create::fs_error("Error grabbing logs"))?;
        let inode = file.metadata().map_or(0, |metadata| metadata.ino());
        Ok(Some(OpenLog {
            reader: BufReader::with_capacity(64 * 1024, file),
            position: 0,
            inode,
            line: Vec::new(),
        }))
    }
}

fn rotated_path(path: &Path, number: u32) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(format!(".{number}"));
    PathBuf::from(text)
}

struct OpenLog {
    reader: BufReader<std::fs::File>,
    position: u64,
    inode: u64,
    line: Vec<u8>,
}

impl OpenLog {
    fn length(&self) -> Result<u64> {
        self.reader
            .get_ref()
            .metadata()
            .map(|metadata| metadata.len())
            .map_err(|e| EngineError::internal(format!("Error grabbing logs: {e}")))
    }

    /// Returns the next whole line: None at the end for now, `Some(None)` for one that cannot be read.
    fn next_line(&mut self) -> Option<Option<LogLine>> {
        let mut limited = std::io::Read::take(&mut self.reader, MAX_LINE_BYTES);
        let count = limited.read_until(b'\n', &mut self.line).ok()?;
        if count == 0 {
            return None;
        }
        self.position += count as u64;
        if self.line.last() != Some(&b'\n') && (self.line.len() as u64) < MAX_LINE_BYTES {
            return None;
        }
        let line = std::mem::take(&mut self.line);
        let record: Option<Record<'_>> = serde_json::from_slice(&line).ok();
        Some(record.map(|record| LogLine {
            stderr: record.stream == "stderr",
            time_ns: parse_rfc3339(&record.time),
            bytes: record.log.as_bytes().to_vec(),
        }))
    }

    fn was_rotated(&self, path: &Path) -> bool {
        trusted::metadata(path).is_ok_and(|metadata| metadata.ino != self.inode)
    }
}
