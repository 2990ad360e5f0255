//! Containers as inspect answers them (spec engine-api §8).

use super::host_config;
use super::mount::MountPoint;
use super::network::EndpointSettings;
use super::{EmptyObject, is_default, none_if_empty};
use crate::timestamp::{ZERO_TIME, rfc3339_nano};
use crate::version::ApiVersion;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use wharf_engine::model::container::{Container, Health, State, Status};
use wharf_image::{ContainerConfig, Empty, Healthcheck};

/// The storage driver docker's clients know our layers by.
pub(crate) const STORAGE_DRIVER: &str = "overlay2";

/// First version whose aliases are those that were asked for.
const FIRST_WITHOUT_OWN_ALIASES: &str = "1.45";
/// Networks that nobody made.
const PREDEFINED_NETWORKS: [&str; 4] = ["bridge", "default", "host", "none"];

/// Answer of `GET /containers/{id}/json`, keys in docker's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ContainerInspect {
    id: String,
    created: String,
    path: String,
    args: Vec<String>,
    state: StateView,
    image: String,
    resolv_conf_path: String,
    hostname_path: String,
    hosts_path: String,
    log_path: String,
    name: String,
    restart_count: i64,
    driver: &'static str,
    platform: String,
    mount_label: &'static str,
    process_label: &'static str,
    app_armor_profile: String,
    #[serde(rename = "ExecIDs")]
    exec_ids: Option<Vec<String>>,
    host_config: Value,
    graph_driver: GraphDriver,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    mounts: Vec<MountPoint>,
    config: ConfigView,
    network_settings: NetworkSettings,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct StateView {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    pid: u32,
    exit_code: i32,
    error: String,
    started_at: String,
    finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthView {
    status: String,
    failing_streak: i64,
    log: Vec<HealthResultView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthResultView {
    start: String,
    end: String,
    exit_code: i32,
    output: String,
}

/// Where the layers lie; maps sort their keys as Go does.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GraphDriver {
    pub(crate) data: Option<BTreeMap<&'static str, String>>,
    pub(crate) name: &'static str,
}

/// The merged config, with the keys docker writes even when they are empty.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigView {
    hostname: String,
    domainname: String,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    #[serde(skip_serializing_if = "is_default")]
    exposed_ports: BTreeMap<String, Empty>,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Healthcheck>,
    #[serde(skip_serializing_if = "is_default")]
    args_escaped: bool,
    image: String,
    volumes: Option<BTreeMap<String, Empty>>,
    working_dir: String,
    entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_default")]
    network_disabled: bool,
    #[serde(skip_serializing_if = "is_default")]
    mac_address: String,
    on_build: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "is_default")]
    stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    shell: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    bridge: &'static str,
    #[serde(rename = "SandboxID")]
    sandbox_id: String,
    sandbox_key: String,
    ports: BTreeMap<String, Option<Vec<PortOnHost>>>,
    hairpin_mode: bool,
    #[serde(rename = "LinkLocalIPv6Address")]
    link_local_ipv6_address: &'static str,
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    link_local_ipv6_prefix_len: u8,
    #[serde(rename = "SecondaryIPAddresses")]
    secondary_ip_addresses: Option<EmptyObject>,
    #[serde(rename = "SecondaryIPv6Addresses")]
    secondary_ipv6_addresses: Option<EmptyObject>,
    /// The endpoint on the default bridge once more, which older clients read.
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    mac_address: String,
    networks: BTreeMap<String, EndpointSettings>,
}

/// The host side of a port that is published at this moment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PortOnHost {
    host_ip: String,
    host_port: String,
}

