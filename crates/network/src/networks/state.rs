//! What is given out: networks, addresses, ports, endpoints.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::address_pool::AddressPool;
use crate::config::{NetworkConfig, gateway_name};
use crate::endpoint::{Endpoint, EndpointRequest, InterfaceAddress};
use crate::error::NetworkError;
use crate::firewall::{AllowedLink, BridgeRules, FamilyRules, Rules};
use crate::options::{BridgeOptions, GatewayMode, SubInterfaceOptions};
use crate::port::PublishedPort;
use crate::port_allocator::PortAllocator;
use crate::subnet::Subnet;

/// Most endpoints that are gone and whose addresses are remembered.
const MAX_FORMER: usize = 4096;

/// Everything that is given out. The lock is never held while the kernel changes devices or rules.
#[derive(Default)]
pub(super) struct State {
    /// Networks that are set up, by identifier.
    pub(super) networks: HashMap<String, Open>,
    /// Networks that could not be set up when the daemon started.
    pub(super) dormant: HashMap<String, NetworkConfig>,
    /// Host ports.
    pub(super) ports: PortAllocator,
    /// Published ports by container.
    pub(super) published: HashMap<String, Vec<PublishedPort>>,
    /// Endpoints by their identifier.
    pub(super) endpoints: HashMap<String, Endpoint>,
    /// Addresses of endpoints that are gone, by network and container: one that starts again gets its own back, as
    /// with docker, while others get those that were free for longest.
    former: HashMap<(String, String), Vec<IpAddr>>,
    /// Exceptions of networks that keep containers apart, by the container that may reach.
    pub(super) links: HashMap<String, Vec<AllowedLink>>,
}

/// A network that is set up.
pub(super) struct Open {
    pub(super) config: NetworkConfig,
    pub(super) kind: Kind,
    pools: Vec<AddressPool>,
}

