//! What an administrator sets for networks: the default bridge, address pools, defaults of new networks.

use crate::error::{EngineError, Result};
use crate::model::network::{IpamConfig, Prefix};
use std::collections::BTreeMap;
use std::net::IpAddr;
use wharf_network::{AddressPoolBase, gateway_name};

/// Holds the settings of networks. Those of the default bridge count from the start at which no
/// container is on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkSettings {
    /// Which bridge the default network lies on.
    pub bridge: DefaultBridge,
    /// Subnets for networks whose user chose none: a base and the length of its parts; empty means
    /// docker's.
    pub address_pools: Vec<(Prefix, u8)>,
    /// Address and subnet of the default bridge.
    pub bip: Option<Prefix>,
    /// The same for IPv6.
    pub bip6: Option<Prefix>,
    /// Part of the default bridge's subnet that addresses are taken from.
    pub fixed_cidr: Option<Prefix>,
    /// The same for IPv6; gives the bridge a subnet if `bip6` does not.
    pub fixed_cidr_v6: Option<Prefix>,
    /// The gateway of containers on the default bridge, where it is not the bridge.
    pub gateway: Option<IpAddr>,
    /// The same for IPv6.
    pub gateway_v6: Option<IpAddr>,
    /// Whether the default bridge gives out IPv6 addresses.
    pub ipv6: bool,
    /// Largest packet on the default bridge, in bytes.
    pub mtu: Option<u32>,
    /// Whether containers on the default bridge reach each other; None means yes.
    pub icc: Option<bool>,
    /// Whether containers on the default bridge leave with the host's address; None means yes.
    pub masquerade: Option<bool>,
    /// Options of new networks by driver, where they do not set them.
    pub default_options: BTreeMap<String, BTreeMap<String, String>>,
    /// What `host-gateway` means in extra hosts; empty means the default bridge's address.
    pub host_gateways: Vec<IpAddr>,
}

/// The bridge that the default network lies on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DefaultBridge {
    /// One that the engine makes.
    #[default]
    Own,
    /// A device of the user's: it has to be there, its addresses say the subnets, and the engine leaves it as it is.
    Users(String),
    /// None: there is no default network, and containers that name no network have none.
    Absent,
}

impl DefaultBridge {
    /// Reads docker's setting `bridge`.
    pub fn from_name(name: &str) -> Self {
        match name {
            "" => Self::Own,
            "none" => Self::Absent,
            name => Self::Users(name.to_owned()),
        }
    }
}

/// Subnets of one engine's pools.
const MAX_POOLS: usize = 128;

impl NetworkSettings {
    /// Returns the settings without those that count for what is made from now on.
    #[must_use]
    pub fn of_the_start(&self) -> Self {
        Self {
            default_options: BTreeMap::new(),
            host_gateways: Vec::new(),
            ..self.clone()
        }
    }

    /// Refuses what no bridge could be made of.
    ///
    /// # Errors
    /// One line that starts with the setting's name.
    pub(crate) fn check(&self) -> Result<()> {
        let fail = |text: String| Err(EngineError::invalid(text));
        if self.address_pools.len() > MAX_POOLS {
            return fail(format!(
                "default-address-pools: {} pools, at most {MAX_POOLS}",
                self.address_pools.len()
            ));
        }
        for (base, size) in &self.address_pools {
            let longest = if base.address.is_ipv6() { 128 } else { 32 };
            if *size < base.length || *size > longest {
                return fail(format!(
                    "default-address-pools: size {size} of {base}: expected {} to {longest}",
                    base.length
                ));
            }
        }
        for (name, prefix, ipv6) in [
            ("bip", self.bip, false),
            ("bip6", self.bip6, true),
            ("fixed-cidr", self.fixed_cidr, false),
            ("fixed-cidr-v6", self.fixed_cidr_v6, true),
            ("default-gateway", self.gateway.map(host_prefix), false),
            ("default-gateway-v6", self.gateway_v6.map(host_prefix), true),
        ] {
            if let Some(prefix) = prefix
                && prefix.address.is_ipv6() != ipv6
            {
                let family = if ipv6 { 6 } else { 4 };
                return fail(format!("{name}: {prefix} is not of IPv{family}"));
            }
        }
        if self.bridge != DefaultBridge::Own && (self.bip.is_some() || self.bip6.is_some()) {
            return fail(
                "bip: it says the address of the engine's own bridge, and bridge names another: set only one".to_owned(),
            );
        }
        if let (Some(bip), Some(range)) = (self.bip, self.fixed_cidr)
            && (range.length < bip.length || !bip.masked().contains(range.address))
        {
            return fail(format!("fixed-cidr: {range} is not part of bip {bip}"));
        }
        for (name, gateway, subnet) in [
            (
                "default-gateway",
                self.gateway,
                self.bip.or(self.fixed_cidr),
            ),
            (
                "default-gateway-v6",
                self.gateway_v6,
                self.bip6.or(self.fixed_cidr_v6),
            ),
        ] {
            if let (Some(gateway), Some(subnet)) = (gateway, subnet)
                && !subnet.masked().contains(gateway)
            {
                return fail(format!("{name}: {gateway} is not part of {subnet}"));
            }
        }
        Ok(())
    }

