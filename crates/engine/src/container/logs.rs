//! Reading and following a container's log files (spec runtime §7, engine-api §11).

use super::log_decode::{Entry as LogEntry, LogFile, LogFormat};
use super::log_files::open_newer_than;
use super::log_options::{self, Driver, LogOptions};
use super::registry::Entry;
use crate::clock::now_ns;
use crate::engine::{Engine, blocking};
use crate::error::{EngineError, Result};
use crate::model::request::LogRequest;
use crate::model::view::LogLine;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Lines that may wait for the reader.
const LINES_IN_FLIGHT: usize = 256;
/// Lines read before they are handed on: reading blocks a thread, waiting for the client does not.
const LINES_AT_ONCE: usize = 256;
/// Bytes read before they are handed on.
const BYTES_AT_ONCE: usize = 512 * 1024;
/// How soon a follower looks for more when the log has ended for now; doubled while nothing comes.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(10);
/// How long a follower of a silent container waits between looks.
const LONGEST_FOLLOW_INTERVAL: Duration = Duration::from_millis(100);
/// How long a container runs before its log is read without following it. Clients that start a
/// program and read its log at once expect its first words there (docker-py's own tests do): docker
/// takes so long to answer a start that they are, this engine does not.
const FIRST_WORDS: Duration = Duration::from_millis(100);

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
        let options = LogOptions::parse(&container.host_config.log_config)?;
        let (path, format) = match log_options::file_of(&container, &options) {
            Some((path, Driver::JsonFile)) => (path, LogFormat::JsonFile),
            Some((path, _)) => (path, LogFormat::Local),
            None => {
                return Err(EngineError::not_implemented(
                    "configured logging driver does not support reading",
                ));
            }
        };
        if !request.follow {
            wait_for_first_words(&entry).await;
        }
        let (sender, receiver) = mpsc::channel(LINES_IN_FLIGHT);
        let reader = LogReader {
            path,
            format,
            request,
            files: VecDeque::new(),
            skip: 0,
            is_open: false,
            is_following: false,
            last_ns: 0,
            is_told_by_time: false,
        };
        tokio::spawn(serve(reader, entry, sender));
        Ok(receiver)
    }
}

/// Waits until a container has ended or runs for [`FIRST_WORDS`].
async fn wait_for_first_words(entry: &Entry) {
    let container = entry.snapshot();
    let age = now_ns().saturating_sub(container.state.started_at_ns);
    let age = Duration::from_nanos(u64::try_from(age).unwrap_or(0));
    let rest = FIRST_WORDS.saturating_sub(age);
    if container.is_running() && !rest.is_zero() {
        let mut life = entry.life.subscribe();
        let _ended_or_old_enough =
            tokio::time::timeout(rest, life.wait_for(|life| !life.running)).await;
    }
}

/// Hands lines on until the log is over or the client is gone.
async fn serve(mut reader: LogReader, entry: Arc<Entry>, sender: mpsc::Sender<Result<LogLine>>) {
    let mut wait = FOLLOW_INTERVAL;
    loop {
        // Asked before reading: what was written before the end is read after it.
        let running = entry.life.borrow().running;
        let read = blocking(move || {
            let batch = reader.read();
            Ok((reader, batch))
        });
        let (returned, batch) = match read.await {
            Ok((returned, Ok(batch))) => (returned, batch),
            Ok((_, Err(error))) | Err(error) => {
                let _reader_gone = sender.send(Err(error)).await;
                return;
            }
        };
        reader = returned;
        let is_silent = batch.lines.is_empty();
        for line in batch.lines {
            if sender.send(Ok(line)).await.is_err() {
                return;
            }
        }
        match batch.then {
            Then::More => continue,
            Then::Over => return,
            Then::End if !reader.request.follow || !running => return,
            Then::End => {}
        }
        wait = if is_silent {
            (wait * 2).min(LONGEST_FOLLOW_INTERVAL)
        } else {
            FOLLOW_INTERVAL
        };
        let mut life = entry.life.subscribe();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // The last lines of a container that ends are sent at once.
            _ = life.wait_for(|life| !life.running) => {}
            () = sender.closed() => return,
        }
    }
}

/// What one look at the files gave.
struct Batch {
    lines: Vec<LogLine>,
    then: Then,
}

/// How it goes on.
enum Then {
    /// There is more to read.
    More,
    /// That was all for now.
    End,
    /// Nothing that is asked for can come any more.
    Over,
}

