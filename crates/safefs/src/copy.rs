//! Copying a tree with all that the kernel keeps about it.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use rustix::fs::{Gid, Mode, OFlags, Timestamps, Uid};
use rustix::io::Errno;

use crate::change::timespec;
use crate::{FileType, FsError, Metadata, Result, Root, Timestamp};

/// Files waiting for a copying thread.
const QUEUE_LENGTH: usize = 256;

/// Most bytes one `copy_file_range` is asked for.
const COPY_CHUNK_BYTES: usize = 1 << 30;

const COPY_BUFFER_BYTES: usize = 1 << 20;

/// How a tree is copied.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Share the blocks where the file system can (`FICLONE`).
    pub reflink: bool,
    /// Give files a second name instead of copying them; both trees must lie on one file system.
    pub hard_link: bool,
    /// Threads that copy file contents; 0 and 1 copy on the calling thread.
    pub threads: usize,
    /// Paths relative to the top that are left out with all below them.
    pub skip: HashSet<PathBuf>,
    /// Says which extended attributes are left out.
    pub skip_xattr: fn(&OsStr) -> bool,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            reflink: true,
            hard_link: false,
            threads: 1,
            skip: HashSet::new(),
            skip_xattr: |_| false,
        }
    }
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyReport {
    /// Bytes of regular files.
    pub bytes: u64,
    /// Entries of every kind, directories included, the top directory not.
    pub files: u64,
}

/// Copies all beneath `from` into the existing directory `to`: owner, mode, times, attributes,
/// devices, whiteouts and hard links within the tree. The top directory's own attributes are copied too.
///
/// # Errors
/// A name that already exists in `to` and is not a directory on both sides.
pub fn copy_tree(from: &Root, to: &Root, options: &CopyOptions) -> Result<CopyReport> {
    let mut copier = Copier::new(from, to, options);
    if options.threads <= 1 {
        copier.walk(None)?;
        return copier.finish();
    }
    let (sender, receiver) = sync_channel::<Job>(QUEUE_LENGTH);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads)
            .map(|_| scope.spawn(|| copy_jobs(&receiver, options)))
            .collect();
        let mut result = copier.walk(Some(sender));
        for worker in workers {
            match worker.join() {
                Ok(done) => result = result.and(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })?;
    copier.finish()
}

struct Job {
    from: Arc<Root>,
    to: Arc<Root>,
    path: PathBuf,
    metadata: Metadata,
}

fn copy_jobs(receiver: &Mutex<Receiver<Job>>, options: &CopyOptions) -> Result<()> {
    let mut result = Ok(());
    loop {
        let job = match receiver.lock() {
            Ok(receiver) => receiver.recv(),
            Err(_) => return result,
        };
        let Ok(job) = job else { return result };
        // After a failure the queue is still emptied, so that the walk never waits for us.
        if result.is_ok() {
            result = copy_regular(&job.from, &job.to, &job.path, &job.metadata, options);
        }
    }
}

struct Copier<'a> {
    from: &'a Root,
    to: &'a Root,
    options: &'a CopyOptions,
    report: CopyReport,
    first_names: HashMap<(u64, u64), PathBuf>,
    later_names: Vec<(PathBuf, PathBuf)>,
    directories: Vec<(PathBuf, Metadata)>,
}

impl<'a> Copier<'a> {
    fn new(from: &'a Root, to: &'a Root, options: &'a CopyOptions) -> Self {
        Self {
            from,
            to,
            options,
            report: CopyReport::default(),
            first_names: HashMap::new(),
            later_names: Vec::new(),
            directories: Vec::new(),
        }
    }

    /// Makes everything but second names and directory attributes; contents may still be in the queue.
    fn walk(&mut self, sender: Option<SyncSender<Job>>) -> Result<()> {
        let mut stack = vec![PathBuf::new()];
        while let Some(path) = stack.pop() {
            self.copy_directory(&path, &mut stack, sender.as_ref())?;
        }
        Ok(())
    }

    /// Joins second names, then sets directory attributes, children first: both need all contents in place.
    fn finish(self) -> Result<CopyReport> {
        for (first, later) in &self.later_names {
            self.to.hard_link(first, later)?;
        }
        for (path, metadata) in self.directories.iter().rev() {
            copy_attributes(self.from, self.to, path, metadata, self.options)?;
        }
        Ok(self.report)
    }

