//! Choosing the subnets of a network, and its gateways.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::config::{Driver, NetworkConfig, NetworkRequest, Pool, PoolRequest, gateway_name};
use crate::error::NetworkError;
use crate::netlink::Netlink;
use crate::networks::Inner;
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
