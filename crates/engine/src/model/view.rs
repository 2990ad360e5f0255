//! What the engine answers.

use super::container::Container;
use std::collections::BTreeMap;
use std::sync::Arc;
use wharf_image::{Digest, ImageConfig, ImageId};

/// One entry of a container list.
#[derive(Debug, Clone)]
pub struct ContainerSummary {
    /// The container at the moment of the list.
    pub container: Arc<Container>,
    /// Further names that links give to it, `parent/alias`.
    pub link_names: Vec<String>,
    /// The image as given, or its ID when that name means another image by now.
    pub image: String,
    /// Bytes of the container's own layer and of everything, if asked for.
    pub size_bytes: Option<(u64, u64)>,
}

/// One entry of an image list.
#[derive(Debug, Clone)]
pub struct ImageSummary {
    /// Image ID.
    pub id: ImageId,
    /// Parent, if the image was built or committed here.
    pub parent: Option<ImageId>,
    /// `repo:tag` in familiar form.
    pub repo_tags: Vec<String>,
    /// `repo@digest` in familiar form.
    pub repo_digests: Vec<String>,
    /// Creation in seconds since 1970.
    pub created_at_s: i64,
    /// Sum of the layers.
    pub size_bytes: u64,
    /// Bytes shared with other images, if asked for.
    pub shared_size_bytes: Option<u64>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How many containers use it.
    pub containers: usize,
}

/// Everything about one image.
#[derive(Debug, Clone)]
pub struct ImageDetails {
    /// The list entry.
    pub summary: ImageSummary,
    /// The parsed config.
    pub config: Arc<ImageConfig>,
    /// Last time a name was given, nanoseconds since 1970; 0 means never.
    pub last_tag_time_ns: i64,
    /// Manifest digest, if one is known.
    pub manifest_digest: Option<Digest>,
    /// Directories of the layers, lowest first.
    pub layer_dirs: Vec<String>,
    /// Size of each layer in bytes, lowest first.
    pub layer_sizes_bytes: Vec<u64>,
}

/// One line of an image's history, newest first.
#[derive(Debug, Clone)]
pub struct HistoryLine {
    /// Image ID of that step, or None for `<missing>`.
    pub id: Option<ImageId>,
    /// Seconds since 1970.
    pub created_at_s: i64,
    /// Instruction or command.
    pub created_by: String,
    /// Names of that image.
    pub tags: Vec<String>,
    /// Bytes the step added.
    pub size_bytes: u64,
    /// Comment.
    pub comment: String,
}

/// One thing that a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone (`repo:tag` or `repo@digest`, familiar form).
    Untagged(String),
    /// An image (ID) or layer (ChainID) is gone.
    Deleted(Digest),
}

/// Answers a prune call.
#[derive(Debug, Clone)]
pub struct Pruned<T> {
    /// What is gone.
    pub removed: Vec<T>,
    /// Bytes that came free on disk.
    pub reclaimed_bytes: u64,
}

impl<T> Default for Pruned<T> {
    fn default() -> Self {
        Self {
            removed: Vec::new(),
            reclaimed_bytes: 0,
        }
    }
}

/// One change of a container's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Path in the container.
    pub path: String,
    /// What happened to it.
    pub kind: FileChangeKind,
}

/// Tells what happened to a file (docker's numbers 0, 1, 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChangeKind {
    /// `C`
    Modified,
    /// `A`
    Added,
    /// `D`
    Deleted,
}

/// Describes a path in a container (spec engine-api §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Base name.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: i64,
    /// `st_mode` of Linux; the API room turns it into Go's `FileMode`.
    pub mode: u32,
    /// Modification time in nanoseconds since 1970.
    pub modified_at_ns: i64,
    /// Target of a symbolic link, resolved in the container.
    pub link_target: String,
}

/// One message of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// True for standard error.
    pub stderr: bool,
    /// Nanoseconds since 1970.
    pub time_ns: i64,
    /// Bytes, with the line end unless partial.
    pub bytes: Vec<u8>,
}

/// One message of a long operation; the API room writes each as a JSON line (spec engine-api §2.3).
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// Text to print as it is.
    Stream(String),
    /// A status, of one part if `id` is given.
    Status {
        /// Part, such as a layer's short digest.
        id: Option<String>,
        /// What is going on.
        status: String,
        /// Bytes done and bytes in all.
        progress: Option<(u64, u64)>,
    },
    /// The image that a build stage made.
    ImageId(ImageId),
    /// What a build's solver did, for wharf's own client.
    Solve(wharf_build::SolveEvent),
    /// What a push made.
    Pushed {
        /// Tag.
        tag: String,
        /// Manifest digest.
        digest: Digest,
        /// Manifest size in bytes.
        size_bytes: u64,
    },
}

/// Where long operations send their messages; a receiver that went away is no error.
pub type ProgressSender = tokio::sync::mpsc::UnboundedSender<Progress>;

/// What `top` prints.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    /// Column names.
    pub titles: Vec<String>,
    /// One row a process.
    pub rows: Vec<Vec<String>>,
}

/// What an exec is, now.
#[derive(Debug, Clone)]
pub struct ExecDetails {
    /// 64 hexadecimal characters.
    pub id: String,
    /// Container it runs in.
    pub container_id: String,
    /// True while its process lives.
    pub running: bool,
    /// None until it ended.
    pub exit_code: Option<i32>,
    /// Host pid; 0 before the start.
    pub pid: u32,
    /// What was asked for.
    pub request: super::request::CreateExec,
}

impl ExecDetails {
    /// Returns the keys that were asked for to detach with, as the bytes a terminal sends for them.
    #[must_use]
    pub fn detach_keys(&self) -> Vec<u8> {
        let given = self.request.detach_keys.as_deref();
        given
            .filter(|keys| !keys.is_empty())
            .and_then(|keys| crate::container::detach_keys::parse(Some(keys)).ok())
            .unwrap_or_default()
    }
}

