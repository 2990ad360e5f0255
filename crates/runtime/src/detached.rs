//! Looking into containers from outside.

use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use wharf_safefs::Root;

use crate::error::{Result, RuntimeError};
use crate::init::overlay::{RootPlan, plan_root};
use crate::request::RootMount;
use crate::sys;

/// Opens the root directory of a running container by one of its processes.
///
/// # Errors
/// [`RuntimeError::NotRunning`] when the process is gone.
pub fn open_root(pid: u32) -> Result<OwnedFd> {
    match Root::open(format!("/proc/{pid}/root")) {
        Ok(root) => Ok(root.into_fd()),
        Err(error) if error.is_not_found() => Err(RuntimeError::NotRunning),
        Err(error) => Err(error.into()),
    }
}

/// Mounts a container's root file system attached nowhere and returns it as a directory; it is
/// unmounted when the last descriptor of it is closed. No mount table ever shows it.
///
/// Must not be used writable while a container runs on the same upper directory.
pub fn mount_detached(root: &RootMount, read_only: bool) -> Result<OwnedFd> {
    let plan = plan_root(root)?;
    // In a thread that can leave the mount namespace, and its working directory, behind: that
    // works on every kernel, and with relative layer names where fsconfig takes none that long.
    let worker = thread::Builder::new().spawn(move || mount_apart(&plan, read_only));
    let worker = worker.map_err(|error| RuntimeError::io("mount a root file system", error))?;
    match worker.join() {
        Ok(Ok(mount)) => Ok(mount),
        Ok(Err(errno)) => Err(RuntimeError::io(
            "mount a root file system",
            std::io::Error::from_raw_os_error(errno),
        )),
        Err(_) => Err(RuntimeError::io(
            "mount a root file system",
            std::io::Error::other("the mounting thread failed"),
        )),
    }
}

fn mount_apart(plan: &RootPlan, read_only: bool) -> sys::SysResult<OwnedFd> {
    sys::unshare(libc::CLONE_FS | libc::CLONE_NEWNS)?;
    let none = std::ptr::null();
    let clone = libc::OPEN_TREE_CLONE;
    let mount = match plan {
        RootPlan::Overlay { base, options } => {
            // SAFETY: all strings are null-terminated and outlive the calls.
            unsafe {
                let private = libc::MS_PRIVATE | libc::MS_REC;
                let result = libc::mount(none, c"/".as_ptr(), none, private, std::ptr::null());
                sys::check(result.into())?;
                sys::check(libc::chdir(base.as_ptr()).into())?;
                // Any directory will do as a mount point: nobody else sees this namespace.
                let result = libc::mount(
                    c"overlay".as_ptr(),
                    c"/".as_ptr(),
                    c"overlay".as_ptr(),
                    0,
                    options.as_ptr().cast(),
                );
                sys::check(result.into())?;
            }
            let root = sys::openat2(libc::AT_FDCWD, c"/..", libc::O_PATH, 0, 0)?;
            sys::open_tree(root.as_raw_fd(), c"", clone | libc::AT_EMPTY_PATH as u32)?
        }
        RootPlan::Directory { path, .. } => sys::open_tree(libc::AT_FDCWD, path, clone)?,
    };
    let read_only = read_only || matches!(plan, RootPlan::Directory { readonly: true, .. });
    if read_only {
        sys::mount_setattr(mount.as_raw_fd(), libc::MOUNT_ATTR_RDONLY, 0, 0, false)?;
    }
    Ok(mount)
}
