//! What can go wrong in the client, and the exit status each failure has.

use std::io;

use wharf_safefs::FsError;

/// Exit status of `run`, `create` and `exec` when the engine or the client failed (docker's convention).
pub const EXIT_ENGINE_FAILURE: i32 = 125;
/// Exit status when the container's program exists but cannot be executed.
pub const EXIT_NOT_EXECUTABLE: i32 = 126;
/// Exit status when the container's program was not found.
pub const EXIT_NOT_FOUND: i32 = 127;

/// Result of everything in the client that can fail.
pub type Result<T, E = CliError> = std::result::Result<T, E>;

/// One failure of the client, worded for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A flag's value or a combination of flags makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A failure whose text docker prints as it is.
    #[error("{0}")]
    Plain(String),
    /// The daemon answered with an error status.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /// HTTP status code.
        status: u16,
        /// The answer's `message` field.
        message: String,
    },
    /// A line of a progress stream (build, pull, push, load) carried an error.
    #[error("{message}")]
    Stream {
        /// The exit status the daemon sent with it, if any.
        code: Option<i32>,
        /// The error's text.
        message: String,
    },
    /// Nothing listens where the daemon should be.
    #[error("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")]
    NoDaemon {
        /// The address that was tried, as a URL.
        host: String,
    },
    /// The socket exists, but this user may not use it.
    #[error(
        "permission denied while trying to connect to the Docker daemon socket at {host}\nhint: run as root, or as a member of the group that owns the socket"
    )]
    SocketPermission {
        /// The address that was tried, as a URL.
        host: String,
    },
    /// A daemon address of a kind the client does not speak.
    #[error("{0}")]
    UnsupportedHost(String),
    /// The daemon started in the background did not come up.
    #[error("the daemon did not start: {reason}\nhint: its log is {log}")]
    DaemonStart {
        /// What was seen.
        reason: String,
        /// Path of its log file.
        log: String,
    },
    /// The HTTP conversation broke.
    #[error("talking to the daemon failed while {action}: {source}")]
    Transport {
        /// What the client was doing.
        action: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The daemon's answer was not what the API promises.
    #[error("cannot read the daemon's answer to {request}: {source}")]
    Decode {
        /// Method and path.
        request: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// A file, a pipe or a terminal of the caller failed.
    #[error("{action}: {}", reason(.source))]
    Io {
        /// What the client was doing, with the path.
        action: String,
        /// The cause.
        source: io::Error,
    },
    /// A `--format` template is wrong.
    #[error("template parsing error: {0}")]
    Template(String),
    /// Several targets failed; each line is one failure.
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
    /// The command ends with this status and has said all there is to say.
    #[error("exit status {0}")]
    Exit(i32),
    /// Like another error, but the process ends with the given status.
    #[error("{source}")]
    WithStatus {
        /// Exit status of the process.
        status: i32,
        /// The failure to print.
        source: Box<CliError>,
    },
}

impl CliError {
    /// Returns an error about a flag or an argument.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// Returns docker's error about a flag's value: `flag` is `--long`, or `-s, --long` where there is a short form.
    pub fn value(flag: &str, value: &str, why: impl std::fmt::Display) -> Self {
        Self::Plain(format!(
            "invalid argument {value:?} for \"{flag}\" flag: {why}"
        ))
        .with_status(EXIT_ENGINE_FAILURE)
    }

    /// Returns an error of the caller's files or terminal, `action` naming the path.
    pub fn io(action: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            action: action.into(),
            source,
        }
    }

    /// Returns an error of the HTTP conversation.
    pub fn transport(
        action: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Transport {
            action: action.into(),
            source: source.into(),
        }
    }

    /// Returns this error with the exit status `status`.
    #[must_use]
    pub fn with_status(self, status: i32) -> Self {
        match self {
            Self::Exit(_) | Self::WithStatus { .. } => self,
            other => Self::WithStatus {
                status,
                source: Box::new(other),
            },
        }
    }

    /// Returns the process's exit status for this error.
    #[must_use]
    pub fn exit_status(&self) -> i32 {
        match self {
            Self::Exit(status) | Self::WithStatus { status, .. } => *status,
            Self::Stream {
                code: Some(code), ..
            } if *code != 0 => *code,
            _ => 1,
        }
    }

    /// Returns the HTTP status of a daemon's refusal.
    #[must_use]
    pub fn http_status(&self) -> Option<u16> {
        match self {
            Self::Daemon { status, .. } => Some(*status),
            Self::WithStatus { source, .. } => source.http_status(),
            _ => None,
        }
    }

    /// Returns the text for standard error, or nothing when all was said already.
    ///
    /// Daemon errors keep docker's wording, which scripts match on; the client's own start with `error: `.
    #[must_use]
    pub fn report(&self) -> Option<String> {
        match self {
            Self::Exit(_) => None,
            Self::WithStatus { source, .. } => source.report(),
            Self::Plain(_)
            | Self::Daemon { .. }
            | Self::NoDaemon { .. }
            | Self::SocketPermission { .. }
            | Self::Several(_)
            | Self::Stream { .. } => Some(self.to_string()),
            Self::Transport { source, .. } => {
                Some(format!("error: {self}{}", causes(source.source())))
            }
            other => Some(format!("error: {other}")),
        }
    }
}

/// Returns the kernel's reason in a few words: what was done to which path, the action has said already.
fn reason(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<FsError>());
    let text = match inner {
        Some(FsError::Io { source, .. }) => source.to_string(),
        Some(other) => other.to_string(),
        None => error.to_string(),
    };
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        // A word in capitals stays one.
        Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
            format!("{}{}", first.to_lowercase(), letters.as_str())
        }
        _ => text.to_owned(),
    }
}

/// Returns the chain of causes, each after a colon: an HTTP error alone does not say which file failed.
fn causes(mut cause: Option<&(dyn std::error::Error + 'static)>) -> String {
    let mut text = String::new();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_reports() {
        let daemon = CliError::Daemon {
            status: 404,
            message: "No such container: x".into(),
        };
        assert_eq!(daemon.exit_status(), 1);
        assert_eq!(
            daemon.report().unwrap(),
            "Error response from daemon: No such container: x"
        );
        let wrapped = daemon.with_status(EXIT_ENGINE_FAILURE);
        assert_eq!(wrapped.exit_status(), 125);
        assert_eq!(wrapped.http_status(), Some(404));
        assert_eq!(CliError::Exit(3).with_status(125).exit_status(), 3);
        assert_eq!(CliError::usage("x").report().unwrap(), "error: x");
        let missing = wharf_safefs::trusted::open("/nope/x").unwrap_err();
        let error = CliError::io("cannot read /nope/x", missing.into());
        assert_eq!(
            error.report().unwrap(),
            "error: cannot read /nope/x: no such file or directory"
        );
    }
}