impl ContainerInspect {
    /// Makes the answer; `sizes` are the bytes of the container's own layer and of everything.
    ///
    /// `lower_dirs` are the directories of the image's layers, lowest first.
    pub(crate) fn new(
        container: &Container,
        sizes: Option<(u64, u64)>,
        lower_dirs: &[String],
        version: &ApiVersion,
    ) -> Self {
        let file = |name: &str| match container.directory.as_str() {
            "" => String::new(),
            directory => format!("{directory}/{name}"),
        };
        Self {
            id: container.id.clone(),
            created: rfc3339_nano(container.created_at_ns),
            path: container.path.clone(),
            args: container.args.clone(),
            state: StateView::new(&container.state),
            image: container
                .image_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
            resolv_conf_path: file("resolv.conf"),
            hostname_path: file("hostname"),
            hosts_path: file("hosts"),
            log_path: match container.host_config.log_config.driver.as_str() {
                "json-file" => file(&format!("{}-json.log", container.id)),
                _ => String::new(),
            },
            name: format!("/{}", container.name),
            restart_count: container.restart_count,
            driver: STORAGE_DRIVER,
            platform: container.platform.clone(),
            mount_label: "",
            process_label: "",
            app_armor_profile: apparmor_profile(&container.host_config.security_opt),
            exec_ids: none_if_empty(container.exec_ids.clone()),
            host_config: host_config::to_value(&container.host_config),
            graph_driver: graph_driver(container, lower_dirs),
            size_rw: sizes.map(|(own, _)| own),
            size_root_fs: sizes.map(|(_, all)| all),
            mounts: container.mounts.iter().map(MountPoint::from).collect(),
            config: ConfigView::new(&container.config),
            network_settings: NetworkSettings::new(container, version),
        }
    }
}

/// Returns the profile that was asked for by name.
fn apparmor_profile(options: &[String]) -> String {
    let named = options.iter().rev().find_map(|option| {
        let (key, name) = option.split_once(['=', ':'])?;
        (key == "apparmor").then(|| name.to_owned())
    });
    named.unwrap_or_default()
}

fn graph_driver(container: &Container, lower_dirs: &[String]) -> GraphDriver {
    let directory = &container.directory;
    let lower: Vec<&str> = lower_dirs.iter().rev().map(String::as_str).collect();
    let data = BTreeMap::from([
        ("LowerDir", lower.join(":")),
        ("ID", container.id.clone()),
        ("MergedDir", format!("{directory}/merged")),
        ("UpperDir", format!("{directory}/upper")),
        ("WorkDir", format!("{directory}/work")),
    ]);
    GraphDriver {
        data: Some(data),
        name: STORAGE_DRIVER,
    }
}

impl StateView {
    fn new(state: &State) -> Self {
        let is = |status: Status| state.status == status;
        let time = |time_ns: i64| {
            if time_ns == 0 {
                ZERO_TIME.to_owned()
            } else {
                rfc3339_nano(time_ns)
            }
        };
        Self {
            status: state.status.as_str(),
            running: is(Status::Running) || is(Status::Paused) || is(Status::Restarting),
            paused: is(Status::Paused),
            restarting: is(Status::Restarting),
            oom_killed: state.oom_killed,
            dead: is(Status::Dead),
            pid: state.pid,
            exit_code: state.exit_code,
            error: state.error.clone(),
            started_at: time(state.started_at_ns),
            finished_at: time(state.finished_at_ns),
            health: state.health.as_ref().map(HealthView::new),
        }
    }
}

impl HealthView {
    fn new(health: &Health) -> Self {
        let results = health.log.iter().map(|result| HealthResultView {
            start: rfc3339_nano(result.start_ns),
            end: rfc3339_nano(result.end_ns),
            exit_code: result.exit_code,
            output: result.output.clone(),
        });
        Self {
            status: health.status.clone(),
            failing_streak: health.failing_streak,
            log: results.collect(),
        }
    }
}

