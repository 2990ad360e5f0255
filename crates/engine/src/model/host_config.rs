//! What a container may use of its host, as asked for at create (spec engine-api §7.1, runtime §2).

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Holds everything of a create request that concerns the host; persisted with the container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostConfig {
    /// `source:target[:mode]` as given.
    pub binds: Vec<String>,
    /// Mounts in the long form.
    pub mounts: Vec<MountRequest>,
    /// Target path to tmpfs options.
    pub tmpfs: BTreeMap<String, String>,
    /// `container[:mode]` whose mounts are taken over.
    pub volumes_from: Vec<String>,
    /// Driver of volumes made by `binds`.
    pub volume_driver: String,
    /// `bridge`, `default`, `none`, `host` or `container:<id or name>`.
    pub network_mode: String,
    /// `80/tcp` to the host side; a port without any is not published by this.
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// Publishes every exposed port on a free port.
    pub publish_all_ports: bool,
    /// When the engine starts the container again.
    pub restart_policy: RestartPolicy,
    /// Removes the container when it ends.
    pub auto_remove: bool,
    /// Lifts nearly every restriction.
    pub privileged: bool,
    /// Mounts the root file system read-only.
    pub readonly_rootfs: bool,
    /// Runs a small init as process 1; None means the daemon's default (no).
    pub init: Option<bool>,
    /// Capabilities to add, with or without `CAP_`.
    pub cap_add: Vec<String>,
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
    /// `seccomp=…`, `no-new-privileges`, `apparmor=…`, `label=…`, `systempaths=unconfined`.
    pub security_opt: Vec<String>,
    /// Host devices to make available.
    pub devices: Vec<DeviceMapping>,
    /// Rules such as `c 42:* rmw`.
    pub device_cgroup_rules: Vec<String>,
    /// Devices asked for by driver (`--gpus`).
    pub device_requests: Vec<DeviceRequest>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// `host:ip` lines for `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// Additional groups by name or number.
    pub group_add: Vec<String>,
    /// `private`, `shareable`, `none`, `host`, `container:…` or empty.
    pub ipc_mode: String,
    /// Empty, `host` or `container:…`.
    pub pid_mode: String,
    /// Empty or `host`.
    pub uts_mode: String,
    /// Empty or `host`.
    pub userns_mode: String,
    /// Empty, `private` or `host`.
    pub cgroupns_mode: String,
    /// `container:alias` links on the default bridge; the engine keeps the container's ID.
    pub links: Vec<String>,
    /// -1000 to 1000.
    pub oom_score_adj: i32,
    /// Storage driver options.
    pub storage_opt: BTreeMap<String, String>,
    /// Bytes of `/dev/shm`; 0 means 64 MiB.
    pub shm_size_bytes: i64,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Name of an OCI runtime; empty means our own.
    pub runtime: String,
    /// Resource limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// Limits of the control group.
    pub resources: Resources,
    /// How output is logged.
    pub log_config: LogConfig,
    /// Paths to hide; None means docker's list, an empty list hides nothing.
    pub masked_paths: Option<Vec<String>>,
    /// Paths to make read-only; None means docker's list.
    pub readonly_paths: Option<Vec<String>>,
    /// Free annotations.
    pub annotations: BTreeMap<String, String>,
    /// First size of the terminal: height, width.
    pub console_size: Option<(u16, u16)>,
    /// File the client wrote the ID to; kept for inspect.
    pub container_id_file: String,
    /// Isolation technology; `default` or empty here, kept for inspect.
    pub isolation: String,
    /// Docker's never finished choice of a control group; of no effect there either, kept for inspect.
    pub cgroup: String,
    /// API keys that were given without anything in them; inspect tells them from those that were not given.
    pub given_empty: BTreeSet<String>,
}

/// Asks for a mount in the long form (`--mount`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MountRequest {
    /// `bind`, `volume`, `tmpfs`, `image` …
    pub kind: String,
    /// Host path or volume name.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Mounts read-only.
    pub read_only: bool,
    /// `consistent`, `cached`, `delegated`; no meaning on Linux.
    pub consistency: String,
    /// Options of bind mounts.
    pub bind: Option<BindOptions>,
    /// Options of volumes.
    pub volume: Option<VolumeOptions>,
    /// Options of image mounts.
    pub image: Option<ImageOptions>,
    /// Options of tmpfs mounts.
    pub tmpfs: Option<TmpfsOptions>,
    /// True when options of swarm's cluster volumes were given; never valid here.
    pub cluster_options: bool,
}

