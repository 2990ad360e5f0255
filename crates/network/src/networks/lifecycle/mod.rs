//! Making, adopting and removing networks.

use std::collections::HashSet;
use std::net::IpAddr;

use super::state::{Kind, Open};
use super::{Inner, Networks, open_netlink};
use crate::bridge::{self, BridgePlan};
use crate::config::{Driver, NetworkConfig, NetworkRequest, Pool, PoolRequest, gateway_name};
use crate::endpoint::is_identifier;
use crate::error::NetworkError;
use crate::netlink::{Link, Netlink};
use crate::options::{BridgeOptions, GatewayMode, SubInterfaceOptions, SubMode};
use crate::subnet::Subnet;
use crate::subnet_choice::{self, ChoiceLock};

/// Tries to find a subnet while another program takes the ones found.
const MAX_CHOICES: usize = 8;
/// Most subnets of one network.
const MAX_POOLS: usize = 64;
/// Most auxiliary addresses of one subnet.
const MAX_AUXILIARY_ADDRESSES: usize = 4096;

impl Networks {
    /// Makes a network: chooses subnets where the user did not, makes devices and rules. Either
    /// all of it is done or nothing is left.
    ///
    /// # Errors
    /// [`NetworkError::InvalidNetwork`], [`NetworkError::InvalidOption`],
    /// [`NetworkError::PoolOverlap`], [`NetworkError::SubnetInUse`],
    /// [`NetworkError::NoFreeSubnet`], [`NetworkError::BridgeNameTaken`],
    /// [`NetworkError::NoParent`], errors of devices and rules.
    pub fn create(&self, request: NetworkRequest) -> Result<NetworkConfig, NetworkError> {
        let inner = &self.inner;
        validate(&request)?;
        let _gate = inner.lifecycle();
        let open = match request.driver {
            Driver::Bridge => inner.create_bridge(&request)?,
            Driver::Macvlan | Driver::Ipvlan => inner.create_sub(&request)?,
        };
        let config = open.config.clone();
        inner.lock().networks.insert(config.id.clone(), open);
        if let Err(error) = inner.install() {
            let open = inner.lock().networks.remove(&config.id);
            if let (Some(open), Ok(mut netlink)) = (open, open_netlink()) {
                // The first error is the one to report.
                let _ = remove_devices(&mut netlink, &open);
            }
            return Err(error);
        }
        Ok(config)
    }

    /// Removes a network that no container is on; one that is not there is no failure.
    ///
    /// # Errors
    /// [`NetworkError::NetworkInUse`], [`NetworkError::Netlink`], [`NetworkError::Ruleset`].
    pub fn remove(&self, network_id: &str) -> Result<(), NetworkError> {
        let inner = &self.inner;
        let _gate = inner.lifecycle();
        let open = {
            let mut state = inner.lock();
            state.dormant.remove(network_id);
            let Some(network) = state.networks.get(network_id) else {
                return Ok(());
            };
            if state
                .endpoints
                .values()
                .any(|endpoint| endpoint.network_id == network_id)
            {
                return Err(NetworkError::NetworkInUse {
                    name: network.config.name.clone(),
                });
            }
            state.networks.remove(network_id)
        };
        // Rules go first: they must not name what belongs to somebody else by then.
        let installed = inner.install();
        // Host ends of containers that are gone would keep the bridge's number in use.
        inner.reaper.flush();
        let removed = match open {
            Some(open) => remove_devices(&mut open_netlink()?, &open),
            None => Ok(()),
        };
        installed.and(removed)
    }
}

impl Inner {
    /// Sets a network up that an earlier daemon made.
    pub(super) fn open_network(&self, config: NetworkConfig) -> Result<(), NetworkError> {
        let open = match config.driver {
            Driver::Bridge => self.adopt_bridge(config)?,
            Driver::Macvlan | Driver::Ipvlan => self.open_sub(config)?,
        };
        let mut state = self.lock();
        state.dormant.remove(&open.config.id);
        state.networks.insert(open.config.id.clone(), open);
        Ok(())
    }

    /// Sets a network up that could not be set up at the start.
    pub(super) fn wake(&self, network_id: &str) -> Result<(), NetworkError> {
        let config = self.lock().dormant.get(network_id).cloned();
        let Some(config) = config else { return Ok(()) };
        let _gate = self.lifecycle();
        self.open_network(config)?;
        self.install()
    }

