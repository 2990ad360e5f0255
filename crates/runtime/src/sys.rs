//! System calls that the standard library and rustix do not have, as thin as possible.
//!
//! Everything here is usable between clone and exec: no allocation, no locks.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The kernel's error number.
pub type Errno = i32;

/// The result of a raw system call.
pub type SysResult<T> = std::result::Result<T, Errno>;

/// Returns the calling thread's `errno`.
pub fn errno() -> Errno {
    // SAFETY: the location is valid for the life of the thread.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn check(result: c_long) -> SysResult<c_long> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

/// Turns a call's result into a descriptor.
fn check_fd(result: c_long) -> SysResult<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// What `clone3` returned.
pub enum Cloned {
    /// In the new process.
    Child,
    /// In the calling process.
    Parent {
        /// The new process.
        pid: i32,
        /// A descriptor of it.
        pidfd: OwnedFd,
    },
}

/// Not an `int` as the C library has it (`linux/sched.h`).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a process like `fork`, in new namespaces and optionally in a control group (`clone3(2)`).
///
/// # Safety
/// The caller must be single-threaded; the child shares nothing but copies.
pub unsafe fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> SysResult<Cloned> {
    let mut pidfd: c_int = -1;
    // SAFETY: all-zero is a valid clone_args.
    let mut arguments: libc::clone_args = unsafe { zeroed() };
    arguments.flags = flags | libc::CLONE_PIDFD as u64;
    arguments.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no stack is given, so the child continues here on its own copy of this one.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match check(result)? {
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent {
            pid: pid as i32,
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so the descriptor is ours.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Makes a plain copy of the calling process; returns 0 in the child.
///
/// # Safety
/// As [`clone3`].
pub unsafe fn fork() -> SysResult<i32> {
    // SAFETY: no stack, no flags but the exit signal.
    let result = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD as c_ulong, 0, 0, 0, 0) };
    check(result).map(|pid| pid as i32)
}

/// Enters namespaces (`setns(2)`).
pub fn setns(fd: RawFd, flags: c_int) -> SysResult<()> {
    // SAFETY: plain system call.
    check(unsafe { libc::syscall(libc::SYS_setns, fd, flags) }).map(drop)
}

/// Leaves namespaces for new ones (`unshare(2)`).
pub fn unshare(flags: c_int) -> SysResult<()> {
    // SAFETY: plain system call.
    check(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

/// Opens a path beneath a directory (`openat2(2)`).
pub fn openat2(
    directory: RawFd,
    path: &CStr,
    flags: c_int,
    mode: u32,
    resolve: u64,
) -> SysResult<OwnedFd> {
    // SAFETY: all-zero is a valid open_how.
    let mut how: libc::open_how = unsafe { zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = u64::from(mode);
    how.resolve = resolve;
    let mut attempts = 0;
    loop {
        // SAFETY: path and how outlive the call.
        let result = check_fd(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                directory,
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        });
        match result {
            // A concurrent rename disturbed the resolution (openat2(2)).
            Err(libc::EAGAIN) if attempts < 128 => attempts += 1,
            result => return result,
        }
    }
}

/// Clones a mount, detached, or opens one in place (`open_tree(2)`).
pub fn open_tree(directory: RawFd, path: &CStr, flags: c_uint) -> SysResult<OwnedFd> {
    let flags = flags | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: path outlives the call.
    check_fd(unsafe { libc::syscall(libc::SYS_open_tree, directory, path.as_ptr(), flags) })
}

/// Puts a detached mount onto what a descriptor names (`move_mount(2)`).
pub fn attach_mount(mount: RawFd, target: RawFd) -> SysResult<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are empty strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount,
            c"".as_ptr(),
            target,
            c"".as_ptr(),
            flags,
        )
    })
    .map(drop)
}

