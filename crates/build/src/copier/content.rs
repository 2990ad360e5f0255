//! Contents of files: linked from an earlier layer, written from memory, or copied, directory by directory.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use wharf_safefs::{
    FsError, Metadata, OpenFlags, Root, copy_file_data, fd_xattr, fd_xattrs, set_fd_xattr,
};

use super::Copier;
use crate::BuildError;
use crate::reuse::Wanted;
use crate::select::Entry;

/// Files up to this size go through a buffer; sharing blocks pays for larger ones.
const SMALL_FILE_BYTES: u64 = 16 << 10;

/// One file that is in its place.
pub(super) struct Done {
    /// The number of its entry.
    pub index: usize,
    /// Whether it still was what it was when its digest was taken.
    pub is_as_known: bool,
    /// Whether it changed meanwhile, where that can be.
    pub has_changed: bool,
    /// How much of it was linked.
    pub linked_bytes: u64,
}

impl Copier<'_> {
    /// Puts files of one directory in their places.
    pub(super) fn copy_batch(
        &self,
        batch: &[usize],
        buffer: &mut Vec<u8>,
    ) -> Result<Vec<Done>, BuildError> {
        let entries = batch
            .iter()
            .filter_map(|index| Some((*index, self.selected.entries.get(*index)?)));
        let entries: Vec<(usize, &Entry)> = entries.collect();
        let Some((_, first)) = entries.first() else {
            return Ok(Vec::new());
        };
        let above = |path: PathBuf| path.parent().unwrap_or(Path::new("")).to_path_buf();
        let target_directory = above(self.target(first));
        let to = self.into.tree.open_dir(&target_directory)?;
        let mut done = self.link_batch(&entries, &target_directory, &to)?;
        let is_linked = |index: usize| done.iter().any(|done: &Done| done.index == index);
        let to_write: Vec<(usize, &Entry)> = entries
            .iter()
            .filter(|(index, _)| !is_linked(*index))
            .copied()
            .collect();
        for (index, entry) in &to_write {
            if let Some(content) = self.kept(*index) {
                self.write_file(entry, content, &to)?;
                done.push(Done {
                    index: *index,
                    is_as_known: true,
                    has_changed: false,
                    linked_bytes: 0,
                });
            }
        }
        let rest: Vec<(usize, &Entry)> = to_write
            .iter()
            .filter(|(index, _)| self.kept(*index).is_none())
            .copied()
            .collect();
        let opened = self.open_batch(&above(self.origin(first)), &rest)?;
        for ((index, entry), (mut from, found)) in rest.into_iter().zip(opened) {
            let target = self.target(entry);
            self.copy_file(entry, (&mut from, &found), (&to, &target), buffer)?;
            let after = if self.source.may_change() {
                metadata_now(&from, &target)?
            } else {
                found
            };
            done.push(Done {
                index,
                is_as_known: after.is_unchanged_since(&entry.metadata),
                has_changed: self.source.has_changed(&entry.metadata, &after),
                linked_bytes: 0,
            });
        }
        Ok(done)
    }

    /// Takes over those files that the earlier layer has just so.
    fn link_batch(
        &self,
        entries: &[(usize, &Entry)],
        directory: &Path,
        to: &Root,
    ) -> Result<Vec<Done>, BuildError> {
        let Some(base) = self.into.base else {
            return Ok(Vec::new());
        };
        let Some(from) = base.directory(directory) else {
            return Ok(Vec::new());
        };
        let mut done = Vec::new();
        for (index, entry) in entries {
            let Some(digest) = self.digests.get(*index) else {
                continue;
            };
            let metadata = &entry.metadata;
            let wanted = Wanted {
                digest: *digest,
                size_bytes: metadata.size_bytes,
                mode: self.attributes.mode_of(metadata),
                owner: self.attributes.owner_of(metadata),
                mtime: self.attributes.times_of(metadata).1,
            };
            let target = self.target(entry);
            if let Some(linked_bytes) = base.link((&from, &target), &wanted, to)? {
                done.push(Done {
                    index: *index,
                    is_as_known: true,
                    has_changed: false,
                    linked_bytes,
                });
            }
        }
        Ok(done)
    }

    /// Opens files of one directory, with the rights that count for them.
    fn open_batch(
        &self,
        directory: &Path,
        entries: &[(usize, &Entry)],
    ) -> Result<Vec<(File, Metadata)>, BuildError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.source.with_rights(|root| {
            let from = root.open_dir(directory)?;
            let open = |(_, entry): &(usize, &Entry)| {
                let origin = self.origin(entry);
                let opened = from.open_regular_nofollow(last(&origin), OpenFlags::RDONLY);
                Ok(opened.map_err(|error| error.at(&origin))?)
            };
            entries.iter().map(open).collect()
        })
    }

    fn kept(&self, index: usize) -> Option<&[u8]> {
        Some(self.kept.get(index)?.as_ref()?.bytes())
    }

    /// Writes a file without attributes of its own, whose content is in memory.
    fn write_file(&self, entry: &Entry, content: &[u8], to: &Root) -> Result<(), BuildError> {
        let target = self.target(entry);
        let mut file = to.create_new_raw(last(&target), 0o600)?;
        file.write_all(content)
            .map_err(|error| FsError::io("write", &target, error))?;
        self.set_owner(entry, &file, &target)?;
        self.finish_file(entry, &file, &target)
    }

    /// Copies a file with all its attributes.
    fn copy_file(
        &self,
        entry: &Entry,
        (from, found): (&mut File, &Metadata),
        (directory, target): (&Root, &Path),
        buffer: &mut Vec<u8>,
    ) -> Result<(), BuildError> {
        let mut to = directory.create_new_raw(last(target), 0o600)?;
        if found.size_bytes <= SMALL_FILE_BYTES {
            copy_small(from, &mut to, target, buffer)?;
        } else {
            copy_file_data(from, &mut to, target, true)?;
        }
        // An owner that changes takes capabilities away.
        self.set_owner(entry, &to, target)?;
        for name in fd_xattrs(&*from)?
            .iter()
            .filter(|name| self.source.takes_attribute(name))
        {
            if let Some(value) = fd_xattr(&*from, name)? {
                set_fd_xattr(&to, name, &value)?;
            }
        }
        self.finish_file(entry, &to, target)
    }
}

/// Returns the last component of a path.
fn last(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn metadata_now(file: &File, path: &Path) -> Result<Metadata, BuildError> {
    let found = rustix::fs::fstat(file).map_err(|errno| FsError::io("look at", path, errno))?;
    Ok(found.into())
}

/// Copies a small file's content through a buffer.
fn copy_small(
    from: &mut File,
    to: &mut File,
    path: &Path,
    buffer: &mut Vec<u8>,
) -> Result<(), BuildError> {
    let failed = |error| FsError::io("copy", path, error);
    buffer.resize(buffer.len().max(SMALL_FILE_BYTES as usize + 1), 0);
    loop {
        match from.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(buffer.get(..count).unwrap_or_default())
                    .map_err(failed)?;
                // It ends where less came than there was room for: a regular file gives all it has.
                if count < buffer.len() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error).into()),
        }
    }
}