    fn create_bridge(&self, request: &NetworkRequest) -> Result<Open, NetworkError> {
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

    /// Completes the pools of a request.
    fn choose(
        &self,
        netlink: &mut Netlink,
        request: &NetworkRequest,
        own_index: u32,
    ) -> Result<NetworkConfig, NetworkError> {
        let others = self.lock().subnets(&request.id);
        let taken: Vec<Subnet> = others.iter().map(|(_, subnet)| *subnet).collect();
        let mut pools = Vec::new();
        for (ipv6, wanted) in [(false, request.ipv4), (true, request.ipv6)] {
            if !wanted {
                continue;
            }
            let asked: Vec<&PoolRequest> = request
                .pools
                .iter()
                .filter(|pool| is_of_family(pool, ipv6))
                .collect();
            let chosen: Vec<&PoolRequest> = asked
                .iter()
                .copied()
                .filter(|pool| pool.subnet.is_some())
                .collect();
            for pool in &chosen {
                let Some(subnet) = pool.subnet else { continue };
                if let Some(other) = taken.iter().find(|other| other.overlaps(&subnet)) {
                    return Err(NetworkError::PoolOverlap {
                        subnet,
                        other: *other,
                    });
                }
                // A macvlan network is meant to be part of the parent's subnet.
                if request.driver == Driver::Bridge
                    && let Some(other) = subnet_choice::conflict(netlink, own_index, subnet)?
                {
                    return Err(NetworkError::SubnetInUse { subnet, other });
                }
                pools.push(complete(pool, subnet, true));
            }
            if chosen.is_empty() {
                let default = PoolRequest::default();
                let subnet = subnet_choice::first_free(
                    netlink,
                    &self.options.pools,
                    ipv6,
                    own_index,
                    &taken,
                )?;
                pools.push(complete(
                    asked.first().copied().unwrap_or(&default),
                    subnet,
                    false,
                ));
            }
        }
        check_auxiliary(&pools)?;
        Ok(NetworkConfig {
            id: request.id.clone(),
            name: request.name.clone(),
            driver: request.driver,
            internal: request.internal,
            pools,
            options: request.options.clone(),
        })
    }

    fn adopt_bridge(&self, config: NetworkConfig) -> Result<Open, NetworkError> {
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
        let own = created || is_default || link.alias == plan.alias;
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
                options,
            },
        ))
    }

    fn create_sub(&self, request: &NetworkRequest) -> Result<Open, NetworkError> {
        // Reading the options first: nothing is chosen for a request that cannot be.
        sub_options(request.driver, &request.options)?;
        let config = self.choose(&mut open_netlink()?, request, 0)?;
        self.open_sub(config)
    }

    fn open_sub(&self, config: NetworkConfig) -> Result<Open, NetworkError> {
        let options = sub_options(config.driver, &config.options)?;
        let mut netlink = open_netlink()?;
        let alias = self.alias();
        let (parent, made) = ensure_parent(&mut netlink, &options, &config.id, &alias)?;
        let mtu_bytes = options.mtu_bytes.unwrap_or(parent.mtu_bytes);
        Ok(Open::new(
            config,
            Kind::Sub {
                own: made || parent.alias == alias,
                parent: parent.name,
                index: parent.index,
                mtu_bytes,
                options,
            },
        ))
    }

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
        }
    }

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

/// Removes the devices of a network, but for those that were there before it.
pub(super) fn remove_devices(netlink: &mut Netlink, network: &Open) -> Result<(), NetworkError> {
    match &network.kind {
        Kind::Bridge {
            device, own: true, ..
        }
        | Kind::Sub {
            parent: device,
            own: true,
            ..
        } => netlink
            .delete_link(device)
            .map_err(NetworkError::netlink(format!("remove device {device}"))),
        Kind::Bridge {
            device,
            index,
            options,
            ..
        } => {
            for (address, subnet) in bridge_addresses(&network.config, options) {
                match netlink.delete_address(*index, address, subnet.prefix_length()) {
                    Err(error)
                        if !matches!(
                            error.raw_os_error(),
                            Some(libc::EADDRNOTAVAIL | libc::ENODEV)
                        ) =>
                    {
                        return Err(NetworkError::netlink(format!(
                            "take address {address} from bridge {device}"
                        ))(error));
                    }
                    _ => {}
                }
            }
            Ok(())
        }
        Kind::Sub { .. } => Ok(()),
    }
}

/// Returns the addresses the host has on a bridge.
fn bridge_addresses(config: &NetworkConfig, options: &BridgeOptions) -> Vec<(IpAddr, Subnet)> {
    config
        .pools
        .iter()
        .filter(|pool| {
            let ipv6 = pool.subnet.is_ipv6();
            options.mode(ipv6) != GatewayMode::Isolated && (ipv6 || !options.inhibit_ipv4)
        })
        .map(|pool| (pool.gateway, pool.subnet))
        .collect()
}

fn sub_options(
    driver: Driver,
    options: &std::collections::BTreeMap<String, String>,
) -> Result<SubInterfaceOptions, NetworkError> {
    match driver {
        Driver::Ipvlan => SubInterfaceOptions::ipvlan(options),
        Driver::Macvlan | Driver::Bridge => SubInterfaceOptions::macvlan(options),
    }
}

