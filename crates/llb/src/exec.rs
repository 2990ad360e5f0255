//! Exec: running a program (spec llb §2.1).

/// Runs a program; what it changes in mounts that have an output is the result.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExecOp {
    /// The program and what it runs with.
    pub meta: ExecMeta,
    /// Its file systems; the one at `/` is the root.
    pub mounts: Vec<Mount>,
    /// Its network.
    pub network: NetworkMode,
    /// What confines it.
    pub security: SecurityMode,
    /// Secrets that it gets as variables.
    pub secret_env: Vec<SecretEnv>,
    /// Devices that it gets, by their CDI name.
    pub devices: Vec<Device>,
}

/// A program and what it runs with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExecMeta {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment as `KEY=value`.
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// `user[:group]`, by name or number; empty for root.
    pub user: String,
    /// Proxy variables, which do not count for the cache.
    pub proxy_env: Option<ProxyEnv>,
    /// Further lines of `/etc/hosts`.
    pub extra_hosts: Vec<HostIp>,
    /// Host name; empty for the builder's choice.
    pub hostname: String,
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
    /// Control group above the program's; empty for the builder's choice.
    pub cgroup_parent: String,
    /// Whether empty directories above mount points that were made for them go, too.
    pub remove_mount_stubs_recursive: bool,
    /// Exit statuses that are no failure; empty means 0 alone.
    pub valid_exit_codes: Vec<i32>,
}

/// Values of the proxy variables; empty ones are not set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProxyEnv {
    /// `HTTP_PROXY`.
    pub http: String,
    /// `HTTPS_PROXY`.
    pub https: String,
    /// `FTP_PROXY`.
    pub ftp: String,
    /// `NO_PROXY`.
    pub no: String,
    /// `ALL_PROXY`.
    pub all: String,
}

/// One line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostIp {
    /// The name.
    pub host: String,
    /// The address.
    pub ip: String,
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ulimit {
    /// Its name, such as `nofile`.
    pub name: String,
    /// The soft limit.
    pub soft: i64,
    /// The hard limit.
    pub hard: i64,
}

/// A device by its CDI name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Device {
    /// Such as `vendor.com/class=name`.
    pub name: String,
    /// Whether the program runs without it where it is missing.
    pub optional: bool,
}

/// Networks of programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkMode {
    /// One of its own.
    #[default]
    Sandbox,
    /// The host's.
    Host,
    /// None.
    None,
}

/// What confines programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecurityMode {
    /// All that confines a container.
    #[default]
    Sandbox,
    /// Nothing.
    Insecure,
}

/// A secret as a variable.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SecretEnv {
    /// The secret.
    pub id: String,
    /// The variable.
    pub name: String,
    /// Whether the program runs without it where it is missing.
    pub optional: bool,
}

/// A file system of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Mount {
    /// Which input it shows; none for an empty directory.
    pub input: Option<usize>,
    /// Path in the input that is mounted; empty for its root.
    pub selector: String,
    /// Where.
    pub destination: String,
    /// Which output what is written becomes; none where it is dropped.
    pub output: Option<u32>,
    /// Whether it must not be written.
    pub read_only: bool,
    /// What is mounted.
    pub kind: MountKind,
    /// Whether the input counts by what it holds.
    pub content_cache: ContentCache,
}

/// Whether a mounted input counts by what it holds and not only by how it came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContentCache {
    /// As the kind of mount has it.
    #[default]
    Default,
    /// It does.
    On,
    /// It does not.
    Off,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq)]
pub enum MountKind {
    /// Files of an input.
    Bind,
    /// A secret as a file.
    Secret(SecretMount),
    /// The socket of an SSH agent.
    Ssh(SshMount),
    /// A directory that outlives the build.
    Cache {
        /// Its name.
        id: String,
        /// Who may use it at the same time.
        sharing: CacheSharing,
    },
    /// Memory.
    Tmpfs {
        /// Its size in bytes; 0 for the kernel's default.
        size_bytes: i64,
    },
}

/// A secret as a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SecretMount {
    /// The secret.
    pub id: String,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// Permissions of the file.
    pub mode: u32,
    /// Whether the program runs without it where it is missing.
    pub optional: bool,
}

/// The socket of an SSH agent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SshMount {
    /// The agent; empty for `default`.
    pub id: String,
    /// Owner of the socket.
    pub uid: u32,
    /// Group of the socket.
    pub gid: u32,
    /// Permissions of the socket.
    pub mode: u32,
    /// Whether the program runs without it where it is missing.
    pub optional: bool,
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSharing {
    /// Everybody.
    Shared,
    /// One; the next gets another directory.
    Private,
    /// One; the next waits.
    Locked,
}
