//! Copying what is no directory: contents, attributes, second names.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Gid, Mode, OFlags, Timestamps, Uid};
use rustix::io::Errno;

use super::CopyOptions;
use super::data::{Sharing, copy_data};
use crate::change::timespec;
use crate::{FsError, Metadata, Result, Root, Timestamp, fd_xattr, fd_xattrs, set_fd_xattr};

/// Names of regular files in one directory.
pub(super) struct Batch {
    pub from: Arc<Root>,
    pub to: Arc<Root>,
    /// The directory's path below the top.
    pub path: PathBuf,
    pub names: Vec<OsString>,
}

/// What all that copy in one tree share.
pub(super) struct Files<'a> {
    pub options: &'a CopyOptions,
    links: Mutex<Links>,
    bytes: AtomicU64,
    sharing: Sharing,
}

/// Names of files that have several.
#[derive(Default)]
struct Links {
    /// The name under which a file was copied, by device and inode.
    first: HashMap<(u64, u64), PathBuf>,
    /// Such a name, and another of the same file.
    later: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Files<'a> {
    pub fn new(options: &'a CopyOptions) -> Self {
        Self {
            options,
            links: Mutex::default(),
            bytes: AtomicU64::new(0),
            sharing: Sharing::new(options.reflink),
        }
    }

    /// Returns how many bytes of regular files were copied so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Copies batches until there are no more.
    pub fn copy_all(&self, receiver: &Mutex<Receiver<Batch>>) -> Result<()> {
        let mut result = Ok(());
        loop {
            let batch = match receiver.lock() {
                Ok(receiver) => receiver.recv(),
                Err(_) => return result,
            };
            let Ok(batch) = batch else { return result };
            // After a failure the queue is still emptied, so that the walk never waits for us.
            if result.is_ok() {
                result = self.copy_batch(&batch);
            }
        }
    }

    /// Copies the files of one batch.
    pub fn copy_batch(&self, batch: &Batch) -> Result<()> {
        batch
            .names
            .iter()
            .try_for_each(|name| self.copy_regular(batch, Path::new(name)))
    }

    fn copy_regular(&self, batch: &Batch, name: &Path) -> Result<()> {
        let (mut source, metadata) = batch.from.open_regular_nofollow(name, OFlags::RDONLY)?;
        if self.is_later_name(&metadata, || batch.path.join(name)) {
            return Ok(());
        }
        let mut target = batch.to.create_new_raw(name, 0o600)?;
        let size_bytes = metadata.size_bytes;
        let copied = copy_data(&mut source, &mut target, name, size_bytes, &self.sharing)?;
        self.bytes.fetch_add(copied, Ordering::Relaxed);
        let failed = |errno: Errno| FsError::io("set attributes of", name, errno);
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        rustix::fs::fchown(&target, Some(uid), Some(gid)).map_err(failed)?;
        self.copy_fd_xattrs(&source, &target)?;
        rustix::fs::fchmod(&target, Mode::from_raw_mode(metadata.mode)).map_err(failed)?;
        rustix::fs::futimens(&target, &times(metadata.atime, metadata.mtime)).map_err(failed)
    }

    /// Copies a symlink, device, pipe or socket of the directory `path`.
    pub fn copy_special(&self, from: &Root, to: &Root, path: &Path, name: &OsString) -> Result<()> {
        let metadata = from.lstat(name)?;
        if self.is_later_name(&metadata, || path.join(name)) {
            return Ok(());
        }
        if metadata.is_symlink() {
            to.symlink(from.read_link(name)?, name)?;
        } else {
            let device = (metadata.rdev_major(), metadata.rdev_minor());
            to.mknod(name, metadata.file_type, metadata.mode, device)?;
        }
        self.copy_attributes(from, to, Path::new(name), &metadata)
    }

    /// Says whether a file is copied under another name already, and notes this one to be joined to it.
    fn is_later_name(&self, metadata: &Metadata, name: impl FnOnce() -> PathBuf) -> bool {
        if metadata.nlink < 2 {
            return false;
        }
        let inode = (metadata.dev, metadata.ino);
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = links.first.get(&inode).cloned() else {
            links.first.insert(inode, name());
            return false;
        };
        links.later.push((first, name()));
        true
    }

    /// Gives files their other names.
    pub fn join_later_names(&self, to: &Root) -> Result<()> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let mut later = links.later.iter();
        later.try_for_each(|(first, name)| to.hard_link(first, name))
    }

    /// Gives a path the owner, attributes, mode and times of the same path in `from`.
    pub fn copy_attributes(
        &self,
        from: &Root,
        to: &Root,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<()> {
        to.chown(path, metadata.uid, metadata.gid)?;
        for attribute in from.xattrs(path)? {
            if (self.options.skip_xattr)(&attribute) {
                continue;
            }
            if let Some(value) = from.xattr(path, &attribute)? {
                to.set_xattr(path, &attribute, &value)?;
            }
        }
        if !metadata.is_symlink() {
            to.chmod(path, metadata.mode)?;
        }
        to.set_times(path, metadata.atime, metadata.mtime)
    }

    fn copy_fd_xattrs(&self, from: impl AsFd, to: impl AsFd) -> Result<()> {
        for attribute in fd_xattrs(&from)? {
            if (self.options.skip_xattr)(&attribute) {
                continue;
            }
            if let Some(value) = fd_xattr(&from, &attribute)? {
                set_fd_xattr(&to, &attribute, &value)?;
            }
        }
        Ok(())
    }
}

fn times(atime: Timestamp, mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: timespec(atime),
        last_modification: timespec(mtime),
    }
}