/// Finds the parent of a macvlan or ipvlan network; makes the VLAN `name.id` of a device that is
/// there, and a device that leads nowhere when none was given.
fn ensure_parent(
    netlink: &mut Netlink,
    options: &SubInterfaceOptions,
    id: &str,
    alias: &str,
) -> Result<(Link, bool), NetworkError> {
    let look_up = |netlink: &mut Netlink, name: &str| {
        netlink
            .link_by_name(name)
            .map_err(NetworkError::netlink(format!("look up device {name}")))
    };
    let prefix = match options.mode {
        SubMode::Macvlan(_) => "dm",
        SubMode::Ipvlan(..) => "di",
    };
    let name = options
        .parent
        .clone()
        .unwrap_or_else(|| format!("{prefix}-{}", id.get(..12).unwrap_or(id)));
    if let Some(link) = look_up(netlink, &name)? {
        return Ok((link, false));
    }
    let missing = || NetworkError::NoParent { name: name.clone() };
    if options.parent.is_none() {
        netlink
            .create_dummy(&name)
            .map_err(NetworkError::netlink(format!("create device {name}")))?;
    } else {
        let (base, vlan) = name.rsplit_once('.').ok_or_else(missing)?;
        let vlan: u16 = vlan
            .parse()
            .ok()
            .filter(|vlan| (1..=4094).contains(vlan))
            .ok_or_else(missing)?;
        let base = look_up(netlink, base)?.ok_or_else(missing)?;
        netlink
            .create_vlan(&name, base.index, vlan)
            .map_err(NetworkError::netlink(format!("create VLAN device {name}")))?;
    }
    let link = look_up(netlink, &name)?.ok_or_else(missing)?;
    netlink
        .set_alias(link.index, alias)
        .map_err(NetworkError::netlink(format!("mark device {name}")))?;
    Ok((link, true))
}

fn complete(request: &PoolRequest, subnet: Subnet, chosen: bool) -> Pool {
    Pool {
        subnet,
        range: request.range,
        gateway: request
            .gateway
            .unwrap_or_else(|| default_gateway(subnet, request.range)),
        auxiliary: request.auxiliary.clone(),
        chosen,
    }
}

/// Returns the first address that may be given out, as docker has it: that of the range where there is one.
fn default_gateway(subnet: Subnet, range: Option<Subnet>) -> IpAddr {
    match range.map(|range| range.network()) {
        Some(first) if first != subnet.network() && subnet.contains(first) => first,
        _ => subnet.gateway(),
    }
}

/// Tells whether a pool belongs to a family; one that names no address is of IPv4, as docker has it.
fn is_of_family(pool: &PoolRequest, ipv6: bool) -> bool {
    let named = pool
        .subnet
        .map(|subnet| subnet.is_ipv6())
        .or(pool.range.map(|range| range.is_ipv6()))
        .or(pool.gateway.map(|gateway| gateway.is_ipv6()))
        .or(pool.auxiliary.values().next().map(IpAddr::is_ipv6));
    named.unwrap_or(false) == ipv6
}

/// Refuses auxiliary addresses that are taken, and a gateway of containers that they could not reach.
fn check_auxiliary(pools: &[Pool]) -> Result<(), NetworkError> {
    for pool in pools {
        let mut taken = HashSet::from([pool.gateway]);
        for (name, address) in &pool.auxiliary {
            if !taken.insert(*address) {
                return Err(NetworkError::InvalidNetwork {
                    reason: format!(
                        "failed to allocate secondary ip address ({name}:{address}): Address already in use"
                    ),
                });
            }
        }
        let gateway = pool.auxiliary.get(gateway_name(pool.subnet.is_ipv6()));
        if let Some(gateway) = gateway.filter(|gateway| !pool.subnet.contains(**gateway)) {
            return Err(NetworkError::InvalidNetwork {
                reason: format!(
                    "default gateway {gateway} is not part of subnet {}",
                    pool.subnet
                ),
            });
        }
    }
    Ok(())
}

fn check_single_pools(request: &NetworkRequest) -> Result<(), NetworkError> {
    for ipv6 in [false, true] {
        let count = request
            .pools
            .iter()
            .filter(|pool| is_of_family(pool, ipv6))
            .count();
        if count > 1 {
            return Err(NetworkError::InvalidNetwork {
                reason: "bridge driver doesn't support multiple subnets".to_owned(),
            });
        }
    }
    Ok(())
}

fn validate(request: &NetworkRequest) -> Result<(), NetworkError> {
    let invalid = |reason: String| Err(NetworkError::InvalidNetwork { reason });
    if !is_identifier(&request.id) {
        return invalid(format!(
            "network id {:?} is not 64 hexadecimal digits",
            request.id
        ));
    }
    if !request.ipv4 && !request.ipv6 {
        return invalid("IPv4 or IPv6 must be enabled".to_owned());
    }
    if request.pools.len() > MAX_POOLS {
        return invalid(format!(
            "{} subnets, at most {MAX_POOLS} are possible",
            request.pools.len()
        ));
    }
    let mut subnets: Vec<Subnet> = Vec::new();
    for pool in &request.pools {
        if pool.auxiliary.len() > MAX_AUXILIARY_ADDRESSES {
            return invalid(format!(
                "{} auxiliary addresses, at most {MAX_AUXILIARY_ADDRESSES} are possible",
                pool.auxiliary.len()
            ));
        }
        let Some(subnet) = pool.subnet else { continue };
        if let Some(other) = subnets.iter().find(|other| other.overlaps(&subnet)) {
            return Err(NetworkError::PoolOverlap {
                subnet,
                other: *other,
            });
        }
        subnets.push(subnet);
    }
    Ok(())
}
