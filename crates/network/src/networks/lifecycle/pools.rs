//! Choosing the subnets of a network, and its gateways.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::config::{Driver, NetworkConfig, NetworkRequest, Pool, PoolRequest, gateway_name};
use crate::error::NetworkError;
use crate::netlink::Netlink;
use crate::networks::Inner;
use crate::options::{BridgeOptions, GatewayMode};
use crate::subnet::Subnet;
use crate::subnet_choice;

impl Inner {
    /// Completes the pools of a request.
    pub(super) fn choose(
        &self,
        netlink: &mut Netlink,
        request: &NetworkRequest,
        own_index: u32,
    ) -> Result<NetworkConfig, NetworkError> {
        let modes = gateway_modes(request)?;
        let others = self.lock().subnets(&request.id);
        let taken: Vec<Subnet> = others.iter().map(|(_, subnet)| *subnet).collect();
        let mut pools = Vec::new();
        let families = [(false, request.ipv4), (true, request.ipv6)];
        for ((ipv6, wanted), mode) in families.into_iter().zip(modes) {
            if !wanted {
                continue;
            }
            let has_gateway = mode != GatewayMode::Isolated;
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
                check_gateway(pool, subnet)?;
                pools.push(complete(pool, subnet, true, has_gateway));
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
                    has_gateway,
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
}

/// Refuses more than one subnet of a family, which a bridge cannot have.
pub(super) fn check_single_pools(request: &NetworkRequest) -> Result<(), NetworkError> {
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

fn complete(request: &PoolRequest, subnet: Subnet, chosen: bool, has_gateway: bool) -> Pool {
    Pool {
        subnet,
        range: request.range,
        gateway: request
            .gateway
            .or_else(|| has_gateway.then(|| default_gateway(subnet, request.range))),
        auxiliary: request.auxiliary.clone(),
        chosen,
    }
}

/// Returns the gateway modes of IPv4 and IPv6.
fn gateway_modes(request: &NetworkRequest) -> Result<[GatewayMode; 2], NetworkError> {
    if request.driver != Driver::Bridge {
        return Ok([GatewayMode::Nat; 2]);
    }
    let options = BridgeOptions::parse(&request.options, request.internal)?;
    Ok([options.mode(false), options.mode(true)])
}

/// Refuses a gateway that no device can have: the address of the subnet itself, and IPv4's broadcast address; and a
/// subnet of multicast, whose addresses name groups.
fn check_gateway(request: &PoolRequest, subnet: Subnet) -> Result<(), NetworkError> {
    let invalid = |reason: String| Err(NetworkError::InvalidNetwork { reason });
    if subnet.is_ipv6() && subnet.network().is_multicast() {
        return invalid(format!("multicast subnet '{subnet}' is not allowed"));
    }
    let is_single = subnet.network() == subnet.last();
    match request.gateway {
        Some(gateway) if !is_single && !subnet.is_for_devices(gateway) => invalid(format!(
            "failed to allocate gateway ({gateway}): Address already in use"
        )),
        None if is_single && subnet.is_ipv6() => {
            invalid("failed to allocate gateway (): no available addresses on this pool".to_owned())
        }
        _ => Ok(()),
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
        let mut taken: HashSet<IpAddr> = pool.gateway.into_iter().collect();
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
