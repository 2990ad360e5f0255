//! Making and adopting the bridge of a network.

use std::net::IpAddr;

use crate::bridge::{self, BridgePlan};
use crate::config::{NetworkConfig, NetworkRequest};
use crate::error::NetworkError;
use crate::netlink::{Link, Netlink};
use crate::networks::lifecycle::pools::check_single_pools;
use crate::networks::state::{Kind, Open};
use crate::networks::{Inner, open_netlink};
use crate::options::{BridgeOptions, GatewayMode};
use crate::subnet::Subnet;
use crate::subnet_choice::{self, ChoiceLock};

/// Tries to find a subnet while another program takes the ones found.
const MAX_CHOICES: usize = 8;

impl Inner {
    /// Makes a bridge, chooses its subnets and gives it its addresses.
    pub(super) fn create_bridge(&self, request: &NetworkRequest) -> Result<Open, NetworkError> {
        let options = BridgeOptions::parse(&request.options, request.internal)?;
        check_single_pools(request)?;
        let plan = self.bridge_plan(&request.id, &options, request.ipv6);
        self.check_bridge_name(&plan.device, &request.id)?;
        let mut netlink = open_netlink()?;
        if request.ipv6 {
            bridge::ensure_ipv6_forwarding(&mut netlink)?;
        }
        let (link, created) = bridge::ensure(&mut netlink, &plan)?;
        let own = created || link.alias == plan.alias;
        let claimed = self.claim(&mut netlink, request, &options, &link, own);
        match claimed {
            Ok(config) => Ok(Open::new(
                config,
                Kind::Bridge {
                    device: plan.device,
                    index: link.index,
                    own,
                    keeps_addresses: plan.is_users,
                    options,
                },
            )),
            Err(error) => {
                if created {
                    // The first error is the one to report.
                    let _ = netlink.delete_link(&plan.device);
                }
                Err(error)
            }
        }
    }

    /// Takes over or makes again the bridge of a network that an earlier daemon made.
    pub(super) fn adopt_bridge(&self, config: NetworkConfig) -> Result<Open, NetworkError> {
        let options = BridgeOptions::parse(&config.options, config.internal)?;
        let ipv6 = config.has_family(true);
        let plan = self.bridge_plan(&config.id, &options, ipv6);
        self.check_bridge_name(&plan.device, &config.id)?;
        let mut netlink = open_netlink()?;
        if ipv6 {
            bridge::ensure_ipv6_forwarding(&mut netlink)?;
        }
        let (link, created) = bridge::ensure(&mut netlink, &plan)?;
        let is_default = config.id == self.options.default_bridge_id;
        let own = created || (is_default && !plan.is_users) || link.alias == plan.alias;
        if own && link.alias != plan.alias {
            netlink
                .set_alias(link.index, &plan.alias)
                .map_err(NetworkError::netlink(format!("mark bridge {}", link.name)))?;
        }
        let wanted = bridge_addresses(&config, &options);
        let adopted = (|| {
            for (address, subnet) in &wanted {
                let present = bridge::addresses_of(&mut netlink, &link, subnet.is_ipv6())?;
                if !present.contains(&(*address, subnet.prefix_length()))
                    && let Some(other) = subnet_choice::conflict(&mut netlink, link.index, *subnet)?
                {
                    return Err(NetworkError::SubnetInUse {
                        subnet: *subnet,
                        other,
                    });
                }
            }
            bridge::ensure_addresses(&mut netlink, &link, own, &wanted)
        })();
        if let Err(error) = adopted {
            if created {
                // The first error is the one to report.
                let _ = netlink.delete_link(&plan.device);
            }
            return Err(error);
        }
        Ok(Open::new(
            config,
            Kind::Bridge {
                device: plan.device,
                index: link.index,
                own,
                keeps_addresses: plan.is_users,
                options,
            },
        ))
    }

    /// Chooses subnets and gives the bridge its addresses; starts over when another program takes
    /// a chosen subnet between the look and the claim.
    fn claim(
        &self,
        netlink: &mut Netlink,
        request: &NetworkRequest,
        options: &BridgeOptions,
        link: &Link,
        own: bool,
    ) -> Result<NetworkConfig, NetworkError> {
        let _lock = ChoiceLock::acquire();
        for _ in 0..MAX_CHOICES {
            let config = self.choose(netlink, request, link.index)?;
            let wanted = bridge_addresses(&config, options);
            bridge::ensure_addresses(netlink, link, own, &wanted)?;
            let mut taken = false;
            for (_, subnet) in &wanted {
                taken |= subnet_choice::conflict(netlink, link.index, *subnet)?.is_some();
            }
            if !taken {
                return Ok(config);
            }
            for (address, subnet) in wanted {
                netlink
                    .delete_address(link.index, address, subnet.prefix_length())
                    .map_err(NetworkError::netlink(format!(
                        "take address {address} from bridge {}",
                        link.name
                    )))?;
            }
        }
        Err(NetworkError::NoFreeSubnet)
    }

    /// Describes the bridge of a network.
    fn bridge_plan(&self, id: &str, options: &BridgeOptions, ipv6: bool) -> BridgePlan {
        let device = if id == self.options.default_bridge_id {
            self.options.default_bridge.clone()
        } else {
            options
                .device
                .clone()
                .unwrap_or_else(|| format!("br-{}", id.get(..12).unwrap_or(id)))
        };
        BridgePlan {
            device,
            alias: self.alias(),
            mtu_bytes: options.mtu_bytes,
            ipv6,
            answers_for_neighbours: !options.icc,
            is_users: self.is_users_bridge(id),
        }
    }

    /// Tells whether a network's bridge is a device of the user's that has to be there.
    fn is_users_bridge(&self, id: &str) -> bool {
        id == self.options.default_bridge_id && self.options.default_bridge_is_users
    }

    /// Refuses a device name that another network's bridge has.
    fn check_bridge_name(&self, device: &str, id: &str) -> Result<(), NetworkError> {
        let state = self.lock();
        let other = state.networks.values().find(|other| {
            other.config.id != id
                && matches!(&other.kind, Kind::Bridge { device: taken, .. } if taken == device)
        });
        match other {
            Some(other) => Err(NetworkError::BridgeNameTaken {
                id: other.config.id.clone(),
                device: device.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// Returns the addresses the host has on a bridge.
pub(super) fn bridge_addresses(
    config: &NetworkConfig,
    options: &BridgeOptions,
) -> Vec<(IpAddr, Subnet)> {
    config
        .pools
        .iter()
        .filter(|pool| {
            let ipv6 = pool.subnet.is_ipv6();
            options.mode(ipv6) != GatewayMode::Isolated && (ipv6 || !options.inhibit_ipv4)
        })
        .filter_map(|pool| Some((pool.gateway?, pool.subnet)))
        .collect()
}
