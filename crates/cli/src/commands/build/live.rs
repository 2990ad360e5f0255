//! A build as it runs, on a terminal: finished steps above, running ones with their times below.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::render::text::ellipsis;
use crate::terminal;

/// Columns of a terminal that does not tell.
const DEFAULT_COLUMNS: usize = 80;
/// Running steps that are shown at once.
const MAX_SHOWN: usize = 12;
/// Lines of output that are shown of a running step.
const LOG_LINES: usize = 3;
/// How often the times are drawn anew.
pub const TICK: Duration = Duration::from_millis(200);

const CLEAR_LINE: &str = "\x1b[2K";
const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

/// The picture.
#[derive(Default)]
pub struct Live {
    names: HashMap<String, String>,
    running: Vec<Running>,
    /// Lines that are redrawn.
    drawn: usize,
    done: usize,
    colour: bool,
}

struct Running {
    digest: String,
    began: Instant,
    log: Vec<String>,
    /// What came of a line that is not complete.
    rest: String,
}

impl Live {
    /// Returns an empty picture.
    #[must_use]
    pub fn new(colour: bool) -> Self {
        Self {
            colour,
            ..Self::default()
        }
    }

    /// Takes an event of the solver; returns what to write.
    pub fn event(&mut self, event: &Json) -> String {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let digest = text("digest");
        let mut lines = String::new();
        match event["event"].as_str() {
            Some("vertex") => {
                self.names.insert(digest, text("name"));
            }
            Some("started") => self.running.push(Running {
                digest,
                began: Instant::now(),
                log: Vec::new(),
                rest: String::new(),
            }),
            Some("log") => {
                if let Some(step) = self.running.iter_mut().find(|step| step.digest == digest) {
                    step.add(&text("text"));
                }
            }
            Some("completed") => lines = self.completed(&digest, event),
            _ => {}
        }
        self.redraw(&lines)
    }

    /// Draws the running steps anew.
    pub fn redraw(&mut self, above: &str) -> String {
        let mut out = self.erase();
        out.push_str(above);
        let columns = terminal::size().map_or(DEFAULT_COLUMNS, |(_, columns)| usize::from(columns));
        for step in self.running.iter().take(MAX_SHOWN) {
            let name = self.names.get(&step.digest).map_or("", String::as_str);
            let took = format!("{:.1}s", step.began.elapsed().as_secs_f64());
            let line = format!(" => {}", one_line(name));
            let room = columns.saturating_sub(took.len() + 2).max(10);
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{} {took}", padded(&ellipsis(&line, room), room));
            self.drawn += 1;
            for line in step.log.iter().rev().take(LOG_LINES).rev() {
                let line = ellipsis(&format!(" => => {line}"), columns.saturating_sub(1));
                let _ = writeln!(out, "{}{line}{}", self.code(DIM), self.code(RESET));
                self.drawn += 1;
            }
        }
        out
    }

    /// Removes what is redrawn.
    pub fn erase(&mut self) -> String {
        let lines = std::mem::take(&mut self.drawn);
        let up = format!("\x1b[1A{CLEAR_LINE}");
        if lines == 0 {
            String::new()
        } else {
            format!("\r{}", up.repeat(lines))
        }
    }

    fn completed(&mut self, digest: &str, event: &Json) -> String {
        let place = self.running.iter().position(|step| step.digest == digest);
        let step = place.map(|place| self.running.remove(place));
        let name = one_line(self.names.get(digest).map_or("", String::as_str));
        self.done += 1;
        if let Some(error) = event["error"].as_str() {
            let mut lines = format!(
                "{}{} => ERROR {name}{}\n",
                self.code(BOLD),
                self.code(RED),
                self.code(RESET)
            );
            for line in step.iter().flat_map(|step| &step.log) {
                let _ = writeln!(lines, " > {line}");
            }
            let _ = error;
            return lines;
        }
        if event["cached"].as_bool() == Some(true) {
            return format!("{} => CACHED {name}{}\n", self.code(DIM), self.code(RESET));
        }
        let took = step.map_or(Duration::ZERO, |step| step.began.elapsed());
        format!(" => {name}  {:.1}s\n", took.as_secs_f64())
    }

    fn code<'c>(&self, code: &'c str) -> &'c str {
        if self.colour { code } else { "" }
    }
}

/// Lines of a failed step's output that are kept.
const KEPT_LINES: usize = 200;

impl Running {
    fn add(&mut self, text: &str) {
        self.rest.push_str(text);
        while let Some((line, rest)) = self.rest.split_once('\n') {
            // What overwrites its own line leaves its last state.
            let line = line
                .trim_end_matches('\r')
                .rsplit('\r')
                .next()
                .unwrap_or_default();
            self.log.push(plain(line));
            self.rest = rest.to_owned();
        }
        let surplus = self.log.len().saturating_sub(KEPT_LINES);
        self.log.drain(..surplus);
    }
}

/// A step's output must not move the cursor.
fn plain(line: &str) -> String {
    line.chars()
        .filter(|character| !character.is_control())
        .collect()
}

fn one_line(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn padded(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(missing))
}

#[cfg(test)]
mod tests {
    use super::Live;
    use serde_json::json;

    #[test]
    fn steps_come_and_go() {
        let mut live = Live::new(false);
        live.event(&json!({"event": "vertex", "digest": "a", "name": "RUN make", "inputs": []}));
        live.event(&json!({"event": "vertex", "digest": "b", "name": "COPY  a\n b", "inputs": []}));
        let cached =
            live.event(&json!({"event": "completed", "digest": "b", "cached": true, "at_ms": 1}));
        assert_eq!(cached, " => CACHED COPY a b\n");
        let started = live.event(&json!({"event": "started", "digest": "a", "at_ms": 1}));
        assert!(
            started.starts_with(" => RUN make") && started.ends_with("0.0s\n"),
            "{started}"
        );
        let log = live.event(&json!({"event": "log", "digest": "a", "stream": "stdout", "text": "one\ntwo\u{1b}[2J\nth"}));
        assert!(
            log.contains(" => => one\n") && log.contains(" => => two[2J\n"),
            "{log:?}"
        );
        assert!(log.starts_with("\r\u{1b}[1A"), "{log:?}");
        let failed = live.event(&json!({"event": "completed", "digest": "a", "cached": false, "error": "x", "at_ms": 2}));
        assert!(
            failed.contains(" => ERROR RUN make\n > one\n > two[2J\n"),
            "{failed:?}"
        );
        assert_eq!(live.redraw(""), "");
    }
}
