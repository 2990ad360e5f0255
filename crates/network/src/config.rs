//! What a network is: the request of a user, and what became of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::subnet::Subnet;

/// How containers of a network are joined to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge device on the host; traffic to elsewhere is routed and translated.
    Bridge,
    /// Devices with hardware addresses of their own on a device of the host.
    Macvlan,
    /// Devices that share the hardware address of a device of the host.
    Ipvlan,
}

impl Driver {
    /// Returns docker's name of the driver.
    pub const fn as_str(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
        }
    }

    /// Returns the driver of that name.
    pub fn from_name(name: &str) -> Option<Driver> {
        [Driver::Bridge, Driver::Macvlan, Driver::Ipvlan]
            .into_iter()
            .find(|driver| driver.as_str() == name)
    }
}

/// Asks for a subnet and says what is special in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolRequest {
    /// The subnet; `None` takes one that nothing on this machine uses.
    pub subnet: Option<Subnet>,
    /// Where addresses are taken from; `None` means the whole subnet.
    pub range: Option<Subnet>,
    /// The gateway's address; `None` means the first one.
    pub gateway: Option<IpAddr>,
    /// Addresses that are never given out, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// Asks for a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRequest {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The network's name, which names of containers are completed with.
    pub name: String,
    /// How containers are joined.
    pub driver: Driver,
    /// Gives out IPv4 addresses.
    pub ipv4: bool,
    /// Gives out IPv6 addresses.
    pub ipv6: bool,
    /// Keeps the network apart from everything else.
    pub internal: bool,
    /// Subnets of either family; a family without one gets a free one.
    pub pools: Vec<PoolRequest>,
    /// The driver's options, by docker's names (spec runtime §8.1).
    pub options: BTreeMap<String, String>,
}

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The subnet.
    pub subnet: Subnet,
    /// Where addresses are taken from, when that is less than the subnet.
    #[serde(default)]
    pub range: Option<Subnet>,
    /// The gateway's address; on a bridge the bridge's own. `None` where the host has no address on the bridge and the
    /// user named none.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Addresses that are never given out, by name.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// True when the user chose the subnet; only then a container may choose its address.
    pub chosen: bool,
}

/// Returns the name of the auxiliary address that containers on a bridge use as their gateway in place of the bridge,
/// docker's for `default-gateway`.
pub fn gateway_name(ipv6: bool) -> &'static str {
    if ipv6 {
        "DefaultGatewayIPv6"
    } else {
        "DefaultGatewayIPv4"
    }
}

/// A network that exists. The caller keeps it across restarts of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The network's name.
    pub name: String,
    /// How containers are joined.
    pub driver: Driver,
    /// Keeps the network apart from everything else.
    pub internal: bool,
    /// Its subnets, those of IPv4 first.
    pub pools: Vec<Pool>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
}

impl NetworkConfig {
    /// Returns the pools of one family.
    pub fn pools_of(&self, ipv6: bool) -> impl Iterator<Item = &Pool> {
        self.pools
            .iter()
            .filter(move |pool| pool.subnet.is_ipv6() == ipv6)
    }

    /// Tells whether containers get addresses of a family.
    pub fn has_family(&self, ipv6: bool) -> bool {
        self.pools_of(ipv6).next().is_some()
    }
}
