//! Splitting a path into the directory the kernel resolves and the one name that is acted on.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::{FsError, Result};

/// A directory that is either the root itself or was opened for one operation.
pub(crate) enum Parent<'a> {
    Root(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Opened(fd) => fd.as_fd(),
        }
    }
}

/// Refuses paths that cannot reach the kernel.
pub(crate) fn check(path: &Path) -> Result<()> {
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(FsError::InvalidPath {
            path: path.to_path_buf(),
            reason: "it contains a NUL byte",
        });
    }
    Ok(())
}

/// Returns the directory part and the last name of a path.
///
/// The name is one component and never `..`; it is `.` where the path means the directory itself
/// (empty, `/`, or ending in `..`).
pub(crate) fn split(path: &Path) -> (&Path, &OsStr) {
    let mut bytes = path.as_os_str().as_bytes();
    loop {
        if let Some(rest) = bytes.strip_suffix(b"/") {
            bytes = rest;
        } else if bytes == b"." {
            bytes = b"";
        } else if bytes.ends_with(b"/.") {
            bytes = &bytes[..bytes.len() - 1];
        } else {
            break;
        }
    }
    if bytes.is_empty() {
        return (Path::new(""), OsStr::new("."));
    }
    if bytes == b".." || bytes.ends_with(b"/..") {
        return (Path::new(OsStr::from_bytes(bytes)), OsStr::new("."));
    }
    let at = bytes
        .iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |slash| slash + 1);
    let (parent, name) = bytes.split_at(at);
    (
        Path::new(OsStr::from_bytes(parent)),
        OsStr::from_bytes(name),
    )
}

/// Says whether a directory part needs no resolution.
pub(crate) fn is_root(parent: &Path) -> bool {
    parent
        .as_os_str()
        .as_bytes()
        .iter()
        .all(|&byte| byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_into_parent_and_name() {
        for (path, parent, name) in [
            ("", "", "."),
            ("/", "", "."),
            (".", "", "."),
            ("./", "", "."),
            ("a", "", "a"),
            ("/a", "/", "a"),
            ("a/", "", "a"),
            ("a/.", "", "a"),
            ("a/b", "a/", "b"),
            ("a/b//", "a/", "b"),
            ("..", "..", "."),
            ("a/..", "a/..", "."),
            ("a/../b", "a/../", "b"),
            ("a/..b", "a/", "..b"),
        ] {
            assert_eq!(
                split(Path::new(path)),
                (Path::new(parent), OsStr::new(name)),
                "{path:?}"
            );
        }
    }

    #[test]
    fn refuses_nul() {
        assert!(check(Path::new(OsStr::from_bytes(b"a\0b"))).is_err());
    }
}
