//! Making one file like another: content, owner, mode, times, extended attributes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Timestamps, Uid};
use rustix::io::Errno;

use super::data::{Sharing, copy_data};
use crate::change::timespec;
use crate::root::metadata_of;
use crate::{FsError, Metadata, Result, Root, set_fd_xattr};

/// Permissions of a file that others may not open yet.
const PRIVATE_MODE: u32 = 0o600;
const PERMISSION_BITS: u32 = 0o777;

/// What a copy gets beside its content: owner, mode and times of `metadata`, and extended attributes.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Attributes of the inode.
    pub metadata: &'a Metadata,
    /// Extended attributes: name and value.
    pub xattrs: &'a [(OsString, Vec<u8>)],
}

/// Makes copies of single files on one file system, from any number of threads.
pub struct FileCopier {
    sharing: Sharing,
    /// Who owns what we create.
    owner: (u32, u32),
}

impl FileCopier {
    /// Returns one that shares the blocks of files where it is wanted and the file system can.
    pub fn new(reflink: bool) -> Self {
        Self {
            sharing: Sharing::new(reflink),
            owner: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
        }
    }

    /// Makes a regular file of these bytes.
    ///
    /// # Errors
    /// A name that exists.
    pub fn write(
        &self,
        to: &Root,
        name: &OsStr,
        attributes: Attributes<'_>,
        content: &[u8],
    ) -> Result<()> {
        let mut target = self.create(to, name, attributes)?;
        target
            .write_all(content)
            .map_err(|error| FsError::io("write", name, error))?;
        set_attributes(&target, Path::new(name), attributes)
    }

    /// Makes a regular file with the content of an open one; returns how many bytes that is.
    ///
    /// # Errors
    /// A name that exists.
    pub fn copy(
        &self,
        source: &mut File,
        to: &Root,
        name: &OsStr,
        attributes: Attributes<'_>,
    ) -> Result<u64> {
        let mut target = self.create(to, name, attributes)?;
        let path = Path::new(name);
        let size_bytes = attributes.metadata.size_bytes;
        let copied = copy_data(source, &mut target, path, size_bytes, &self.sharing)?;
        set_attributes(&target, path, attributes)?;
        Ok(copied)
    }

    /// Makes a symlink, device, pipe or socket like the one of this name in `from`.
    ///
    /// # Errors
    /// A name that exists.
    pub fn copy_special(
        &self,
        from: &Root,
        to: &Root,
        name: &OsStr,
        attributes: Attributes<'_>,
    ) -> Result<()> {
        let Attributes { metadata, xattrs } = attributes;
        if metadata.is_symlink() {
            to.symlink(from.read_link(name)?, name)?;
        } else {
            let device = (metadata.rdev_major(), metadata.rdev_minor());
            to.mknod(name, metadata.file_type, metadata.mode, device)?;
        }
        to.chown(name, metadata.uid, metadata.gid)?;
        for (attribute, value) in xattrs {
            to.set_xattr(name, attribute, value)?;
        }
        if !metadata.is_symlink() {
            to.chmod(name, metadata.mode)?;
        }
        to.set_times(name, metadata.atime, metadata.mtime)
    }

    fn create(&self, to: &Root, name: &OsStr, attributes: Attributes<'_>) -> Result<File> {
        let Metadata { uid, gid, mode, .. } = *attributes.metadata;
        // A file that is to change hands is nobody's until it has.
        let is_ours = (uid, gid) == self.owner;
        let mode = if is_ours { mode } else { PRIVATE_MODE };
        // Special bits come last: a write or a new owner would take them away.
        to.create_new_raw(name, mode & PERMISSION_BITS)
    }
}

impl Root {
    /// Gives a directory beneath the root these attributes; a symlink in the last place is an error.
    pub fn set_directory_attributes(
        &self,
        path: impl AsRef<Path>,
        attributes: Attributes<'_>,
    ) -> Result<()> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = self.open_last("open directory", path, flags, Mode::empty())?;
        set_attributes(&directory, path, attributes)
    }
}

/// Changes what differs; to look costs less than to change what is right already.
fn set_attributes(fd: impl AsFd, path: &Path, attributes: Attributes<'_>) -> Result<()> {
    let failed = |errno: Errno| FsError::io("set attributes of", path, errno);
    let Attributes { metadata, xattrs } = attributes;
    let fd = fd.as_fd();
    let present = metadata_of(fd, path)?;
    let is_owned = (present.uid, present.gid) == (metadata.uid, metadata.gid);
    if !is_owned {
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(failed)?;
    }
    for (attribute, value) in xattrs {
        set_fd_xattr(fd, attribute, value)?;
    }
    // A new owner takes special bits away, and an access control list is part of the mode.
    if !is_owned || !xattrs.is_empty() || present.mode != metadata.mode {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(metadata.mode)).map_err(failed)?;
    }
    let times = Timestamps {
        last_access: timespec(metadata.atime),
        last_modification: timespec(metadata.mtime),
    };
    rustix::fs::futimens(fd, &times).map_err(failed)
}
