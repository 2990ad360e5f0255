//! Telling where a packet to a host port goes and who may send one.

use std::net::IpAddr;

use super::Networks;
use super::state::Kind;
use crate::firewall;
use crate::options::GatewayMode;
use crate::port::{Protocol, PublishedPort};

/// Whether somebody reaches a port, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Who asks.
    pub from: String,
    /// True when packets get through.
    pub allowed: bool,
    /// The rule that decides.
    pub because: String,
}

/// The way of packets to one published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The port.
    pub port: PublishedPort,
    /// The container it leads to.
    pub container_id: String,
    /// Name of the network it leads through.
    pub network: String,
    /// What happens to a packet, step by step.
    pub path: Vec<String>,
    /// Who reaches the port and who does not.
    pub verdicts: Vec<Verdict>,
    /// Chains of other tables that may drop what passes here.
    pub foreign_chains: Vec<String>,
}

impl Networks {
    /// Explains every published port with this host number, or, on routed networks, this container
    /// number; `protocol` limits it to one protocol. None is published when the answer is empty.
    pub fn explain(&self, port: u16, protocol: Option<Protocol>) -> Vec<Explanation> {
        let table = self.inner.firewall.table().to_owned();
        let found: Vec<(String, PublishedPort)> = {
            let state = self.inner.lock();
            let matches = |published: &&PublishedPort| {
                let number = if published.host_port == 0 {
                    published.container_port
                } else {
                    published.host_port
                };
                number == port && protocol.is_none_or(|wanted| wanted == published.protocol)
            };
            state
                .published
                .iter()
                .flat_map(|(id, ports)| {
                    ports
                        .iter()
                        .filter(matches)
                        .map(|port| (id.clone(), port.clone()))
                })
                .collect()
        };
        if found.is_empty() {
            return Vec::new();
        }
        let foreign = firewall::foreign_drops(&table);
        found
            .into_iter()
            .filter_map(|(id, port)| self.explain_one(&table, id, port, &foreign))
            .collect()
    }

    fn explain_one(
        &self,
        table: &str,
        container_id: String,
        port: PublishedPort,
        foreign: &[String],
    ) -> Option<Explanation> {
        let state = self.inner.lock();
        let endpoint = state
            .endpoints_of(&container_id)
            .into_iter()
            .find(|endpoint| endpoint.addresses().any(|own| own == port.address))?;
        let network = state.networks.get(&endpoint.network_id)?;
        let Kind::Bridge {
            device, options, ..
        } = &network.kind
        else {
            return None;
        };
        let mode = options.mode(port.address.is_ipv6());
        Some(Explanation {
            container_id,
            network: network.config.name.clone(),
            path: path(
                table,
                &port,
                device,
                &endpoint.host_interface,
                &endpoint.interface,
            ),
            verdicts: verdicts(&port, mode, &network.config.name),
            foreign_chains: foreign.to_vec(),
            port,
        })
    }
}

fn path(
    table: &str,
    port: &PublishedPort,
    bridge: &str,
    host_interface: &str,
    interface: &str,
) -> Vec<String> {
    let PublishedPort {
        container_port,
        protocol,
        host_ip,
        host_port,
        address,
    } = port;
    let destination = socket(*address, *container_port);
    let family = if address.is_ipv6() { 6 } else { 4 };
    let mut steps = Vec::new();
    if *host_port == 0 {
        steps.push(format!(
            "arrives for {destination}/{protocol}: the network is routed"
        ));
        steps.push(format!(
            "table inet {table} chain enter_{bridge}: accepted, {destination} is in set routed{family}"
        ));
    } else {
        let map = if host_ip.is_unspecified() {
            "published_any"
        } else {
            "published_at"
        };
        let at = if host_ip.is_unspecified() {
            "any address of this machine".to_owned()
        } else {
            host_ip.to_string()
        };
        steps.push(format!("arrives for {at}, port {host_port}/{protocol}"));
        if port.is_translated() {
            steps.push(format!(
                "table inet {table} chain publish: destination becomes {destination} (map {map}{family})"
            ));
            steps.push(format!(
                "table inet {table} chain enter_{bridge}: accepted, its destination was translated"
            ));
        } else {
            steps.push(format!(
                "the daemon accepts the connection and makes one to {destination}: the container has no IPv6"
            ));
        }
    }
    steps.push(format!(
        "routed to bridge {bridge}, out of {host_interface}"
    ));
    steps.push(format!(
        "enters the container at {interface}, {destination}"
    ));
    steps
}

fn verdicts(port: &PublishedPort, mode: GatewayMode, network: &str) -> Vec<Verdict> {
    let verdict = |from: &str, allowed: bool, because: String| Verdict {
        from: from.to_owned(),
        allowed,
        because,
    };
    let loopback = port.host_ip.is_loopback();
    let any = port.host_ip.is_unspecified();
    let at = socket(port.host_ip, port.host_port);
    let own = socket(port.address, port.container_port);
    let mut verdicts = Vec::new();
    if port.host_port == 0 {
        verdicts.push(verdict(
            "other machines",
            true,
            format!("at {own}, where they have a route to it"),
        ));
        verdicts.push(verdict("this machine", true, format!("at {own}")));
    } else if loopback {
        verdicts.push(verdict(
            "other machines",
            false,
            format!("{at} is reached from this machine only"),
        ));
        verdicts.push(verdict("this machine", true, format!("at {at}")));
        verdicts.push(verdict(
            "containers of other networks",
            false,
            format!("{at} is reached from this machine only"),
        ));
    } else {
        let place = if any {
            format!("at every address of this machine, port {}", port.host_port)
        } else {
            format!("at {at}")
        };
        verdicts.push(verdict("other machines", true, place.clone()));
        let local = if any && !port.host_ip.is_ipv6() {
            format!("{place}, 127.0.0.1 too")
        } else {
            place.clone()
        };
        verdicts.push(verdict("this machine", true, local));
        verdicts.push(verdict("containers of other networks", true, place));
    }
    verdicts.push(verdict(
        &format!("containers of network {network}"),
        true,
        format!("directly at {own}"),
    ));
    if port.host_port != 0 {
        let open = mode == GatewayMode::NatUnprotected;
        let because = if open {
            "the network's gateway mode is nat-unprotected".to_owned()
        } else {
            "chain guard drops what comes from outside for container addresses".to_owned()
        };
        verdicts.push(verdict(
            &format!("other machines at the container's own address {own}"),
            open,
            because,
        ));
    }
    verdicts
}

fn socket(address: IpAddr, port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::new(address, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(host_ip: &str, host_port: u16) -> Vec<bool> {
        let port = PublishedPort {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: host_ip.parse().unwrap(),
            host_port,
            address: "10.9.0.2".parse().unwrap(),
        };
        verdicts(&port, GatewayMode::Nat, "bridge")
            .into_iter()
            .map(|verdict| verdict.allowed)
            .collect()
    }

    #[test]
    fn who_reaches_a_port_follows_its_address() {
        assert_eq!(allowed("0.0.0.0", 8080), [true, true, true, true, false]);
        assert_eq!(
            allowed("127.0.0.1", 8080),
            [false, true, false, true, false]
        );
        assert_eq!(allowed("192.0.2.1", 8080), [true, true, true, true, false]);
        assert_eq!(allowed("0.0.0.0", 0), [true, true, true]);
    }
}
