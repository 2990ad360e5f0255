//! Hiding and write-protecting what a container must not have.
//!
//! Runs between clone and exec: nothing allocates.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::init::child::{IN_ROOT, Position};
use crate::init::mount_plan::MountsPlan;
use crate::init::mounts::{EMPTY_PATH, is_directory};
use crate::init::report::Stage;
use crate::sys::{self, SysResult};

/// Hides and write-protects what the container must not have.
pub(in crate::init) fn restrict(
    plan: &MountsPlan,
    root: RawFd,
    position: &mut Position,
) -> SysResult<()> {
    for (index, path) in plan.readonly.iter().enumerate() {
        position.at_item(Stage::Readonly, index);
        make_readonly(root, path)?;
    }
    let null = if plan.masked.is_empty() {
        None
    } else {
        position.at(Stage::Mask);
        Some(open_null()?)
    };
    let mut empty = None;
    for (index, path) in plan.masked.iter().enumerate() {
        position.at_item(Stage::Mask, index);
        if let Some(null) = &null {
            mask(root, path, null.as_raw_fd(), &mut empty)?;
        }
    }
    for (index, mount) in plan.mounts.iter().enumerate() {
        if mount.fd.get() >= 0 {
            position.at_item(Stage::Mount, index);
            sys::mount_setattr(mount.fd.get(), libc::MOUNT_ATTR_RDONLY, 0, 0, false)?;
        }
    }
    if plan.root_readonly {
        position.at(Stage::Root);
        sys::mount_setattr(root, libc::MOUNT_ATTR_RDONLY, 0, 0, false)?;
    }
    Ok(())
}

fn make_readonly(root: RawFd, path: &CStr) -> SysResult<()> {
    let place = match sys::openat2(root, path, libc::O_PATH, 0, IN_ROOT) {
        Err(libc::ENOENT) => return Ok(()),
        place => place?,
    };
    let flags = libc::OPEN_TREE_CLONE | EMPTY_PATH | libc::AT_RECURSIVE as u32;
    let mount = sys::open_tree(place.as_raw_fd(), c"", flags)?;
    sys::mount_setattr(mount.as_raw_fd(), libc::MOUNT_ATTR_RDONLY, 0, 0, true)?;
    sys::attach_mount(mount.as_raw_fd(), place.as_raw_fd())
}

fn mask(root: RawFd, path: &CStr, null: RawFd, empty: &mut Option<OwnedFd>) -> SysResult<()> {
    let place = match sys::openat2(root, path, libc::O_PATH, 0, IN_ROOT) {
        Err(libc::ENOENT | libc::ENOTDIR) => return Ok(()),
        place => place?,
    };
    let clone = libc::OPEN_TREE_CLONE | EMPTY_PATH;
    if !is_directory(place.as_raw_fd())? {
        let mount = sys::open_tree(null, c"", clone)?;
        // Read-only, so that nobody inside changes mode or owner of the host's node.
        let attributes =
            libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
        sys::mount_setattr(mount.as_raw_fd(), attributes, 0, 0, false)?;
        return sys::attach_mount(mount.as_raw_fd(), place.as_raw_fd());
    }
    if let Some(first) = empty {
        let mount = sys::open_tree(first.as_raw_fd(), c"", clone)?;
        return sys::attach_mount(mount.as_raw_fd(), place.as_raw_fd());
    }
    let fs = sys::fsopen(c"tmpfs")?;
    sys::fsconfig(fs.as_raw_fd(), c"nr_blocks", Some(c"1"))?;
    sys::fsconfig(fs.as_raw_fd(), c"nr_inodes", Some(c"1"))?;
    let attributes = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    let mount = sys::fsmount(fs.as_raw_fd(), attributes)?;
    sys::attach_mount(mount.as_raw_fd(), place.as_raw_fd())?;
    *empty = Some(mount);
    Ok(())
}

/// Opens the host's `/dev/null` and makes sure that it is the null device (CVE-2025-31133).
fn open_null() -> SysResult<OwnedFd> {
    let null = sys::openat2(
        libc::AT_FDCWD,
        c"/dev/null",
        libc::O_PATH | libc::O_NOFOLLOW,
        0,
        libc::RESOLVE_NO_SYMLINKS,
    )?;
    let stat = sys::fstat(null.as_raw_fd())?;
    let is_null =
        stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3);
    if is_null { Ok(null) } else { Err(libc::ENODEV) }
}
