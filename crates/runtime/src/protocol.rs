//! The messages between a shim and its clients: a 4-byte little-endian length and JSON.
//!
//! A connection carries one request and its answer; after the answer to an attach (or to an exec
//! with an attached client) it is the stream itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::request::{AttachRequest, ExecRequest, ExecStarted, ExitStatus, LaunchRequest, Started};

/// The longest message either side accepts, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// Bytes of a message's length prefix.
pub const LENGTH_BYTES: usize = 4;

/// The first message of a launcher; file descriptors come with it.
#[derive(Debug, Serialize, Deserialize)]
pub struct LaunchMessage {
    /// What to make. `spec.linux.seccomp` is taken out: the filter follows as bytes.
    pub request: LaunchRequest,
    /// Bytes of the compiled seccomp filter that follow this message; zero for none.
    pub seccomp_bytes: usize,
    /// `SECCOMP_FILTER_FLAG_*` bits for the filter.
    pub seccomp_flags: u32,
    /// Whether the second descriptor is the network namespace; the first is the state directory, locked
    /// ([`crate::claim`]).
    pub has_network_namespace: bool,
}

/// What a client asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Executes the container's process.
    Start,
    /// Turns the connection into a stream of the container's process.
    Attach(AttachRequest),
    /// Starts one more process.
    Exec(Box<ExecRequest>),
    /// Answers at once whether the container's process was executed.
    State,
    /// Answers when the container's process has ended and its output is drained.
    Wait,
    /// Answers when an exec has ended and its output is drained.
    WaitExec(String),
    /// Sets a terminal's size.
    Resize {
        /// The exec, or none for the container's own process.
        exec: Option<String>,
        /// Characters in a column.
        height: u16,
        /// Characters in a row.
        width: u16,
    },
    /// Ends a process's standard input.
    CloseStdin {
        /// The exec, or none for the container's own process.
        exec: Option<String>,
    },
    /// Sends a signal to the container's process, or to an exec's.
    Signal {
        /// The exec, or none for the container's own process.
        exec: Option<String>,
        /// The signal's number.
        signal: i32,
    },
    /// Kills whatever runs and ends the shim.
    Release,
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The container is set up and waits for its start.
    Created {
        /// The process's number on the host.
        pid: u32,
    },
    /// The process was executed.
    Started(Started),
    /// When the process was executed, if it was.
    State(Option<Started>),
    /// The connection is a stream from here on.
    Attached,
    /// The exec was executed; the connection is a stream from here on if one was asked for.
    ExecStarted(ExecStarted),
    /// The container has ended.
    Exited(ExitStatus),
    /// The exec has ended with this code.
    ExecExited(i32),
    /// Done.
    Done,
    /// Not done.
    Failed(Failure),
}

/// Why something was not done, in a form that survives the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// See [`crate::RuntimeError::Start`].
    Start(String),
    /// See [`crate::RuntimeError::NotRunning`].
    NotRunning,
    /// See [`crate::RuntimeError::Paused`].
    Paused,
    /// See [`crate::RuntimeError::NoSuchExec`].
    NoSuchExec(String),
    /// Anything else, as text.
    Other(String),
}

/// `shim.json`: who is who.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimState {
    /// The container's id.
    pub id: String,
    /// The shim's process number.
    pub shim_pid: u32,
    /// The shim's start time in clock ticks (`/proc/<pid>/stat` field 22), against reused numbers.
    pub shim_start_ticks: u64,
    /// The container's process number on the host.
    pub init_pid: u32,
    /// The container's control group.
    pub cgroup_path: String,
}

/// `exit.json`: how it ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExitFile {
    /// The container's exit status.
    pub status: ExitStatus,
    /// Exit codes of the execs that were not yet forgotten.
    pub execs: BTreeMap<String, i32>,
    /// When the process was executed; none if it never was.
    #[serde(default)]
    pub started: Option<Started>,
}

/// Names of the files in a state directory.
pub const SOCKET_NAME: &str = "shim.sock";
/// See [`ShimState`].
pub const STATE_NAME: &str = "shim.json";
/// See [`ExitFile`].
pub const EXIT_NAME: &str = "exit.json";

/// Encodes a message with its length prefix.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH_BYTES];
    // Serialising plain data into memory has no way to fail; an empty body is refused by the reader.
    let _ = serde_json::to_writer(&mut bytes, message);
    let length = u32::try_from(bytes.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
    if let Some(prefix) = bytes.get_mut(..LENGTH_BYTES) {
        prefix.copy_from_slice(&length.to_le_bytes());
    }
    bytes
}

/// Reads a length prefix; none if the message is longer than is accepted.
pub fn decode_length(prefix: [u8; LENGTH_BYTES]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(prefix))
        .ok()
        .filter(|length| *length <= MAX_MESSAGE_BYTES)
}
