//! A log file that another process writes: a disk that stalls never holds the container up (log option
//! `mode=non-blocking`, spec runtime §7).

use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use super::file::RotatingFile;
use crate::error::{Result, RuntimeError};
use crate::request::LogConfig;
use crate::shim::connection::send_now;
use crate::shim::process::set_nonblocking;
use crate::{socket, sys};

/// Bytes of the length before each message to the writing process.
const LENGTH_BYTES: usize = 4;
/// How long what waits at the container's end may take to be written.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the writing process is asked whether it has ended.
const FINISH_STEP: Duration = Duration::from_millis(1);
/// Where the writing process finds its socket.
const WRITER_SOCKET: RawFd = 3;

/// A process that writes a log file, and what waits for it. When more waits than is allowed the
/// oldest entries are dropped.
pub(super) struct FileApart {
    socket: Option<OwnedFd>,
    writer: i32,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: u64,
    /// How much of the first message went out already.
    sent: usize,
    max_buffer_bytes: u64,
}

impl FileApart {
    /// Opens the file, to see that it can be written, and starts the process that writes it.
    ///
    /// # Errors
    /// As for a file that is written at once.
    pub(super) fn open(config: &LogConfig, max_buffer_bytes: u64) -> Result<Self> {
        drop(RotatingFile::open(config)?);
        let failed = |errno| {
            let error = std::io::Error::from_raw_os_error(errno);
            RuntimeError::io("start the log's writer", error)
        };
        let (own, other) = socket::pair(libc::SOCK_STREAM).map_err(failed)?;
        // SAFETY: the shim has one thread.
        let writer = match unsafe { sys::fork() } {
            Ok(0) => {
                drop(own);
                write_until_the_end(config, other);
                sys::exit_now(0)
            }
            Ok(writer) => writer,
            Err(errno) => return Err(failed(errno)),
        };
        set_nonblocking(own.as_raw_fd());
        Ok(Self {
            socket: Some(own),
            writer,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent: 0,
            max_buffer_bytes,
        })
    }

    /// Returns where entries wait to be taken.
    pub(super) fn waiting(&self) -> Option<RawFd> {
        let socket = self.socket.as_ref()?;
        (!self.queue.is_empty()).then(|| socket.as_raw_fd())
    }

    /// Hands whole entries over, or lets them wait.
    pub(super) fn write(&mut self, entries: &[u8]) {
        let length = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let mut message = Vec::with_capacity(LENGTH_BYTES + entries.len());
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(entries);
        self.queued_bytes += message.len() as u64;
        self.queue.push_back(message);
        self.flush();
        while self.queued_bytes > self.max_buffer_bytes && self.queue.len() > 1 {
            // The first may have gone out in part and stays whole then.
            let oldest = usize::from(self.sent > 0);
            if let Some(dropped) = self.queue.remove(oldest) {
                self.queued_bytes -= dropped.len() as u64;
            }
        }
    }

    /// Hands over what waits, as far as it is taken.
    pub(super) fn flush(&mut self) {
        while let (Some(socket), Some(message)) = (&self.socket, self.queue.front()) {
            let rest = message.get(self.sent..).unwrap_or_default();
            match send_now(socket.as_raw_fd(), &[rest]) {
                Ok(count) if count < rest.len() => self.sent += count,
                Ok(_) => {
                    self.sent = 0;
                    if let Some(message) = self.queue.pop_front() {
                        self.queued_bytes -= message.len() as u64;
                    }
                }
                Err(libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => return,
                // The writer is gone: entries are lost, the container goes on.
                Err(_) => self.socket = None,
            }
        }
        if self.socket.is_none() {
            (self.queue, self.queued_bytes, self.sent) = (VecDeque::new(), 0, 0);
        }
        self.queue.shrink_to(0);
    }

    /// Gives what waits a moment to be written, then lets the process end.
    pub(super) fn finish(&mut self) {
        let until = Instant::now() + FINISH_TIMEOUT;
        while let Some(fd) = self.waiting() {
            let left = until.saturating_duration_since(Instant::now());
            let mut entry = libc::pollfd {
                fd,
                events: libc::POLLOUT,
                revents: 0,
            };
            let timeout_ms = i32::try_from(left.as_millis()).unwrap_or(0);
            // SAFETY: one valid entry.
            if unsafe { libc::poll(&raw mut entry, 1, timeout_ms) } <= 0 {
                break;
            }
            self.flush();
        }
        self.socket = None;
        // SAFETY: plain system call; somebody else may have reaped it already, which ends the wait too.
        while unsafe { libc::waitpid(self.writer, std::ptr::null_mut(), libc::WNOHANG) } == 0 {
            if Instant::now() >= until {
                return;
            }
            std::thread::sleep(FINISH_STEP);
        }
    }
}

/// Writes what comes over the socket until the other end is closed.
fn write_until_the_end(config: &LogConfig, socket: OwnedFd) {
    sys::set_name(c"wharf-log");
    // Nothing else of the shim's is held open: the container's streams would never end.
    // SAFETY: plain system calls; the descriptor duplicated is the socket's and ours alone.
    let socket = unsafe {
        if socket.as_raw_fd() != WRITER_SOCKET {
            libc::dup2(socket.as_raw_fd(), WRITER_SOCKET);
            std::mem::forget(socket);
        }
        sys::close_from(WRITER_SOCKET.unsigned_abs() + 1);
        OwnedFd::from_raw_fd(WRITER_SOCKET)
    };
    let mut socket = std::fs::File::from(socket);
    let Ok(mut file) = RotatingFile::open(config) else {
        return;
    };
    let mut entries = Vec::new();
    loop {
        let mut length = [0; LENGTH_BYTES];
        if socket.read_exact(&mut length).is_err() {
            return;
        }
        entries.clear();
        let length = u64::from(u32::from_le_bytes(length));
        match (&mut socket).take(length).read_to_end(&mut entries) {
            Ok(count) if count as u64 == length => file.write(&entries),
            _ => return,
        }
    }
}
