//! Publishing containers' ports on the host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::state::{Kind, State};
use super::{Inner, Networks, open_netlink};
use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::options::GatewayMode;
use crate::port::{HostPorts, PortRequest, PublishedPort, validate_all};
use crate::sysctl::read_text;

/// Tries to bind a port that somebody else has bound.
const PORT_TRIES: usize = 6;
const PORT_RETRY: Duration = Duration::from_millis(2);

/// Where ports of one family lead, and at which host address when the user names none.
struct Target {
    address: IpAddr,
    routed: bool,
    /// `None` where ports are published only at addresses the user names.
    default_host_ip: Option<IpAddr>,
    host_interface: String,
}

impl Networks {
    /// Publishes a container's ports at its gateway networks, all or none, in place of those that
    /// are published now; a port that was free to choose keeps its number.
    ///
    /// Without a network that leads out nothing is published.
    ///
    /// # Errors
    /// [`NetworkError::InvalidRequest`], errors of ports, [`NetworkError::NoAddressOfFamily`],
    /// [`NetworkError::Elements`].
    pub fn publish(
        &self,
        container_id: &str,
        requests: &[PortRequest],
    ) -> Result<Vec<PublishedPort>, NetworkError> {
        let inner = &self.inner;
        validate_all(requests)?;
        let before = inner.lock().published.get(container_id).cloned();
        let before = before.unwrap_or_default();
        if requests.is_empty() && before.is_empty() {
            return Ok(Vec::new());
        }
        self.withdraw(container_id)?;
        let requests = keep_numbers(requests, &before);
        let (ports, interfaces) = inner.reserve_patiently(container_id, &requests)?;
        let published = inner
            .let_turn_around(&interfaces)
            .and_then(|()| inner.publish_elements(&ports));
        if let Err(error) = published {
            // The first error is the one to report.
            let _ = self.withdraw(container_id);
            return Err(error);
        }
        inner.start_relays(&ports);
        Ok(ports)
    }

    /// Withdraws a container's published ports; they are free when this returns.
    ///
    /// # Errors
    /// [`NetworkError::Elements`] if the kernel refuses; the ports are free again all the same.
    pub fn withdraw(&self, container_id: &str) -> Result<(), NetworkError> {
        let inner = &self.inner;
        let ports = inner.lock().published.remove(container_id);
        let Some(ports) = ports else { return Ok(()) };
        let withdrawn = inner.firewall.withdraw(&ports);
        for port in ports.iter().filter(|port| port.is_relayed()) {
            inner.resolver.stop_relay(port);
        }
        let mut state = inner.lock();
        for port in &ports {
            state.ports.release(port);
        }
        withdrawn
    }
}

impl Inner {
    /// Takes ports; a port that is bound by somebody else gets a second chance.
    ///
    /// A child process that is just being started holds a copy of every socket until it executes
    /// its program, so a port freed a moment ago can still be taken for a millisecond.
    fn reserve_patiently(
        &self,
        container_id: &str,
        requests: &[PortRequest],
    ) -> Result<(Vec<PublishedPort>, Vec<String>), NetworkError> {
        for _ in 1..PORT_TRIES {
            match self.reserve_ports(container_id, requests) {
                Err(NetworkError::PortBind { .. }) => std::thread::sleep(PORT_RETRY),
                other => return other,
            }
        }
        self.reserve_ports(container_id, requests)
    }

    /// Takes ports, all or none; also returns the host's interfaces they lead out of.
    fn reserve_ports(
        &self,
        container_id: &str,
        requests: &[PortRequest],
    ) -> Result<(Vec<PublishedPort>, Vec<String>), NetworkError> {
        let mut state = self.lock();
        let targets: Vec<Target> = [false, true]
            .into_iter()
            .filter_map(|ipv6| target(&state, container_id, ipv6))
            .collect();
        let mut ports = Vec::with_capacity(requests.len());
        for request in requests {
            match take(&mut state, &targets, request) {
                Ok(taken) => ports.extend(taken),
                Err(error) => {
                    for port in &ports {
                        state.ports.release(port);
                    }
                    return Err(error);
                }
            }
        }
        let interfaces = targets
            .into_iter()
            .map(|target| target.host_interface)
            .filter(|name| !name.is_empty())
            .collect();
        if !ports.is_empty() {
            state
                .published
                .insert(container_id.to_owned(), ports.clone());
        }
        Ok((ports, interfaces))
    }

    /// Lets a container reach its own published ports.
    fn let_turn_around(&self, interfaces: &[String]) -> Result<(), NetworkError> {
        let Some(first) = interfaces.first() else {
            return Ok(());
        };
        let mut netlink = open_netlink()?;
        for name in interfaces
            .iter()
            .enumerate()
            .filter(|(index, name)| *index == 0 || *name != first)
            .map(|(_, name)| name)
        {
            let isolated = self.is_isolated(name);
            netlink
                .set_port(name, true, isolated)
                .map_err(NetworkError::netlink(format!("set hairpin mode of {name}")))?;
        }
        Ok(())
    }

    /// Passes on what the kernel cannot lead to these ports.
    pub(super) fn start_relays(&self, ports: &[PublishedPort]) {
        for port in ports.iter().filter(|port| port.is_relayed()) {
            let socket = self.lock().ports.descriptor(port);
            if let Some(socket) = socket {
                let target = SocketAddr::new(port.address, port.container_port);
                self.resolver.relay(port, socket, target);
            }
        }
    }

    fn is_isolated(&self, host_interface: &str) -> bool {
        let state = self.lock();
        state
            .endpoints
            .values()
            .find(|endpoint| endpoint.host_interface == host_interface)
            .and_then(|endpoint| state.networks.get(&endpoint.network_id))
            .is_some_and(
                |network| matches!(&network.kind, Kind::Bridge { options, .. } if !options.icc),
            )
    }

