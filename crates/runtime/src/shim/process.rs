//! One process of the container as its shim sees it: streams, log, exit.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::init::streams::Streams;
use crate::request::Stdio;
use crate::shim::log::{LogStream, LogWriter};
use crate::sys;

/// How many bytes of input are held for a process that does not read.
pub const MAX_INPUT_BYTES: usize = 64 << 10;

/// How long output is waited for after a process ended (spec runtime §1): a child of its own may
/// hold the pipe open.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A process and its streams.
pub struct Process {
    /// A number no other process of this shim has.
    pub serial: u64,
    /// The exec's id; none for the container's own process.
    pub exec_id: Option<String>,
    /// The process's number on the host.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// Terminal and input rules.
    pub stdio: Stdio,
    terminal: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    input: VecDeque<u8>,
    input_ends: bool,
    /// Where its output is recorded.
    pub log: Option<LogWriter>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// When its output was drained after it ended.
    pub settled: Option<Instant>,
}

/// A process's end.
#[derive(Debug, Clone, Copy)]
pub struct Exit {
    /// The exit code; 128 + n for signal n.
    pub code: i32,
    /// When, in nanoseconds since 1970.
    pub at_ns: u64,
    /// Until when its output is waited for.
    pub drain_until: Instant,
}

/// What was read from a process.
pub enum Output {
    /// This many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    End,
}

impl Process {
    /// Takes over a process that was just set up.
    pub fn new(
        serial: u64,
        exec_id: Option<String>,
        pid: i32,
        pidfd: OwnedFd,
        streams: Streams,
        stdio: Stdio,
    ) -> Self {
        let Streams {
            terminal,
            stdin,
            stdout,
            stderr,
        } = streams;
        for fd in [&terminal, &stdin, &stdout, &stderr].into_iter().flatten() {
            set_nonblocking(fd.as_raw_fd());
        }
        Self {
            serial,
            exec_id,
            pid,
            pidfd,
            stdio,
            terminal,
            stdin,
            stdout,
            stderr,
            input: VecDeque::new(),
            input_ends: false,
            log: None,
            exit: None,
            settled: None,
        }
    }

    /// Returns where output can be read.
    pub fn outputs(&self) -> impl Iterator<Item = (LogStream, RawFd)> + '_ {
        let stdout = self.terminal.as_ref().or(self.stdout.as_ref());
        [
            (LogStream::Stdout, stdout),
            (LogStream::Stderr, self.stderr.as_ref()),
        ]
        .into_iter()
        .filter_map(|(stream, fd)| Some((stream, fd?.as_raw_fd())))
    }

    /// Returns where input waits to be written.
    pub fn waiting_input(&self) -> Option<RawFd> {
        if self.input.is_empty() {
            return None;
        }
        self.input_fd()
    }

    /// Returns the terminal's master side.
    pub fn terminal(&self) -> Option<RawFd> {
        self.terminal.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn input_fd(&self) -> Option<RawFd> {
        self.stdin
            .as_ref()
            .or(self.terminal.as_ref())
            .map(AsRawFd::as_raw_fd)
    }

    /// Says whether more input may be handed in now.
    pub fn takes_input(&self) -> bool {
        self.input.len() < MAX_INPUT_BYTES
    }

    /// Says whether its log takes more output now.
    pub fn takes_output(&self) -> bool {
        self.log.as_ref().is_none_or(|log| !log.is_full())
    }

    /// Reads output once.
    pub fn read(&mut self, stream: LogStream, buffer: &mut [u8]) -> Output {
        let Some((_, fd)) = self.outputs().find(|(known, _)| *known == stream) else {
            return Output::End;
        };
        match sys::read(fd, buffer) {
            Ok(0) => self.end_output(stream),
            Ok(count) => Output::Bytes(count),
            Err(libc::EAGAIN | libc::EINTR) => Output::Nothing,
            // A terminal nobody holds open any more reads EIO (tty(4)).
            Err(_) => self.end_output(stream),
        }
    }

    fn end_output(&mut self, stream: LogStream) -> Output {
        match stream {
            LogStream::Stdout => {
                self.stdout = None;
                self.terminal = None;
            }
            LogStream::Stderr => self.stderr = None,
        }
        Output::End
    }

    /// Hands input in; what the process does not take yet is held.
    pub fn write_input(&mut self, bytes: &[u8]) {
        if self.input_fd().is_none() || self.input_ends {
            return;
        }
        self.input.extend(bytes);
        self.flush_input();
    }

    /// Writes held input.
    pub fn flush_input(&mut self) {
        while let Some(fd) = self.waiting_input() {
            let (front, _) = self.input.as_slices();
            match sys::write(fd, front) {
                Ok(count) => {
                    self.input.drain(..count);
                }
                Err(libc::EAGAIN | libc::EINTR) => return,
                // The process closed its input: the rest has no reader.
                Err(_) => {
                    self.input.clear();
                    self.stdin = None;
                    return;
                }
            }
        }
        self.input.shrink_to(0);
        if self.input_ends {
            self.stdin = None;
        }
    }

    /// Ends the input once what is held was written. A terminal's input has no end.
    pub fn close_input(&mut self) {
        if self.terminal.is_some() {
            return;
        }
        self.input_ends = true;
        self.flush_input();
    }

    /// Says whether all output was read, or waited for long enough.
    pub fn is_drained(&self, now: Instant) -> bool {
        let ended = self.outputs().next().is_none();
        self.exit
            .is_some_and(|exit| ended || now >= exit.drain_until)
    }

    /// Lets go of everything but the exit code.
    pub fn settle(&mut self, now: Instant) {
        if let Some(log) = &mut self.log {
            log.finish();
        }
        self.log = None;
        self.terminal = None;
        self.stdin = None;
        self.stdout = None;
        self.stderr = None;
        self.input = VecDeque::new();
        self.settled = Some(now);
    }
}

/// Makes reads and writes of our end return at once; the process's own end stays as it is.
pub fn set_nonblocking(fd: RawFd) {
    // SAFETY: plain system calls on an open descriptor.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
}
