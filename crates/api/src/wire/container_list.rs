//! Containers as the list answers them (spec engine-api §6.3).

use super::container::endpoints;
use super::is_default;
use super::mount::MountPoint;
use super::network::EndpointSettings;
use crate::human;
use serde::Serialize;
use std::collections::BTreeMap;
use wharf_engine::model::container::Container;
use wharf_engine::model::view::ContainerSummary;

/// One entry of `GET /containers/json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ContainerItem {
    id: String,
    names: Vec<String>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: String,
    created: i64,
    ports: Vec<ListedPort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    labels: BTreeMap<String, String>,
    state: &'static str,
    status: String,
    host_config: ListedHostConfig,
    network_settings: ListedNetworks,
    mounts: Vec<MountPoint>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct ListedPort {
    #[serde(rename = "IP", skip_serializing_if = "is_default")]
    ip: String,
    #[serde(rename = "PrivatePort")]
    private_port: u16,
    #[serde(rename = "PublicPort", skip_serializing_if = "is_default")]
    public_port: u16,
    #[serde(rename = "Type")]
    protocol: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedHostConfig {
    network_mode: String,
    #[serde(skip_serializing_if = "is_default")]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedNetworks {
    networks: BTreeMap<String, EndpointSettings>,
}

impl ContainerItem {
    /// Makes a list entry as of `now_ns`.
    pub(crate) fn new(summary: &ContainerSummary, now_ns: i64) -> Self {
        let container = &summary.container;
        Self {
            id: container.id.clone(),
            names: std::iter::once(&container.name)
                .chain(&summary.link_names)
                .map(|name| format!("/{name}"))
                .collect(),
            image: summary.image.clone(),
            image_id: container
                .image_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
            command: human::command_line(&container.path, &container.args),
            created: crate::timestamp::seconds(container.created_at_ns),
            ports: listed_ports(container),
            size_rw: summary
                .size_bytes
                .map(|(own, _)| own)
                .filter(|own| *own != 0),
            size_root_fs: summary
                .size_bytes
                .map(|(_, all)| all)
                .filter(|all| *all != 0),
            labels: container.config.labels.clone(),
            state: container.state.status.as_str(),
            status: human::status_text(container, now_ns),
            host_config: ListedHostConfig {
                network_mode: container.host_config.network_mode.clone(),
                annotations: container.host_config.annotations.clone(),
            },
            network_settings: ListedNetworks {
                networks: endpoints(container)
                    .into_iter()
                    .map(|(name, endpoint)| (name, endpoint.listed()))
                    .collect(),
            },
            mounts: container.mounts.iter().map(MountPoint::from).collect(),
        }
    }
}

/// Lists published ports, and exposed ones that are not published; none when it does not run.
fn listed_ports(container: &Container) -> Vec<ListedPort> {
    if !container.is_running() {
        return Vec::new();
    }
    let mut ports: Vec<ListedPort> = container
        .published_ports
        .iter()
        .map(|port| ListedPort {
            ip: port.host_ip.clone(),
            private_port: port.container_port,
            public_port: port.host_port,
            protocol: port.protocol.clone(),
        })
        .collect();
    let leads_out = super::container::leads_out(container);
    for exposed in container.config.exposed_ports.keys().filter(|_| leads_out) {
        let (number, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        let Ok(number) = number.parse() else { continue };
        if !ports
            .iter()
            .any(|port| port.private_port == number && port.protocol == protocol)
        {
            ports.push(ListedPort {
                ip: String::new(),
                private_port: number,
                public_port: 0,
                protocol: protocol.to_owned(),
            });
        }
    }
    ports.sort();
    ports
}

#[cfg(test)]
mod tests {
    use super::super::container::tests::example;
    use super::*;

    #[test]
    fn a_list_entry_has_every_key() {
        let summary = ContainerSummary {
            container: std::sync::Arc::new(example()),
            link_names: vec!["app/front".into()],
            image: "busybox".into(),
            size_bytes: Some((1, 2)),
        };
        let item = ContainerItem::new(&summary, 1_714_557_661_000_000_000);
        let value = serde_json::to_value(item).expect("plain data");
        assert_eq!(value["Names"], serde_json::json!(["/web", "/app/front"]));
        assert_eq!(value["Command"], "sh -c 'sleep 1'");
        assert_eq!(value["Status"], "Up About a minute");
        assert_eq!(
            value["Ports"],
            serde_json::json!([
                {"PrivatePort": 53, "Type": "udp"},
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            ])
        );
        assert_eq!(value["SizeRw"], 1);
    }
}