/// Changes a mount's attributes (`mount_setattr(2)`).
pub fn mount_setattr(
    mount: RawFd,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> SysResult<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount,
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Opens a file system for configuration (`fsopen(2)`).
pub fn fsopen(name: &CStr) -> SysResult<OwnedFd> {
    // SAFETY: name outlives the call.
    check_fd(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) })
}

const FSOPEN_CLOEXEC: c_uint = 1;
const FSMOUNT_CLOEXEC: c_uint = 1;
const FSCONFIG_SET_FLAG: c_uint = 0;
const FSCONFIG_SET_STRING: c_uint = 1;
const FSCONFIG_CMD_CREATE: c_uint = 6;

/// Sets a parameter of a file system being configured; without a value it is a flag.
pub fn fsconfig(fs: RawFd, key: &CStr, value: Option<&CStr>) -> SysResult<()> {
    let (command, value) = match value {
        Some(value) => (FSCONFIG_SET_STRING, value.as_ptr()),
        None => (FSCONFIG_SET_FLAG, std::ptr::null()),
    };
    // SAFETY: key and value outlive the call.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fs, command, key.as_ptr(), value, 0) })
        .map(drop)
}

/// Makes the configured file system and a detached mount of it (`fsmount(2)`).
pub fn fsmount(fs: RawFd, attributes: u64) -> SysResult<OwnedFd> {
    let null = std::ptr::null::<c_char>();
    // SAFETY: no key, no value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, null, null, 0) })?;
    // SAFETY: plain system call.
    check_fd(unsafe { libc::syscall(libc::SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes) })
}

/// Marks every descriptor from `first` on close-on-exec (`close_range(2)`).
pub fn close_on_exec_from(first: c_uint) -> SysResult<()> {
    const CLOSE_RANGE_CLOEXEC: c_uint = 4;
    // SAFETY: plain system call.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            c_uint::MAX,
            CLOSE_RANGE_CLOEXEC,
        )
    })
    .map(drop)
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: c_uint) {
    // SAFETY: the caller keeps no descriptor in this range.
    unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, 0) };
}

/// Calls `prctl(2)` with two numbers.
pub fn prctl(option: c_int, first: c_ulong, second: c_ulong) -> SysResult<c_long> {
    // SAFETY: the options used here take numbers only.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, first, second, 0, 0) })
}

/// Names the calling thread (`PR_SET_NAME`).
pub fn set_name(name: &CStr) {
    // SAFETY: the kernel copies at most 16 bytes of a valid string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Returns a file's attributes.
pub fn fstat(fd: RawFd) -> SysResult<libc::stat> {
    // SAFETY: all-zero is a valid stat.
    let mut stat: libc::stat = unsafe { zeroed() };
    // SAFETY: stat outlives the call.
    check(c_long::from(unsafe { libc::fstat(fd, &raw mut stat) }))?;
    Ok(stat)
}

/// Returns the kind of file system a descriptor lies on (`statfs(2)`, `f_type`).
pub fn filesystem_type(fd: RawFd) -> SysResult<i64> {
    // SAFETY: all-zero is a valid statfs.
    let mut stat: libc::statfs = unsafe { zeroed() };
    // SAFETY: stat outlives the call.
    check(c_long::from(unsafe { libc::fstatfs(fd, &raw mut stat) }))?;
    Ok(stat.f_type)
}

/// Reads once; 0 at the end.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> SysResult<usize> {
    // SAFETY: the buffer is writable for its whole length.
    let result = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    check(result as c_long).map(|length| length as usize)
}

/// Writes once.
pub fn write(fd: RawFd, bytes: &[u8]) -> SysResult<usize> {
    // SAFETY: the bytes are readable for their whole length.
    let result = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    check(result as c_long).map(|length| length as usize)
}

/// Sends a signal to a process by descriptor (`pidfd_send_signal(2)`).
pub fn pidfd_send_signal(pidfd: RawFd, signal: c_int) -> SysResult<()> {
    // SAFETY: no siginfo is given.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, 0, 0) }).map(drop)
}

/// Ends the process without any cleanup.
pub fn exit_now(code: c_int) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}
