//! Reading with the rights of the user who asked.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

use crate::{FsError, Result};

/// Most supplementary groups that a user may have (kernel, `NGROUPS_MAX`).
const MAX_GROUPS: usize = 65_536;

/// Asks `setfsuid(2)` and `setfsgid(2)` for the present value without changing it.
const ASK: u32 = u32::MAX;

/// A user of this machine, as the kernel tells of the other end of a socket (`SO_PEERCRED`, `SO_PEERGROUPS`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A thread that opens files as somebody else; the thread's own rights are back when it is dropped.
#[must_use = "the thread gets its own rights back when this is dropped"]
pub struct Assumed {
    before: Option<Before>,
    /// Rights are a thread's own.
    _not_send: PhantomData<*const ()>,
}

struct Before {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Caller {
    /// Returns who is at the other end of a unix socket, as they were when they connected (`unix(7)`, `SO_PEERCRED`
    /// and `SO_PEERGROUPS`); nothing where the kernel does not tell.
    pub fn of_peer(socket: impl AsFd) -> Option<Self> {
        let user = rustix::net::sockopt::socket_peercred(socket.as_fd()).ok()?;
        Some(Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: peer_groups(socket)?,
        })
    }

    /// Says whether the caller may open everything anyway.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Lets the calling thread open files only as the caller could (`credentials(7)`, file system IDs).
    ///
    /// For root nothing changes. The kernel takes the capabilities that override file permissions from
    /// a thread whose file system user is not root (`capabilities(7)`), so that the caller's rights
    /// are all that is left.
    ///
    /// # Errors
    /// A process that may not change its IDs.
    pub fn assume(&self) -> Result<Assumed> {
        if self.is_root() {
            return Ok(Assumed {
                before: None,
                _not_send: PhantomData,
            });
        }
        let before = Before {
            uid: set_fs_id(libc::SYS_setfsuid, ASK),
            gid: set_fs_id(libc::SYS_setfsgid, ASK),
            groups: groups()?,
        };
        let assumed = Assumed {
            before: Some(before),
            _not_send: PhantomData,
        };
        set_groups(&self.groups)?;
        set_fs_id(libc::SYS_setfsgid, self.gid);
        set_fs_id(libc::SYS_setfsuid, self.uid);
        let is_set = set_fs_id(libc::SYS_setfsuid, ASK) == self.uid
            && set_fs_id(libc::SYS_setfsgid, ASK) == self.gid;
        if is_set {
            return Ok(assumed);
        }
        Err(refused(rustix::io::Errno::PERM))
    }
}

impl Drop for Assumed {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        set_fs_id(libc::SYS_setfsuid, before.uid);
        set_fs_id(libc::SYS_setfsgid, before.gid);
        let are_back = set_groups(&before.groups).is_ok()
            && set_fs_id(libc::SYS_setfsuid, ASK) == before.uid
            && set_fs_id(libc::SYS_setfsgid, ASK) == before.gid;
        // A thread that goes on with somebody else's rights would do harm silently.
        assert!(are_back, "a thread could not get its own rights back");
    }
}

/// Sets one of the calling thread's file system IDs; returns the one before.
fn set_fs_id(call: libc::c_long, id: u32) -> u32 {
    // SAFETY: plain system call that touches no memory; unlike libc's wrapper it never reaches other threads.
    let before = unsafe { libc::syscall(call, id) };
    u32::try_from(before).unwrap_or(ASK)
}

fn peer_groups(socket: impl AsFd) -> Option<Vec<u32>> {
    let mut groups = vec![0_u32; MAX_GROUPS];
    let mut length = libc::socklen_t::try_from(size_of_val(groups.as_slice())).ok()?;
    // SAFETY: the buffer is writable for `length` bytes, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return None;
    }
    groups.truncate(usize::try_from(length).ok()? / size_of::<u32>());
    Some(groups)
}

fn groups() -> Result<Vec<u32>> {
    let mut groups = vec![0_u32; MAX_GROUPS];
    // SAFETY: the buffer has room for as many groups as the call is told.
    let count = unsafe { libc::syscall(libc::SYS_getgroups, groups.len(), groups.as_mut_ptr()) };
    let count = usize::try_from(count).map_err(|_| last_error())?;
    groups.truncate(count);
    Ok(groups)
}

fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: the slice outlives the call; without libc's wrapper only this thread changes.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(last_error())
    }
}

fn last_error() -> FsError {
    let errno = std::io::Error::last_os_error().raw_os_error();
    refused(rustix::io::Errno::from_raw_os_error(
        errno.unwrap_or(libc::EIO),
    ))
}

fn refused(errno: rustix::io::Errno) -> FsError {
    FsError::io(
        "take on the rights of the caller for",
        "the build context",
        errno,
    )
}

#[cfg(test)]
mod tests {
    use super::Caller;
    use crate::{OpenFlags, Root};

    #[test]
    fn our_own_end_is_us() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let caller = Caller::of_peer(&one).unwrap();
        assert_eq!(caller.uid, rustix::process::geteuid().as_raw());
        assert_eq!(caller.gid, rustix::process::getegid().as_raw());
    }

    #[test]
    fn a_thread_reads_only_what_the_caller_could() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: taking on another user's rights needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        root.chmod(".", 0o755).unwrap();
        for (name, mode, gid) in [
            ("open", 0o644, 0),
            ("secret", 0o600, 0),
            ("group", 0o640, 77),
        ] {
            root.create_file(name, mode).unwrap();
            root.chown(name, 0, gid).unwrap();
        }
        let can_read = |name: &str| root.open_file(name, OpenFlags::RDONLY).is_ok();
        let caller = |groups: &[u32]| Caller {
            uid: 12_345,
            gid: 12_345,
            groups: groups.to_vec(),
        };
        for (caller, expected) in [
            (Caller::default(), [true, true, true]),
            (caller(&[]), [true, false, false]),
            (caller(&[77]), [true, false, true]),
        ] {
            let assumed = caller.assume().unwrap();
            assert_eq!(["open", "secret", "group"].map(can_read), expected);
            drop(assumed);
            assert_eq!(["open", "secret", "group"].map(can_read), [true; 3]);
        }
    }
}
