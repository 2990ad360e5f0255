//! Copying while reading: what the tar needs of a file is what its copy needs.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wharf_safefs::{
    Attributes, DirectoryEntry, FileCopier, FileType, Metadata, OpenFlags, Root, fd_xattr,
    fd_xattrs, read_whole,
};

use crate::error::LayerError;
use crate::tree::as_path;
use crate::upper::{check_is_whole, is_dropped_xattr, is_opaque_mark};
use crate::write::Writer;

use super::{Directory, Done, Left};

/// A file of more bytes is copied first, in the kernel where it can, and read when its turn comes.
const MAX_WHOLE_BYTES: u64 = 64 << 10;

/// An extended attribute: name and value.
type Xattr = (OsString, Vec<u8>);

/// Runs something when it is dropped for the last time: when all is copied, or nothing more will be.
pub(crate) struct Latch(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Latch {
    pub(crate) fn new(last: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(last)))
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        if let Some(last) = self.0.take() {
            last();
        }
    }
}

/// Where a directory in overlay form is copied to, and what of it.
pub(crate) struct Copying<'a> {
    into: &'a Root,
    /// Paths left out with all below them.
    leave_out: &'a HashSet<PathBuf>,
    /// Directories whose opaque mark is left out.
    not_opaque: &'a HashSet<PathBuf>,
    copier: FileCopier,
    /// Copied files that have several names: the first, by device and inode.
    first_names: Mutex<HashMap<(u64, u64), Vec<u8>>>,
    /// Directories get their attributes when all below them is there.
    directories: Mutex<Vec<Noted>>,
}

struct Noted {
    path: Vec<u8>,
    metadata: Metadata,
    xattrs: Vec<Xattr>,
}

impl<'a> Copying<'a> {
    pub(crate) fn new(
        into: &'a Root,
        leave_out: &'a HashSet<PathBuf>,
        not_opaque: &'a HashSet<PathBuf>,
    ) -> Self {
        Self {
            into,
            leave_out,
            not_opaque,
            copier: FileCopier::new(true),
            first_names: Mutex::default(),
            directories: Mutex::default(),
        }
    }

    pub(super) fn leaves_out(&self, path: &[u8]) -> bool {
        !self.leave_out.is_empty() && self.leave_out.contains(as_path(path))
    }

    /// Says whether a directory's opaque mark, if it has one, hides nothing.
    pub(super) fn hides_nothing(&self, path: &[u8]) -> bool {
        !self.not_opaque.is_empty() && self.not_opaque.contains(as_path(path))
    }

    /// Opens the copy's top directory.
    pub(super) fn top(&self) -> Result<Root, LayerError> {
        Ok(self.into.try_clone()?)
    }

    /// Makes and opens the copy of a directory.
    pub(super) fn make_directory(&self, parent: &Root, name: &OsStr) -> Result<Root, LayerError> {
        parent.mkdir(name, 0o700)?;
        Ok(parent.open_dir_nofollow(name)?)
    }

    /// Keeps what a directory's copy gets in the end.
    pub(super) fn note_directory(
        &self,
        opened: &Root,
        path: &[u8],
        metadata: &Metadata,
    ) -> Result<(), LayerError> {
        let mut xattrs = copied_xattrs(opened, path)?;
        if self.hides_nothing(path) {
            xattrs.retain(|(attribute, _)| !is_opaque_mark(attribute));
        }
        lock(&self.directories).push(Noted {
            path: path.to_vec(),
            metadata: *metadata,
            xattrs,
        });
        Ok(())
    }