    fn copy_directory(
        &mut self,
        path: &Path,
        stack: &mut Vec<PathBuf>,
        sender: Option<&SyncSender<Job>>,
    ) -> Result<()> {
        let (from, entries) = self.from.open_and_list(path)?;
        let to = Arc::new(self.to.open_dir_nofollow(path)?);
        let from = Arc::new(from);
        self.directories
            .push((path.to_path_buf(), from.metadata()?));
        for entry in entries {
            let full = path.join(&entry.name);
            if self.options.skip.contains(&full) {
                continue;
            }
            let metadata = from.lstat(&entry.name)?;
            self.report.files += 1;
            if metadata.is_dir() {
                match to.mkdir(&entry.name, 0o700) {
                    Err(error) if error.is_already_exists() => {}
                    result => result?,
                }
                stack.push(full);
                continue;
            }
            if self.options.hard_link {
                from.hard_link_to(&entry.name, &to, &entry.name)?;
                continue;
            }
            if metadata.nlink > 1 {
                let inode = (metadata.dev, metadata.ino);
                if let Some(first) = self.first_names.get(&inode) {
                    self.later_names.push((first.clone(), full));
                    continue;
                }
                self.first_names.insert(inode, full);
            }
            let name = PathBuf::from(entry.name);
            self.copy_entry((&from, &to), name, metadata, sender)?;
        }
        Ok(())
    }

    fn copy_entry(
        &mut self,
        (from, to): (&Arc<Root>, &Arc<Root>),
        name: PathBuf,
        metadata: Metadata,
        sender: Option<&SyncSender<Job>>,
    ) -> Result<()> {
        match metadata.file_type {
            FileType::File => {
                self.report.bytes += metadata.size_bytes;
                let Some(sender) = sender else {
                    return copy_regular(from, to, &name, &metadata, self.options);
                };
                let job = Job {
                    from: from.clone(),
                    to: to.clone(),
                    path: name,
                    metadata,
                };
                // A send fails only when every worker is gone, which their results will tell.
                let _ = sender.send(job);
                Ok(())
            }
            FileType::Symlink => {
                to.symlink(from.read_link(&name)?, &name)?;
                copy_attributes(from, to, &name, &metadata, self.options)
            }
            _ => {
                let device = (metadata.rdev_major(), metadata.rdev_minor());
                to.mknod(&name, metadata.file_type, metadata.mode, device)?;
                copy_attributes(from, to, &name, &metadata, self.options)
            }
        }
    }
}

fn copy_regular(
    from: &Root,
    to: &Root,
    name: &Path,
    metadata: &Metadata,
    options: &CopyOptions,
) -> Result<()> {
    let mut source = from.open_file_nofollow(name, OFlags::RDONLY)?;
    let mut target = to.create_new_raw(name, 0o600)?;
    copy_file_data(&mut source, &mut target, name, options.reflink)?;
    let failed = |errno: Errno| FsError::io("set attributes of", name, errno);
    let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
    rustix::fs::fchown(&target, Some(uid), Some(gid)).map_err(failed)?;
    copy_xattrs(from, to, name, options)?;
    rustix::fs::fchmod(&target, Mode::from_raw_mode(metadata.mode)).map_err(failed)?;
    rustix::fs::futimens(&target, &times(metadata.atime, metadata.mtime)).map_err(failed)
}

/// Copies the content of one open file into another empty one: by sharing blocks where asked and
/// possible, else inside the kernel, else through a buffer. `path` is for the error.
pub fn copy_file_data(
    source: &mut File,
    target: &mut File,
    path: &Path,
    reflink: bool,
) -> Result<u64> {
    let failed = |error: std::io::Error| FsError::io("copy", path, error);
    let size = crate::root::metadata_of(source.as_fd(), path)?.size_bytes;
    if reflink && size > 0 && rustix::fs::ioctl_ficlone(target.as_fd(), source.as_fd()).is_ok() {
        return Ok(size);
    }
    let mut copied = 0;
    loop {
        match rustix::fs::copy_file_range(
            source.as_fd(),
            None,
            target.as_fd(),
            None,
            COPY_CHUNK_BYTES,
        ) {
            Ok(0) if copied > 0 || size == 0 => return Ok(copied),
            // Some file systems claim 0 at the start of a file that has content.
            Ok(0) => break,
            Ok(count) => copied += count as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM)
                if copied == 0 =>
            {
                break;
            }
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    let mut buffer = vec![0_u8; COPY_BUFFER_BYTES];
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        target
            .write_all(buffer.get(..count).unwrap_or_default())
            .map_err(failed)?;
        copied += count as u64;
    }
}

fn copy_attributes(
    from: &Root,
    to: &Root,
    path: &Path,
    metadata: &Metadata,
    options: &CopyOptions,
) -> Result<()> {
    to.chown(path, metadata.uid, metadata.gid)?;
    copy_xattrs(from, to, path, options)?;
    if !metadata.is_symlink() {
        to.chmod(path, metadata.mode)?;
    }
    to.set_times(path, metadata.atime, metadata.mtime)
}

fn copy_xattrs(from: &Root, to: &Root, path: &Path, options: &CopyOptions) -> Result<()> {
    for attribute in from.xattrs(path)? {
        if (options.skip_xattr)(&attribute) {
            continue;
        }
        if let Some(value) = from.xattr(path, &attribute)? {
            to.set_xattr(path, &attribute, &value)?;
        }
    }
    Ok(())
}

fn times(atime: Timestamp, mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: timespec(atime),
        last_modification: timespec(mtime),
    }
}
