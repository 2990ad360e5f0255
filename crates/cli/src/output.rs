//! The one way to the caller's standard output and standard error.

use std::io::{self, IsTerminal, Write};

use crate::error::{CliError, Result};

/// Standard output is for data, standard error for talk.
///
/// Every command gets one and writes nowhere else, so that a test can look at what a command printed.
pub struct Output {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
}

impl Output {
    /// Returns the process's own streams.
    #[must_use]
    pub fn process() -> Self {
        Self {
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Returns an output into two given writers, neither of them a terminal.
    #[cfg(test)]
    #[must_use]
    pub fn to_writers(stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send>) -> Self {
        Self {
            stdout,
            stderr,
            stdout_is_terminal: false,
            stderr_is_terminal: false,
        }
    }

    /// Returns whether data goes to a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.stdout_is_terminal
    }

    /// Returns whether talk goes to a terminal.
    #[must_use]
    pub fn talk_is_terminal(&self) -> bool {
        self.stderr_is_terminal
    }

    /// Writes text to standard output as it is.
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    /// Writes one line to standard output.
    pub fn line(&mut self, line: &str) -> Result<()> {
        let mut whole = String::with_capacity(line.len() + 1);
        whole.push_str(line);
        whole.push('\n');
        self.text(&whole)
    }

    /// Writes bytes to standard output and flushes them, because a follower may be waiting.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stdout
            .write_all(bytes)
            .and_then(|()| self.stdout.flush())
            .map_err(|error| closed_pipe_ends_quietly(error, "writing to standard output"))
    }

    /// Writes bytes to standard error.
    pub fn talk_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stderr
            .write_all(bytes)
            .and_then(|()| self.stderr.flush())
            .map_err(|error| closed_pipe_ends_quietly(error, "writing to standard error"))
    }

    /// Writes one line to standard error; a closed standard error is nobody's concern.
    pub fn talk(&mut self, line: &str) {
        let _ = self.talk_bytes(format!("{line}\n").as_bytes());
    }
}

/// A reader that went away (`wharf ps | head -1`) is no failure worth a message; 141 is what SIGPIPE would give.
fn closed_pipe_ends_quietly(error: io::Error, action: &str) -> CliError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        CliError::Exit(141)
    } else {
        CliError::io(action, error)
    }
}

/// Doubles for tests of commands.
#[cfg(test)]
pub(crate) mod capture {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::Output;

    /// A writer whose content can be looked at afterwards.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns an output and the captured standard output and standard error.
    pub(crate) fn output() -> (Output, Captured, Captured) {
        let (stdout, stderr) = (Captured::default(), Captured::default());
        (
            Output::to_writers(Box::new(stdout.clone()), Box::new(stderr.clone())),
            stdout,
            stderr,
        )
    }
}
