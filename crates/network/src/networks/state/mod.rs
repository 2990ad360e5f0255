//! What is given out: networks, addresses, ports, endpoints.

mod open;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::bridge::random_mac;
use crate::config::NetworkConfig;
use crate::endpoint::{Endpoint, EndpointRequest, InterfaceAddress, mac_text};
use crate::error::NetworkError;
use crate::firewall::{AllowedLink, BridgeRules, Rules};
use crate::port::PublishedPort;
use crate::port_allocator::PortAllocator;
use crate::subnet::Subnet;

pub(super) use open::{Kind, Open};

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
    /// Exceptions of networks that keep containers apart, by the container that may reach.
    pub(super) links: HashMap<String, Vec<AllowedLink>>,
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
                    // An address of another pool, or one that is lost, is nobody's here.
                    let _ = pool.reserve(address);
                }
            }
        }
        self.endpoints
            .insert(endpoint.endpoint_id.clone(), endpoint.clone());
    }

    /// Takes the addresses of all endpoints of a network that was opened anew, and returns them.
    pub(super) fn adopt_again(&mut self, network_id: &str) -> Vec<Endpoint> {
        let endpoints: Vec<Endpoint> = self
            .endpoints
            .values()
            .filter(|endpoint| endpoint.network_id == network_id)
            .cloned()
            .collect();
        endpoints.iter().for_each(|endpoint| self.adopt(endpoint));
        endpoints
    }

    /// Takes addresses and an interface name for a new endpoint, all or none; also returns the interface's hardware
    /// address, if it has one of its own.
    pub(super) fn reserve(
        &mut self,
        request: &EndpointRequest,
        endpoint_id: String,
    ) -> Result<(Endpoint, Option<[u8; 6]>), NetworkError> {
        let interface = self.interface_name(request)?;
        let mac = self.mac(request)?;
        let network = self.networks.get_mut(&request.network_id).ok_or_else(|| {
            NetworkError::UnknownNetwork {
                id: request.network_id.clone(),
            }
        })?;
        let ipv4 = network.take(false, request.ipv4.map(IpAddr::V4))?;
        let ipv6 = if request.without_ipv6 {
            Ok(None)
        } else {
            network.take(true, request.ipv6.map(IpAddr::V6))
        };
        let ipv6 = match ipv6 {
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
            mac: mac.map(mac_text).unwrap_or_default(),
            interface,
            host_interface: String::new(),
            gateway_priority: request.gateway_priority,
            names: request.names.clone(),
            links: request.links.clone(),
        };
        self.endpoints
            .insert(endpoint.endpoint_id.clone(), endpoint.clone());
        Ok((endpoint, mac))
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
        true
    }

    /// Tells whether others are on an endpoint's network.
    pub(super) fn has_neighbours(&self, endpoint: &Endpoint) -> bool {
        self.endpoints.values().any(|other| {
            other.network_id == endpoint.network_id && other.endpoint_id != endpoint.endpoint_id
        })
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

    /// Returns the wanted hardware address, or a random one that no endpoint has.
    ///
    /// Drawn, as docker 28 does it: one made of the IP address would meet a container that was given the address another
    /// one had before, as clients do that make a container again from what inspect shows.
    fn mac(&self, request: &EndpointRequest) -> Result<Option<[u8; 6]>, NetworkError> {
        let network = self.networks.get(&request.network_id);
        if !network.is_none_or(Open::has_own_macs) {
            return Ok(None);
        }
        if request.mac.is_some() {
            return Ok(request.mac);
        }
        loop {
            let mac = random_mac()?;
            let text = mac_text(mac);
            if self.endpoints.values().all(|other| other.mac != text) {
                return Ok(Some(mac));
            }
        }
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
