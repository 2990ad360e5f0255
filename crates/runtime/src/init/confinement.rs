//! Asking the kernel for an AppArmor profile, between clone and exec: no allocation, raw system calls only.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use oci_spec::runtime::Process;

use crate::error::Result;
use crate::init::plan::c_string;
use crate::sys::{self, SysResult};

/// What is written to the kernel for a process to run under a profile.
pub struct ProfileRequest {
    at_exec: CString,
    now: CString,
}

impl ProfileRequest {
    /// Prepares what a process's OCI form asks for, if anything.
    ///
    /// # Errors
    /// [`crate::RuntimeError::Invalid`] for a name with a NUL byte.
    pub fn new(process: &Process) -> Result<Option<Self>> {
        let name = process.apparmor_profile().as_deref().unwrap_or_default();
        if name.is_empty() {
            return Ok(None);
        }
        let request = |verb: &str| c_string("process.apparmorProfile", &format!("{verb} {name}"));
        Ok(Some(Self {
            at_exec: request("exec")?,
            now: request("changeprofile")?,
        }))
    }

    /// Changes the profile when the process executes another program (`aa_change_onexec(2)`).
    pub fn at_exec(&self, host_proc: &OwnedFd) -> SysResult<()> {
        let files = [c"self/attr/apparmor/exec", c"self/attr/exec"];
        write(host_proc, files, &self.at_exec)
    }

    /// Changes the profile of the calling process (`aa_change_profile(2)`).
    pub fn now(&self, host_proc: &OwnedFd) -> SysResult<()> {
        let files = [c"self/attr/apparmor/current", c"self/attr/current"];
        write(host_proc, files, &self.now)
    }
}

/// Opens the host's procfs while it is in sight, if there is something to ask for: what the container has at
/// `/proc` may be anything (CVE-2019-16884).
pub fn open_host_proc(request: Option<&ProfileRequest>) -> SysResult<Option<OwnedFd>> {
    if request.is_none() {
        return Ok(None);
    }
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    sys::openat2(libc::AT_FDCWD, c"/proc", flags, 0, 0).map(Some)
}

/// Writes to the module's own file; before Linux 5.8 the only module had the directory above to itself.
fn write(host_proc: &OwnedFd, files: [&CStr; 2], request: &CStr) -> SysResult<()> {
    let resolve = libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS;
    let open = |path| sys::openat2(host_proc.as_raw_fd(), path, libc::O_WRONLY, 0, resolve);
    let [own, shared] = files;
    let file = match open(own) {
        Err(libc::ENOENT) => open(shared)?,
        opened => opened?,
    };
    sys::write(file.as_raw_fd(), request.to_bytes()).map(drop)
}
