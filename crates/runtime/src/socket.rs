//! Messages with descriptors over unix sockets (`unix(7)`, `SCM_RIGHTS`), without allocation.

use std::mem::zeroed;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::sys::{SysResult, check, errno};

/// The most descriptors one message carries.
pub const MAX_DESCRIPTORS: usize = 4;

/// Room for the control message of `MAX_DESCRIPTORS` descriptors, aligned as `cmsghdr` needs.
#[repr(align(8))]
struct Control([u8; 64]);

/// Makes a connected pair; `kind` is `SOCK_STREAM` or `SOCK_SEQPACKET`.
pub fn pair(kind: i32) -> SysResult<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: the array holds two descriptors.
    let result = unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            kind | libc::SOCK_CLOEXEC,
            0,
            fds.as_mut_ptr(),
        )
    };
    check(result.into())?;
    let [left, right] = fds;
    // SAFETY: the kernel just made both.
    Ok(unsafe { (OwnedFd::from_raw_fd(left), OwnedFd::from_raw_fd(right)) })
}

/// Sends bytes with descriptors; returns how many bytes went out.
pub fn send(socket: RawFd, bytes: &[u8], descriptors: &[RawFd]) -> SysResult<usize> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(libc::EINVAL);
    }
    let mut control = Control([0; 64]);
    let mut vector = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let data_bytes = size_of_val(descriptors);
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute; the header lies inside `control`, which is
        // large enough for MAX_DESCRIPTORS.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(data_bytes as u32) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(data_bytes as u32) as usize;
            let target = libc::CMSG_DATA(header).cast::<RawFd>();
            std::ptr::copy_nonoverlapping(descriptors.as_ptr(), target, descriptors.len());
        }
    }
    loop {
        // SAFETY: message and all it points at outlive the call.
        let sent = unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) };
        if sent >= 0 {
            return Ok(sent as usize);
        }
        if errno() != libc::EINTR {
            return Err(errno());
        }
    }
}

/// Receives bytes and up to [`MAX_DESCRIPTORS`] descriptors; 0 bytes at the end.
pub fn receive(
    socket: RawFd,
    buffer: &mut [u8],
) -> SysResult<(usize, [Option<OwnedFd>; MAX_DESCRIPTORS])> {
    let mut control = Control([0; 64]);
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    let length = loop {
        // SAFETY: message and all it points at outlive the call.
        let length = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        if length >= 0 {
            break length as usize;
        }
        if errno() != libc::EINTR {
            return Err(errno());
        }
    };
    Ok((length, take_descriptors(&message)))
}

fn take_descriptors(message: &libc::msghdr) -> [Option<OwnedFd>; MAX_DESCRIPTORS] {
    let mut descriptors = [const { None }; MAX_DESCRIPTORS];
    // SAFETY: the kernel filled in the control buffer the message points at.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        if header.is_null()
            || (*header).cmsg_level != libc::SOL_SOCKET
            || (*header).cmsg_type != libc::SCM_RIGHTS
        {
            return descriptors;
        }
        let bytes = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
        let data = libc::CMSG_DATA(header).cast::<RawFd>();
        let count = bytes / size_of::<RawFd>();
        for (index, slot) in descriptors.iter_mut().enumerate().take(count) {
            *slot = Some(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
        }
    }
    descriptors
}
