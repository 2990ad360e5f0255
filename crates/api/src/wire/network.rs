//! Networks and endpoints (spec engine-api §5.4, §8).

use crate::timestamp::rfc3339_nano;
use serde::Serialize;
use std::collections::BTreeMap;
use wharf_engine::model::container::{Container, NetworkEndpoint};
use wharf_engine::model::view::NetworkView;

/// A container's place on one network.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct EndpointSettings {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<EndpointIpam>,
    links: Option<Vec<String>>,
    aliases: Option<Vec<String>>,
    mac_address: String,
    driver_opts: Option<BTreeMap<String, String>>,
    gw_priority: i64,
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "DNSNames")]
    dns_names: Option<Vec<String>>,
}

/// Addresses that were asked for.
#[derive(Debug, Default, Serialize)]
struct EndpointIpam {
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    ipv6_address: String,
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
    link_local_addresses: Vec<String>,
}

impl EndpointSettings {
    /// Adds aliases; none is there twice afterwards.
    pub(super) fn add_aliases(&mut self, more: [&str; 2]) {
        let given = self.aliases.take().unwrap_or_default();
        let all = given.into_iter().chain(more.map(str::to_owned));
        let mut aliases: Vec<String> = Vec::new();
        for alias in all {
            if !aliases.contains(&alias) {
                aliases.push(alias);
            }
        }
        self.aliases = Some(aliases);
    }

    /// Leaves out what a list of containers does not show: links, names, options, link-local addresses.
    pub(super) fn listed(mut self) -> Self {
        if let Some(addresses) = &mut self.ipam_config {
            addresses.link_local_addresses.clear();
        }
        Self {
            links: None,
            aliases: None,
            driver_opts: None,
            dns_names: None,
            ..self
        }
    }
}

impl From<&NetworkEndpoint> for EndpointSettings {
    fn from(endpoint: &NetworkEndpoint) -> Self {
        let asked = &endpoint.request;
        let has_addresses = asked.given.addresses
            || !asked.ipv4_address.is_empty()
            || !asked.ipv6_address.is_empty()
            || !asked.link_local_addresses.is_empty();
        Self {
            ipam_config: has_addresses.then(|| EndpointIpam {
                ipv4_address: asked.ipv4_address.clone(),
                ipv6_address: asked.ipv6_address.clone(),
                link_local_addresses: asked.link_local_addresses.clone(),
            }),
            links: (asked.given.links || !asked.links.is_empty()).then(|| asked.links.clone()),
            aliases: (asked.given.aliases || !asked.aliases.is_empty())
                .then(|| asked.aliases.clone()),
            mac_address: endpoint.mac_address.clone(),
            driver_opts: (asked.given.driver_options || !asked.driver_options.is_empty())
                .then(|| asked.driver_options.clone()),
            gw_priority: asked.gateway_priority,
            network_id: endpoint.network_id.clone(),
            endpoint_id: endpoint.endpoint_id.clone(),
            gateway: endpoint.gateway.clone(),
            ip_address: endpoint.address.clone(),
            ip_prefix_len: endpoint.prefix_length,
            ipv6_gateway: endpoint.ipv6_gateway.clone(),
            global_ipv6_address: endpoint.ipv6_address.clone(),
            global_ipv6_prefix_len: endpoint.ipv6_prefix_length,
            dns_names: super::none_if_empty(endpoint.dns_names.clone()),
        }
    }
}

/// A network; the list leaves `Containers` empty.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Network {
    name: String,
    id: String,
    created: String,
    scope: &'static str,
    driver: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    containers: BTreeMap<String, NetworkContainer>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: String,
    options: Option<BTreeMap<String, String>>,
    config: Option<Vec<IpamConfig>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IpamConfig {
    subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "super::is_default")]
    ip_range: String,
    #[serde(skip_serializing_if = "super::is_default")]
    gateway: String,
    #[serde(skip_serializing_if = "super::is_default")]
    auxiliary_addresses: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkContainer {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
}

impl Network {
    /// Makes the answer; `with_containers` lists the running ones.
    pub(crate) fn new(view: &NetworkView, with_containers: bool) -> Self {
        let network = &view.network;
        let subnets = network.subnets().into_iter().map(|subnet| IpamConfig {
            subnet: subnet.subnet,
            ip_range: subnet.ip_range,
            gateway: subnet.gateway,
            auxiliary_addresses: subnet.auxiliary,
        });
        let driver = match network.ipam.driver.as_str() {
            "" => "default",
            driver => driver,
        };
        Self {
            name: network.name.clone(),
            id: network.id.clone(),
            created: rfc3339_nano(network.created_at_ns),
            scope: "local",
            driver: network.driver.clone(),
            enable_ipv4: network.ipv4,
            enable_ipv6: network.ipv6,
            ipam: Ipam {
                driver: driver.to_owned(),
                options: network.ipam.options.clone(),
                config: super::none_if_empty(subnets.collect()),
            },
            internal: network.internal,
            attachable: network.attachable,
            ingress: false,
            config_from: ConfigFrom {
                network: network.config_from.clone(),
            },
            config_only: network.config_only,
            containers: if with_containers {
                containers(view)
            } else {
                BTreeMap::new()
            },
            options: network.options.clone(),
            labels: network.labels.clone(),
        }
    }
}

fn containers(view: &NetworkView) -> BTreeMap<String, NetworkContainer> {
    let entry = |container: &Container| {
        let endpoint = container
            .networks
            .values()
            .find(|endpoint| endpoint.network_id == view.network.id)?;
        let with_prefix = |address: &str, length: u8| match address {
            "" => String::new(),
            address => format!("{address}/{length}"),
        };
        Some(NetworkContainer {
            name: container.name.clone(),
            endpoint_id: endpoint.endpoint_id.clone(),
            mac_address: endpoint.mac_address.clone(),
            ipv4_address: with_prefix(&endpoint.address, endpoint.prefix_length),
            ipv6_address: with_prefix(&endpoint.ipv6_address, endpoint.ipv6_prefix_length),
        })
    };
    view.containers
        .iter()
        .filter_map(|container| Some((container.id.clone(), entry(container)?)))
        .collect()
}

/// Where packets to a published port go, and who may send them (wharf's own).
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PortExplanation {
    host_ip: String,
    host_port: u16,
    protocol: &'static str,
    container_id: String,
    container_name: String,
    container_address: String,
    container_port: u16,
    network: String,
    listening: Option<bool>,
    path: Vec<String>,
    reachable: Vec<Reachable>,
    foreign_chains: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reachable {
    from: String,
    allowed: bool,
    because: String,
}

impl From<wharf_engine::model::network::PortExplanation> for PortExplanation {
    fn from(explained: wharf_engine::model::network::PortExplanation) -> Self {
        let way = explained.way;
        Self {
            host_ip: way.port.host_ip.to_string(),
            host_port: way.port.host_port,
            protocol: way.port.protocol.as_str(),
            container_id: way.container_id,
            container_name: explained.container_name,
            container_address: way.port.address.to_string(),
            container_port: way.port.container_port,
            network: way.network,
            listening: explained.listening,
            path: way.path,
            reachable: way
                .verdicts
                .into_iter()
                .map(|verdict| Reachable {
                    from: verdict.from,
                    allowed: verdict.allowed,
                    because: verdict.because,
                })
                .collect(),
            foreign_chains: way.foreign_chains,
        }
    }
}
