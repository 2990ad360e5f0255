//! Removing a tree that may be hostile: any depth, swapped while we walk.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::{DirectoryEntry, FileType, FsError, Result, Root};

/// Directories held open at once while removing; what lies deeper is moved up and removed from there.
pub const MAX_REMOVE_DEPTH: usize = 64;

/// How often a directory that is not empty after its removal is tried again (others may be writing).
const MAX_ATTEMPTS: usize = 16;

struct Level {
    directory: Root,
    name: OsString,
    pending: Vec<DirectoryEntry>,
    attempts: usize,
}

impl Root {
    /// Removes a name with all below it; symlinks are removed, never followed. Absence is no error.
    pub fn remove_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = match self.parent(path) {
            Ok(found) => found,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        if name == "." {
            return Err(FsError::InvalidPath {
                path: path.to_path_buf(),
                reason: "the root itself cannot be removed",
            });
        }
        let fd = parent
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| FsError::io("duplicate descriptor of", path, error))?;
        remove_tree(&Root::from_fd(fd), name).map_err(|error| prefixed(error, path))
    }

    /// Removes all that is in this directory and keeps the directory.
    pub fn clear(&self) -> Result<()> {
        for entry in self.entries()? {
            remove_tree(self, &entry.name)?;
        }
        Ok(())
    }
}

fn remove_tree(parent: &Root, name: &OsStr) -> Result<()> {
    if unlink(parent, name, None)? {
        return Ok(());
    }
    let Some(top) = enter(parent, name)? else {
        return Ok(());
    };
    let mut levels = vec![top];
    let mut moved = 0_u64;
    while let Some(level) = levels.last_mut() {
        if let Some(entry) = level.pending.pop() {
            if unlink(&level.directory, &entry.name, Some(entry.file_type))? {
                continue;
            }
            if levels.len() >= MAX_REMOVE_DEPTH {
                move_up(&mut levels, &entry.name, &mut moved)?;
                continue;
            }
            let below = match levels.last() {
                Some(level) => enter(&level.directory, &entry.name)?,
                None => None,
            };
            levels.extend(below);
            continue;
        }
        let Some(done) = levels.pop() else { break };
        let above = levels.last().map_or(parent, |level| &level.directory);
        let again = leave(above, done)?;
        levels.extend(again);
    }
    Ok(())
}

/// Removes what is not a directory; says whether the name is gone.
fn unlink(parent: &Root, name: &OsStr, known: Option<FileType>) -> Result<bool> {
    if known == Some(FileType::Directory) {
        return Ok(false);
    }
    match rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR | Errno::PERM) if is_directory(parent, name) => Ok(false),
        Err(errno) => Err(FsError::io("remove", name, errno)),
    }
}

fn is_directory(parent: &Root, name: &OsStr) -> bool {
    parent.lstat(name).is_ok_and(|found| found.is_dir())
}

fn enter(parent: &Root, name: &OsStr) -> Result<Option<Level>> {
    match parent.open_and_list(name) {
        Ok((directory, pending)) => Ok(Some(Level {
            directory,
            name: name.to_os_string(),
            pending,
            attempts: 0,
        })),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes an emptied directory, or returns it with what has appeared in it meanwhile.
fn leave(above: &Root, level: Level) -> Result<Option<Level>> {
    match rustix::fs::unlinkat(above.as_fd(), level.name.as_os_str(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTEMPTY | Errno::EXIST) if level.attempts < MAX_ATTEMPTS => {
            let again = enter(above, &level.name)?;
            Ok(again.map(|fresh| Level {
                attempts: level.attempts + 1,
                ..fresh
            }))
        }
        Err(errno) => Err(FsError::io("remove directory", &level.name, errno)),
    }
}

/// Moves a directory that lies too deep into the topmost one, where it is removed later.
fn move_up(levels: &mut [Level], name: &OsStr, moved: &mut u64) -> Result<()> {
    let [top, .., deepest] = levels else {
        return Ok(());
    };
    loop {
        *moved += 1;
        let target = OsString::from(format!(".wharf-remove-{moved}"));
        match deepest
            .directory
            .rename_no_replace(name, &top.directory, &target)
        {
            Ok(()) => {
                let file_type = FileType::Directory;
                top.pending.push(DirectoryEntry {
                    name: target,
                    file_type,
                    ino: 0,
                });
                return Ok(());
            }
            Err(error) if error.is_already_exists() => {}
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn prefixed(error: FsError, path: &Path) -> FsError {
    match error {
        FsError::Io {
            operation,
            path: at,
            source,
        } if at != path => {
            let mut shown = PathBuf::from(path);
            if path.file_name() != Some(at.as_os_str()) {
                shown.push("…");
                shown.push(at);
            }
            FsError::Io {
                operation,
                path: shown,
                source,
            }
        }
        other => other,
    }
}
