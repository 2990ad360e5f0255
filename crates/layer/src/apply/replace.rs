//! Entries that take the place of what an earlier entry of the same tar made.

use std::os::unix::ffi::OsStrExt;

use wharf_safefs::{FileType, FsError, Root};

use crate::error::LayerError;
use crate::tar::Entry;
use crate::tree::{Directory, as_path, join, remove_tree};

use super::Unpacker;

impl Unpacker<'_> {
    /// Makes an object, making room first where something of an earlier entry is in the way.
    pub(super) fn create<T>(
        &mut self,
        entry: &Entry,
        directory: &Directory,
        name: &[u8],
        mut make: impl FnMut(&Root, &std::path::Path) -> Result<T, FsError>,
    ) -> Result<T, LayerError> {
        let failed = |error| LayerError::entry(&entry.name, error);
        match make(&directory.root, as_path(name)) {
            Err(error) if error.is_already_exists() => {}
            result => return result.map_err(failed),
        }
        self.make_room(entry, directory, name)?;
        make(&directory.root, as_path(name)).map_err(failed)
    }

    /// Removes what an earlier entry made, keeping contents for the recipe.
    pub(super) fn make_room(
        &mut self,
        entry: &Entry,
        directory: &Directory,
        name: &[u8],
    ) -> Result<(), LayerError> {
        self.check.refuse();
        let failed = |error| LayerError::entry(&entry.name, error);
        let found = directory.root.lstat(as_path(name)).map_err(failed)?;
        let path = directory.child(name);
        match found.file_type {
            FileType::Directory => {
                let removed = directory
                    .root
                    .open_dir_nofollow(as_path(name))
                    .map_err(failed)?;
                self.keep_contents(&removed, &path)?;
                directory.root.remove_all(as_path(name)).map_err(failed)?;
                self.forget_directories(&path);
                self.tree.forget();
            }
            kind => {
                if kind == FileType::File {
                    self.recipe.keep_content(&path, &directory.root, name)?;
                    if found.nlink == 1 {
                        self.size_bytes = self.size_bytes.saturating_sub(found.size_bytes);
                    }
                }
                directory.root.remove_file(as_path(name)).map_err(failed)?;
                if kind == FileType::Symlink {
                    self.tree.forget();
                }
            }
        }
        Ok(())
    }

    /// Takes the contents of all files below a directory into the recipe.
    fn keep_contents(&mut self, top: &Root, top_path: &[u8]) -> Result<(), LayerError> {
        let mut stack = vec![Vec::new()];
        while let Some(below) = stack.pop() {
            let (directory, entries) = top.open_and_list(as_path(&below))?;
            for found in entries {
                let name = found.name.as_bytes();
                let path = join(&below, name);
                match found.file_type {
                    FileType::Directory => stack.push(path),
                    FileType::File => {
                        self.recipe
                            .keep_content(&join(top_path, &path), &directory, name)?;
                        let metadata = directory.lstat(&found.name)?;
                        if metadata.nlink == 1 {
                            self.size_bytes = self.size_bytes.saturating_sub(metadata.size_bytes);
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn forget_directories(&mut self, path: &[u8]) {
        remove_tree(&mut self.directories, path);
        remove_tree(&mut self.pending_targets, path);
    }
}
