//! The networks every engine has: bridge, host, none.

use crate::container::create::store_error;
use crate::container::registry::Entry;
use crate::engine::{DEFAULT_ROOT, Engine};
use crate::error::{EngineError, ErrorKind, Result};
use crate::filters::{self, values};
use crate::model::container::{Container, PublishedPort};
use crate::model::host_config::PortBinding;
use crate::model::request::Filters;
use crate::model::view::NetworkView;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use wharf_image::Digest;
use wharf_network::{
    Endpoint, EndpointRequest, HostPorts, Network, NetworkError, NetworkOptions, PortRequest,
    Protocol,
};
use wharf_store::Store;

/// Opens the bridge network of a data root; the subnet of the first time is kept.
pub(crate) fn open(store: &Store, root: &Path, containers: &[Container]) -> Result<Network> {
    let suffix = Digest::of(root.as_os_str().as_encoded_bytes()).hex();
    let suffix = suffix.get(..8).unwrap_or_default();
    let own_root = root == Path::new(DEFAULT_ROOT);
    let subnet = store
        .setting("bridge-subnet")
        .map_err(store_error("cannot read settings"))?;
    let options = NetworkOptions {
        bridge: if own_root {
            "wharf0".to_owned()
        } else {
            format!("wh{suffix}")
        },
        table: if own_root {
            "wharf".to_owned()
        } else {
            format!("wharf_{suffix}")
        },
        subnet: subnet.and_then(|text| text.parse().ok()),
    };
    let live: Vec<Endpoint> = containers
        .iter()
        .filter(|container| container.is_running())
        .filter_map(|container| container.endpoint.clone())
        .collect();
    let network = match Network::open(options.clone(), &live) {
        // While no container has an address, a subnet that someone else took meanwhile is given up.
        Err(NetworkError::SubnetInUse { .. }) if live.is_empty() => Network::open(
            NetworkOptions {
                subnet: None,
                ..options
            },
            &live,
        ),
        opened => opened,
    }
    .map_err(network_error)?;
    store
        .set_setting("bridge-subnet", &network.subnet().to_string())
        .map_err(store_error("cannot write settings"))?;
    Ok(network)
}

/// Turns a network error into the engine's; what the user asked wrongly is told as docker tells it.
pub(crate) fn network_error(error: NetworkError) -> EngineError {
    EngineError::wrap(ErrorKind::Internal, "network", error)
}

/// Returns the ID of a predefined network: the same at every start.
pub(crate) fn predefined_id(name: &str) -> String {
    Digest::of(format!("wharf network {name}")).hex()
}

const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

impl Engine {
    /// Gives a starting container its namespace, address and published ports.
    pub(crate) fn join_bridge(&self, entry: &Entry) -> Result<OwnedFd> {
        let container = entry.snapshot();
        let namespace = self.network.new_namespace().map_err(network_error)?;
        let request = EndpointRequest {
            container_id: container.id.clone(),
            address: None,
            mac: container
                .networks
                .get("bridge")
                .and_then(|endpoint| parse_mac(&endpoint.mac_address)),
            ports: port_requests(&container)?,
        };
        let endpoint = self
            .network
            .attach(namespace.as_fd(), &request)
            .map_err(|e| attach_error(&container, &e))?;
        let container = entry.change(|container| {
            container.published_ports = endpoint.ports.iter().map(published).collect();
            if let Some(own) = container.networks.get_mut("bridge") {
                own.endpoint_id.clone_from(&endpoint.endpoint_id);
                own.address = endpoint.address.to_string();
                own.prefix_length = endpoint.prefix_length;
                own.gateway = endpoint.gateway.to_string();
                own.mac_address.clone_from(&endpoint.mac);
            }
            container.endpoint = Some(endpoint.clone());
        });
        self.network_event("connect", &container);
        Ok(namespace)
    }

    /// Takes a container off the bridge.
    pub(crate) fn leave_network(&self, entry: &Entry) {
        let Some(endpoint) = entry.snapshot().endpoint.clone() else {
            return;
        };
        if let Err(error) = self.network.detach(&endpoint) {
            self.events.emit(
                "daemon",
                "error",
                &self.id,
                [("message", error.to_string())],
            );
        }
        entry.change(|container| {
            container.published_ports.clear();
            container.endpoint = None;
            for own in container.networks.values_mut() {
                own.endpoint_id.clear();
                own.address.clear();
                own.gateway.clear();
                own.prefix_length = 0;
                own.mac_address.clear();
            }
        });
    }

    pub(crate) fn network_event(&self, action: &str, container: &Container) {
        let attributes = [
            ("container", container.id.clone()),
            ("name", "bridge".to_owned()),
            ("type", "bridge".to_owned()),
        ];
        self.events
            .emit("network", action, &predefined_id("bridge"), attributes);
    }

