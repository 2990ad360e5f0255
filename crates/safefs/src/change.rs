//! Changing what is beneath a root: create, link, rename, attributes.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType as KernelType, Gid, Mode, RenameFlags, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use crate::{FileType, FsError, Result, Root, Timestamp};

/// The number that means "leave as it is" to `chown(2)` and therefore names no user.
const NO_ID: u32 = u32::MAX;

impl Root {
    /// Creates a directory with exactly `mode`, whatever the umask.
    pub fn mkdir(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::mkdirat(parent.as_fd(), name, Mode::from_raw_mode(mode & 0o7777))
            .map_err(|errno| FsError::io("create directory", path, errno))?;
        change_mode(parent.as_fd(), name, mode)
            .map_err(|errno| FsError::io("change mode of", path, errno))
    }

    /// Creates a directory and all that are missing above it, each with `mode` and `owner`
    /// (user, group). Existing directories keep theirs; symlinks are followed within the root.
    pub fn mkdir_all(
        &self,
        path: impl AsRef<Path>,
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<()> {
        let path = path.as_ref();
        match self.open_dir(path) {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let target = self.resolve(path)?;
        let mut prefix = PathBuf::new();
        for component in target.components() {
            prefix.push(component);
            match self.mkdir(&prefix, mode) {
                Ok(()) => {
                    if let Some((uid, gid)) = owner {
                        self.chown(&prefix, uid, gid)?;
                    }
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
        }
        self.open_dir(path).map(drop)
    }

    /// Creates a symlink with `target` verbatim.
    pub fn symlink(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        let (target, path) = (target.as_ref(), path.as_ref());
        crate::path::check(target)?;
        let (parent, name) = self.parent(path)?;
        rustix::fs::symlinkat(target, parent.as_fd(), name)
            .map_err(|errno| FsError::io("create symlink", path, errno))
    }

    /// Gives the file at `existing` (a symlink itself where it is one) a second name at `path`.
    pub fn hard_link(&self, existing: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        self.hard_link_to(existing, self, path)
    }

    /// Gives the file at `existing` a second name beneath another root on the same file system.
    pub fn hard_link_to(
        &self,
        existing: impl AsRef<Path>,
        other: &Root,
        path: impl AsRef<Path>,
    ) -> Result<()> {
        let path = path.as_ref();
        let (from, from_name) = self.parent(existing.as_ref())?;
        let (to, to_name) = other.parent(path)?;
        rustix::fs::linkat(
            from.as_fd(),
            from_name,
            to.as_fd(),
            to_name,
            AtFlags::empty(),
        )
        .map_err(|errno| FsError::io("create hard link", path, errno))
    }

    /// Creates a device node, pipe, socket or empty file with exactly `mode`.
    ///
    /// `major` and `minor` count for devices only.
    pub fn mknod(
        &self,
        path: impl AsRef<Path>,
        file_type: FileType,
        mode: u32,
        (major, minor): (u32, u32),
    ) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let kernel_type = match file_type {
            FileType::File => KernelType::RegularFile,
            FileType::CharDevice => KernelType::CharacterDevice,
            FileType::BlockDevice => KernelType::BlockDevice,
            FileType::Fifo => KernelType::Fifo,
            FileType::Socket => KernelType::Socket,
            FileType::Directory | FileType::Symlink | FileType::Unknown => {
                return Err(FsError::io("create node", path, Errno::INVAL));
            }
        };
        let device = match file_type {
            FileType::CharDevice | FileType::BlockDevice => rustix::fs::makedev(major, minor),
            _ => 0,
        };
        rustix::fs::mknodat(
            parent.as_fd(),
            name,
            kernel_type,
            Mode::from_raw_mode(mode & 0o7777),
            device,
        )
        .map_err(|errno| FsError::io("create node", path, errno))?;
        change_mode(parent.as_fd(), name, mode)
            .map_err(|errno| FsError::io("change mode of", path, errno))
    }

    /// Creates a named pipe with exactly `mode`.
    pub fn fifo(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        self.mknod(path, FileType::Fifo, mode, (0, 0))
    }

    /// Renames within the root, replacing what is at `to` as `rename(2)` does.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.rename_to(from, self, to)
    }

    /// Renames to a place beneath another root on the same file system.
    pub fn rename_to(
        &self,
        from: impl AsRef<Path>,
        other: &Root,
        to: impl AsRef<Path>,
    ) -> Result<()> {
        self.rename_with(from.as_ref(), other, to.as_ref(), RenameFlags::empty())
    }

    /// Renames to a place beneath another root where nothing may exist yet.
    pub fn rename_no_replace(
        &self,
        from: impl AsRef<Path>,
        other: &Root,
        to: impl AsRef<Path>,
    ) -> Result<()> {
        self.rename_with(from.as_ref(), other, to.as_ref(), RenameFlags::NOREPLACE)
    }

    fn rename_with(&self, from: &Path, other: &Root, to: &Path, flags: RenameFlags) -> Result<()> {
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = other.parent(to)?;
        rustix::fs::renameat_with(
            from_parent.as_fd(),
            from_name,
            to_parent.as_fd(),
            to_name,
            flags,
        )
        .map_err(|errno| FsError::io("rename", from, errno))
    }

    /// Removes a name that is not a directory.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::empty())
            .map_err(|errno| FsError::io("remove", path, errno))
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::REMOVEDIR)
            .map_err(|errno| FsError::io("remove directory", path, errno))
    }

