//! Copying what is no directory: contents, attributes, second names.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::CopyOptions;
use super::data::read_whole;
use super::single::{Attributes, FileCopier};
use crate::{Metadata, Result, Root, fd_xattr, fd_xattrs};

/// A file of at most as many bytes is read and written in one piece; a longer one is worth sharing blocks.
const MAX_WHOLE_BYTES: u64 = 64 << 10;

/// Copies the files of one tree.
pub(super) struct Files {
    copier: FileCopier,
    /// The name under which a file with several names was copied, by device and inode.
    first_names: HashMap<(u64, u64), PathBuf>,
    /// Such a name, and another of the same file.
    later_names: Vec<(PathBuf, PathBuf)>,
    /// How many bytes of regular files were copied so far.
    pub bytes: u64,
    /// The bytes of one file.
    buffer: Vec<u8>,
}

impl Files {
    pub fn new(options: &CopyOptions) -> Self {
        Self {
            copier: FileCopier::new(options.reflink),
            first_names: HashMap::new(),
            later_names: Vec::new(),
            bytes: 0,
            buffer: Vec::new(),
        }
    }

    /// Copies a regular file of the directory `path`.
    pub fn copy_regular(
        &mut self,
        from: &Root,
        to: &Root,
        path: &Path,
        name: &OsStr,
    ) -> Result<()> {
        let (mut source, metadata) = from.open_regular_nofollow(name, OFlags::RDONLY)?;
        if self.is_later_name(&metadata, || path.join(name)) {
            return Ok(());
        }
        let xattrs = xattrs_of(&source)?;
        let attributes = Attributes {
            metadata: &metadata,
            xattrs: &xattrs,
        };
        // Files of /proc tell no size: they are read to their end.
        self.bytes += if (1..=MAX_WHOLE_BYTES).contains(&metadata.size_bytes) {
            read_whole(&mut source, &mut self.buffer, metadata.size_bytes, name)?;
            self.copier.write(to, name, attributes, &self.buffer)?;
            self.buffer.len() as u64
        } else {
            self.copier.copy(&mut source, to, name, attributes)?
        };
        Ok(())
    }

    /// Copies a symlink, device, pipe or socket of the directory `path`.
    pub fn copy_special(
        &mut self,
        from: &Root,
        to: &Root,
        path: &Path,
        name: &OsStr,
    ) -> Result<()> {
        let metadata = from.lstat(name)?;
        if self.is_later_name(&metadata, || path.join(name)) {
            return Ok(());
        }
        let mut xattrs = Vec::new();
        for attribute in from.xattrs(name)? {
            if let Some(value) = from.xattr(name, &attribute)? {
                xattrs.push((attribute, value));
            }
        }
        let attributes = Attributes {
            metadata: &metadata,
            xattrs: &xattrs,
        };
        self.copier.copy_special(from, to, name, attributes)
    }

    /// Says whether a file is copied under another name already, and notes this one to be joined to it.
    fn is_later_name(&mut self, metadata: &Metadata, name: impl FnOnce() -> PathBuf) -> bool {
        if metadata.nlink < 2 {
            return false;
        }
        let inode = (metadata.dev, metadata.ino);
        let Some(first) = self.first_names.get(&inode) else {
            self.first_names.insert(inode, name());
            return false;
        };
        self.later_names.push((first.clone(), name()));
        true
    }

    /// Gives files their other names.
    pub fn join_later_names(&self, to: &Root) -> Result<()> {
        let mut later = self.later_names.iter();
        later.try_for_each(|(first, name)| to.hard_link(first, name))
    }
}

/// Returns all attributes of an open file or directory with their values.
pub(super) fn xattrs_of(fd: impl AsFd) -> Result<Vec<(OsString, Vec<u8>)>> {
    let mut xattrs = Vec::new();
    for attribute in fd_xattrs(&fd)? {
        if let Some(value) = fd_xattr(&fd, &attribute)? {
            xattrs.push((attribute, value));
        }
    }
    Ok(xattrs)
}
