//! Every open of a path that someone else chose.
//!
//! A [`Root`] is a directory that was opened once; every path given to it is resolved beneath that
//! directory by the kernel (`openat2` with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`, see
//! `openat2(2)`), as if the process were chrooted there: `..` stops at the root, absolute symlinks
//! start at the root, and links of `/proc/<pid>/fd` are never followed. All other rooms reach the
//! file system through this crate, so that no string from an image, an archive or a client is ever
//! resolved against the host (design invariant 5).
//!
//! Paths that wharf itself chose go through [`trusted`].

#![allow(
    clippy::disallowed_methods,
    reason = "the room that has the file operations of all others"
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

mod caller;
mod change;
mod copy;
mod error;
mod metadata;
mod path;
mod remove;
mod resolve;
mod root;
pub mod trusted;
mod xattr;

pub use caller::{Assumed, Caller};
pub use copy::{
    Attributes, CopyOptions, CopyReport, FileCopier, copy_file_data, copy_tree, read_whole,
};
pub use error::FsError;
pub use metadata::{DiskUsage, FileType, Metadata, Timestamp};
pub use remove::MAX_REMOVE_DEPTH;
pub use resolve::MAX_SYMLINKS;
pub use root::{DirectoryEntry, MAX_DIRECTORY_ENTRIES, OpenFlags, Root};
pub use xattr::{MAX_XATTR_LIST_BYTES, MAX_XATTR_VALUE_BYTES, fd_xattr, fd_xattrs, set_fd_xattr};

/// The result of an operation on files.
pub type Result<T> = std::result::Result<T, FsError>;
