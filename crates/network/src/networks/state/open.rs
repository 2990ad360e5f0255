//! A network that is set up: what it is made of and what it has given out.

use std::net::IpAddr;

use crate::address_pool::AddressPool;
use crate::config::{NetworkConfig, gateway_name};
use crate::error::NetworkError;
use crate::firewall::{BridgeRules, FamilyRules};
use crate::options::{BridgeOptions, GatewayMode, SubInterfaceOptions, SubMode};

/// A network that is set up.
pub(in crate::networks) struct Open {
    pub(in crate::networks) config: NetworkConfig,
    pub(in crate::networks) kind: Kind,
    pub(super) pools: Vec<AddressPool>,
}

/// How a network is made.
pub(in crate::networks) enum Kind {
    /// A bridge.
    Bridge {
        /// The device's name.
        device: String,
        /// The kernel's number of the device.
        index: u32,
        /// False for a bridge that was there before and stays.
        own: bool,
        /// True for a bridge that had its addresses before, too.
        keeps_addresses: bool,
        /// The driver's options.
        options: BridgeOptions,
    },
    /// Devices on another device.
    Sub {
        /// The parent's name.
        parent: String,
        /// The kernel's number of the parent.
        index: u32,
        /// Largest packet.
        mtu_bytes: u32,
        /// True for a parent that was made for this network.
        own: bool,
        /// The driver's options.
        options: SubInterfaceOptions,
    },
}

impl Open {
    /// Takes a network in; gateways and auxiliary addresses are taken.
    pub(in crate::networks) fn new(config: NetworkConfig, kind: Kind) -> Open {
        let pools = config
            .pools
            .iter()
            .map(|pool| {
                let mut reserved: Vec<IpAddr> = pool.auxiliary.values().copied().collect();
                reserved.extend(pool.gateway);
                AddressPool::new(pool.subnet, pool.range, &reserved)
            })
            .collect();
        Open {
            config,
            kind,
            pools,
        }
    }

    /// Returns the number of the bridge.
    pub(in crate::networks) fn index(&self) -> Option<u32> {
        match self.kind {
            Kind::Bridge { index, .. } => Some(index),
            Kind::Sub { .. } => None,
        }
    }

    /// Returns the number of the bridge if all its ports are ours.
    pub(in crate::networks) fn own_index(&self) -> Option<u32> {
        match self.kind {
            Kind::Bridge {
                index, own: true, ..
            } => Some(index),
            _ => None,
        }
    }

    /// Returns the device the network lies on.
    pub(in crate::networks) fn device(&self) -> &str {
        match &self.kind {
            Kind::Bridge { device, .. } => device,
            Kind::Sub { parent, .. } => parent,
        }
    }

    /// Tells whether interfaces have hardware addresses of their own; those of ipvlan have their parent's.
    pub(super) fn has_own_macs(&self) -> bool {
        !matches!(&self.kind, Kind::Sub { options, .. } if matches!(options.mode, SubMode::Ipvlan(..)))
    }

    /// Returns the start of interface names in containers.
    pub(in crate::networks) fn interface_prefix(&self) -> &str {
        match &self.kind {
            Kind::Bridge { options, .. } => &options.interface_prefix,
            Kind::Sub { options, .. } => &options.interface_prefix,
        }
    }

    /// Returns the gateway that a container with this address uses, that of its own subnet; none leads out of an
    /// internal network.
    pub(super) fn gateway(&self, address: IpAddr) -> Option<IpAddr> {
        let ipv6 = address.is_ipv6();
        let isolated = match &self.kind {
            Kind::Bridge { options, .. } => options.mode(ipv6) == GatewayMode::Isolated,
            Kind::Sub { options, .. } => options.is_layer3(),
        };
        if self.config.internal || isolated {
            return None;
        }
        self.config
            .pools_of(ipv6)
            .find(|pool| pool.subnet.contains(address))
            .and_then(|pool| {
                let other = pool.auxiliary.get(gateway_name(ipv6));
                let is_bridge = matches!(self.kind, Kind::Bridge { .. });
                other.filter(|_| is_bridge).copied().or(pool.gateway)
            })
    }

    /// Tells whether containers leave straight out of their device, without a gateway.
    pub(in crate::networks) fn leaves_without_gateway(&self) -> bool {
        match &self.kind {
            Kind::Bridge { .. } => false,
            Kind::Sub { options, .. } => options.is_layer3() && !self.config.internal,
        }
    }

    /// Takes an address of a family: the wanted one, or the lowest free one of the first pool that has one.
    pub(super) fn take(
        &mut self,
        ipv6: bool,
        wanted: Option<IpAddr>,
    ) -> Result<Option<(IpAddr, u8)>, NetworkError> {
        let mut pools = self
            .pools
            .iter_mut()
            .zip(&self.config.pools)
            .filter(|(pool, _)| pool.subnet().is_ipv6() == ipv6)
            .peekable();
        let Some(address) = wanted else {
            let mut last = Ok(None);
            for (pool, _) in pools {
                match pool.allocate() {
                    Ok(address) => return Ok(Some((address, pool.subnet().prefix_length()))),
                    Err(error) => last = Err(error),
                }
            }
            return last;
        };
        let first = pools.peek().map(|(pool, _)| pool.subnet());
        match pools.find(|(pool, _)| pool.subnet().contains(address)) {
            Some((pool, config)) if config.chosen => {
                pool.reserve(address)?;
                Ok(Some((address, pool.subnet().prefix_length())))
            }
            Some(_) => Err(NetworkError::AddressNotChoosable),
            None => match first {
                Some(subnet) => Err(NetworkError::AddressOutside { address, subnet }),
                None => Err(NetworkError::InvalidRequest {
                    reason: format!("network {} has no subnet for {address}", self.config.name),
                }),
            },
        }
    }

    pub(super) fn release(&mut self, address: IpAddr) {
        for pool in &mut self.pools {
            if pool.subnet().contains(address) {
                pool.release(address);
            }
        }
    }

    pub(super) fn rules(&self) -> Option<BridgeRules> {
        let Kind::Bridge {
            device, options, ..
        } = &self.kind
        else {
            return None;
        };
        let families = self
            .config
            .pools
            .iter()
            .map(|pool| {
                let ipv6 = pool.subnet.is_ipv6();
                FamilyRules {
                    subnet: pool.subnet,
                    gateway: pool.gateway,
                    mode: options.mode(ipv6),
                    host_address: if ipv6 {
                        options.host_ipv6.map(IpAddr::V6)
                    } else {
                        options.host_ipv4.map(IpAddr::V4)
                    },
                }
            })
            .collect();
        Some(BridgeRules {
            device: device.clone(),
            internal: self.config.internal,
            icc: options.icc,
            masquerade: options.masquerade,
            trusted_interfaces: options.trusted_interfaces.clone(),
            families,
        })
    }
}
