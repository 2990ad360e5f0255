//! What can go wrong in the store.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use wharf_image::Digest;
use wharf_safefs::FsError;

/// The kinds of things the store keeps, for error texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A blob, by digest.
    Blob,
    /// A layer, by DiffID.
    Layer,
    /// An image, by ID.
    Image,
    /// A name of an image.
    Name,
    /// A container, by ID or name.
    Container,
    /// A volume, by name.
    Volume,
    /// A document, by kind and key.
    Document,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Blob => "blob",
            Self::Layer => "layer",
            Self::Image => "image",
            Self::Name => "name",
            Self::Container => "container",
            Self::Volume => "volume",
            Self::Document => "document",
        })
    }
}

/// An operation of the store that failed. Nothing half-published is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the data root.
    #[error("another daemon ({}) uses {}", holder_text(.pid), .root.display())]
    Locked {
        /// The data root.
        root: PathBuf,
        /// The process that holds it, where it could be read.
        pid: Option<u32>,
    },
    /// The disk, or the user's quota on it, is full.
    #[error("no space left to write {}; hint: free space with `wharf system prune`", .path.display())]
    NoSpace {
        /// What was being written.
        path: PathBuf,
    },
    /// The data root was written by a version that this one does not know.
    #[error("the store at {} has format version {found}, this wharf knows up to {known}; use the newer wharf", .root.display())]
    NewerFormat {
        /// The data root.
        root: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The data root holds data but no database: starting would sweep all of it.
    #[error("{} holds data but no wharf.db; restore the database or move {} away", .root.display(), .found.display())]
    DatabaseMissing {
        /// The data root.
        root: PathBuf,
        /// A path below it that holds data.
        found: PathBuf,
    },
    /// A row of the database cannot be read.
    #[error("the store's {what} is damaged: {reason}")]
    Damaged {
        /// Which row or file.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes do not have the digest they were announced with.
    #[error("{what}: expected {expected}, found {found}")]
    DigestMismatch {
        /// Which bytes.
        what: String,
        /// The digest announced.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// Something is larger than the store accepts.
    #[error("{what} is too large: {size} bytes, at most {limit} are accepted")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// The named thing is not in the store.
    #[error("no such {kind}: {name}")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// Something else has the name already.
    #[error("{kind} {name} exists already{}", held_by(.by))]
    AlreadyExists {
        /// What was to be made.
        kind: Kind,
        /// The name that is taken.
        name: String,
        /// Who has it, where that tells more than the name.
        by: Option<String>,
    },
    /// Something still points at what was to be deleted.
    #[error("{kind} {name} is in use by {by}")]
    InUse {
        /// What was to be deleted.
        kind: Kind,
        /// Its name.
        name: String,
        /// What points at it.
        by: String,
    },
    /// A name or document cannot be stored.
    #[error("invalid {what} {found:?}: {reason}")]
    Invalid {
        /// What it is.
        what: &'static str,
        /// As it was given.
        found: String,
        /// Why it is refused.
        reason: String,
    },
    /// A hard link of a layer leads to a file that no layer below has.
    #[error("layer {diff_id} links {} to {}, which no layer below it has", .link.display(), .target.display())]
    LinkTargetMissing {
        /// The layer with the link.
        diff_id: Digest,
        /// The link.
        link: PathBuf,
        /// What it should lead to.
        target: PathBuf,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(FsError),
    /// The database refused an operation.
    #[error("the store's database failed to {operation}: {source}")]
    Database {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// The database's answer.
        source: rusqlite::Error,
    },
    /// Packing or unpacking a layer failed.
    #[error("layer {diff_id}: {source}")]
    Layer {
        /// The layer.
        diff_id: Digest,
        /// What failed.
        source: wharf_layer::LayerError,
    },
}

/// The result of an operation of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

impl StoreError {
    pub(crate) fn not_found(kind: Kind, name: impl ToString) -> Self {
        Self::NotFound {
            kind,
            name: name.to_string(),
        }
    }

    pub(crate) fn damaged(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Damaged {
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::from(FsError::io(operation, path, source))
    }

    pub(crate) fn layer(diff_id: &Digest, path: &Path, source: wharf_layer::LayerError) -> Self {
        if is_full(&source) {
            return Self::NoSpace {
                path: path.to_path_buf(),
            };
        }
        Self::Layer {
            diff_id: *diff_id,
            source,
        }
    }

    /// Says what the database at `path` was doing when it failed.
    pub(crate) fn during(self, operation: &'static str, path: &Path) -> Self {
        match self {
            Self::Database { source, .. }
                if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) =>
            {
                Self::NoSpace {
                    path: path.to_path_buf(),
                }
            }
            Self::Database { source, .. } => Self::Database { operation, source },
            error => error,
        }
    }

    /// Says whether the named thing does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::File(error) => error.is_not_found(),
            _ => false,
        }
    }

    /// Returns what the user can do, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoSpace { .. } => Some("free space with `wharf system prune`"),
            Self::Locked { .. } => Some("stop the other daemon or use another --root"),
            _ => None,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(source: rusqlite::Error) -> Self {
        Self::Database {
            operation: "answer",
            source,
        }
    }
}

impl From<FsError> for StoreError {
    fn from(error: FsError) -> Self {
        match error {
            FsError::Io { path, source, .. } if is_full(&source) => Self::NoSpace { path },
            error => Self::File(error),
        }
    }
}

/// Says whether an error or one of its causes is a full disk or an exceeded quota.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io_error) = error.downcast_ref::<io::Error>() {
            if matches!(
                io_error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) {
                return true;
            }
            // `io::Error::source` skips the error it wraps.
            if let Some(inner) = io_error.get_ref()
                && is_full(inner)
            {
                return true;
            }
        }
        next = error.source();
    }
    false
}

fn holder_text(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "pid unknown".to_owned(), |pid| format!("pid {pid}"))
}

fn held_by(by: &Option<String>) -> String {
    by.as_ref()
        .map_or_else(String::new, |by| format!(" ({by})"))
}
