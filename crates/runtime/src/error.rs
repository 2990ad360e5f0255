//! What can go wrong while a container is made, run and taken down.

use std::io;
use std::path::PathBuf;

/// The result of a runtime operation.
pub type Result<T> = std::result::Result<T, RuntimeError>;

/// A runtime operation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The container or an exec could not be started. The text has the frame and the words clients
    /// search for ("executable file not found", "permission denied", spec engine-api §7.4).
    #[error("{message}")]
    Start {
        /// The whole text, as it is shown to users.
        message: String,
    },
    /// AppArmor is on, but the profile that containers run under could not be loaded.
    #[error("AppArmor enabled on system but the {name} profile could not be loaded: {reason}")]
    DefaultProfile {
        /// The profile.
        name: &'static str,
        /// What was run and what it said.
        reason: String,
    },
    /// A value of the request cannot be carried out.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// Something the request asks for does not exist here (yet).
    #[error("{what} is not supported")]
    Unsupported {
        /// The feature.
        what: String,
    },
    /// A user or group that does not resolve (spec runtime §3).
    #[error("{message}")]
    User {
        /// The text clients match, for example `unable to find user x: no matching entries in passwd file`.
        message: String,
    },
    /// A capability name nobody knows.
    #[error("unknown capability: \"{name}\"")]
    UnknownCapability {
        /// The name as it was normalised.
        name: String,
    },
    /// A signal name or number nobody knows.
    #[error("invalid signal: {name}")]
    InvalidSignal {
        /// The name as it was given.
        name: String,
    },
    /// The kernel refused an operation.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was attempted, as a verb with its object.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of wharf's own could not be read or written.
    #[error(transparent)]
    File(#[from] wharf_safefs::FsError),
    /// The container's process is not running.
    #[error("container is not running")]
    NotRunning,
    /// The container was paused before the exec was executed; nothing is left of it.
    #[error("the container is paused: unpause it before exec")]
    Paused,
    /// There is no such exec in this container, or it was forgotten.
    #[error("no such exec instance: {id}")]
    NoSuchExec {
        /// The exec's id.
        id: String,
    },
    /// The shim ended without leaving an exit status (it was killed, or the machine went down).
    #[error("the shim of {} ended without an exit status", .state_dir.display())]
    ShimLost {
        /// The container's state directory.
        state_dir: PathBuf,
    },
    /// Another shim has the state directory and does not end.
    #[error("the shim of {} does not end: a process of it may be stuck in the kernel", .state_dir.display())]
    Busy {
        /// The container's state directory.
        state_dir: PathBuf,
    },
    /// Shim and client do not understand each other.
    #[error("shim protocol: {reason}")]
    Protocol {
        /// What was expected and found.
        reason: String,
    },
}

/// The words around what a spec is refused for, as clients know them.
const REFUSED_FRAME: &str = "failed to create task for container: failed to create shim task: \
     OCI runtime create failed: runc create failed: ";

impl RuntimeError {
    /// Makes the error of a container that cannot be made, in the frame clients know.
    pub(crate) fn refused(text: impl std::fmt::Display) -> Self {
        Self::Start {
            message: format!("{REFUSED_FRAME}{text}"),
        }
    }

    pub(crate) fn io(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            action: action.into(),
            source: source.into(),
        }
    }

    pub(crate) fn invalid(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            what,
            reason: reason.into(),
        }
    }
}

/// Returns the kernel's text for an error number the way Go programs print it: lower case, no number.
pub(crate) fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => format!("errno {errno}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_texts_are_the_ones_clients_match() {
        assert_eq!(errno_text(libc::ENOENT), "no such file or directory");
        assert_eq!(errno_text(libc::EACCES), "permission denied");
        assert_eq!(errno_text(libc::ENOEXEC), "exec format error");
        assert_eq!(errno_text(libc::EISDIR), "is a directory");
        assert_eq!(errno_text(libc::ENOTDIR), "not a directory");
    }
}
