//! The working directory of a process, between clone and exec: no allocation, raw system calls only.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};

use crate::init::child::IN_ROOT;
use crate::init::mounts::targets;
use crate::sys::{self, SysResult};

/// Makes the working directory where it is missing.
pub fn make(root: RawFd, cwd: &CStr) -> SysResult<()> {
    match targets::ensure_target(root, cwd, true, IN_ROOT) {
        // A read-only or foreign place: entering it tells whether that matters.
        Ok(_) | Err(libc::EROFS | libc::EACCES | libc::EPERM | libc::ENOTDIR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Enters the working directory and makes sure it lies inside the container (CVE-2024-21626).
pub fn enter(root: RawFd, cwd: &CStr) -> SysResult<()> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let directory = sys::openat2(root, cwd, flags, 0, IN_ROOT)?;
    // SAFETY: plain system call.
    sys::check(unsafe { libc::fchdir(directory.as_raw_fd()) }.into())?;
    let mut buffer = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: the buffer is writable for its whole length.
    sys::check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    // The kernel writes "(unreachable)" before a path outside the root.
    if buffer.first() == Some(&b'/') {
        Ok(())
    } else {
        Err(libc::EXDEV)
    }
}
