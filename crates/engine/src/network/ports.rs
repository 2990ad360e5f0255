//! Port bindings of a container, as asked for and as published.

use crate::error::{EngineError, Result};
use crate::model::container::{Container, PublishedPort};
use crate::model::host_config::PortBinding;
use std::net::IpAddr;
use wharf_network::{HostPorts, PortRequest, Protocol};

/// Says a published port as the engine knows it.
pub(super) fn published(port: &wharf_network::PublishedPort) -> PublishedPort {
    PublishedPort {
        container_port: port.container_port,
        protocol: port.protocol.as_str().to_owned(),
        host_ip: port.host_ip.to_string(),
        host_port: port.host_port,
    }
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
            .filter(|port| host.port_bindings.get(*port).is_none_or(Vec::is_empty))
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
    let protocol = protocol.to_ascii_lowercase();
    let protocol = Protocol::from_name(&protocol).ok_or_else(|| invalid("protocol", &protocol))?;
    let host_ip = binding
        .host_ip
        .trim_start_matches('[')
        .trim_end_matches(']');
    let host_ip: Option<IpAddr> = match host_ip {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid("host address", text))?),
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
        host_ip,
        host_ports,
    })
}
