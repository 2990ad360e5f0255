//! Extended attributes: which a layer carries, and how.

use std::os::unix::ffi::OsStrExt;

use wharf_safefs::{fd_xattr, fd_xattrs};

use crate::error::{LayerError, display};
use crate::place::is_overlay_xattr;

use super::Writer;

/// File capabilities (capabilities(7)), the attribute that docker's layers carry.
const CAPABILITY_XATTR: &[u8] = b"security.capability";
/// How attributes begin that users set.
const USER_XATTR_PREFIX: &[u8] = b"user.";

/// Says whether an extended attribute goes into a layer.
pub(crate) fn is_layer_xattr(name: &[u8]) -> bool {
    name == CAPABILITY_XATTR || (name.starts_with(USER_XATTR_PREFIX) && !is_overlay_xattr(name))
}

impl Writer<'_> {
    /// Takes the attributes of an open file or directory into the entry.
    pub(super) fn take_xattrs(&mut self, fd: impl std::os::fd::AsFd) -> Result<(), LayerError> {
        for attribute in fd_xattrs(&fd)? {
            if is_layer_xattr(attribute.as_bytes())
                && let Some(value) = fd_xattr(&fd, &attribute)?
            {
                self.take_xattr(attribute.as_bytes(), value)?;
            }
        }
        Ok(())
    }

    /// Takes an attribute into the entry, if a layer carries it.
    pub(super) fn take_xattr(&mut self, name: &[u8], mut value: Vec<u8>) -> Result<(), LayerError> {
        if !is_layer_xattr(name) {
            return Ok(());
        }
        if name.contains(&b'=') {
            return Err(LayerError::Unrepresentable {
                path: display(&self.entry.name),
                reason: "the name of one of its extended attributes contains \"=\"",
            });
        }
        if name == CAPABILITY_XATTR {
            downgrade_capability(&mut value);
        }
        self.entry.xattrs.push((name.to_vec(), value));
        Ok(())
    }
}

/// Turns file capabilities of revision 3, which name the root user of a namespace, into revision 2,
/// which every namespace takes (capabilities(7), "File capability versioning").
fn downgrade_capability(value: &mut Vec<u8>) {
    const REVISION_2_BYTES: usize = 20;
    const REVISION_3_BYTES: usize = 24;
    const REVISION_BYTE: usize = 3;
    if value.len() == REVISION_3_BYTES && value.get(REVISION_BYTE) == Some(&3) {
        value.truncate(REVISION_2_BYTES);
        if let Some(revision) = value.get_mut(REVISION_BYTE) {
            *revision = 2;
        }
    }
}
