//! The JSON lines of build, pull, push and load as text (engine-api.md §2.3).

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::error::{CliError, Result};
use crate::http::Response;
use crate::output::Output;
use crate::terminal;
use crate::units;

/// Longest accepted line of a progress stream, in bytes.
pub const LINE_LIMIT_BYTES: usize = 16 * 1024 * 1024;
const BAR_CHARACTERS: usize = 50;
const WIDTH_WITH_BAR: u16 = 110;

/// One line of a progress stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Text to be shown as it is.
    pub stream: Option<String>,
    /// What is happening, to the object `id` if there is one.
    pub status: Option<String>,
    /// The object it happens to, such as a layer.
    pub id: Option<String>,
    /// How far it is.
    #[serde(rename = "progressDetail")]
    pub progress: Option<Progress>,
    /// A failure; the stream ends with it.
    #[serde(rename = "errorDetail")]
    pub error_detail: Option<ErrorDetail>,
    /// The failure's text, for older clients.
    pub error: Option<String>,
    /// Results for programs.
    pub aux: Option<Json>,
}

/// Amounts of a transfer.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Done so far.
    pub current: i64,
    /// All there is, 0 when unknown.
    pub total: i64,
    /// Unit of both, bytes when empty.
    pub units: String,
    /// Show the bar without numbers.
    pub hidecounts: bool,
}

/// A failure inside a stream.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// Exit status, when a command failed.
    pub code: Option<i32>,
    /// Its text.
    pub message: String,
}

/// Shows a whole stream and hands every `aux` value to `sink`.
pub async fn show(response: Response, output: &mut Output, sink: impl FnMut(&Json)) -> Result<()> {
    let mut display = Display::new(output.is_terminal());
    read(response, sink, |message| display.show(message, output)).await
}

/// Shows a stream on standard error, where the command's data owns standard output.
pub async fn show_as_talk(response: Response, output: &mut Output) -> Result<()> {
    let mut display = Display::new(output.talk_is_terminal());
    read(
        response,
        |_| {},
        |message| output.talk_bytes(display.text(message).as_bytes()),
    )
    .await
}

/// Reads a stream without showing anything.
pub async fn read_quietly(response: Response, sink: impl FnMut(&Json)) -> Result<()> {
    read(response, sink, |_| Ok(())).await
}

/// Reads a stream message by message; an error in it ends the reading.
pub async fn read(
    mut response: Response,
    mut sink: impl FnMut(&Json),
    mut each: impl FnMut(&Message) -> Result<()>,
) -> Result<()> {
    let mut lines = Lines::default();
    loop {
        let chunk = response.chunk().await?;
        let is_end = chunk.is_none();
        for line in lines.push(chunk.as_deref().unwrap_or(b"\n"))? {
            let message = parse(&line)?;
            if let Some(error) = message.failure() {
                return Err(error);
            }
            if let Some(aux) = &message.aux {
                sink(aux);
            }
            each(&message)?;
        }
        if is_end {
            return Ok(());
        }
    }
}

/// Reads a stream for its `aux` values alone, and lets `tick` run as often as `interval` says.
pub async fn read_ticking(
    mut response: Response,
    interval: std::time::Duration,
    mut each: impl FnMut(&Json) -> Result<()>,
    mut tick: impl FnMut() -> Result<()>,
) -> Result<()> {
    let mut lines = Lines::default();
    let mut timer = tokio::time::interval(interval);
    loop {
        let chunk = tokio::select! {
            chunk = response.chunk() => chunk?,
            _ = timer.tick() => {
                tick()?;
                continue;
            }
        };
        let is_end = chunk.is_none();
        for line in lines.push(chunk.as_deref().unwrap_or(b"\n"))? {
            let message = parse(&line)?;
            if let Some(error) = message.failure() {
                return Err(error);
            }
            if let Some(aux) = &message.aux {
                each(aux)?;
            }
        }
        if is_end {
            return Ok(());
        }
    }
}

fn parse(line: &[u8]) -> Result<Message> {
    serde_json::from_slice(line).map_err(|source| CliError::Decode {
        request: "a request with progress".into(),
        source,
    })
}

impl Message {
    /// Returns the failure that ends the stream, if this is it.
    fn failure(&self) -> Option<CliError> {
        if self.error_detail.is_none() && self.error.is_none() {
            return None;
        }
        let detail = self.error_detail.clone().unwrap_or_default();
        let message = if detail.message.is_empty() {
            self.error.clone().unwrap_or_default()
        } else {
            detail.message
        };
        Some(CliError::Stream {
            code: detail.code,
            message,
        })
    }
}

/// Splits a stream of JSON objects, one a line.
#[derive(Default)]
pub struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Takes the next bytes and returns the lines that are now complete, without empty ones.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.pending.extend_from_slice(bytes);
        let Some(end) = self.pending.iter().rposition(|byte| *byte == b'\n') else {
            if self.pending.len() > LINE_LIMIT_BYTES {
                return Err(CliError::transport(
                    "reading a stream",
                    format!("a line is longer than {LINE_LIMIT_BYTES} bytes"),
                ));
            }
            return Ok(Vec::new());
        };
        let complete: Vec<u8> = self.pending.drain(..=end).collect();
        Ok(complete
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect())
    }
}

/// Draws messages: on a terminal one line for each id, moved to with the cursor; elsewhere plain lines.
pub struct Display {
    is_terminal: bool,
    rows: HashMap<String, usize>,
}