struct LogReader {
    path: PathBuf,
    format: LogFormat,
    request: LogRequest,
    /// Files still to be read, oldest first; the last is the current one.
    files: VecDeque<LogFile>,
    /// Lines to leave out, for a tail: wanted ones and others.
    skip: usize,
    is_open: bool,
    /// Whether what was there at the beginning was read.
    is_following: bool,
    /// When the entry read last was written.
    last_ns: i64,
    /// Whether the file being read was compressed or removed meanwhile, so that only the times of entries tell which
    /// of the next files were read.
    is_told_by_time: bool,
}

impl LogReader {
    fn read(&mut self) -> Result<Batch> {
        if !self.is_open {
            self.open()?;
        }
        let mut lines = Vec::new();
        let mut bytes = 0;
        loop {
            let is_current = self.files.len() == 1;
            let Some(file) = self.files.front_mut() else {
                break;
            };
            if is_current && !self.is_following && file.is_past_opening() {
                self.is_following = true;
            }
            if is_current && self.is_following && !self.request.follow {
                return Ok(Batch {
                    lines,
                    then: Then::Over,
                });
            }
            match file.next_entry() {
                Some(LogEntry::Line(line)) => {
                    self.last_ns = line.time_ns;
                    if self.skip > 0 {
                        self.skip -= 1;
                        continue;
                    }
                    if self.request.until_ns != 0 && line.time_ns > self.request.until_ns {
                        return Ok(Batch {
                            lines,
                            then: Then::Over,
                        });
                    }
                    if !wanted(&self.request, &line) {
                        continue;
                    }
                    bytes += line.bytes.len();
                    lines.push(line);
                    if lines.len() >= LINES_AT_ONCE || bytes >= BYTES_AT_ONCE {
                        return Ok(Batch {
                            lines,
                            then: Then::More,
                        });
                    }
                }
                Some(LogEntry::Unreadable) => {}
                None if !is_current => {
                    self.files.pop_front();
                    if std::mem::take(&mut self.is_told_by_time) {
                        let next_ns = self.last_ns.saturating_add(1);
                        self.request.since_ns = self.request.since_ns.max(next_ns);
                    }
                }
                None if self.go_on_after_rotation()? => {}
                None => break,
            }
        }
        Ok(Batch {
            lines,
            then: Then::End,
        })
    }

    /// Opens what is asked for.
    fn open(&mut self) -> Result<()> {
        self.files = open_newer_than(&self.path, self.format, None)?.files;
        if self.files.is_empty() {
            return Ok(());
        }
        self.is_open = true;
        if let Some(tail) = self.request.tail {
            self.seek_tail(tail)?;
        }
        Ok(())
    }

    /// Drops files and lines before the last `tail` lines. As docker does, those of both streams and of all times are
    /// counted: the streams and times asked for are chosen from among them.
    fn seek_tail(&mut self, tail: usize) -> Result<()> {
        let mut left = tail;
        let count = self.files.len();
        for (distance, index) in (0..count).rev().enumerate() {
            let Some(file) = self.files.get_mut(index) else {
                break;
            };
            let found = count_lines(file, distance == 0);
            if found >= left || index == 0 {
                self.skip = found.saturating_sub(left);
                self.files.drain(..index);
                break;
            }
            left -= found;
        }
        // Counting has read the files: they are opened again, by the descriptors held.
        for file in &mut self.files {
            file.rewind()?;
        }
        Ok(())
    }

    /// Turns to the file that was begun after the current one; false if there is none.
    fn go_on_after_rotation(&mut self) -> Result<bool> {
        let Some(current) = self.files.front() else {
            return Ok(false);
        };
        if !self.request.follow || !current.was_rotated(&self.path) {
            return Ok(false);
        }
        let newer = open_newer_than(&self.path, self.format, Some(current.inode))?;
        if newer.files.is_empty() {
            return Ok(false);
        }
        self.is_told_by_time = !newer.reaches_known;
        // What was written to the old one since its end was seen is read first.
        let Some(mut old) = self.files.pop_front() else {
            return Ok(false);
        };
        old.length = u64::MAX;
        self.files = newer.files;
        self.files.push_front(old);
        Ok(true)
    }
}

fn count_lines(file: &mut LogFile, is_current: bool) -> usize {
    let mut found = 0;
    while !(is_current && file.is_past_opening()) {
        match file.next_entry() {
            Some(LogEntry::Line(_)) => found += 1,
            Some(LogEntry::Unreadable) => {}
            None => break,
        }
    }
    found
}

fn wanted(request: &LogRequest, line: &LogLine) -> bool {
    (if line.stderr {
        request.stderr
    } else {
        request.stdout
    }) && line.time_ns >= request.since_ns
        && (request.until_ns == 0 || line.time_ns <= request.until_ns)
}