/// How a network is made.
pub(super) enum Kind {
    /// A bridge.
    Bridge {
        /// The device's name.
        device: String,
        /// The kernel's number of the device.
        index: u32,
        /// False for a bridge that was there before and stays.
        own: bool,
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
    pub(super) fn new(config: NetworkConfig, kind: Kind) -> Open {
        let pools = config
            .pools
            .iter()
            .map(|pool| {
                let mut reserved: Vec<IpAddr> = pool.auxiliary.values().copied().collect();
                reserved.push(pool.gateway);
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
    pub(super) fn index(&self) -> Option<u32> {
        match self.kind {
            Kind::Bridge { index, .. } => Some(index),
            Kind::Sub { .. } => None,
        }
    }

    /// Returns the device the network lies on.
    pub(super) fn device(&self) -> &str {
        match &self.kind {
            Kind::Bridge { device, .. } => device,
            Kind::Sub { parent, .. } => parent,
        }
    }

    /// Returns the start of interface names in containers.
    pub(super) fn interface_prefix(&self) -> &str {
        match &self.kind {
            Kind::Bridge { options, .. } => &options.interface_prefix,
            Kind::Sub { options, .. } => &options.interface_prefix,
        }
    }

    /// Returns the gateway that a container with this address uses, that of its own subnet; none leads out of an
    /// internal network.
    fn gateway(&self, address: IpAddr) -> Option<IpAddr> {
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
            .map(|pool| {
                let other = pool.auxiliary.get(gateway_name(ipv6));
                let is_bridge = matches!(self.kind, Kind::Bridge { .. });
                other.filter(|_| is_bridge).copied().unwrap_or(pool.gateway)
            })
    }

    /// Tells whether containers leave straight out of their device, without a gateway.
    pub(super) fn leaves_without_gateway(&self) -> bool {
        match &self.kind {
            Kind::Bridge { .. } => false,
            Kind::Sub { options, .. } => options.is_layer3() && !self.config.internal,
        }
    }

    /// Takes an address of a family: the wanted one, or one of `former` if it is free, or the next of the first pool
    /// that has one.
    fn take(
        &mut self,
        ipv6: bool,
        wanted: Option<IpAddr>,
        former: &[IpAddr],
    ) -> Result<Option<(IpAddr, u8)>, NetworkError> {
        let mut pools = self
            .pools
            .iter_mut()
            .zip(&self.config.pools)
            .filter(|(pool, _)| pool.subnet().is_ipv6() == ipv6)
            .peekable();
        let Some(address) = wanted else {
            let mut pools: Vec<&mut AddressPool> = pools.map(|(pool, _)| pool).collect();
            for pool in &mut pools {
                let taken = former.iter().find(|address| {
                    pool.is_for_anybody(**address) && pool.reserve(**address).is_ok()
                });
                if let Some(address) = taken {
                    return Ok(Some((*address, pool.subnet().prefix_length())));
                }
            }
            let mut last = Ok(None);
            for pool in pools {
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

    fn release(&mut self, address: IpAddr) {
        for pool in &mut self.pools {
            if pool.subnet().contains(address) {
                pool.release(address);
            }
        }
    }

    fn rules(&self) -> Option<BridgeRules> {
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

fn key(request: &EndpointRequest) -> (String, String) {
    (request.network_id.clone(), request.container_id.clone())
}

impl State {
    /// Returns everything the table is made from.
    pub(super) fn rules(&self) -> Rules {
        let mut bridges: Vec<BridgeRules> =
            self.networks.values().filter_map(Open::rules).collect();
        bridges.sort_by(|a, b| a.device.cmp(&b.device));
        let mut seen = HashSet::new();
        Rules {
            bridges,
            ports: self.published.values().flatten().cloned().collect(),
            links: self
                .links
                .values()
                .flatten()
                .filter(|link| seen.insert((*link).clone()))
                .cloned()
                .collect(),
        }
    }

    /// Returns the subnets of all networks but `except`.
    pub(super) fn subnets(&self, except: &str) -> Vec<(String, Subnet)> {
        self.networks
            .values()
            .map(|network| &network.config)
            .chain(self.dormant.values())
            .filter(|config| config.id != except)
            .flat_map(|config| {
                config
                    .pools
                    .iter()
                    .map(|pool| (config.id.clone(), pool.subnet))
            })
            .collect()
    }

    /// Takes the addresses of an endpoint that has lived on while no daemon ran. An address
    /// outside a changed subnet takes nothing away from anybody.
    pub(super) fn adopt(&mut self, endpoint: &Endpoint) {
        if let Some(network) = self.networks.get_mut(&endpoint.network_id) {
            for address in endpoint.addresses() {
                for pool in &mut network.pools {
                    if pool.reserve(address).is_ok() {
                        pool.continue_after(address);
                    }
                }
            }
        }
        self.endpoints
            .insert(endpoint.endpoint_id.clone(), endpoint.clone());
    }

    /// Takes addresses and an interface name for a new endpoint, all or none.
    pub(super) fn reserve(
        &mut self,
        request: &EndpointRequest,
        endpoint_id: String,
    ) -> Result<Endpoint, NetworkError> {
        let interface = self.interface_name(request)?;
        let former = self.former.remove(&key(request)).unwrap_or_default();
        let network = self.networks.get_mut(&request.network_id).ok_or_else(|| {
            NetworkError::UnknownNetwork {
                id: request.network_id.clone(),
            }
        })?;
        let ipv4 = network.take(false, request.ipv4.map(IpAddr::V4), &former)?;
        let ipv6 = match network.take(true, request.ipv6.map(IpAddr::V6), &former) {
            Ok(taken) => taken,
            Err(error) => {
                if let Some((address, _)) = ipv4 {
                    network.release(address);
                }
                return Err(error);
            }
        };
        let gateway_of = |network: &Open, taken: Option<(IpAddr, u8)>| {
            taken.and_then(|(address, _)| network.gateway(address))
        };
        let endpoint = Endpoint {
            endpoint_id,
            network_id: request.network_id.clone(),
            container_id: request.container_id.clone(),
            ipv4: ipv4.and_then(|(address, prefix_length)| match address {
                IpAddr::V4(address) => Some(InterfaceAddress {
                    address,
                    prefix_length,
                }),
                IpAddr::V6(_) => None,
            }),
            ipv6: ipv6.and_then(|(address, prefix_length)| match address {
                IpAddr::V6(address) => Some(InterfaceAddress {
                    address,
                    prefix_length,
                }),
                IpAddr::V4(_) => None,
            }),
            gateway_ipv4: match gateway_of(network, ipv4) {
                Some(IpAddr::V4(gateway)) => Some(gateway),
                _ => None,
            },
            gateway_ipv6: match gateway_of(network, ipv6) {
                Some(IpAddr::V6(gateway)) => Some(gateway),
                _ => None,
            },
            mac: String::new(),
            interface,
            host_interface: String::new(),
            gateway_priority: request.gateway_priority,
            names: request.names.clone(),
            links: request.links.clone(),
        };
        self.endpoints
            .insert(endpoint.endpoint_id.clone(), endpoint.clone());
        Ok(endpoint)
    }

    /// Gives an endpoint's addresses back; `false` when it is not known.
    pub(super) fn release(&mut self, endpoint_id: &str) -> bool {
        let Some(endpoint) = self.endpoints.remove(endpoint_id) else {
            return false;
        };
        if let Some(network) = self.networks.get_mut(&endpoint.network_id) {
            for address in endpoint.addresses() {
                network.release(address);
            }
        }
        if self.former.len() >= MAX_FORMER {
            self.former.clear();
        }
        let addresses = endpoint.addresses().collect();
        self.former
            .insert((endpoint.network_id, endpoint.container_id), addresses);
        true
    }

    /// Says whether a container was on a network before, so that its former interface may be there still.
    pub(super) fn returns(&self, request: &EndpointRequest) -> bool {
        self.former.contains_key(&key(request))
    }

    /// Returns a container's endpoints, the one that is its gateway first: the highest priority,
    /// then the network's name (spec runtime §8.1).
    pub(super) fn endpoints_of(&self, container_id: &str) -> Vec<&Endpoint> {
        let name = |endpoint: &Endpoint| {
            self.networks
                .get(&endpoint.network_id)
                .map(|network| network.config.name.as_str())
                .unwrap_or_default()
        };
        let mut endpoints: Vec<&Endpoint> = self
            .endpoints
            .values()
            .filter(|endpoint| endpoint.container_id == container_id)
            .collect();
        endpoints.sort_by(|a, b| {
            b.gateway_priority
                .cmp(&a.gateway_priority)
                .then_with(|| name(a).cmp(name(b)))
        });
        endpoints
    }

    /// Returns the endpoint a container's packets of a family leave by.
    pub(super) fn gateway_endpoint(&self, container_id: &str, ipv6: bool) -> Option<&Endpoint> {
        self.endpoints_of(container_id)
            .into_iter()
            .find(|endpoint| self.leads_out(endpoint, ipv6))
    }

    fn leads_out(&self, endpoint: &Endpoint, ipv6: bool) -> bool {
        endpoint.address(ipv6).is_some()
            && (endpoint.gateway(ipv6).is_some()
                || self
                    .networks
                    .get(&endpoint.network_id)
                    .is_some_and(Open::leaves_without_gateway))
    }

    /// Returns the wanted interface name, or the first free one of the network's prefix.
    fn interface_name(&self, request: &EndpointRequest) -> Result<String, NetworkError> {
        let taken: HashSet<&str> = self
            .endpoints
            .values()
            .filter(|endpoint| endpoint.container_id == request.container_id)
            .map(|endpoint| endpoint.interface.as_str())
            .collect();
        if !request.interface.is_empty() {
            if taken.contains(request.interface.as_str()) {
                return Err(NetworkError::InvalidRequest {
                    reason: format!("interface {} is already in use", request.interface),
                });
            }
            return Ok(request.interface.clone());
        }
        let prefix = self.networks.get(&request.network_id).map_or(
            crate::options::DEFAULT_INTERFACE_PREFIX,
            Open::interface_prefix,
        );
        (0..=taken.len())
            .map(|number| format!("{prefix}{number}"))
            .find(|name| !taken.contains(name.as_str()))
            .ok_or_else(|| NetworkError::InvalidRequest {
                reason: "no interface name is free".to_owned(),
            })
    }
}
