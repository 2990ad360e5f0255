//! The flags of `run` and `create` that describe the container (docker's names).

pub mod limits;
pub mod process;
pub mod windows;

use clap::{ArgAction, Args};

use crate::commands::container::flags::limits::LimitFlags;
use crate::commands::container::flags::process::ProcessFlags;
use crate::commands::container::flags::windows::WindowsFlags;
use crate::commands::trust::ContentTrust;

/// Everything that ends up in the body of `POST /containers/create`.
#[derive(Debug, Clone, Default, Args)]
#[allow(missing_docs, reason = "each flag's help text is its documentation")]
pub struct ContainerFlags {
    #[command(flatten)]
    pub process: ProcessFlags,
    #[command(flatten)]
    pub limits: LimitFlags,
    #[command(flatten)]
    pub windows: WindowsFlags,
    /// Add a line to /etc/hosts (HOST:IP, or HOST:host-gateway)
    #[arg(long, value_name = "HOST:IP")]
    pub add_host: Vec<String>,
    /// Add an annotation for the runtime (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Attach to stdin, stdout or stderr only
    #[arg(short = 'a', long, value_name = "STREAM")]
    pub attach: Vec<String>,
    /// Block I/O weight of one device
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    pub blkio_weight_device: Vec<String>,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// Parent control group
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Control group namespace: host or private
    #[arg(long, value_name = "MODE")]
    pub cgroupns: Option<String>,
    /// Write the container's id to a file that must not exist yet
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<String>,
    /// Add a device of the host (HOST[:CONTAINER][:rwm])
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// Add a rule to the allowed devices, such as "c 1:3 rwm"
    #[arg(long, value_name = "RULE")]
    pub device_cgroup_rule: Vec<String>,
    /// Limit reading from a device, in bytes per second
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_read_bps: Vec<String>,
    /// Limit reading from a device, in operations per second
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_read_iops: Vec<String>,
    /// Limit writing to a device, in bytes per second
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_write_bps: Vec<String>,
    /// Limit writing to a device, in operations per second
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_write_iops: Vec<String>,
    /// Set a DNS server
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Set a resolver option
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Set a DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    #[command(flatten)]
    pub trust: ContentTrust,
    /// NIS domain name
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT")]
    pub expose: Vec<String>,
    /// Give the container GPUs (all, a number, or device=…)
    #[arg(long, value_name = "REQUEST")]
    pub gpus: Vec<String>,
    /// Add a supplementary group
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Command that checks the container's health
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between health checks, such as 30s
    #[arg(long, value_name = "DURATION")]
    pub health_interval: Option<String>,
    /// Failures in a row that make the container unhealthy
    #[arg(long, value_name = "COUNT")]
    pub health_retries: Option<i64>,
    /// Time between health checks during the start period
    #[arg(long, value_name = "DURATION")]
    pub health_start_interval: Option<String>,
    /// Time during which failures do not count
    #[arg(long, value_name = "DURATION")]
    pub health_start_period: Option<String>,
    /// Longest time one health check may take
    #[arg(long, value_name = "DURATION")]
    pub health_timeout: Option<String>,
    /// Host name inside the container
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Run a small init that forwards signals and reaps processes
    #[arg(long)]
    pub init: bool,
    /// IPv4 address in the network
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// IPv6 address in the network
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
    /// Isolation technology: default
    #[arg(long, value_name = "TECHNOLOGY")]
    pub isolation: Option<String>,
    /// IPC namespace: none, private, shareable, host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// Set a label (KEY=VALUE)
    #[arg(short = 'l', long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<String>,
    /// Link to another container (NAME[:ALIAS])
    #[arg(long, value_name = "NAME[:ALIAS]")]
    pub link: Vec<String>,
    /// Link-local address in the network
    #[arg(long, value_name = "ADDRESS")]
    pub link_local_ip: Vec<String>,
    /// Logging driver
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// Option of the logging driver (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    pub log_opt: Vec<String>,
    /// MAC address
    #[arg(long, value_name = "ADDRESS")]
    pub mac_address: Option<String>,
    /// How readily memory is swapped out, 0 to 100
    #[arg(long, value_name = "PERCENT")]
    pub memory_swappiness: Option<i64>,
    /// Mount something (type=bind|volume|tmpfs|image,source=…,target=…)
    #[arg(long, value_name = "OPTIONS")]
    pub mount: Vec<String>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Connect to a network
    #[arg(long, alias = "net", value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Name of the container in the network's DNS
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Turn the image's health check off
    #[arg(long)]
    pub no_healthcheck: bool,
    /// Turn the out-of-memory killer off
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// Out-of-memory score adjustment, -1000 to 1000
    #[arg(long, value_name = "SCORE")]
    pub oom_score_adj: Option<i64>,
    /// Process namespace: host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// Platform of the image, such as linux/arm64
    #[arg(
        long,
        value_name = "PLATFORM",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    pub platform: Option<String>,
    /// Publish a port ([IP:][HOST:]CONTAINER[/PROTOCOL])
    #[arg(short = 'p', long, value_name = "PORT")]
    pub publish: Vec<String>,
    /// Publish all exposed ports on free ports of the host
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// When to pull the image: always, missing or never
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["always", "missing", "never"], hide_possible_values = true)]
    pub pull: String,
    /// Do not show the progress of a pull
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Mount the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Remove the container and its anonymous volumes when it ends
    #[arg(long)]
    pub rm: bool,
    /// Runtime to use
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,
    /// Security option (seccomp=FILE, no-new-privileges, apparmor=…, label=…)
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// Signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds to wait after it, before the container is killed
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<i64>,
    /// Option of the storage driver (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    pub storage_opt: Vec<String>,
    /// Set a kernel parameter of the container's namespaces (NAME=VALUE)
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// Mount a tmpfs (PATH[:OPTIONS])
    #[arg(long, value_name = "PATH")]
    pub tmpfs: Vec<String>,
    /// Set a resource limit (NAME=SOFT[:HARD])
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Let the container talk to this daemon, with the caller's registry credentials
    #[arg(long)]
    pub use_api_socket: bool,
    /// User namespace: host
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// UTS namespace: host
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// Mount a path of the host or a volume ([SOURCE:]TARGET[:OPTIONS])
    #[arg(short = 'v', long, value_name = "VOLUME")]
    pub volume: Vec<String>,
    /// Driver of new volumes
    #[arg(long, value_name = "DRIVER")]
    pub volume_driver: Option<String>,
    /// Mount the volumes of another container (NAME[:ro])
    #[arg(long, value_name = "CONTAINER")]
    pub volumes_from: Vec<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
    /// Image, then the command to run and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "IMAGE [COMMAND] [ARG]"
    )]
    pub image_and_command: Vec<String>,
}

impl ContainerFlags {
    /// Returns the image's name.
    #[must_use]
    pub fn image(&self) -> &str {
        self.image_and_command
            .first()
            .map(String::as_str)
            .unwrap_or_default()
    }

    /// Returns the command and its arguments, empty for the image's own.
    #[must_use]
    pub fn command(&self) -> &[String] {
        self.image_and_command.get(1..).unwrap_or_default()
    }
}