    /// Adds published ports; if somebody has flushed the firewall, installs the table again first.
    fn publish_elements(&self, ports: &[PublishedPort]) -> Result<(), NetworkError> {
        match self.firewall.publish(ports) {
            Err(NetworkError::Elements { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                self.install()
            }
            other => other,
        }
    }
}

/// Returns where a container's ports of a family lead, if it has a bridge network that leads out.
fn target(state: &State, container_id: &str, ipv6: bool) -> Option<Target> {
    let endpoint: &Endpoint = state.gateway_endpoint(container_id, ipv6)?;
    let network = state.networks.get(&endpoint.network_id)?;
    let Kind::Bridge { options, .. } = &network.kind else {
        return None;
    };
    let default_host_ip = match (options.host_binding, ipv6) {
        (IpAddr::V4(address), true) if address.is_unspecified() => {
            Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)).filter(|_| host_has_ipv6())
        }
        (binding, _) => Some(binding).filter(|binding| binding.is_ipv6() == ipv6),
    };
    Some(Target {
        address: endpoint.address(ipv6)?,
        routed: options.mode(ipv6) == GatewayMode::Routed,
        default_host_ip,
        host_interface: endpoint.host_interface.clone(),
    })
}

fn host_has_ipv6() -> bool {
    read_text("/proc/net/if_inet6").is_ok_and(|text| !text.is_empty())
}

/// Takes the host ports of one request.
fn take(
    state: &mut State,
    targets: &[Target],
    request: &PortRequest,
) -> Result<Vec<PublishedPort>, NetworkError> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let of_family = |ipv6: bool| {
        targets
            .iter()
            .find(move |target| target.address.is_ipv6() == ipv6)
    };
    // What comes to an IPv6 address reaches a container that has only IPv4: it is passed on.
    let passed_on =
        || of_family(false).filter(|target| !target.routed && request.protocol.is_relayable());
    let places: Vec<(IpAddr, &Target)> = match request.host_ip {
        None => {
            let mut places: Vec<(IpAddr, &Target)> = targets
                .iter()
                .filter_map(|target| Some((target.default_host_ip?, target)))
                .collect();
            let everywhere = places
                .iter()
                .any(|(host_ip, _)| *host_ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            if let Some(target) = passed_on()
                && everywhere
                && of_family(true).is_none()
                && host_has_ipv6()
            {
                places.push((IpAddr::V6(Ipv6Addr::UNSPECIFIED), target));
            }
            places
        }
        Some(host_ip) => {
            let target = of_family(host_ip.is_ipv6())
                .or_else(|| passed_on().filter(|_| host_ip.is_ipv6()))
                .ok_or(NetworkError::NoAddressOfFamily {
                    container_port: request.container_port,
                    host_ip,
                })?;
            vec![(host_ip, target)]
        }
    };
    let translated: Vec<IpAddr> = places
        .iter()
        .filter(|(_, target)| !target.routed)
        .map(|(host_ip, _)| *host_ip)
        .collect();
    let host_port = if translated.is_empty() {
        0
    } else {
        state
            .ports
            .reserve(request.protocol, &translated, &request.host_ports)?
    };
    Ok(places
        .into_iter()
        .map(|(host_ip, target)| PublishedPort {
            container_port: request.container_port,
            protocol: request.protocol,
            host_ip,
            host_port: if target.routed { 0 } else { host_port },
            address: target.address,
        })
        .collect())
}

/// Asks for the same numbers as before where any number will do.
fn keep_numbers(requests: &[PortRequest], before: &[PublishedPort]) -> Vec<PortRequest> {
    let mut before: Vec<&PublishedPort> =
        before.iter().filter(|port| port.host_port != 0).collect();
    requests
        .iter()
        .map(|request| {
            let same = |port: &&PublishedPort| {
                port.container_port == request.container_port && port.protocol == request.protocol
            };
            let kept = before.iter().position(same);
            let kept = kept.and_then(|index| before.get(index).map(|port| port.host_port));
            let Some(number) = kept else {
                return request.clone();
            };
            before.retain(|port| !(same(port) && port.host_port == number));
            let host_ports = match &request.host_ports {
                HostPorts::Ephemeral => HostPorts::Range(number..=number),
                HostPorts::Range(range) if range.contains(&number) => {
                    HostPorts::Range(number..=number)
                }
                other => other.clone(),
            };
            PortRequest {
                host_ports,
                ..request.clone()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Protocol;

    #[test]
    fn free_numbers_are_kept() {
        let port = |container_port, host_ip: &str, host_port| PublishedPort {
            container_port,
            protocol: Protocol::Tcp,
            host_ip: host_ip.parse().unwrap(),
            host_port,
            address: "10.9.0.2".parse().unwrap(),
        };
        let request = |container_port, host_ports| PortRequest {
            container_port,
            protocol: Protocol::Tcp,
            host_ip: None,
            host_ports,
        };
        let before = [
            port(80, "0.0.0.0", 32768),
            port(80, "::", 32768),
            port(80, "0.0.0.0", 32769),
            port(81, "0.0.0.0", 0),
        ];
        let kept = keep_numbers(
            &[
                request(80, HostPorts::Ephemeral),
                request(80, HostPorts::Ephemeral),
                request(81, HostPorts::Ephemeral),
                request(82, HostPorts::Range(1..=2)),
            ],
            &before,
        );
        let ports: Vec<HostPorts> = kept.into_iter().map(|request| request.host_ports).collect();
        assert_eq!(
            ports,
            [
                HostPorts::Range(32768..=32768),
                HostPorts::Range(32769..=32769),
                HostPorts::Ephemeral,
                HostPorts::Range(1..=2)
            ]
        );
    }
}