    /// Returns the settings with the addresses of the user's bridge, the first of each family, as those that the default
    /// bridge is to have.
    ///
    /// # Errors
    /// A bridge that is not there, and a range that is not part of its subnet.
    pub(super) fn with_users_addresses(&self) -> Result<Self> {
        let DefaultBridge::Users(name) = &self.bridge else {
            return Ok(self.clone());
        };
        let wrong = |text: String| EngineError::invalid(format!("bridge: {text}"));
        let addresses =
            wharf_network::addresses_of_bridge(name).map_err(|error| wrong(error.to_string()))?;
        let first = |ipv6: bool| {
            let own = addresses
                .iter()
                .find(|(address, _)| address.is_ipv6() == ipv6);
            own.map(|&(address, length)| Prefix { address, length })
        };
        // A bridge without addresses gets some, as one of the engine's own does.
        let settings = Self {
            bridge: DefaultBridge::Own,
            bip: first(false),
            bip6: first(true).filter(|_| self.bridge_has_ipv6()),
            ..self.clone()
        };
        settings.check()?;
        Ok(Self {
            bridge: self.bridge.clone(),
            ..settings
        })
    }

    /// Returns the pools that subnets are taken from, given the engine's own of IPv6.
    pub(super) fn pools(&self, own_ipv6: AddressPoolBase) -> Vec<AddressPoolBase> {
        let mut pools: Vec<AddressPoolBase> = self
            .address_pools
            .iter()
            .map(|(base, size)| AddressPoolBase {
                base: base.masked(),
                size: *size,
            })
            .collect();
        if pools.iter().all(|pool| pool.base.is_ipv6()) {
            pools.extend(AddressPoolBase::docker());
        }
        if pools.iter().all(|pool| !pool.base.is_ipv6()) {
            pools.push(own_ipv6);
        }
        pools
    }

    /// Tells whether the default bridge gives out IPv6 addresses.
    pub(super) fn bridge_has_ipv6(&self) -> bool {
        self.ipv6 || self.bip6.is_some() || self.fixed_cidr_v6.is_some()
    }

