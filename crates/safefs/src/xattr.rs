//! Extended attributes of names beneath a root.
//!
//! No call takes a directory descriptor on all kernels we run on, so the path
//! `/proc/self/fd/<directory>/<name>` is used with the variants that do not follow a symlink.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::{FsError, Result, Root};

/// Largest value of one attribute (`XATTR_SIZE_MAX`, linux/limits.h).
pub const MAX_XATTR_VALUE_BYTES: usize = 64 << 10;

/// Largest list of names of one file (`XATTR_LIST_MAX`, linux/limits.h).
pub const MAX_XATTR_LIST_BYTES: usize = 64 << 10;

const FIRST_TRY_BYTES: usize = 256;

impl Root {
    /// Returns the names of a file's attributes, sorted byte-wise; of a symlink itself where it is one.
    /// A file system without attributes has none.
    pub fn xattrs(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let at = proc_path(parent.as_fd(), name);
        let bytes = grow(MAX_XATTR_LIST_BYTES, |buffer| {
            rustix::fs::llistxattr(at.as_c_str(), buffer)
        });
        let bytes = match bytes {
            Err(Errno::OPNOTSUPP) => Vec::new(),
            result => result.map_err(|errno| FsError::io("list attributes of", path, errno))?,
        };
        Ok(names(&bytes))
    }

    /// Returns the value of an attribute, or nothing where the file does not have it.
    pub fn xattr(
        &self,
        path: impl AsRef<Path>,
        attribute: impl AsRef<OsStr>,
    ) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let at = proc_path(parent.as_fd(), name);
        let value = grow(MAX_XATTR_VALUE_BYTES, |buffer| {
            rustix::fs::lgetxattr(at.as_c_str(), attribute.as_ref(), buffer)
        });
        match value {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(FsError::io("read an attribute of", path, errno)),
        }
    }

    /// Sets an attribute, replacing an older value.
    pub fn set_xattr(
        &self,
        path: impl AsRef<Path>,
        attribute: impl AsRef<OsStr>,
        value: &[u8],
    ) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let at = proc_path(parent.as_fd(), name);
        rustix::fs::lsetxattr(
            at.as_c_str(),
            attribute.as_ref(),
            value,
            XattrFlags::empty(),
        )
        .map_err(|errno| FsError::io("set an attribute of", path, errno))
    }

    /// Removes an attribute; it is no error where the file does not have it.
    pub fn remove_xattr(&self, path: impl AsRef<Path>, attribute: impl AsRef<OsStr>) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let at = proc_path(parent.as_fd(), name);
        match rustix::fs::lremovexattr(at.as_c_str(), attribute.as_ref()) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(FsError::io("remove an attribute of", path, errno)),
        }
    }
}

/// Returns the attribute names of an open file or directory (not `O_PATH`), sorted byte-wise.
pub fn fd_xattrs(fd: impl AsFd) -> Result<Vec<OsString>> {
    match grow(MAX_XATTR_LIST_BYTES, |buffer| {
        rustix::fs::flistxattr(&fd, buffer)
    }) {
        Ok(list) => Ok(names(&list)),
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(errno) => Err(FsError::io("list attributes of", "descriptor", errno)),
    }
}

/// Returns an attribute's value of an open file or directory (not `O_PATH`), or nothing where it has none.
pub fn fd_xattr(fd: impl AsFd, attribute: impl AsRef<OsStr>) -> Result<Option<Vec<u8>>> {
    let value = grow(MAX_XATTR_VALUE_BYTES, |buffer| {
        rustix::fs::fgetxattr(&fd, attribute.as_ref(), buffer)
    });
    match value {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(FsError::io("read an attribute of", "descriptor", errno)),
    }
}

/// Sets an attribute of an open file or directory (not `O_PATH`), replacing an older value.
pub fn set_fd_xattr(fd: impl AsFd, attribute: impl AsRef<OsStr>, value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(fd, attribute.as_ref(), value, XattrFlags::empty())
        .map_err(|errno| FsError::io("set an attribute of", "descriptor", errno))
}

fn names(list: &[u8]) -> Vec<OsString> {
    let mut names: Vec<OsString> = list
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect();
    names.sort_unstable();
    names
}

fn proc_path(directory: BorrowedFd<'_>, name: &OsStr) -> CString {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    CString::new(path).expect("names were checked for NUL when the parent was opened")
}

fn grow(
    limit_bytes: usize,
    mut read: impl FnMut(&mut [u8]) -> std::result::Result<usize, Errno>,
) -> std::result::Result<Vec<u8>, Errno> {
    let mut buffer = vec![0_u8; FIRST_TRY_BYTES];
    loop {
        match read(buffer.as_mut_slice()) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < limit_bytes => buffer.resize(limit_bytes, 0),
            Err(errno) => return Err(errno),
        }
    }
}
