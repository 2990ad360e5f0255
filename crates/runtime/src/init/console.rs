//! The terminal of a container's process, made in the container's own devpts.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::init::child::{IN_ROOT, send_master};
use crate::init::mounts::targets::ensure_target;
use crate::sys::{self, SysResult};

/// `f_type` of devpts (`linux/magic.h`).
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Opens a new terminal beneath the container's root, sends its master side to the shim and
/// returns the slave side.
///
/// The multiplexer must be a real one on devpts with no symlink on the way, whatever the image
/// holds at `/dev/pts` (CVE-2025-52565).
pub fn open(root: RawFd, size: Option<(u16, u16)>, uid: u32, sync: RawFd) -> SysResult<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS;
    let master = sys::openat2(root, c"dev/pts/ptmx", flags, 0, resolve)?;
    if sys::filesystem_type(master.as_raw_fd())? != DEVPTS_MAGIC {
        return Err(libc::ENODEV);
    }
    let unlock: libc::c_int = 0;
    // SAFETY: the ioctls take the types given; the descriptor returned is ours.
    let slave = unsafe {
        sys::check(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock).into())?;
        let peer = libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCGPTPEER,
            flags | libc::O_CLOEXEC,
        );
        OwnedFd::from_raw_fd(sys::check(peer.into())? as RawFd)
    };
    if let Some((height, width)) = size {
        resize(master.as_raw_fd(), height, width)?;
    }
    // SAFETY: plain system call.
    sys::check(unsafe { libc::fchown(slave.as_raw_fd(), uid, u32::MAX) }.into())?;
    send_master(sync, master.as_raw_fd())?;
    Ok(slave)
}

/// Makes the terminal the container's `/dev/console`.
pub fn bind(root: RawFd, slave: RawFd) -> SysResult<()> {
    let target = ensure_target(root, c"dev/console", false, IN_ROOT)?;
    let flags = libc::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32;
    let mount = sys::open_tree(slave, c"", flags)?;
    sys::attach_mount(mount.as_raw_fd(), target.as_raw_fd())
}

/// Sets a terminal's size in characters (`TIOCSWINSZ`).
pub fn resize(terminal: RawFd, height: u16, width: u16) -> SysResult<()> {
    let size = libc::winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the structure outlives the call.
    sys::check(unsafe { libc::ioctl(terminal, libc::TIOCSWINSZ, &raw const size) }.into()).map(drop)
}
