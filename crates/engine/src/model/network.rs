//! Networks as the engine knows and persists them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An address with a prefix length, as a user wrote it: host bits may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// Leading bits that count.
    pub length: u8,
}

impl Prefix {
    /// Parses `address/length`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let length: u8 = length.parse().ok()?;
        (length <= if address.is_ipv6() { 128 } else { 32 }).then_some(Self { address, length })
    }

    /// Returns the subnet that holds the address.
    pub fn masked(self) -> wharf_network::Subnet {
        wharf_network::Subnet::containing(self.address, self.length)
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

/// What a user says of one subnet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamConfig {
    /// The subnet.
    pub subnet: Option<Prefix>,
    /// Where addresses are taken from.
    pub ip_range: Option<Prefix>,
    /// The gateway's address.
    pub gateway: Option<IpAddr>,
    /// Addresses that are never given out, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// How addresses are managed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// `default`, or `null`.
    pub driver: String,
    /// Options of the driver; None as given.
    pub options: Option<BTreeMap<String, String>>,
    /// Subnets.
    pub config: Vec<IpamConfig>,
}

/// Asks for a network (spec engine-api §5.4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreateNetwork {
    /// Name.
    pub name: String,
    /// `bridge`, `macvlan`, `ipvlan`; empty means `bridge`.
    pub driver: String,
    /// `local` or empty.
    pub scope: String,
    /// Keeps the network apart from everything else.
    pub internal: bool,
    /// Swarm's word; kept for inspect.
    pub attachable: bool,
    /// Swarm's routing mesh.
    pub ingress: bool,
    /// Only keeps settings for other networks.
    pub config_only: bool,
    /// The network whose settings are taken.
    pub config_from: String,
    /// Gives out IPv4 addresses; None means yes.
    pub ipv4: Option<bool>,
    /// Gives out IPv6 addresses; None means no.
    pub ipv6: Option<bool>,
    /// Subnets.
    pub ipam: Option<Ipam>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// 64 hexadecimal characters.
    pub id: String,
    /// Name.
    pub name: String,
    /// `bridge`, `host`, `null`, `macvlan`, `ipvlan`.
    pub driver: String,
    /// Creation in nanoseconds since 1970.
    pub created_at_ns: i64,
    /// Gives out IPv4 addresses.
    pub ipv4: bool,
    /// Gives out IPv6 addresses.
    pub ipv6: bool,
    /// Kept apart from everything else.
    pub internal: bool,
    /// Swarm's word.
    pub attachable: bool,
    /// Only keeps settings for other networks.
    pub config_only: bool,
    /// The network whose settings were taken.
    pub config_from: String,
    /// Subnets as asked for.
    pub ipam: Ipam,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the network room made of it; None for host, none and those that only keep settings.
    pub config: Option<wharf_network::NetworkConfig>,
}

/// A subnet of a network, as text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubnetView {
    /// Subnet.
    pub subnet: String,
    /// Part that addresses are taken from; empty means all.
    pub ip_range: String,
    /// Gateway; empty when there is none.
    pub gateway: String,
    /// Addresses that are never given out.
    pub auxiliary: BTreeMap<String, String>,
}

impl Network {
    /// Tells whether the engine itself made the network.
    pub fn is_predefined(&self) -> bool {
        matches!(self.name.as_str(), "bridge" | "host" | "none")
    }

    /// Returns the subnets as docker shows them: those asked for, with what was asked for, then those that were chosen.
    pub fn subnets(&self) -> Vec<SubnetView> {
        let Some(config) = &self.config else {
            return self.ipam.config.iter().map(asked).collect();
        };
        let is_asked_for = |pool: &wharf_network::Pool| {
            let mut asked = self.ipam.config.iter().filter_map(|asked| asked.subnet);
            asked.any(|subnet| subnet.masked() == pool.subnet)
        };
        let given = self
            .ipam
            .config
            .iter()
            .filter(|asked| asked.subnet.is_some());
        let chosen = config.pools.iter().filter(|pool| !is_asked_for(pool));
        given.map(asked).chain(chosen.map(in_use)).collect()
    }
}

fn in_use(pool: &wharf_network::Pool) -> SubnetView {
    SubnetView {
        subnet: pool.subnet.to_string(),
        ip_range: text(pool.range.as_ref()),
        gateway: text(pool.gateway.as_ref()),
        auxiliary: texts(&pool.auxiliary),
    }
}

fn asked(config: &IpamConfig) -> SubnetView {
    SubnetView {
        subnet: text(config.subnet.as_ref()),
        ip_range: text(config.ip_range.as_ref()),
        gateway: text(config.gateway.as_ref()),
        auxiliary: texts(&config.auxiliary),
    }
}

fn text(value: Option<&impl std::fmt::Display>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn texts(addresses: &BTreeMap<String, IpAddr>) -> BTreeMap<String, String> {
    addresses
        .iter()
        .map(|(name, address)| (name.clone(), address.to_string()))
        .collect()
}

/// Where packets to a published port go, and who may send them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortExplanation {
    /// What the network room knows.
    pub way: wharf_network::Explanation,
    /// Name of the container.
    pub container_name: String,
    /// True when a process in the container listens at the port; None when that cannot be seen.
    pub listening: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_keep_their_host_bits() {
        let prefix = Prefix::parse("10.1.0.5/16").expect("a prefix");
        assert_eq!(prefix.to_string(), "10.1.0.5/16");
        assert_eq!(prefix.masked().to_string(), "10.1.0.0/16");
        for bad in ["bad", "10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0/8"] {
            assert!(Prefix::parse(bad).is_none(), "{bad}");
        }
    }
}