impl ConfigView {
    fn new(config: &ContainerConfig) -> Self {
        Self {
            hostname: config.hostname.clone(),
            domainname: config.domainname.clone(),
            user: config.user.clone(),
            attach_stdin: config.attach_stdin,
            attach_stdout: config.attach_stdout,
            attach_stderr: config.attach_stderr,
            exposed_ports: config.exposed_ports.clone(),
            tty: config.tty,
            open_stdin: config.open_stdin,
            stdin_once: config.stdin_once,
            env: none_if_empty(config.env.clone()),
            cmd: config.cmd.clone(),
            healthcheck: config.healthcheck.clone(),
            args_escaped: config.args_escaped,
            image: config.image.clone(),
            // Without an image there was nothing to merge, and Go's empty values stay as they were.
            volumes: (!config.volumes.is_empty() || config.image.is_empty())
                .then(|| config.volumes.clone()),
            working_dir: config.working_dir.clone(),
            entrypoint: config.entrypoint.clone(),
            network_disabled: config.network_disabled,
            mac_address: config.mac_address.clone(),
            on_build: none_if_empty(config.on_build.clone()),
            labels: (!config.labels.is_empty() || !config.image.is_empty())
                .then(|| config.labels.clone()),
            stop_signal: config.stop_signal.clone(),
            stop_timeout: config.stop_timeout,
            shell: config.shell.clone(),
        }
    }
}

impl NetworkSettings {
    fn new(container: &Container, version: &ApiVersion) -> Self {
        let is_running = container.is_running();
        let default_bridge = container
            .networks
            .get("bridge")
            .cloned()
            .unwrap_or_default();
        Self {
            bridge: "",
            sandbox_id: if is_running {
                container.id.clone()
            } else {
                String::new()
            },
            sandbox_key: if is_running {
                format!("/proc/{}/ns/net", container.state.pid)
            } else {
                String::new()
            },
            ports: if is_running {
                ports(container)
            } else {
                BTreeMap::new()
            },
            hairpin_mode: false,
            link_local_ipv6_address: "",
            link_local_ipv6_prefix_len: 0,
            secondary_ip_addresses: None,
            secondary_ipv6_addresses: None,
            endpoint_id: default_bridge.endpoint_id,
            gateway: default_bridge.gateway,
            global_ipv6_address: default_bridge.ipv6_address,
            global_ipv6_prefix_len: default_bridge.ipv6_prefix_length,
            ip_address: default_bridge.address,
            ip_prefix_len: default_bridge.prefix_length,
            ipv6_gateway: default_bridge.ipv6_gateway,
            mac_address: default_bridge.mac_address,
            networks: named_endpoints(container, version),
        }
    }
}

/// Returns the endpoints as clients of `version` read them: older ones find a container's short ID and host
/// name among the aliases (spec engine-api §14).
fn named_endpoints(
    container: &Container,
    version: &ApiVersion,
) -> BTreeMap<String, EndpointSettings> {
    let mut endpoints = endpoints(container);
    if version.is_before(FIRST_WITHOUT_OWN_ALIASES) {
        let user_defined = endpoints
            .iter_mut()
            .filter(|(name, _)| !PREDEFINED_NETWORKS.contains(&name.as_str()));
        for (_, endpoint) in user_defined {
            endpoint.add_alias(container.short_id());
            endpoint.add_alias(&container.config.hostname);
        }
    }
    endpoints
}

/// Exposed ports with null, published ones with their places on the host; nothing of a container that no network leads
/// out of.
fn ports(container: &Container) -> BTreeMap<String, Option<Vec<PortOnHost>>> {
    let mut endpoints = container.networks.values();
    let leads_out = endpoints.any(|own| !own.gateway.is_empty() || !own.ipv6_gateway.is_empty());
    let exposed = container
        .config
        .exposed_ports
        .keys()
        .filter(|_| leads_out)
        .map(|port| (port.clone(), None));
    let mut ports: BTreeMap<String, Option<Vec<PortOnHost>>> = exposed.collect();
    for port in &container.published_ports {
        ports
            .entry(format!("{}/{}", port.container_port, port.protocol))
            .or_default()
            .get_or_insert_default()
            .push(PortOnHost {
                host_ip: port.host_ip.clone(),
                // 0 where the container's own address is reached.
                host_port: match port.host_port {
                    0 => String::new(),
                    port => port.to_string(),
                },
            });
    }
    ports
}