    /// Returns the subnets of the default bridge that are set.
    pub(super) fn bridge_subnets(&self) -> Vec<IpamConfig> {
        let config = |own: Option<Prefix>, range: Option<Prefix>, gateway: Option<IpAddr>| {
            let subnet = own.or(range);
            if subnet.is_none() && gateway.is_none() {
                return None;
            }
            // What containers use as their gateway is an address that nobody gets, as docker has it.
            let gateway = gateway.map(|gateway| (gateway_name(gateway.is_ipv6()), gateway));
            Some(IpamConfig {
                subnet: subnet.map(|subnet| Prefix {
                    address: subnet.masked().network(),
                    length: subnet.length,
                }),
                ip_range: range.filter(|_| own.is_some()),
                gateway: own.map(|own| own.address),
                auxiliary: gateway
                    .map(|(name, gateway)| (name.to_owned(), gateway))
                    .into_iter()
                    .collect(),
            })
        };
        [
            config(self.bip, self.fixed_cidr, self.gateway),
            config(self.bip6, self.fixed_cidr_v6, self.gateway_v6),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Returns the options of the default bridge but for its device's name, as inspect shows them.
    pub(super) fn bridge_options(&self, publish_address: &str) -> BTreeMap<String, String> {
        let binding = match publish_address {
            "" => "0.0.0.0",
            address => address,
        };
        let bridge = |key: &str| format!("com.docker.network.bridge.{key}");
        BTreeMap::from([
            (bridge("default_bridge"), "true".to_owned()),
            (bridge("enable_icc"), self.icc.unwrap_or(true).to_string()),
            (
                bridge("enable_ip_masquerade"),
                self.masquerade.unwrap_or(true).to_string(),
            ),
            (bridge("host_binding_ipv4"), binding.to_owned()),
            (
                "com.docker.network.driver.mtu".to_owned(),
                self.mtu.unwrap_or(1500).to_string(),
            ),
        ])
    }
}

fn host_prefix(address: IpAddr) -> Prefix {
    Prefix {
        address,
        length: if address.is_ipv6() { 128 } else { 32 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::parse(text).unwrap()
    }

    #[test]
    fn the_default_bridge_follows_the_settings() {
        let settings = NetworkSettings {
            bip: Some(prefix("10.9.0.1/16")),
            fixed_cidr: Some(prefix("10.9.8.0/24")),
            fixed_cidr_v6: Some(prefix("fd00:1::/64")),
            gateway: "10.9.0.254".parse().ok(),
            mtu: Some(1400),
            icc: Some(false),
            ..NetworkSettings::default()
        };
        settings.check().unwrap();
        let subnets = settings.bridge_subnets();
        assert_eq!(subnets[0].subnet, Some(prefix("10.9.0.0/16")));
        assert_eq!(subnets[0].ip_range, Some(prefix("10.9.8.0/24")));
        assert_eq!(subnets[0].gateway, Some(prefix("10.9.0.1/16").address));
        assert_eq!(
            subnets[0].auxiliary.get("DefaultGatewayIPv4"),
            settings.gateway.as_ref()
        );
        assert_eq!(subnets[1].subnet, Some(prefix("fd00:1::/64")));
        assert!(subnets[1].auxiliary.is_empty());
        assert!(settings.bridge_has_ipv6());
        let options = settings.bridge_options("127.0.0.1");
        assert_eq!(options["com.docker.network.driver.mtu"], "1400");
        assert_eq!(options["com.docker.network.bridge.enable_icc"], "false");
        assert_eq!(
            options["com.docker.network.bridge.host_binding_ipv4"],
            "127.0.0.1"
        );
    }

    #[test]
    fn pools_replace_docker_s_family_by_family() {
        let own = wharf_network::local_ipv6_pools([1; 5]);
        let mut settings = NetworkSettings::default();
        assert_eq!(
            settings.pools(own).len(),
            AddressPoolBase::docker().len() + 1
        );
        settings.address_pools = vec![(prefix("10.0.0.0/8"), 24)];
        let pools = settings.pools(own);
        assert_eq!((pools.len(), pools[0].size, pools[1]), (2, 24, own));
    }

    #[test]
    fn mistakes_name_the_setting() {
        let pools = |base: &str, size| NetworkSettings {
            address_pools: vec![(prefix(base), size)],
            ..NetworkSettings::default()
        };
        let ranges = |bip: &str, range: &str| NetworkSettings {
            bip: Some(prefix(bip)),
            fixed_cidr: Some(prefix(range)),
            ..NetworkSettings::default()
        };
        let gateway = |bip: Option<&str>, gateway: &str| NetworkSettings {
            bip: bip.map(prefix),
            gateway: gateway.parse().ok(),
            ..NetworkSettings::default()
        };
        for (settings, name) in [
            (gateway(Some("10.9.0.1/16"), "10.8.0.1"), "default-gateway"),
            (gateway(None, "fd00::1"), "default-gateway"),
            (pools("10.0.0.0/16", 8), "default-address-pools"),
            (pools("10.0.0.0/16", 33), "default-address-pools"),
            (ranges("10.9.0.1/16", "10.8.0.0/24"), "fixed-cidr"),
            (ranges("fd00::1/64", "10.8.0.0/24"), "bip"),
        ] {
            let error = settings.check().unwrap_err();
            assert!(error.message().starts_with(name), "{}", error.message());
        }
        let both = NetworkSettings {
            bridge: DefaultBridge::from_name("br7"),
            ..ranges("10.9.0.1/16", "10.9.1.0/24")
        };
        assert!(both.check().unwrap_err().message().starts_with("bip: "));
        let absent = NetworkSettings {
            bridge: DefaultBridge::from_name("no-such-bridge"),
            ..NetworkSettings::default()
        };
        let error = absent.with_users_addresses().unwrap_err();
        assert!(
            error
                .message()
                .starts_with("bridge: no device no-such-bridge")
        );
        let too_many = NetworkSettings {
            address_pools: vec![(prefix("10.0.0.0/16"), 24); MAX_POOLS + 1],
            ..NetworkSettings::default()
        };
        assert!(too_many.check().is_err());
    }
}
