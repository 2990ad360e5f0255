//! Making, adopting and removing networks.

mod bridges;
mod pools;
mod sub_interfaces;

use crate::config::{Driver, NetworkConfig, NetworkRequest};
use crate::endpoint::{Endpoint, is_identifier};
use crate::error::NetworkError;
use crate::netlink::Netlink;
use crate::networks::lifecycle::bridges::bridge_addresses;
use crate::networks::state::{Kind, Open};
use crate::networks::{Inner, Networks, open_netlink};
use crate::subnet::Subnet;

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

    /// Makes the bridge of a network again if somebody has removed it, with the containers that are on it.
    pub(super) fn mend(&self, network_id: &str) -> Result<(), NetworkError> {
        let mut netlink = open_netlink()?;
        if !self.has_lost_bridge(&mut netlink, network_id)? {
            return Ok(());
        }
        let _gate = self.lifecycle();
        // Somebody else may have mended it meanwhile.
        if !self.has_lost_bridge(&mut netlink, network_id)? {
            return Ok(());
        }
        let config = self
            .lock()
            .networks
            .get(network_id)
            .map(|open| open.config.clone());
        let Some(config) = config else { return Ok(()) };
        self.open_network(config)?;
        self.put_endpoints_back(&mut netlink, network_id)?;
        self.install()
    }

    /// Gives the endpoints of a network that was opened anew their addresses and their places on its bridge.
    fn put_endpoints_back(
        &self,
        netlink: &mut Netlink,
        network_id: &str,
    ) -> Result<Vec<Endpoint>, NetworkError> {
        let (index, endpoints) = {
            let mut state = self.lock();
            let index = state.networks.get(network_id).and_then(Open::index);
            (index, state.adopt_again(network_id))
        };
        let host_ends = endpoints.iter().map(|endpoint| &endpoint.host_interface);
        for name in host_ends.filter(|name| !name.is_empty()) {
            // A host end that is gone too leaves its container without a way, until it is connected again.
            if let (Some(index), Ok(Some(link))) = (index, netlink.link_by_name(name)) {
                netlink
                    .set_controller(link.index, index)
                    .map_err(NetworkError::netlink(format!(
                        "put device {name} back on its bridge"
                    )))?;
            }
        }
        Ok(endpoints)
    }

    fn has_lost_bridge(
        &self,
        netlink: &mut Netlink,
        network_id: &str,
    ) -> Result<bool, NetworkError> {
        let (device, index) = {
            let state = self.lock();
            let Some(open) = state.networks.get(network_id) else {
                return Ok(false);
            };
            let Some(index) = open.index() else {
                return Ok(false);
            };
            (open.device().to_owned(), index)
        };
        let link = netlink
            .link_by_name(&device)
            .map_err(NetworkError::netlink(format!("look up device {device}")))?;
        Ok(link.is_none_or(|link| link.index != index))
    }

    /// Sets a network up that could not be set up at the start.
    pub(super) fn wake(&self, network_id: &str) -> Result<(), NetworkError> {
        if !self.lock().dormant.contains_key(network_id) {
            return Ok(());
        }
        let mut netlink = open_netlink()?;
        let _gate = self.lifecycle();
        // Somebody else may have done it meanwhile.
        let config = self.lock().dormant.get(network_id).cloned();
        let Some(config) = config else { return Ok(()) };
        self.open_network(config)?;
        for endpoint in self.put_endpoints_back(&mut netlink, network_id)? {
            self.register(&endpoint);
        }
        self.install()
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
            keeps_addresses: true,
            ..
        }
        | Kind::Sub { .. } => Ok(()),
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
    }
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