pub(super) fn endpoints(container: &Container) -> BTreeMap<String, EndpointSettings> {
    container
        .networks
        .iter()
        .map(|(name, endpoint)| (name.clone(), EndpointSettings::from(endpoint)))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use wharf_engine::model::container::{NetworkEndpoint, PublishedPort};
    use wharf_engine::model::host_config::{HostConfig, LogConfig};

    pub(in crate::wire) fn example() -> Container {
        let endpoint = NetworkEndpoint {
            network_id: "n".repeat(64),
            endpoint_id: "e".repeat(64),
            address: "172.17.0.2".into(),
            prefix_length: 16,
            gateway: "172.17.0.1".into(),
            mac_address: "02:42:ac:11:00:02".into(),
            ..NetworkEndpoint::default()
        };
        Container {
            id: "c".repeat(64),
            name: "web".into(),
            created_at_ns: 1_714_557_600_120_000_000,
            path: "sh".into(),
            args: vec!["-c".into(), "sleep 1".into()],
            platform: "linux".into(),
            config: ContainerConfig {
                image: "busybox".into(),
                exposed_ports: [
                    ("53/udp".to_owned(), Empty {}),
                    ("80/tcp".to_owned(), Empty {}),
                ]
                .into(),
                ..ContainerConfig::default()
            },
            host_config: HostConfig {
                network_mode: "bridge".into(),
                log_config: LogConfig {
                    driver: "json-file".into(),
                    ..LogConfig::default()
                },
                ..HostConfig::default()
            },
            networks: [("bridge".to_owned(), endpoint)].into(),
            published_ports: vec![PublishedPort {
                container_port: 80,
                protocol: "tcp".into(),
                host_ip: "0.0.0.0".into(),
                host_port: 8080,
            }],
            state: State {
                status: Status::Running,
                pid: 42,
                started_at_ns: 1_714_557_601_000_000_000,
                ..State::default()
            },
            directory: "/data/containers/x".into(),
            ..Container::default()
        }
    }

    /// What docker 28 prints for a container like [`example`], but for `HostConfig`, which has a
    /// test of its own.
    #[test]
    fn inspect_matches_the_golden_document() {
        let mut value =
            serde_json::to_value(inspected(&example(), &ApiVersion::newest())).expect("plain data");
        value["HostConfig"] = Value::Null;
        let text = serde_json::to_string_pretty(&value).expect("plain data");
        let golden = include_str!("../../tests/vectors/container-inspect.golden.json");
        assert_eq!(text.trim(), golden.trim());
    }

    fn inspected(container: &Container, version: &ApiVersion) -> ContainerInspect {
        let lower_dirs = [
            "/data/layers/1/fs".to_owned(),
            "/data/layers/2/fs".to_owned(),
        ];
        ContainerInspect::new(container, None, &lower_dirs, version)
    }

    #[test]
    fn old_clients_find_own_names_among_the_aliases() {
        let mut container = example();
        container.config.hostname = "front".into();
        let endpoint = NetworkEndpoint::default();
        container.networks.insert("n1".into(), endpoint);
        let aliases = |version: &str, network: &str| {
            let version = ApiVersion::from_path(version).expect("a version");
            let value = serde_json::to_value(inspected(&container, &version)).expect("plain data");
            value["NetworkSettings"]["Networks"][network]["Aliases"].clone()
        };
        assert_eq!(
            aliases("1.44", "n1"),
            serde_json::json!(["cccccccccccc", "front"])
        );
        assert_eq!(aliases("1.44", "bridge"), Value::Null);
        assert_eq!(aliases("1.45", "n1"), Value::Null);
    }

    #[test]
    fn a_stopped_container_has_no_ports() {
        let mut container = example();
        container.state.status = Status::Exited;
        let value =
            serde_json::to_value(inspected(&container, &ApiVersion::newest())).expect("plain data");
        assert_eq!(value["NetworkSettings"]["Ports"], serde_json::json!({}));
        assert_eq!(value["State"]["FinishedAt"], ZERO_TIME);
    }
}
