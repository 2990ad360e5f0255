//! Containers as inspect answers them (spec engine-api §8).

mod config;
mod network_settings;
mod state;

pub(super) use network_settings::leads_out;

use crate::timestamp::rfc3339_nano;
use crate::version::ApiVersion;
use crate::wire::container::config::ConfigView;
use crate::wire::container::network_settings::NetworkSettings;
use crate::wire::container::state::StateView;
use crate::wire::host_config;
use crate::wire::mount::MountPoint;
use crate::wire::network::EndpointSettings;
use crate::wire::none_if_empty;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use wharf_engine::model::container::Container;

/// The storage driver docker's clients know our layers by.
pub(crate) const STORAGE_DRIVER: &str = "overlay2";

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

/// Where the layers lie; maps sort their keys as Go does.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GraphDriver {
    pub(crate) data: Option<BTreeMap<&'static str, String>>,
    pub(crate) name: &'static str,
}

impl ContainerInspect {
    /// Makes the answer; `sizes` are the bytes of the container's own layer and of everything.
    ///
    /// `lower_dirs` are the directories of the image's layers, lowest first; `links` are shown in the place of those
    /// in the host config, which name containers by ID.
    pub(crate) fn new(
        container: &Container,
        sizes: Option<(u64, u64)>,
        lower_dirs: &[String],
        links: Vec<String>,
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
            app_armor_profile: match &container.apparmor_profile {
                Some(profile) => profile.clone(),
                None => asked_profile(&container.host_config.security_opt),
            },
            exec_ids: none_if_empty(container.exec_ids.clone()),
            host_config: host_config::to_value_with_links(&container.host_config, links),
            graph_driver: graph_driver(container, lower_dirs),
            size_rw: sizes.map(|(own, _)| own),
            size_root_fs: sizes.map(|(_, all)| all),
            mounts: container.mounts.iter().map(MountPoint::from).collect(),
            config: ConfigView::new(container),
            network_settings: NetworkSettings::new(container, version),
        }
    }
}

/// Returns the AppArmor profile that was asked for by name.
fn asked_profile(options: &[String]) -> String {
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

/// Returns a container's places on networks, by the networks' names.
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
    use crate::timestamp::ZERO_TIME;
    use wharf_engine::model::container::{NetworkEndpoint, PublishedPort, State, Status};
    use wharf_engine::model::host_config::{HostConfig, LogConfig};
    use wharf_image::{ContainerConfig, Empty};

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
        let golden = include_str!("../../../tests/vectors/container-inspect.golden.json");
        assert_eq!(text.trim(), golden.trim());
    }

    fn inspected(container: &Container, version: &ApiVersion) -> ContainerInspect {
        let lower_dirs = [
            "/data/layers/1/fs".to_owned(),
            "/data/layers/2/fs".to_owned(),
        ];
        ContainerInspect::new(container, None, &lower_dirs, Vec::new(), version)
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
