//! What can go wrong with a path.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on a file that failed: what was done, on which path, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsError {
    /// The kernel refused the operation.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// The path as it was given, relative to its root.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The path itself cannot name a file.
    #[error("invalid path {path:?}: {reason}")]
    InvalidPath {
        /// The path as it was given.
        path: PathBuf,
        /// Why it was refused.
        reason: &'static str,
    },
    /// The path names something of another kind.
    #[error("{} is not a {expected}", .path.display())]
    WrongType {
        /// The path as it was given.
        path: PathBuf,
        /// The kind that was needed.
        expected: &'static str,
    },
    /// The file or directory holds more than the caller allows.
    #[error("{} holds more than {limit} {unit}", .path.display())]
    TooLarge {
        /// The path as it was given.
        path: PathBuf,
        /// The most that is accepted.
        limit: u64,
        /// What is counted.
        unit: &'static str,
    },
}

impl FsError {
    /// Returns the kind of the kernel's answer, or `InvalidInput`/`InvalidData` for refusals of our own.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } => source.kind(),
            Self::InvalidPath { .. } => io::ErrorKind::InvalidInput,
            Self::WrongType { .. } | Self::TooLarge { .. } => io::ErrorKind::InvalidData,
        }
    }

    /// Returns the kernel's error number where there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Returns the same error told of another path: the one that was opened in parts.
    #[must_use]
    pub fn at(self, whole: &std::path::Path) -> Self {
        let path = whole.to_path_buf();
        match self {
            Self::Io {
                operation, source, ..
            } => Self::Io {
                operation,
                path,
                source,
            },
            Self::InvalidPath { reason, .. } => Self::InvalidPath { path, reason },
            Self::WrongType { expected, .. } => Self::WrongType { path, expected },
            Self::TooLarge { limit, unit, .. } => Self::TooLarge { path, limit, unit },
        }
    }

    /// Says whether the path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// Says whether something exists already where a new name was to be made.
    pub fn is_already_exists(&self) -> bool {
        self.kind() == io::ErrorKind::AlreadyExists
    }

    /// Makes an error of a failed system call.
    pub fn io(
        operation: &'static str,
        path: impl AsRef<Path>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Io {
            operation,
            path: path.as_ref().to_path_buf(),
            source: source.into(),
        }
    }
}

impl From<FsError> for io::Error {
    fn from(error: FsError) -> Self {
        io::Error::new(error.kind(), error)
    }
}
