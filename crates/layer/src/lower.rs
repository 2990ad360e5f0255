//! What the layers below show at a path, looked up layer by layer as overlayfs merges them
//! (kernel, filesystems/overlayfs.rst).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use wharf_safefs::{Metadata, Root};

use crate::error::LayerError;
use crate::tree::as_path;
use crate::whiteout::{OPAQUE_USER_XATTR, OPAQUE_XATTR};
use crate::write::is_layer_xattr;

/// The directories, topmost first, that merge at one path.
#[derive(Default)]
pub(crate) struct Below {
    directories: Vec<Root>,
}

/// What lies below one name.
#[derive(Default)]
pub(crate) struct Found {
    /// What is visible there.
    pub(crate) metadata: Option<Metadata>,
    /// Which of the directories shows it.
    shown_by: usize,
    /// The directories that merge there.
    pub(crate) below: Below,
}

impl Found {
    /// Says whether a directory is visible.
    pub(crate) fn is_dir(&self) -> bool {
        self.metadata.is_some_and(|metadata| metadata.is_dir())
    }
}

impl Below {
    /// Starts at the layers' top directories; what an opaque one hides does not count.
    pub(crate) fn top(lowers: &[Root]) -> Result<Self, LayerError> {
        let mut directories = Vec::new();
        for lower in lowers {
            directories.push(lower.try_clone()?);
            if is_marked_opaque(lower, "")? {
                break;
            }
        }
        Ok(Self { directories })
    }

    /// Looks a name up.
    pub(crate) fn child(&self, name: &OsStr) -> Result<Found, LayerError> {
        let mut found = Found::default();
        for (index, directory) in self.directories.iter().enumerate() {
            let Some(metadata) = directory.lstat_optional(name)? else {
                continue;
            };
            if metadata.is_whiteout() || (found.metadata.is_some() && !metadata.is_dir()) {
                break;
            }
            if found.metadata.is_none() {
                found.metadata = Some(metadata);
                found.shown_by = index;
            }
            if !metadata.is_dir() {
                break;
            }
            let opened = directory.open_dir_nofollow(name)?;
            let opaque = is_marked_opaque(&opened, "")?;
            found.below.directories.push(opened);
            if opaque {
                break;
            }
        }
        Ok(found)
    }

    /// Returns the names visible here.
    pub(crate) fn names(&self) -> Result<BTreeSet<OsString>, LayerError> {
        let mut visible = BTreeMap::new();
        for directory in &self.directories {
            for entry in directory.entries()? {
                if visible.contains_key(&entry.name) {
                    continue;
                }
                let whiteout = directory.lstat(&entry.name)?.is_whiteout();
                visible.insert(entry.name, !whiteout);
            }
        }
        Ok(visible
            .into_iter()
            .filter(|(_, shown)| *shown)
            .map(|(name, _)| name)
            .collect())
    }

    /// Returns an attribute of what `found` shows under a name of this directory.
    pub(crate) fn xattr(
        &self,
        name: &OsStr,
        found: &Found,
        attribute: &str,
    ) -> Result<Option<Vec<u8>>, LayerError> {
        let Some(directory) = self.directories.get(found.shown_by) else {
            return Ok(None);
        };
        Ok(directory.xattr(name, attribute)?)
    }

    /// Returns the attributes, of those a layer carries, of what `found` shows under a name.
    pub(crate) fn layer_xattrs(
        &self,
        name: &OsStr,
        found: &Found,
    ) -> Result<Vec<(OsString, Vec<u8>)>, LayerError> {
        match self.directories.get(found.shown_by) {
            Some(directory) => layer_xattrs(directory, name),
            None => Ok(Vec::new()),
        }
    }
}

/// Returns the attributes, of those a layer carries, of a name.
pub(crate) fn layer_xattrs(
    directory: &Root,
    name: &OsStr,
) -> Result<Vec<(OsString, Vec<u8>)>, LayerError> {
    use std::os::unix::ffi::OsStrExt;
    let mut attributes = Vec::new();
    for attribute in directory.xattrs(name)? {
        if is_layer_xattr(attribute.as_bytes())
            && let Some(value) = directory.xattr(name, &attribute)?
        {
            attributes.push((attribute, value));
        }
    }
    Ok(attributes)
}

/// Says whether a name is an opaque directory.
pub(crate) fn is_marked_opaque(directory: &Root, name: &str) -> Result<bool, LayerError> {
    for attribute in [OPAQUE_XATTR, OPAQUE_USER_XATTR] {
        if directory
            .xattr(as_path(name.as_bytes()), attribute)?
            .as_deref()
            == Some(b"y")
        {
            return Ok(true);
        }
    }
    Ok(false)
}
