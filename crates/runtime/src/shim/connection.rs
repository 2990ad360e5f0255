//! One client of a shim: a request, then an answer or a stream.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::error::{Result, RuntimeError};
use crate::protocol::{self, LENGTH_BYTES, Request, Response};
use crate::request::AttachRequest;
use crate::shim::log::LogStream;
use crate::shim::process::set_nonblocking;
use crate::sys;

/// How much output is held for a client that does not read; then its process waits.
pub const MAX_HELD_BYTES: usize = 64 << 10;

/// Bytes of a frame's header (spec engine-api §2.1).
const FRAME_HEADER_BYTES: usize = 8;

/// A connected client.
pub struct Connection {
    fd: OwnedFd,
    /// What it is about.
    pub role: Role,
    received: Vec<u8>,
    held: VecDeque<u8>,
    /// Whether it ends once what is held was sent.
    pub closing: bool,
    /// Whether it is gone.
    pub dead: bool,
}

/// What a connection is about.
#[derive(Debug)]
pub enum Role {
    /// A request is expected.
    Asking,
    /// It waits for the container's end.
    WaitsForExit,
    /// It waits for an exec's end.
    WaitsForExec(String),
    /// It is a stream of a process.
    Stream {
        /// The process's serial number.
        process: u64,
        /// What it takes part in.
        attach: AttachRequest,
        /// Whether output is framed (it is not for a terminal).
        framed: bool,
        /// Whether the client's input has ended.
        input_ended: bool,
    },
    /// It was answered.
    Answered,
}

impl Connection {
    /// Takes over an accepted connection.
    pub fn new(fd: OwnedFd) -> Self {
        set_nonblocking(fd.as_raw_fd());
        Self {
            fd,
            role: Role::Asking,
            received: Vec::new(),
            held: VecDeque::new(),
            closing: false,
            dead: false,
        }
    }

    /// Returns the descriptor for polling.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Says whether something waits to be sent.
    pub fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Says whether no more output may be handed in now.
    pub fn is_full(&self) -> bool {
        self.held.len() >= MAX_HELD_BYTES
    }

    /// Reads what there is of a request; returns it once it is whole.
    pub fn read_request(&mut self) -> Result<Option<Request>> {
        let odd = |reason: String| RuntimeError::Protocol { reason };
        let mut buffer = [0_u8; 4096];
        loop {
            let missing = match self.received.get(..LENGTH_BYTES) {
                None => LENGTH_BYTES - self.received.len(),
                Some(prefix) => {
                    let prefix = prefix.try_into().unwrap_or_default();
                    let length = protocol::decode_length(prefix)
                        .ok_or_else(|| odd("request too long".to_owned()))?;
                    LENGTH_BYTES + length - self.received.len()
                }
            };
            if missing == 0 {
                break;
            }
            let take = missing.min(buffer.len());
            let room = buffer.get_mut(..take).unwrap_or_default();
            match sys::read(self.fd(), room) {
                Err(libc::EAGAIN | libc::EINTR) => return Ok(None),
                Ok(0) | Err(_) => {
                    self.dead = true;
                    return Ok(None);
                }
                Ok(count) => self.received.extend(buffer.iter().take(count)),
            }
        }
        let body = self.received.get(LENGTH_BYTES..).unwrap_or_default();
        let request = serde_json::from_slice(body).map_err(|error| odd(error.to_string()))?;
        self.received = Vec::new();
        self.role = Role::Answered;
        Ok(Some(request))
    }

    /// Sends an answer; unless the connection became a stream it ends after it.
    pub fn answer(&mut self, response: &Response) {
        self.push(&[&protocol::encode(response)]);
        if !matches!(self.role, Role::Stream { .. }) {
            self.role = Role::Answered;
            self.closing = true;
        }
    }

    /// Sends output of a process if this connection takes part in it.
    pub fn send_output(&mut self, serial: u64, stream: LogStream, bytes: &[u8]) {
        let Role::Stream {
            process,
            attach,
            framed,
            ..
        } = &self.role
        else {
            return;
        };
        let wanted = match stream {
            LogStream::Stdout => attach.stdout,
            LogStream::Stderr => attach.stderr,
        };
        if *process != serial || !wanted || self.closing {
            return;
        }
        if !*framed {
            self.push(&[bytes]);
            return;
        }
        let mut header = [stream.number(), 0, 0, 0, 0, 0, 0, 0];
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        for (target, source) in header.iter_mut().skip(FRAME_HEADER_BYTES - 4).zip(length) {
            *target = source;
        }
        self.push(&[&header, bytes]);
    }

    /// Says whether this is a stream of a process.
    pub fn is_stream_of(&self, serial: u64) -> bool {
        matches!(&self.role, Role::Stream { process, .. } if *process == serial)
    }

    /// Sends parts in one go and holds what does not go out.
    fn push(&mut self, parts: &[&[u8]]) {
        let mut sent = 0;
        if self.held.is_empty() {
            sent = self.sent(send_now(self.fd(), parts));
        }
        for part in parts {
            let skip = sent.min(part.len());
            self.held.extend(part.iter().skip(skip));
            sent -= skip;
        }
    }

    /// Sends what is held.
    pub fn flush(&mut self) {
        while !self.held.is_empty() && !self.dead {
            let (front, _) = self.held.as_slices();
            let result = send_now(self.fd.as_raw_fd(), &[front]);
            let sent = self.sent(result);
            if sent == 0 {
                return;
            }
            self.held.drain(..sent);
        }
        self.held.shrink_to(0);
    }

    fn sent(&mut self, result: sys::SysResult<usize>) -> usize {
        match result {
            Ok(count) => count,
            Err(libc::EAGAIN | libc::EINTR) => 0,
            Err(_) => {
                self.dead = true;
                0
            }
        }
    }
}

/// Sends up to two parts as one message.
pub(in crate::shim) fn send_now(fd: RawFd, parts: &[&[u8]]) -> sys::SysResult<usize> {
    let mut vectors = [libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }; 2];
    for (vector, part) in vectors.iter_mut().zip(parts) {
        vector.iov_base = part.as_ptr().cast_mut().cast();
        vector.iov_len = part.len();
    }
    // SAFETY: all-zero is a valid msghdr; the vectors and parts outlive the call.
    let result = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = vectors.as_mut_ptr();
        message.msg_iovlen = parts.len().min(vectors.len());
        libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL)
    };
    sys::check(result as libc::c_long).map(|count| count as usize)
}