/// A duplex byte stream to a container's process: input in, output out.
pub struct AttachedStream {
    /// Output comes out (docker's stdcopy frames unless `tty`); input goes in; shutting down the
    /// write half ends the input.
    pub io: Box<dyn Duplex>,
    /// True when the output is raw terminal bytes.
    pub tty: bool,
}

/// Both halves of a byte stream.
pub trait Duplex: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Duplex for T {}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitResult {
    /// Exit code.
    pub exit_code: i32,
    /// Why the removal failed, for waits on removal.
    pub error: Option<String>,
}

/// Something that happened (spec engine-api §9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `container`, `image`, `volume`, `network`, `builder`, `daemon`.
    pub kind: String,
    /// `create`, `start`, … ; exec actions carry their command after `: `.
    pub action: String,
    /// ID of what it happened to (a name for pulls and volumes).
    pub actor_id: String,
    /// Details.
    pub attributes: BTreeMap<String, String>,
    /// Nanoseconds since 1970.
    pub time_ns: i64,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeView {
    /// Name.
    pub name: String,
    /// `local`.
    pub driver: String,
    /// Path on the host.
    pub mountpoint: String,
    /// Creation in nanoseconds since 1970.
    pub created_at_ns: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Bytes and number of containers that use it, when measured.
    pub usage: Option<(u64, usize)>,
}

/// A network with the running containers on it.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkView {
    /// The network.
    pub network: Arc<super::network::Network>,
    /// Running containers on it.
    pub containers: Vec<Arc<Container>>,
}

/// Kinds of objects whose use of the disk is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct UsageKinds {
    /// Containers.
    pub containers: bool,
    /// Images.
    pub images: bool,
    /// Volumes.
    pub volumes: bool,
    /// Records of the build cache.
    pub build_cache: bool,
}

/// Use of the disk (spec engine-api §5.1 `/system/df`).
#[derive(Debug, Clone, Default)]
pub struct DiskUsage {
    /// Bytes of all layers but those that only the build cache keeps, each once.
    pub layers_bytes: u64,
    /// Images.
    pub images: Vec<ImageSummary>,
    /// Containers with sizes.
    pub containers: Vec<ContainerSummary>,
    /// Volumes with usage.
    pub volumes: Vec<VolumeView>,
    /// Build cache records.
    pub build_cache: Vec<BuildCacheRecord>,
}

/// A record of the build cache.
#[derive(Debug, Clone)]
pub struct BuildCacheRecord {
    /// What it is: `regular` for a step, `exec.cachemount` for a cache mount.
    pub kind: &'static str,
    /// Key in hexadecimal.
    pub id: String,
    /// Instruction.
    pub description: String,
    /// True while an image holds its layers.
    pub shared: bool,
    /// Bytes of the step's own layer.
    pub size_bytes: u64,
    /// Seconds since 1970.
    pub created_at_s: i64,
    /// Seconds since 1970.
    pub last_used_at_s: i64,
    /// How often it was used.
    pub usage_count: u64,
}

/// What `info` tells.
#[derive(Debug, Clone, Default)]
pub struct SystemInfo {
    /// Engine ID.
    pub id: String,
    /// Host name.
    pub host_name: String,
    /// Containers by state: running, paused, stopped.
    pub containers: (usize, usize, usize),
    /// Number of images.
    pub images: usize,
    /// Data root.
    pub root: String,
    /// Kernel release.
    pub kernel_version: String,
    /// Name of the operating system.
    pub operating_system: String,
    /// Version of the operating system.
    pub os_version: String,
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// CPUs.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Limits the kernel supports.
    pub limits: SupportedLimits,
    /// File system of the data root.
    pub backing_file_system: String,
    /// True when the kernel has seccomp filters.
    pub seccomp: bool,
    /// True when the kernel has AppArmor on and shows its profiles.
    pub apparmor: bool,
    /// Subscribers of the event stream.
    pub event_listeners: usize,
    /// Open file descriptors.
    pub open_files: usize,
    /// Names and programs of OCI runtimes.
    pub runtimes: Vec<(String, String)>,
    /// Runtime of containers that ask for none.
    pub default_runtime: String,
    /// Things the user should know.
    pub warnings: Vec<String>,
}

/// Which limits the kernel supports.
#[derive(Debug, Clone, Copy, Default)]
pub struct SupportedLimits {
    /// Memory limit.
    pub memory: bool,
    /// Swap limit.
    pub swap: bool,
    /// CPU quota and period.
    pub cpu_cfs: bool,
    /// CPU shares.
    pub cpu_shares: bool,
    /// CPU sets.
    pub cpuset: bool,
    /// Process limit.
    pub pids: bool,
    /// Switching the memory killer off.
    pub oom_kill_disable: bool,
    /// IPv4 forwarding is on.
    pub ipv4_forwarding: bool,
}

/// One reading of a container's counters (spec engine-api §6.4).
#[derive(Debug, Clone, Default)]
pub struct StatsSample {
    /// Nanoseconds since 1970.
    pub read_at_ns: i64,
    /// The control group's numbers.
    pub cgroup: wharf_runtime::Stats,
    /// CPU time of the whole machine in nanoseconds.
    pub system_cpu_ns: u64,
    /// CPUs that are on.
    pub online_cpus: u32,
    /// Counters by interface name.
    pub networks: BTreeMap<String, wharf_network::InterfaceCounters>,
    /// Control groups v1 or v2, which changes the names of the memory numbers.
    pub cgroup_version: u8,
    /// Bytes of memory of the machine, the limit when none is set.
    pub memory_total_bytes: u64,
}