    /// Copies what is not a directory; writes it, too, where `keep` says so and it is small.
    pub(super) fn copy_entry(
        &self,
        writer: &mut Writer<'_>,
        (from, to): (&Root, &Root),
        found: &DirectoryEntry,
        name: &[u8],
        keep: bool,
        buffer: &mut Vec<u8>,
    ) -> Result<Done, LayerError> {
        if !found.file_type.is_file() {
            let metadata = from.lstat(&found.name)?;
            if metadata.nlink > 1 {
                return Ok(Done::Left(Left::Copy(metadata)));
            }
            self.copy_special(from, to, &found.name, name, &metadata)?;
            writer.leaf(to, found, name)?;
            return Ok(Done::Whole);
        }
        let (mut file, metadata) = from.open_regular_nofollow(&found.name, OpenFlags::RDONLY)?;
        if metadata.nlink > 1 {
            return Ok(Done::Left(Left::Copy(metadata)));
        }
        let xattrs = copied_xattrs(&file, name)?;
        if metadata.size_bytes > MAX_WHOLE_BYTES {
            let attributes = attributes(&metadata, &xattrs);
            self.copier.copy(&mut file, to, &found.name, attributes)?;
            return Ok(Done::Left(Left::Read));
        }
        read_whole(&mut file, buffer, metadata.size_bytes, &found.name)?;
        self.copier
            .write(to, &found.name, attributes(&metadata, &xattrs), buffer)?;
        if !keep {
            return Ok(Done::Left(Left::Read));
        }
        writer.content(&metadata, &xattrs, name, buffer)?;
        Ok(Done::Whole)
    }

    /// Copies or links a file that has several names, and writes it.
    pub(super) fn copy_linked(
        &self,
        writer: &mut Writer<'_>,
        directory: &Directory,
        found: &DirectoryEntry,
        name: &[u8],
        metadata: &Metadata,
    ) -> Result<(), LayerError> {
        let to = directory.settled();
        // Whiteouts share an inode for no reason of ours; sockets are in no tar.
        let is_linked_in_tar = !metadata.is_whiteout() && metadata.file_type != FileType::Socket;
        let inode = (metadata.dev, metadata.ino);
        let first = lock(&self.first_names).get(&inode).cloned();
        match first {
            Some(first) => self.into.hard_link(as_path(&first), as_path(name))?,
            None => {
                lock(&self.first_names).insert(inode, name.to_vec());
                self.copy_whole(&directory.from, to, &found.name, name, metadata)?;
            }
        }
        if is_linked_in_tar && writer.later_name(metadata, name)? {
            return Ok(());
        }
        writer.leaf(to, found, name)
    }

    /// Gives all directories their attributes, children first.
    pub(super) fn finish(&self) -> Result<(), LayerError> {
        for noted in lock(&self.directories).drain(..).rev() {
            let path = as_path(&noted.path);
            let attributes = attributes(&noted.metadata, &noted.xattrs);
            self.into.set_directory_attributes(path, attributes)?;
        }
        Ok(())
    }

    fn copy_whole(
        &self,
        from: &Root,
        to: &Root,
        own_name: &OsStr,
        name: &[u8],
        metadata: &Metadata,
    ) -> Result<(), LayerError> {
        if !metadata.is_file() {
            return self.copy_special(from, to, own_name, name, metadata);
        }
        let (mut file, metadata) = from.open_regular_nofollow(own_name, OpenFlags::RDONLY)?;
        let xattrs = copied_xattrs(&file, name)?;
        let attributes = attributes(&metadata, &xattrs);
        self.copier.copy(&mut file, to, own_name, attributes)?;
        Ok(())
    }

    fn copy_special(
        &self,
        from: &Root,
        to: &Root,
        own_name: &OsStr,
        name: &[u8],
        metadata: &Metadata,
    ) -> Result<(), LayerError> {
        let mut xattrs = Vec::new();
        for attribute in from.xattrs(own_name)? {
            check_is_whole(&attribute, name)?;
            if !is_dropped_xattr(&attribute)
                && let Some(value) = from.xattr(own_name, &attribute)?
            {
                xattrs.push((attribute, value));
            }
        }
        let attributes = attributes(metadata, &xattrs);
        Ok(self.copier.copy_special(from, to, own_name, attributes)?)
    }
}

fn attributes<'a>(metadata: &'a Metadata, xattrs: &'a [Xattr]) -> Attributes<'a> {
    Attributes { metadata, xattrs }
}

/// Returns the extended attributes that a copy gets of an open file or directory.
fn copied_xattrs(fd: impl AsFd, name: &[u8]) -> Result<Vec<Xattr>, LayerError> {
    let mut xattrs = Vec::new();
    for attribute in fd_xattrs(&fd)? {
        check_is_whole(&attribute, name)?;
        if !is_dropped_xattr(&attribute)
            && let Some(value) = fd_xattr(&fd, &attribute)?
        {
            xattrs.push((attribute, value));
        }
    }
    Ok(xattrs)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
