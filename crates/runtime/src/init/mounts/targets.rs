//! Mount points: opened beneath the root, made where they are missing.
//!
//! Runs between clone and exec: nothing allocates.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::sys::{self, SysResult};

/// How many dangling symlinks are followed while a mount point is made.
const MAX_LINKS: u32 = 8;

/// Room for a path and its null.
const PATH_BYTES: usize = libc::PATH_MAX as usize;

/// Opens a path beneath the root, making what is missing: directories (0755), and in the last
/// place a directory or an empty file.
pub(in crate::init) fn ensure_target(
    root: RawFd,
    path: &CStr,
    directory: bool,
    resolve: u64,
) -> SysResult<OwnedFd> {
    ensure_following(root, path.to_bytes(), directory, resolve, MAX_LINKS)
}

fn ensure_following(
    root: RawFd,
    path: &[u8],
    directory: bool,
    resolve: u64,
    links: u32,
) -> SysResult<OwnedFd> {
    let mut buffer = [0_u8; PATH_BYTES];
    let whole = terminated(&mut buffer, path)?;
    match sys::openat2(root, whole, libc::O_PATH, 0, resolve) {
        Err(libc::ENOENT) => {}
        result => return result,
    }
    let mut parent = sys::openat2(root, c".", libc::O_PATH | libc::O_DIRECTORY, 0, resolve)?;
    let mut end = 0;
    while end < path.len() {
        let start = end + usize::from(path.get(end) == Some(&b'/'));
        end = path
            .iter()
            .skip(start)
            .position(|byte| *byte == b'/')
            .map_or(path.len(), |length| start + length);
        let prefix = path.get(..end).ok_or(libc::EINVAL)?;
        let name = path.get(start..end).ok_or(libc::EINVAL)?;
        if name.is_empty() {
            continue;
        }
        let step = terminated(&mut buffer, prefix)?;
        match sys::openat2(root, step, libc::O_PATH, 0, resolve) {
            Ok(opened) => {
                parent = opened;
                continue;
            }
            Err(libc::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        let last = end == path.len();
        match make(parent.as_raw_fd(), name, directory || !last) {
            Ok(made) => parent = made,
            // It exists and leads nowhere: a dangling symlink. Make what it points at.
            Err(libc::EEXIST) if links > 0 && resolve & libc::RESOLVE_NO_SYMLINKS == 0 => {
                let before = path.get(..start).ok_or(libc::EINVAL)?;
                let after = path.get(end..).ok_or(libc::EINVAL)?;
                let mut target = [0_u8; PATH_BYTES];
                let length = follow(parent.as_raw_fd(), name, before, after, &mut target)?;
                let target = target.get(..length).ok_or(libc::EINVAL)?;
                return ensure_following(root, target, directory, resolve, links - 1);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(parent)
}

/// Makes one name in a directory and opens it.
fn make(parent: RawFd, name: &[u8], directory: bool) -> SysResult<OwnedFd> {
    let mut buffer = [0_u8; PATH_BYTES];
    let name = terminated(&mut buffer, name)?;
    // SAFETY: the name is null-terminated; a descriptor returned is ours.
    unsafe {
        if directory {
            sys::check(libc::mkdirat(parent, name.as_ptr(), 0o755).into())?;
        } else {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            let fd = libc::openat(parent, name.as_ptr(), flags, 0o755);
            drop(OwnedFd::from_raw_fd(sys::check(fd.into())? as RawFd));
        }
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let fd = libc::openat(parent, name.as_ptr(), flags);
        Ok(OwnedFd::from_raw_fd(sys::check(fd.into())? as RawFd))
    }
}

/// Writes the path a symlink stands for into `target`; returns its length.
fn follow(
    parent: RawFd,
    name: &[u8],
    before: &[u8],
    after: &[u8],
    target: &mut [u8; PATH_BYTES],
) -> SysResult<usize> {
    let mut buffer = [0_u8; PATH_BYTES];
    let name = terminated(&mut buffer, name)?;
    let mut link = [0_u8; PATH_BYTES];
    // SAFETY: the buffer is writable for its whole length.
    let length =
        unsafe { libc::readlinkat(parent, name.as_ptr(), link.as_mut_ptr().cast(), link.len()) };
    let length = sys::check(length as libc::c_long)? as usize;
    let link = link.get(..length).ok_or(libc::ENAMETOOLONG)?;
    let before: &[u8] = if link.first() == Some(&b'/') {
        b""
    } else {
        before
    };
    let mut used = 0;
    for part in [before, link, after] {
        let room = target.get_mut(used..used + part.len());
        room.ok_or(libc::ENAMETOOLONG)?.copy_from_slice(part);
        used += part.len();
    }
    Ok(used)
}

fn terminated<'a>(buffer: &'a mut [u8; PATH_BYTES], path: &[u8]) -> SysResult<&'a CStr> {
    if path.len() >= PATH_BYTES {
        return Err(libc::ENAMETOOLONG);
    }
    buffer.fill(0);
    if let Some(room) = buffer.get_mut(..path.len()) {
        room.copy_from_slice(path);
    }
    CStr::from_bytes_until_nul(buffer).map_err(|_| libc::EINVAL)
}