    /// Lists networks.
    ///
    /// # Errors
    /// Unknown filters.
    pub fn list_networks(&self, filters: &Filters) -> Result<Vec<NetworkView>> {
        filters::allow(
            filters,
            &["dangling", "driver", "id", "label", "name", "scope", "type"],
        )?;
        let dangling = filters::flag(filters, "dangling")?;
        let networks = PREDEFINED
            .iter()
            .map(|(name, driver)| self.network_view(name, driver));
        let any = |key: &str, test: &dyn Fn(&str) -> bool| {
            let wanted = values(filters, key);
            wanted.is_empty() || wanted.iter().any(|value| test(value))
        };
        Ok(networks
            .filter(|network| {
                dangling != Some(true)
                    && any("driver", &|value| value == network.driver)
                    && any("id", &|value| network.id.contains(value))
                    && any("name", &|value| {
                        crate::name_pattern::search(value, &network.name)
                    })
                    && any("scope", &|value| value == "local")
                    && any("type", &|value| value == "builtin")
                    && values(filters, "label").is_empty()
            })
            .collect())
    }

    /// Returns a network by ID, name or ID prefix.
    ///
    /// # Errors
    /// Docker's `network x not found`.
    pub fn network(&self, name: &str) -> Result<NetworkView> {
        let networks = self.list_networks(&Filters::new())?;
        let exact = networks
            .iter()
            .find(|network| network.id == name || network.name == name);
        let prefix = || {
            networks
                .iter()
                .find(|network| !name.is_empty() && network.id.starts_with(name))
        };
        exact
            .or_else(prefix)
            .cloned()
            .ok_or_else(|| EngineError::not_found(format!("network {name} not found")))
    }

    fn network_view(&self, name: &str, driver: &str) -> NetworkView {
        let mut containers = self.containers.snapshots();
        containers
            .retain(|container| container.is_running() && container.networks.contains_key(name));
        let mut options = BTreeMap::new();
        let mut subnets = Vec::new();
        if name == "bridge" {
            subnets.push((
                self.network.subnet().to_string(),
                self.network.gateway().to_string(),
            ));
            for (key, value) in [
                ("default_bridge", "true"),
                ("enable_icc", "true"),
                ("enable_ip_masquerade", "true"),
                ("host_binding_ipv4", "0.0.0.0"),
                ("name", self.network.bridge()),
            ] {
                options.insert(format!("com.docker.network.bridge.{key}"), value.to_owned());
            }
            options.insert(
                "com.docker.network.driver.mtu".to_owned(),
                "1500".to_owned(),
            );
        }
        NetworkView {
            id: predefined_id(name),
            name: name.to_owned(),
            driver: driver.to_owned(),
            created_at_ns: self.opened_at_ns,
            subnets,
            options,
            containers,
        }
    }
}

fn published(port: &wharf_network::PublishedPort) -> PublishedPort {
    PublishedPort {
        container_port: port.container_port,
        protocol: protocol_text(port.protocol).to_owned(),
        host_ip: port.host_ip.to_string(),
        host_port: port.host_port,
    }
}

const fn protocol_text(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// Words an attach failure as docker does (spec engine-api §7.4): clients look for the prefix.
fn attach_error(container: &Container, error: &NetworkError) -> EngineError {
    let text = format!(
        "failed to set up container networking: driver failed programming external connectivity on endpoint {} ({}): {error}",
        container.name, container.id
    );
    EngineError::internal(text)
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0u8; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Turns port bindings (and `-P`) into requests.
pub(crate) fn port_requests(container: &Container) -> Result<Vec<PortRequest>> {
    let host = &container.host_config;
    let mut requests = Vec::new();
    for (port, bindings) in &host.port_bindings {
        for binding in bindings {
            requests.push(port_request(port, binding)?);
        }
    }
    if host.publish_all_ports {
        for port in container
            .config
            .exposed_ports
            .keys()
            .filter(|port| !host.port_bindings.contains_key(*port))
        {
            requests.push(port_request(port, &PortBinding::default())?);
        }
    }
    Ok(requests)
}

fn port_request(port: &str, binding: &PortBinding) -> Result<PortRequest> {
    let invalid = |what: &str, value: &str| {
        EngineError::invalid(format!(
            "invalid {what} in port binding of {port}: {value:?}"
        ))
    };
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let container_port = number
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| invalid("container port", number))?;
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => {
            return Err(EngineError::not_implemented(
                "publishing sctp ports is not supported yet",
            ));
        }
        other => return Err(invalid("protocol", other)),
    };
    let host_ip = match binding
        .host_ip
        .trim_start_matches('[')
        .trim_end_matches(']')
    {
        "" | "0.0.0.0" => None,
        text => match text
            .parse::<std::net::IpAddr>()
            .map_err(|_| invalid("host address", text))?
        {
            std::net::IpAddr::V4(ip) => Some(ip),
            std::net::IpAddr::V6(_) => {
                return Err(EngineError::not_implemented(
                    "publishing on IPv6 addresses is not supported yet",
                ));
            }
        },
    };
    let host_ports = match binding.host_port.as_str() {
        "" | "0" => HostPorts::Ephemeral,
        text => {
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            match (low.parse::<u16>(), high.parse::<u16>()) {
                (Ok(low @ 1..), Ok(high)) if low <= high => HostPorts::Range(low..=high),
                _ => return Err(invalid("host port", text)),
            }
        }
    };
    Ok(PortRequest {
        container_port,
        protocol,
        host_ip: host_ip.filter(|ip| *ip != Ipv4Addr::UNSPECIFIED),
        host_ports,
    })
}