/// Options of a bind mount.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BindOptions {
    /// `rprivate`, `private`, `rshared`, `shared`, `rslave`, `slave` or empty.
    pub propagation: String,
    /// Does not bind what is mounted below the source.
    pub non_recursive: bool,
    /// Creates a missing source directory.
    pub create_mountpoint: bool,
    /// Read-only only at the top.
    pub read_only_non_recursive: bool,
    /// Fails where recursive read-only is impossible.
    pub read_only_force_recursive: bool,
}

/// Options of a volume mount.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeOptions {
    /// Does not copy the image's content into an empty volume.
    pub no_copy: bool,
    /// Labels of a volume that is created.
    pub labels: BTreeMap<String, String>,
    /// Path inside the volume to mount.
    pub subpath: String,
    /// Driver of a volume that is created.
    pub driver: String,
    /// Driver options of a volume that is created.
    pub driver_options: BTreeMap<String, String>,
}

/// Options of an image mount.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageOptions {
    /// Path inside the image to mount.
    pub subpath: String,
}

/// Options of a tmpfs mount.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOptions {
    /// Size limit; 0 means the kernel's default.
    pub size_bytes: i64,
    /// Mode of the mount's root; 0 means 1777.
    pub mode: u32,
    /// Free options: `[name]` or `[name, value]`.
    pub options: Vec<Vec<String>>,
}

/// Binds a container port to the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortBinding {
    /// Empty means every address.
    pub host_ip: String,
    /// Empty or `0` means a free port; `8000-8010` the first free one.
    pub host_port: String,
}

/// Tells when a container is started again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped`, `on-failure` or empty.
    pub name: String,
    /// Limit for `on-failure`; 0 means none.
    pub maximum_retry_count: i64,
}

/// Makes a host device available.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceMapping {
    /// Path on the host; a directory means every device below.
    pub path_on_host: String,
    /// Path in the container; empty means the same.
    pub path_in_container: String,
    /// Any of `r`, `w`, `m`; empty means all.
    pub cgroup_permissions: String,
}

/// Asks a device driver for devices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// Driver name; empty picks by capability.
    pub driver: String,
    /// How many; -1 means all.
    pub count: i64,
    /// Which ones.
    pub device_ids: Vec<String>,
    /// Alternatives of capability sets.
    pub capabilities: Vec<Vec<String>>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}

/// Limits one resource of processes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ulimit {
    /// Name such as `nofile`.
    pub name: String,
    /// Hard limit; -1 means unlimited.
    pub hard: i64,
    /// Soft limit; -1 means unlimited.
    pub soft: i64,
}

/// Limits of the control group (spec runtime §9). Zero and None mean "no limit".
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative weight of CPU time.
    pub cpu_shares: i64,
    /// Memory limit.
    pub memory_bytes: i64,
    /// CPUs times 10⁹.
    pub nano_cpus: i64,
    /// Parent control group.
    pub cgroup_parent: String,
    /// Weight of block I/O, 10 to 1000.
    pub blkio_weight: u16,
    /// Weights per device.
    pub blkio_weight_device: Vec<(String, u16)>,
    /// Read limits in bytes per second, by device path.
    pub blkio_device_read_bps: Vec<(String, u64)>,
    /// Write limits in bytes per second, by device path.
    pub blkio_device_write_bps: Vec<(String, u64)>,
    /// Read limits in operations per second, by device path.
    pub blkio_device_read_iops: Vec<(String, u64)>,
    /// Write limits in operations per second, by device path.
    pub blkio_device_write_iops: Vec<(String, u64)>,
    /// Length of a CPU period in microseconds.
    pub cpu_period_us: i64,
    /// CPU time per period in microseconds.
    pub cpu_quota_us: i64,
    /// Real-time period in microseconds.
    pub cpu_realtime_period_us: i64,
    /// Real-time runtime in microseconds.
    pub cpu_realtime_runtime_us: i64,
    /// CPUs such as `0-2,4`.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Soft memory limit.
    pub memory_reservation_bytes: i64,
    /// Memory plus swap; -1 means unlimited swap, 0 twice the memory limit.
    pub memory_swap_bytes: i64,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Keeps the kernel from killing (control groups v1).
    pub oom_kill_disable: Option<bool>,
    /// Limit of processes; None, 0 and -1 mean none.
    pub pids_limit: Option<i64>,
    /// Share of the CPUs in percent; Windows only, discarded with a warning.
    pub cpu_percent: i64,
    /// I/O operations per second; Windows only, refused.
    pub io_maximum_iops: u64,
    /// I/O bytes per second; Windows only, refused.
    pub io_maximum_bandwidth: u64,
}

/// Tells how output is logged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// `json-file`, `local`, `none`; empty means the daemon's default.
    pub driver: String,
    /// Driver options such as `max-size`.
    pub options: BTreeMap<String, String>,
}
