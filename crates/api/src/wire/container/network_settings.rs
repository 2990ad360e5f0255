//! `NetworkSettings` of a container's inspect answer.

use crate::version::ApiVersion;
use crate::wire::EmptyObject;
use crate::wire::container::endpoints;
use crate::wire::network::EndpointSettings;
use serde::Serialize;
use std::collections::BTreeMap;
use wharf_engine::model::container::Container;

/// First version whose aliases are those that were asked for.
const FIRST_WITHOUT_OWN_ALIASES: &str = "1.45";

/// Networks that nobody made.
const PREDEFINED_NETWORKS: [&str; 4] = ["bridge", "default", "host", "none"];

/// A container's networks and ports, with the keys of older clients.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
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

impl NetworkSettings {
    /// Makes the view of the networks and ports, as clients of `version` read them.
    pub(super) fn new(container: &Container, version: &ApiVersion) -> Self {
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
            endpoint.add_aliases([container.short_id(), &container.config.hostname]);
        }
    }
    endpoints
}

/// Tells whether a container reaches others than its neighbours.
pub(in crate::wire) fn leads_out(container: &Container) -> bool {
    let mut endpoints = container.networks.values();
    endpoints.any(|own| !own.gateway.is_empty() || !own.ipv6_gateway.is_empty())
}

/// Exposed ports with null, published ones with their places on the host; nothing of a container that no network leads
/// out of.
fn ports(container: &Container) -> BTreeMap<String, Option<Vec<PortOnHost>>> {
    let leads_out = leads_out(container);
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
