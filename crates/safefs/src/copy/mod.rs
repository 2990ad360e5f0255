//! Copying a tree with all that the kernel keeps about it.

mod data;
mod files;
mod single;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::{FileType, Metadata, Result, Root};

pub use data::{copy_file_data, read_whole};
use files::{Files, xattrs_of};
pub use single::{Attributes, FileCopier};

/// How a tree is copied.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Share the blocks of larger files where the file system can (`FICLONE`).
    pub reflink: bool,
    /// Give files a second name instead of copying them; both trees must lie on one file system.
    pub hard_link: bool,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            reflink: true,
            hard_link: false,
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
    let mut copier = Copier {
        from,
        to,
        hard_link: options.hard_link,
        files: Files::new(options),
        count: 0,
        directories: Vec::new(),
    };
    let mut stack = vec![PathBuf::new()];
    while let Some(path) = stack.pop() {
        copier.copy_directory(&path, &mut stack)?;
    }
    copier.finish()
}

struct Copier<'a> {
    from: &'a Root,
    to: &'a Root,
    hard_link: bool,
    files: Files,
    /// Entries of every kind.
    count: u64,
    directories: Vec<Directory>,
}

/// A directory whose attributes are set when all below it is there.
struct Directory {
    path: PathBuf,
    metadata: Metadata,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Copier<'_> {
    /// Joins second names, then sets directory attributes, children first: both need all contents in place.
    fn finish(self) -> Result<CopyReport> {
        self.files.join_later_names(self.to)?;
        for directory in self.directories.iter().rev() {
            let attributes = Attributes {
                metadata: &directory.metadata,
                xattrs: &directory.xattrs,
            };
            self.to
                .set_directory_attributes(&directory.path, attributes)?;
        }
        Ok(CopyReport {
            bytes: self.files.bytes,
            files: self.count,
        })
    }

    fn copy_directory(&mut self, path: &Path, stack: &mut Vec<PathBuf>) -> Result<()> {
        let (from, entries) = self.from.open_and_list(path)?;
        let to = self.to.open_dir_nofollow(path)?;
        self.directories.push(Directory {
            path: path.to_path_buf(),
            metadata: from.metadata()?,
            xattrs: xattrs_of(&from)?,
        });
        for entry in entries {
            self.count += 1;
            let name = entry.name.as_os_str();
            match entry.file_type {
                FileType::Directory => {
                    match to.mkdir(name, 0o700) {
                        Err(error) if error.is_already_exists() => {}
                        result => result?,
                    }
                    stack.push(path.join(name));
                }
                _ if self.hard_link => from.hard_link_to(name, &to, name)?,
                FileType::File => self.files.copy_regular(&from, &to, path, name)?,
                _ => self.files.copy_special(&from, &to, path, name)?,
            }
        }
        Ok(())
    }
}
