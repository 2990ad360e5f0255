//! Standard streams of a process: pipes, or a terminal that comes from the process itself.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use wharf_safefs::trusted;

use crate::error::{Result, RuntimeError};
use crate::request::Stdio;

/// The shim's ends of a process's standard streams.
#[derive(Default)]
pub struct Streams {
    /// The terminal's master side; the pipes are empty then.
    pub terminal: Option<OwnedFd>,
    /// The writing end of standard input.
    pub stdin: Option<OwnedFd>,
    /// The reading end of standard output.
    pub stdout: Option<OwnedFd>,
    /// The reading end of standard error.
    pub stderr: Option<OwnedFd>,
}

/// The process's ends, closed in the shim after the clone.
pub struct ChildEnds {
    /// The reading end of standard input.
    pub stdin: OwnedFd,
    /// The writing end of standard output.
    pub stdout: OwnedFd,
    /// The writing end of standard error.
    pub stderr: OwnedFd,
}

/// Makes a process's standard streams; a terminal's come from the process itself.
pub fn make_streams(stdio: Stdio) -> Result<(Streams, Option<ChildEnds>)> {
    if stdio.tty {
        return Ok((Streams::default(), None));
    }
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| RuntimeError::io("make a pipe", errno))
    };
    let (stdin, input) = if stdio.open_stdin {
        let (reading, writing) = pipe()?;
        (reading, Some(writing))
    } else {
        (OwnedFd::from(trusted::open("/dev/null")?), None)
    };
    let (output, stdout) = pipe()?;
    let (error, stderr) = pipe()?;
    let streams = Streams {
        terminal: None,
        stdin: input,
        stdout: Some(output),
        stderr: Some(error),
    };
    let ends = ChildEnds {
        stdin,
        stdout,
        stderr,
    };
    Ok((streams, Some(ends)))
}

impl ChildEnds {
    /// Returns the descriptors' numbers, in the order of the streams.
    pub(super) fn numbers(&self) -> [RawFd; 3] {
        [
            self.stdin.as_raw_fd(),
            self.stdout.as_raw_fd(),
            self.stderr.as_raw_fd(),
        ]
    }
}
