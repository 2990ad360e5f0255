//! Sources of bind mounts: paths of the host, of other mount namespaces, and layers.
//!
//! Runs between clone and exec: nothing allocates.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::init::child::IN_ROOT;
use crate::init::mount_plan::{MountsPlan, SourcePlan};
use crate::init::mounts::EMPTY_PATH;
use crate::sys::{self, SysResult};

/// Opens a bind source as a detached copy of its mount.
pub(super) fn open_source(source: &SourcePlan) -> SysResult<OwnedFd> {
    let recursive = if source.recursive {
        libc::AT_RECURSIVE as u32
    } else {
        0
    };
    let flags = libc::OPEN_TREE_CLONE | recursive;
    if let Some(namespace) = &source.namespace {
        return clone_elsewhere(namespace.as_raw_fd(), &source.path, flags);
    }
    let Some(subpath) = &source.subpath else {
        return sys::open_tree(libc::AT_FDCWD, &source.path, flags);
    };
    let top = sys::openat2(libc::AT_FDCWD, &source.path, libc::O_PATH, 0, 0)?;
    clone_inside(top.as_raw_fd(), subpath, flags)
}

/// Mounts layers where nobody else sees it, takes a copy of the mount, and unmounts them again.
pub(super) fn mount_layers(
    plan: &MountsPlan,
    source: &SourcePlan,
    layers: &CStr,
) -> SysResult<OwnedFd> {
    // SAFETY: all strings are null-terminated and outlive the calls.
    unsafe {
        sys::check(libc::chdir(source.path.as_ptr()).into())?;
        let staging = plan.staging.as_ptr();
        let overlay = c"overlay".as_ptr();
        let result = libc::mount(
            overlay,
            staging,
            overlay,
            libc::MS_RDONLY,
            layers.as_ptr().cast(),
        );
        sys::check(result.into())?;
    }
    let flags = libc::OPEN_TREE_CLONE;
    let mount = sys::openat2(libc::AT_FDCWD, &plan.staging, libc::O_PATH, 0, 0).and_then(|top| {
        let subpath = source.subpath.as_deref().unwrap_or(c".");
        clone_inside(top.as_raw_fd(), subpath, flags)
    });
    // SAFETY: both strings are null-terminated.
    unsafe {
        sys::check(libc::umount2(plan.staging.as_ptr(), libc::MNT_DETACH).into())?;
        sys::check(libc::chdir(c"/".as_ptr()).into())?;
    }
    mount
}

/// Takes the numbered source, which is there once.
pub(super) fn take_source(plan: &MountsPlan, index: usize) -> SysResult<OwnedFd> {
    let source = plan.sources.get(index).ok_or(libc::EINVAL)?;
    let fd = source.fd.replace(-1);
    if fd < 0 {
        return Err(libc::EBADF);
    }
    // SAFETY: the descriptor was made by `mount_root` and is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Clones a mount of another mount namespace, whose root the path is resolved beneath.
fn clone_elsewhere(namespace: RawFd, path: &CStr, flags: u32) -> SysResult<OwnedFd> {
    let own = sys::openat2(libc::AT_FDCWD, c"/proc/self/ns/mnt", 0, 0, 0)?;
    sys::setns(namespace, libc::CLONE_NEWNS)?;
    let clone = sys::openat2(libc::AT_FDCWD, c"/", libc::O_PATH, 0, 0).and_then(|root| {
        let inside = sys::openat2(root.as_raw_fd(), path, libc::O_PATH, 0, IN_ROOT)?;
        sys::open_tree(inside.as_raw_fd(), c"", flags | EMPTY_PATH)
    });
    sys::setns(own.as_raw_fd(), libc::CLONE_NEWNS)?;
    clone
}

/// Clones the mount of a path inside a directory; links in the path lead nowhere outside of it.
fn clone_inside(top: RawFd, subpath: &CStr, flags: u32) -> SysResult<OwnedFd> {
    let inside = sys::openat2(top, subpath, libc::O_PATH, 0, IN_ROOT)?;
    sys::open_tree(inside.as_raw_fd(), c"", flags | EMPTY_PATH)
}
