//! What can go wrong between a directory and a tar.

use std::io;

use wharf_image::DiffId;
use wharf_safefs::FsError;

/// A layer, archive or recipe that could not be read or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// Reading or writing the stream itself failed.
    #[error("cannot {operation}: {source}")]
    Stream {
        /// What was attempted, as a verb with its object.
        operation: &'static str,
        /// The stream's answer.
        source: io::Error,
    },
    /// A file operation failed that belongs to no entry.
    #[error(transparent)]
    Files(#[from] FsError),
    /// A file operation failed for one entry of the archive.
    #[error("archive entry {name:?}: {source}")]
    Entry {
        /// The entry's name as the archive has it.
        name: String,
        /// What failed.
        source: FsError,
    },
    /// An entry asks for something that is not allowed or makes no sense.
    #[error("archive entry {name:?}: {reason}")]
    InvalidEntry {
        /// The entry's name as the archive has it.
        name: String,
        /// Why it is refused.
        reason: String,
    },
    /// The bytes are no tar.
    #[error("not a valid tar at byte {position}: {reason}")]
    Format {
        /// Offset of the block in the uncompressed archive.
        position: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The archive is larger than allowed.
    #[error("archive exceeds the limit of {limit} {what}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The most that is accepted.
        limit: u64,
    },
    /// A file in a layer directory cannot be expressed in a layer tar.
    #[error("cannot store {path:?} in a layer: {reason}")]
    Unrepresentable {
        /// The path in the directory.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// A file changed while it was being read.
    #[error(
        "{path:?} changed while it was read: expected {expected} bytes, found {found}; try again"
    )]
    Changed {
        /// The path in the directory.
        path: String,
        /// Size when it was opened.
        expected: u64,
        /// Bytes that could be read.
        found: u64,
    },
    /// A recipe's bytes are damaged or of a version this build does not know.
    #[error("invalid layer recipe: {reason}")]
    InvalidRecipe {
        /// What is wrong.
        reason: String,
    },
    /// The rebuilt tar is not the one the recipe was made of.
    #[error(
        "rebuilt layer differs from the original: expected {expected}, found {found}; the layer directory was changed"
    )]
    RebuildMismatch {
        /// The digest of the original tar.
        expected: DiffId,
        /// The digest of what was written.
        found: DiffId,
    },
    /// `docker cp` would replace a directory by something else, or the other way round.
    #[error("cannot overwrite {existing} \"{name}\" with {new} \"{name}\"")]
    OverwriteRefused {
        /// The entry's name.
        name: String,
        /// The kind that is there.
        existing: &'static str,
        /// The kind the archive has.
        new: &'static str,
    },
}

impl LayerError {
    pub(crate) fn invalid(name: &[u8], reason: impl Into<String>) -> Self {
        Self::InvalidEntry {
            name: display(name),
            reason: reason.into(),
        }
    }

    pub(crate) fn entry(name: &[u8], source: FsError) -> Self {
        Self::Entry {
            name: display(name),
            source,
        }
    }

    pub(crate) fn stream(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Stream { operation, source }
    }
}

/// Returns bytes of a name for a message.
pub(crate) fn display(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