impl Display {
    /// Returns a display without rows.
    #[must_use]
    pub fn new(is_terminal: bool) -> Self {
        Self {
            is_terminal,
            rows: HashMap::new(),
        }
    }

    fn show(&mut self, message: &Message, output: &mut Output) -> Result<()> {
        let text = self.text(message);
        if text.is_empty() {
            Ok(())
        } else {
            output.text(&text)
        }
    }

    /// Returns what to write for a message.
    pub fn text(&mut self, message: &Message) -> String {
        if let Some(stream) = &message.stream {
            self.rows.clear();
            return stream.clone();
        }
        let Some(status) = &message.status else {
            return String::new();
        };
        let id = message.id.as_deref().unwrap_or_default();
        let amounts = message
            .progress
            .as_ref()
            .filter(|progress| progress.current > 0 || progress.total > 0);
        let prefix = if id.is_empty() {
            String::new()
        } else {
            format!("{id}: ")
        };
        if !self.is_terminal {
            // Amounts change many times a second: without a terminal only the steps are told.
            return if amounts.is_some() {
                String::new()
            } else {
                format!("{prefix}{status}\n")
            };
        }
        let bar = amounts.map(bar).unwrap_or_default();
        if id.is_empty() || message.progress.is_none() {
            self.rows.clear();
            return format!("{prefix}{status}\n");
        }
        let mut text = String::new();
        let count = self.rows.len();
        let row = *self.rows.entry(id.to_owned()).or_insert(count);
        if row == count {
            text.push('\n');
        }
        let up = self.rows.len() - row;
        let separator = if bar.is_empty() { "" } else { " " };
        text.push_str(&format!(
            "\x1b[{up}A\x1b[2K\r{prefix}{status}{separator}{bar}\r\x1b[{up}B"
        ));
        text
    }
}

/// Returns the bar and numbers of a transfer, as wide as the terminal allows.
fn bar(progress: &Progress) -> String {
    let numbers = if progress.hidecounts {
        String::new()
    } else {
        numbers(progress)
    };
    if progress.total <= 0 {
        return numbers;
    }
    let width = terminal::size().map_or(WIDTH_WITH_BAR, |(_, columns)| columns);
    if width < WIDTH_WITH_BAR {
        return numbers;
    }
    let share = (progress.current as f64 / progress.total as f64).clamp(0.0, 1.0);
    let done = (share * BAR_CHARACTERS as f64) as usize;
    let blanks = BAR_CHARACTERS.saturating_sub(done + 1);
    let head = if done < BAR_CHARACTERS { ">" } else { "" };
    format!(
        "[{}{head}{}] {numbers}",
        "=".repeat(done),
        " ".repeat(blanks)
    )
}

fn numbers(progress: &Progress) -> String {
    let shown = |amount: i64| {
        if progress.units.is_empty() {
            units::human_size(amount as f64)
        } else {
            amount.to_string()
        }
    };
    let unit = if progress.units.is_empty() {
        String::new()
    } else {
        format!(" {}", progress.units)
    };
    match progress.total {
        total if total <= 0 || progress.current > total => {
            format!("{:>8}{unit}", shown(progress.current))
        }
        total => format!("{:>8}/{}{unit}", shown(progress.current), shown(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> Message {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn plain_lines_leave_amounts_out() {
        let mut display = Display::new(false);
        let cases = [
            (
                r#"{"status":"Pulling from library/alpine","id":"3.20"}"#,
                "3.20: Pulling from library/alpine\n",
            ),
            (
                r#"{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"c6"}"#,
                "",
            ),
            (
                r#"{"status":"Pull complete","progressDetail":{},"id":"c6"}"#,
                "c6: Pull complete\n",
            ),
            (r#"{"stream":"Step 1/1 : FROM x\n"}"#, "Step 1/1 : FROM x\n"),
            (r#"{"status":"Digest: sha256:0"}"#, "Digest: sha256:0\n"),
            (r#"{"aux":{"ID":"x"}}"#, ""),
        ];
        for (json, expected) in cases {
            assert_eq!(display.text(&message(json)), expected, "{json}");
        }
    }

    #[test]
    fn a_terminal_gets_one_row_for_each_id() {
        let mut display = Display::new(true);
        let first = display.text(&message(
            r#"{"status":"Waiting","progressDetail":{},"id":"a"}"#,
        ));
        assert_eq!(first, "\n\x1b[1A\x1b[2K\ra: Waiting\r\x1b[1B");
        display.text(&message(
            r#"{"status":"Waiting","progressDetail":{},"id":"b"}"#,
        ));
        let again = display.text(&message(
            r#"{"status":"Done","progressDetail":{},"id":"a"}"#,
        ));
        assert_eq!(again, "\x1b[2A\x1b[2K\ra: Done\r\x1b[2B");
    }

    #[test]
    fn lines_are_found_across_pieces_and_limited() {
        let mut lines = Lines::default();
        assert!(lines.push(b"{\"a\":").unwrap().is_empty());
        assert_eq!(
            lines.push(b"1}\r\n{}\n\n").unwrap(),
            [b"{\"a\":1}".to_vec(), b"{}".to_vec()]
        );
        assert!(lines.push(&vec![b'x'; LINE_LIMIT_BYTES]).is_ok());
        assert!(lines.push(b"x").is_err());
    }
}
