//! Copying a tree with all that the kernel keeps about it.

mod data;
mod files;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use crate::{FileType, Metadata, Result, Root};

pub use data::copy_file_data;
use files::{Batch, Files};

/// Batches waiting for a copying thread.
const BATCHES_AHEAD: usize = 16;
/// Names that a thread takes at once: handing over each alone costs as much as copying a small file.
const BATCH_NAMES: usize = 64;

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
    let files = Files::new(options);
    let mut copier = Copier::new(from, to, &files);
    if options.threads <= 1 {
        copier.walk(None)?;
        return copier.finish();
    }
    let (sender, receiver) = sync_channel::<Batch>(BATCHES_AHEAD);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads)
            .map(|_| scope.spawn(|| files.copy_all(&receiver)))
            .collect();
        let mut result = copier.walk(Some(&sender));
        drop(sender);
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

struct Copier<'a> {
    from: &'a Root,
    to: &'a Root,
    files: &'a Files<'a>,
    /// Entries of every kind.
    count: u64,
    directories: Vec<(PathBuf, Metadata)>,
}

impl<'a> Copier<'a> {
    fn new(from: &'a Root, to: &'a Root, files: &'a Files<'a>) -> Self {
        Self {
            from,
            to,
            files,
            count: 0,
            directories: Vec::new(),
        }
    }

    /// Makes everything but second names and directory attributes; contents may still be in the queue.
    fn walk(&mut self, sender: Option<&SyncSender<Batch>>) -> Result<()> {
        let mut stack = vec![PathBuf::new()];
        while let Some(path) = stack.pop() {
            self.copy_directory(&path, &mut stack, sender)?;
        }
        Ok(())
    }

    /// Joins second names, then sets directory attributes, children first: both need all contents in place.
    fn finish(self) -> Result<CopyReport> {
        self.files.join_later_names(self.to)?;
        for (path, metadata) in self.directories.iter().rev() {
            self.files
                .copy_attributes(self.from, self.to, path, metadata)?;
        }
        Ok(CopyReport {
            bytes: self.files.bytes(),
            files: self.count,
        })
    }

    fn copy_directory(
        &mut self,
        path: &Path,
        stack: &mut Vec<PathBuf>,
        sender: Option<&SyncSender<Batch>>,
    ) -> Result<()> {
        let (from, entries) = self.from.open_and_list(path)?;
        let to = Arc::new(self.to.open_dir_nofollow(path)?);
        let from = Arc::new(from);
        let options = self.files.options;
        self.directories
            .push((path.to_path_buf(), from.metadata()?));
        let mut names = Vec::new();
        for entry in entries {
            if !options.skip.is_empty() && options.skip.contains(&path.join(&entry.name)) {
                continue;
            }
            self.count += 1;
            match entry.file_type {
                FileType::Directory => {
                    match to.mkdir(&entry.name, 0o700) {
                        Err(error) if error.is_already_exists() => {}
                        result => result?,
                    }
                    stack.push(path.join(&entry.name));
                }
                _ if options.hard_link => from.hard_link_to(&entry.name, &to, &entry.name)?,
                FileType::File => names.push(entry.name),
                _ => self.files.copy_special(&from, &to, path, &entry.name)?,
            }
        }
        let mut names = names.into_iter();
        loop {
            let batch = Batch {
                from: from.clone(),
                to: to.clone(),
                path: path.to_path_buf(),
                names: names.by_ref().take(BATCH_NAMES).collect(),
            };
            if batch.names.is_empty() {
                return Ok(());
            }
            match sender {
                None => self.files.copy_batch(&batch)?,
                // A send fails only when every worker is gone, which their results will tell.
                Some(sender) => drop(sender.send(batch)),
            }
        }
    }
}
