//! Networks and endpoints (spec engine-api §5.4, §8).

use super::EmptyObject;
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
    ipam_config: Option<EmptyObject>,
    links: Option<Vec<String>>,
    aliases: Option<Vec<String>>,
    mac_address: String,
    driver_opts: Option<EmptyObject>,
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
    ipv6_gateway: &'static str,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: &'static str,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "DNSNames")]
    dns_names: Option<Vec<String>>,
}

impl From<&NetworkEndpoint> for EndpointSettings {
    fn from(endpoint: &NetworkEndpoint) -> Self {
        Self {
            aliases: super::none_if_empty(endpoint.aliases.clone()),
            mac_address: endpoint.mac_address.clone(),
            network_id: endpoint.network_id.clone(),
            endpoint_id: endpoint.endpoint_id.clone(),
            gateway: endpoint.gateway.clone(),
            ip_address: endpoint.address.clone(),
            ip_prefix_len: endpoint.prefix_length,
            ..Self::default()
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
    driver: &'static str,
    options: Option<EmptyObject>,
    config: Option<Vec<IpamConfig>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IpamConfig {
    subnet: String,
    #[serde(skip_serializing_if = "super::is_default")]
    gateway: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: &'static str,
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
    ipv6_address: &'static str,
}

impl Network {
    /// Makes the answer; `with_containers` lists the running ones.
    pub(crate) fn new(network: &NetworkView, with_containers: bool) -> Self {
        let subnets = network.subnets.iter().map(|(subnet, gateway)| IpamConfig {
            subnet: subnet.clone(),
            gateway: gateway.clone(),
        });
        Self {
            name: network.name.clone(),
            id: network.id.clone(),
            created: rfc3339_nano(network.created_at_ns),
            scope: "local",
            driver: network.driver.clone(),
            enable_ipv4: true,
            enable_ipv6: false,
            ipam: Ipam {
                driver: "default",
                options: None,
                config: super::none_if_empty(subnets.collect()),
            },
            internal: false,
            attachable: false,
            ingress: false,
            config_from: ConfigFrom { network: "" },
            config_only: false,
            containers: if with_containers {
                containers(network)
            } else {
                BTreeMap::new()
            },
            options: network.options.clone(),
            labels: BTreeMap::new(),
        }
    }
}

fn containers(network: &NetworkView) -> BTreeMap<String, NetworkContainer> {
    let entry = |container: &Container| {
        let endpoint = container.networks.get(&network.name)?;
        let address = match endpoint.address.as_str() {
            "" => String::new(),
            address => format!("{address}/{}", endpoint.prefix_length),
        };
        Some(NetworkContainer {
            name: container.name.clone(),
            endpoint_id: endpoint.endpoint_id.clone(),
            mac_address: endpoint.mac_address.clone(),
            ipv4_address: address,
            ipv6_address: "",
        })
    };
    network
        .containers
        .iter()
        .filter_map(|container| Some((container.id.clone(), entry(container)?)))
        .collect()
}
