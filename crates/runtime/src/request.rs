//! What a caller asks of the runtime and what it is told.

use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};

/// All a shim needs to make one container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// The container's id; names its state directory and appears in errors.
    pub id: String,
    /// Where socket, process numbers and exit status are kept; made if missing (mode 0700). What an earlier
    /// shim left there is removed, with the shim.
    pub state_dir: PathBuf,
    /// Process, mounts, namespaces, limits, devices, masked paths and seccomp. Its `root.path` and
    /// `linux.cgroupsPath` are not looked at; `root` and `cgroup_path` of this request count.
    pub spec: Spec,
    /// What the container sees as `/`.
    pub root: RootMount,
    /// Terminal and standard input.
    pub stdio: Stdio,
    /// Where output is recorded.
    pub log: Option<LogConfig>,
    /// The control group, from the hierarchy's root, for example `/wharf/<id>`.
    pub cgroup_path: String,
    /// Whether a small init of the shim's own is process 1, forwards signals and reaps.
    pub init: bool,
    /// Whether the container is killed when the launcher goes away (build steps).
    pub stop_on_disconnect: bool,
    /// The program that makes the container; none means the built-in runtime.
    #[serde(default)]
    pub runtime: Option<ExternalRuntime>,
}

/// A program that implements the OCI runtime specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalRuntime {
    /// The program's file.
    pub program: PathBuf,
    /// What it is given before everything else.
    pub arguments: Vec<String>,
}

/// A container's root file system, mounted in the container's mount namespace only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootMount {
    /// Layer directories in overlay form (kernel `Documentation/filesystems/overlayfs.rst`).
    Overlay {
        /// The layers, lowest first; at most [`crate::MAX_LOWER_DIRS`].
        lower_dirs: Vec<PathBuf>,
        /// Where changes go; without it the root is read-only.
        upper: Option<PathBuf>,
        /// Overlay's scratch directory, on the upper directory's file system; needed with `upper`.
        work: Option<PathBuf>,
        /// Whether overlay may leave out every fsync (the upper directory is lost in a crash).
        volatile: bool,
    },
    /// A plain directory.
    Directory(PathBuf),
}

/// A process's terminal and standard input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    /// Whether the process gets a terminal; its output is then one raw stream.
    pub tty: bool,
    /// Whether standard input stays open for attached clients; otherwise it is `/dev/null`.
    pub open_stdin: bool,
    /// Whether standard input closes when the first attached client's input ends.
    pub stdin_once: bool,
    /// The terminal's size as (height, width) in characters.
    pub console_size: Option<(u16, u16)>,
}

/// How a container's output is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The current log file; rotated ones are `<path>.1` and up.
    pub path: PathBuf,
    /// The file's format.
    pub driver: LogDriver,
    /// The size in bytes at which the file is rotated; none means never.
    pub max_size_bytes: Option<u64>,
    /// How many files are kept, the current one included.
    pub max_files: u32,
    /// Whether rotated files are compressed with gzip.
    pub compress: bool,
    /// Extra attributes of each entry, written under `attrs`.
    #[serde(default)]
    pub attributes: std::collections::BTreeMap<String, String>,
    /// A log daemon that gets every line too.
    #[serde(default)]
    pub remote: Option<RemoteLog>,
    /// How many bytes may wait for that daemon, or for the file where there is none, the oldest being
    /// dropped; none means that the container waits.
    #[serde(default)]
    pub max_buffer_bytes: Option<u64>,
}

/// A log daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemoteLog {
    /// systemd's journal, with the fields that every entry carries.
    Journald(std::collections::BTreeMap<String, String>),
    /// A syslog daemon.
    Syslog {
        /// Where it listens.
        address: LogAddress,
        /// How messages look.
        config: SyslogConfig,
    },
}

/// Where a log daemon listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogAddress {
    /// A unix socket, of datagrams or else a stream.
    Unix(PathBuf),
    /// A UDP port.
    Udp(std::net::SocketAddr),
    /// A TCP port.
    Tcp(std::net::SocketAddr),
    /// A TCP port with TLS.
    Tls(std::net::SocketAddr, Box<LogTls>),
}

/// Whom a shim trusts that sends its log over TLS, and who it is. Files are read by who asks for the container, so
/// that a shim needs none of them later.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTls {
    /// The name or address that the daemon's certificate is to be for.
    pub server_name: String,
    /// Authorities in PEM form that are trusted beside the machine's.
    pub authorities: Option<String>,
    /// What the daemon is shown.
    pub identity: Option<LogIdentity>,
    /// Takes whatever certificate the daemon has.
    pub skips_verification: bool,
}

/// A certificate and its key, both in PEM form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIdentity {
    /// The certificate, and those between it and its authority.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl std::fmt::Debug for LogTls {
    /// Without the key: a request may be written down somewhere.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LogTls")
            .field("server_name", &self.server_name)
            .field("skips_verification", &self.skips_verification)
            .finish_non_exhaustive()
    }
}

/// How syslog messages look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyslogConfig {
    /// The facility's number (RFC 5424 §6.2.1).
    pub facility: u8,
    /// The form of a message.
    pub format: SyslogFormat,
    /// What names the container.
    pub tag: String,
    /// The host's name.
    pub hostname: String,
    /// Whether each message has its length in front instead of a line end alone (RFC 5425 §4.3).
    #[serde(default)]
    pub counts_octets: bool,
}

/// The form of a syslog message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogFormat {
    /// As local daemons expect it: without a host name.
    Unix,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424 with whole seconds.
    Rfc5424,
    /// RFC 5424 with microseconds.
    Rfc5424Micro,
}

/// A log's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// One JSON object a line (spec runtime §7).
    JsonFile,
    /// docker's local format: framed protocol buffers (spec runtime §7).
    Local,
    /// Nothing is recorded.
    None,
}

/// Which streams an attached client takes part in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// Whether what the client sends becomes the process's input.
    pub stdin: bool,
    /// Whether the client gets standard output.
    pub stdout: bool,
    /// Whether the client gets standard error (of a terminal there is only output).
    pub stderr: bool,
}

/// One more process in a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The exec's id, unique in its container.
    pub id: String,
    /// Arguments, environment, user, capabilities, limits, working directory.
    pub process: Process,
    /// Terminal and standard input.
    pub stdio: Stdio,
    /// A client attached from the first byte on.
    pub attach: Option<AttachRequest>,
    /// Whether that client gets frames (spec engine-api §2.1); none means unless on a terminal.
    #[serde(default)]
    pub framed: Option<bool>,
}

/// A container's process that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The process's number on the host.
    pub pid: u32,
}

/// An exec that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStarted {
    /// The process's number on the host.
    pub pid: u32,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// The exit code; 128 + n for signal n.
    pub code: i32,
    /// Whether the kernel killed a process of the container for lack of memory.
    pub oom_killed: bool,
    /// When it ended, nanoseconds since 1970.
    pub finished_at_ns: u64,
}
