//! How a deleted name and a replaced directory are said: in a tar by names, on disk in overlayfs' form
//! (spec image-store §5.3).

use std::ffi::OsStr;

use wharf_safefs::{Root, fd_xattr};

use crate::error::LayerError;

/// Begins the name of an entry that deletes the rest of the name.
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// Begins the names of AUFS' own data.
pub(crate) const METADATA_PREFIX: &[u8] = b".wh..wh.";

/// Where AUFS keeps files that hard links of the same tar may name.
pub(crate) const LINK_DIRECTORY: &[u8] = b".wh..wh.plnk";

/// The entry that hides all lower content of its directory.
pub(crate) const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// overlayfs' attribute of an opaque directory.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// The same for mounts with `userxattr`.
pub(crate) const OPAQUE_USER_XATTR: &str = "user.overlay.opaque";

/// What a name in a layer tar means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'n> {
    /// An ordinary name.
    Object,
    /// The parent directory hides what lies below it.
    Opaque,
    /// This name of the parent directory is deleted.
    Whiteout(&'n [u8]),
    /// AUFS' own data, passed over.
    Metadata,
    /// A file that only hard links use.
    LinkTarget,
}

/// Returns what a clean path in a layer tar means.
///
/// # Errors
/// Whiteout names that name nothing.
pub(crate) fn meaning(path: &[u8]) -> Result<Meaning<'_>, LayerError> {
    let (parent, name) = crate::tree::split(path);
    if parent == LINK_DIRECTORY {
        return Ok(Meaning::LinkTarget);
    }
    let first = path.split(|&byte| byte == b'/').next().unwrap_or_default();
    if first.starts_with(METADATA_PREFIX) && path != OPAQUE_NAME {
        return Ok(Meaning::Metadata);
    }
    let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) else {
        return Ok(Meaning::Object);
    };
    if name == OPAQUE_NAME {
        return Ok(Meaning::Opaque);
    }
    if name.starts_with(METADATA_PREFIX) {
        return Ok(Meaning::Metadata);
    }
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(LayerError::invalid(path, "the whiteout names no file"));
    }
    Ok(Meaning::Whiteout(hidden))
}

/// Says whether a directory that was opened for reading is opaque.
pub(crate) fn is_opaque(directory: &Root) -> Result<bool, LayerError> {
    for attribute in [OPAQUE_XATTR, OPAQUE_USER_XATTR] {
        // "x" marks a directory that may hold whiteouts in attribute form, not an opaque one.
        if fd_xattr(directory, OsStr::new(attribute))?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_meaning() {
        for (path, expected) in [
            ("a/b", Some(Meaning::Object)),
            ("a/.wh.b", Some(Meaning::Whiteout(b"b"))),
            (".wh.b", Some(Meaning::Whiteout(b"b"))),
            (".wh..wh..opq", Some(Meaning::Opaque)),
            ("a/.wh..wh..opq", Some(Meaning::Opaque)),
            (".wh..wh.aufs", Some(Meaning::Metadata)),
            (".wh..wh.orph/x", Some(Meaning::Metadata)),
            ("a/.wh..wh.x", Some(Meaning::Metadata)),
            (".wh..wh.plnk/1.2", Some(Meaning::LinkTarget)),
            ("a/.wh.", None),
            (".wh..", None),
            (".wh...", None),
            ("a/.wh.b/c", Some(Meaning::Object)),
            (".wh....", Some(Meaning::Whiteout(b"..."))),
        ] {
            assert_eq!(meaning(path.as_bytes()).ok(), expected, "{path}");
        }
    }
}
