//! The walk through a directory, depth first, names in byte order.

use std::os::unix::ffi::OsStrExt;

use wharf_safefs::{DirectoryEntry, Root};

use crate::error::LayerError;
use crate::tree::{as_path, join};
use crate::whiteout::is_opaque;

use super::entry::check_name;
use super::{TOP_OWNER, Writer};

/// Directories of a walk that stay open; deeper ones are opened again by path when needed.
pub(crate) const MAX_OPEN_LEVELS: usize = 64;

/// A directory of the walk: the path beneath the top and its name in the archive.
struct Level {
    directory: Option<Root>,
    path: Vec<u8>,
    name: Vec<u8>,
    entries: std::vec::IntoIter<DirectoryEntry>,
}

impl Writer<'_> {
    /// Writes all that is beneath `top` + `path`, names in the archive beginning with `name`.
    pub(super) fn directory_content(
        &mut self,
        top: &Root,
        name: &[u8],
        path: &[u8],
        exclude: &[Vec<u8>],
    ) -> Result<(), LayerError> {
        let (opened, entries) = top.open_and_list(as_path(path))?;
        if self.overlay && is_opaque(&opened)? {
            self.opaque_marker(name, TOP_OWNER)?;
        }
        let mut levels = vec![Level {
            directory: Some(opened),
            path: path.to_vec(),
            name: name.to_vec(),
            entries: entries.into_iter(),
        }];
        while let Some(level) = levels.last_mut() {
            let Some(found) = level.entries.next() else {
                levels.pop();
                continue;
            };
            let found_name = found.name.as_bytes();
            let path = join(&level.path, found_name);
            if exclude.contains(&path) {
                continue;
            }
            let name = join(&level.name, found_name);
            if self.overlay {
                check_name(found_name, &path)?;
            }
            let reopened;
            let directory = match &level.directory {
                Some(directory) => directory,
                None => {
                    reopened = top.open_dir(as_path(&level.path))?;
                    &reopened
                }
            };
            if !found.file_type.is_dir() {
                self.leaf(directory, &found, &name)?;
                continue;
            }
            if let Some((opened, entries)) = self.enter(directory, &found, &name)? {
                let directory = (levels.len() < MAX_OPEN_LEVELS).then_some(opened);
                levels.push(Level {
                    directory,
                    path,
                    name,
                    entries: entries.into_iter(),
                });
            }
        }
        Ok(())
    }

    /// Writes a directory's entry and returns what is in it; nothing where it has gone or is another file system.
    fn enter(
        &mut self,
        parent: &Root,
        found: &DirectoryEntry,
        name: &[u8],
    ) -> Result<Option<(Root, Vec<DirectoryEntry>)>, LayerError> {
        let (opened, entries) = match parent.open_and_list(&found.name) {
            // A live tree may change while it is walked.
            Err(error) if error.is_not_found() && !self.overlay => return Ok(None),
            result => result?,
        };
        let metadata = opened.metadata()?;
        let opaque = self.overlay && is_opaque(&opened)?;
        self.directory_entry(&opened, name, &metadata, opaque)?;
        let is_foreign = self
            .file_system
            .is_some_and(|device| device != metadata.dev);
        Ok((!is_foreign).then_some((opened, entries)))
    }
}