    /// Changes owner and group, of a symlink itself where it is one.
    ///
    /// # Errors
    /// An id of 4294967295 is refused: to `chown(2)` it means "leave as it is".
    pub fn chown(&self, path: impl AsRef<Path>, uid: u32, gid: u32) -> Result<()> {
        let path = path.as_ref();
        if uid == NO_ID || gid == NO_ID {
            return Err(FsError::io("change owner of", path, Errno::INVAL));
        }
        let (parent, name) = self.parent(path)?;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(parent.as_fd(), name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| FsError::io("change owner of", path, errno))
    }

    /// Changes the mode bits (`0o7777`). A symlink in the last place is an error: it has no mode.
    pub fn chmod(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        change_mode(parent.as_fd(), name, mode)
            .map_err(|errno| FsError::io("change mode of", path, errno))
    }

    /// Sets access and modification time, of a symlink itself where it is one.
    pub fn set_times(
        &self,
        path: impl AsRef<Path>,
        atime: Timestamp,
        mtime: Timestamp,
    ) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let times = Timestamps {
            last_access: timespec(atime),
            last_modification: timespec(mtime),
        };
        rustix::fs::utimensat(parent.as_fd(), name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| FsError::io("set times of", path, errno))
    }
}

pub(crate) fn timespec(time: Timestamp) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    }
}

/// Changes the mode of one name without following a symlink.
///
/// `fchmodat2` (Linux 6.6) does it in one call; before that an `O_PATH` descriptor stands for the
/// file and its link in `/proc/self/fd` leads to exactly that inode.
fn change_mode(parent: BorrowedFd<'_>, name: &OsStr, mode: u32) -> std::result::Result<(), Errno> {
    let mode = mode & 0o7777;
    let c_name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the descriptor is borrowed for the call, the name is NUL-terminated, and the call
    // writes no memory of ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_fchmodat2,
            parent.as_raw_fd(),
            c_name.as_ptr(),
            mode,
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO);
    if errno != libc::ENOSYS && errno != libc::EPERM {
        return Err(Errno::from_raw_os_error(errno));
    }
    // EPERM also stands for a seccomp filter that does not know the call yet.
    change_mode_by_proc(parent, name, mode)
}

fn change_mode_by_proc(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    mode: u32,
) -> std::result::Result<(), Errno> {
    use rustix::fs::{CWD, OFlags};
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let kind = KernelType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    if kind == KernelType::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::chmodat(
        CWD,
        link.as_str(),
        Mode::from_raw_mode(mode),
        AtFlags::empty(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_change_a_mode_agree() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        root.create_new("file", 0o600).unwrap();
        root.symlink("file", "link").unwrap();
        for change in [change_mode, change_mode_by_proc] {
            change(root.as_fd(), OsStr::new("file"), 0o4751).unwrap();
            assert_eq!(root.lstat("file").unwrap().mode, 0o4751);
            assert_eq!(
                change(root.as_fd(), OsStr::new("link"), 0o777),
                Err(Errno::OPNOTSUPP)
            );
            change(root.as_fd(), OsStr::new("file"), 0o600).unwrap();
        }
    }
}
