//! A container as the engine knows and persists it.

use super::host_config::HostConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wharf_image::{ContainerConfig, DiffId, Healthcheck, ImageId};

/// Names the states of docker's state machine (spec runtime §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made, never started.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended and waits to be started again by its policy.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its process ended.
    Exited,
    /// Its removal failed.
    Dead,
}

impl Status {
    /// Returns docker's word for the state.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// Holds what changes while a container lives. Times are nanoseconds since 1970; 0 means never.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where the container stands.
    pub status: Status,
    /// Host pid of the container's process 1, while it runs.
    pub pid: u32,
    /// Exit code of the last run; 128 + n for signal n.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// True when the kernel killed for memory.
    pub oom_killed: bool,
    /// Start of the last run.
    pub started_at_ns: i64,
    /// End of the last run.
    pub finished_at_ns: i64,
    /// Result of the health checks, if there are any.
    pub health: Option<Health>,
    /// The state before a start that nobody has confirmed yet. It is written down before the process
    /// is executed, so that an engine that is killed in between asks the shim what came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_start: Option<Box<Self>>,
}

/// Holds the state of a container's health checks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last five results.
    pub log: Vec<HealthResult>,
}

/// Holds one health check's result.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthResult {
    /// Start in nanoseconds since 1970.
    pub start_ns: i64,
    /// End in nanoseconds since 1970.
    pub end_ns: i64,
    /// Exit code; -1 after a time-out.
    pub exit_code: i32,
    /// At most 4096 bytes of output, with `...` behind them if there was more.
    pub output: String,
}

/// One mount of a container, resolved at create.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs` or `image`.
    pub kind: String,
    /// Volume name, for volumes; the image as the user named it, for images.
    pub name: String,
    /// Host path.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Volume driver, for volumes.
    pub driver: String,
    /// Mode as given (`ro`, `z`, …).
    pub mode: String,
    /// True when writable.
    pub read_write: bool,
    /// Mount propagation.
    pub propagation: String,
    /// Path inside the volume or image; never leaves it, whatever links it holds.
    pub subpath: String,
    /// True when the volume was made for this container without a name.
    pub anonymous: bool,
    /// Mount options of a tmpfs.
    pub options: String,
    /// Does not bind what is mounted below the source.
    pub non_recursive: bool,
    /// A read-only mount leaves what is mounted below the source writable.
    pub read_only_top_only: bool,
    /// A missing host directory is made at each start.
    pub create_source: bool,
    /// The propagation was chosen here, not asked for.
    pub propagation_by_default: bool,
    /// Layers of an image mount, lowest first.
    pub image_layers: Vec<DiffId>,
}

/// A container's place on one network: what was asked for, and what it has while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkEndpoint {
    /// 64 hexadecimal characters.
    pub network_id: String,
    /// What was asked for.
    pub request: super::request::EndpointRequest,
    /// 64 hexadecimal characters; empty when stopped.
    pub endpoint_id: String,
    /// Dotted IPv4; empty when stopped.
    pub address: String,
    /// Length of the address's network prefix.
    pub prefix_length: u8,
    /// Dotted IPv4 of the gateway.
    pub gateway: String,
    /// IPv6 address; empty when stopped.
    pub ipv6_address: String,
    /// Length of the IPv6 address's network prefix.
    pub ipv6_prefix_length: u8,
    /// IPv6 address of the gateway.
    pub ipv6_gateway: String,
    /// MAC address as text; before the first start, the one asked for.
    pub mac_address: String,
    /// Names on the network, the container's own first; none on the default bridge.
    pub dns_names: Vec<String>,
    /// What the network room needs to take the container off again.
    pub endpoint: Option<wharf_network::Endpoint>,
}

/// A host port that leads to a container port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Port in the container.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Address on the host.
    pub host_ip: String,
    /// Port on the host.
    pub host_port: u16,
}

/// Everything the engine knows of a container: what was asked for, what was resolved, and its state.
///
/// Readers get an immutable snapshot (`Arc<Container>`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// 64 hexadecimal characters.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
    /// Creation in nanoseconds since 1970.
    pub created_at_ns: i64,
    /// Program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The merged config (image under user).
    pub config: ContainerConfig,
    /// What was asked of the host, with defaults filled in.
    pub host_config: HostConfig,
    /// Image the container was made from; None for a container made from nothing.
    pub image_id: Option<ImageId>,
    /// Platform text such as `linux`.
    pub platform: String,
    /// Layers below the container's own, lowest first.
    pub diff_ids: Vec<DiffId>,
    /// Mounts, resolved.
    pub mounts: Vec<MountPoint>,
    /// Networks by name.
    pub networks: BTreeMap<String, NetworkEndpoint>,
    /// Ports that are published at this moment.
    pub published_ports: Vec<PublishedPort>,
    /// The same with what a later engine needs to take them over.
    pub port_mappings: Vec<wharf_network::PublishedPort>,
    /// Where names are answered in the container, on user-defined networks.
    pub resolver: Option<wharf_network::ResolverPorts>,
    /// The state machine.
    pub state: State,
    /// How often the policy started it again.
    pub restart_count: i64,
    /// True after a stop by a user, until the next start.
    pub manually_stopped: bool,
    /// Running and remembered exec IDs.
    pub exec_ids: Vec<String>,
    /// The container's directory under the data root.
    pub directory: String,
    /// AppArmor profile of the last start, empty for none; None before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
}

impl Container {
    /// Tells whether a process of the container exists (running, paused).
    pub fn is_running(&self) -> bool {
        matches!(self.state.status, Status::Running | Status::Paused)
    }

    /// Returns the endpoints of the network room.
    pub fn endpoints(&self) -> impl Iterator<Item = &wharf_network::Endpoint> {
        self.networks
            .values()
            .filter_map(|endpoint| endpoint.endpoint.as_ref())
    }

    /// Returns the first 12 characters of the ID.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Returns the effective health check, unless there is none; `NONE` and kinds that are unknown are none.
    pub fn healthcheck(&self) -> Option<&Healthcheck> {
        self.config.healthcheck.as_ref().filter(|check| {
            matches!(
                check.test.first().map(String::as_str),
                Some("CMD" | "CMD-SHELL")
            )
        })
    }
}
