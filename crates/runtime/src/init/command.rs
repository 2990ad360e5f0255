//! Finding the program of a process, between clone and exec: no allocation, raw system calls only.

use std::ffi::CStr;

use crate::init::plan::ProcessPlan;
use crate::sys::{self, SysResult};

/// Finds the file to execute, like a shell does, but never in the working directory by accident.
pub fn find_command(process: &ProcessPlan) -> SysResult<&CStr> {
    let mut last = libc::ENOENT;
    for candidate in &process.candidates {
        match check_executable(candidate) {
            Ok(()) => return Ok(candidate),
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

fn check_executable(path: &CStr) -> SysResult<()> {
    // SAFETY: all-zero is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: path and stat outlive the call.
    sys::check(unsafe { libc::stat(path.as_ptr(), &raw mut stat) }.into())?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(libc::EISDIR);
    }
    // SAFETY: path outlives the call.
    sys::check(unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::X_OK,
            libc::AT_EACCESS,
        )
    })
    .map(drop)
}
