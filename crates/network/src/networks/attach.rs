//! Joining containers to networks and taking them off.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use super::state::Kind;
use super::{Inner, Networks, open_netlink};
use crate::bridge::{VETH_PREFIX, random_mac};
use crate::endpoint::{Endpoint, EndpointRequest, mac_of_address, mac_text};
use crate::error::NetworkError;
use crate::namespace::{enter_namespace, on_own_thread};
use crate::netlink::{DefaultRoute, Netlink, PeerLocation, SubInterface, VethPair};
use crate::options::SubMode;
use crate::sysctl;

/// Tries to find a host interface name that is not taken; one in 268 million is.
const MAX_NAME_TRIES: usize = 4;
/// Prefix lengths of link-local subnets (RFC 3927, RFC 4291).
const LINK_LOCAL_PREFIX_LENGTHS: [u8; 2] = [16, 64];

/// What the kernel has to know of the network an endpoint joins.
enum Join {
    Bridge {
        index: u32,
        mtu_bytes: u32,
        isolated: bool,
    },
    Sub {
        index: u32,
        mtu_bytes: u32,
        mode: SubMode,
    },
}

impl Networks {
    /// Joins a namespace to a network: an interface inside with its addresses and names; its
    /// network becomes the default gateway when it is the container's first by priority and name.
    /// Either all of it is done or nothing is left.
    ///
    /// # Errors
    /// [`NetworkError::InvalidRequest`], [`NetworkError::UnknownNetwork`], errors of addresses,
    /// [`NetworkError::Netlink`], [`NetworkError::Sysctl`].
    pub fn attach(
        &self,
        namespace: BorrowedFd<'_>,
        request: &EndpointRequest,
    ) -> Result<Endpoint, NetworkError> {
        let inner = &self.inner;
        request.validate()?;
        inner.wake(&request.network_id)?;
        if inner.lock().returns(request) {
            // The bridge would go on sending what is for the old interface's address there.
            inner.reaper.flush();
        }
        let mut endpoint = inner.lock().reserve(request, random_hexadecimal(64)?)?;
        let joined = inner.connect(namespace, &mut endpoint, request);
        if let Err(error) = joined {
            // The first error is the one to report.
            self.detach(&endpoint);
            return Err(error);
        }
        inner
            .lock()
            .endpoints
            .insert(endpoint.endpoint_id.clone(), endpoint.clone());
        inner.register(&endpoint);
        Ok(endpoint)
    }

    /// Undoes [`Networks::attach`]; what is already gone is no failure.
    ///
    /// Addresses and names are free when this returns. The interface goes with its namespace; if
    /// the namespace lives on, a veth pair is removed a quarter of a second later, or at once when
    /// the namespace is attached again. [`Networks::leave`] is for namespaces that live on.
    pub fn detach(&self, endpoint: &Endpoint) {
        let inner = &self.inner;
        inner.resolver.directory().leave(endpoint);
        let known = inner.lock().release(&endpoint.endpoint_id);
        // An endpoint that is not known has no claim on its interface any more.
        if known && endpoint.host_interface.starts_with(VETH_PREFIX) {
            inner.reaper.remove_soon(&endpoint.host_interface);
        }
    }

    /// Takes a running container off a network: its interface is gone when this returns, and
    /// another network becomes the default gateway if one can.
    ///
    /// # Errors
    /// [`NetworkError::Namespace`], [`NetworkError::Netlink`]; the container is off all the same.
    pub fn leave(
        &self,
        namespace: BorrowedFd<'_>,
        endpoint: &Endpoint,
    ) -> Result<(), NetworkError> {
        let inner = &self.inner;
        inner.resolver.directory().leave(endpoint);
        let known = inner.lock().release(&endpoint.endpoint_id);
        if !known {
            return Ok(());
        }
        let removed = if endpoint.host_interface.is_empty() {
            netlink_inside(namespace, || Ok(())).and_then(|mut inside| {
                inside
                    .delete_link(&endpoint.interface)
                    .map_err(NetworkError::netlink(format!(
                        "remove {} in the container",
                        endpoint.interface
                    )))
            })
        } else {
            open_netlink().and_then(|mut netlink| {
                netlink
                    .delete_link(&endpoint.host_interface)
                    .map_err(NetworkError::netlink(format!(
                        "remove device {}",
                        endpoint.host_interface
                    )))
            })
        };
        removed.and(self.set_routes(namespace, &endpoint.container_id))
    }

    /// Makes a container's default routes those of its gateway networks.
    ///
    /// # Errors
    /// [`NetworkError::Namespace`], [`NetworkError::Netlink`].
    pub fn set_routes(
        &self,
        namespace: BorrowedFd<'_>,
        container_id: &str,
    ) -> Result<(), NetworkError> {
        let chosen: Vec<Option<Endpoint>> = {
            let state = self.inner.lock();
            [false, true]
                .map(|ipv6| state.gateway_endpoint(container_id, ipv6).cloned())
                .into()
        };
        let mut inside = netlink_inside(namespace, || Ok(()))?;
        for (endpoint, ipv6) in chosen.into_iter().zip([false, true]) {
            match endpoint {
                Some(endpoint) => set_default_route(&mut inside, &endpoint, ipv6)?,
                None if ipv6 && !has_ipv6() => {}
                None => inside
                    .delete_default_route(ipv6)
                    .map_err(NetworkError::netlink(
                        "remove the container's default route",
                    ))?,
            }
        }
        Ok(())
    }
}

impl Inner {
    /// Makes the interface and sets the container's end up.
    fn connect(
        &self,
        namespace: BorrowedFd<'_>,
        endpoint: &mut Endpoint,
        request: &EndpointRequest,
    ) -> Result<(), NetworkError> {
        let join = self.join_of(&endpoint.network_id)?;
        let mut netlink = open_netlink()?;
        match join {
            Join::Bridge {
                index,
                mtu_bytes,
                isolated,
            } => {
                let mac = match (request.mac, endpoint.ipv4) {
                    (Some(mac), _) => mac,
                    (None, Some(own)) => mac_of_address(own.address),
                    (None, None) => random_mac()?,
                };
                endpoint.mac = mac_text(mac);
                endpoint.host_interface = host_interface_name()?;
                self.create_veth(&mut netlink, namespace, endpoint, (index, mtu_bytes, mac))?;
                if isolated {
                    let name = &endpoint.host_interface;
                    netlink
                        .set_port(name, false, true)
                        .map_err(NetworkError::netlink(format!("isolate {name}")))?;
                }
            }
            Join::Sub {
                index,
                mtu_bytes,
                mode,
            } => {
                // An ipvlan device has its parent's address.
                let mac = match (mode, request.mac) {
                    (SubMode::Ipvlan(..), _) => None,
                    (SubMode::Macvlan(_), Some(mac)) => Some(mac),
                    (SubMode::Macvlan(_), None) => Some(match endpoint.ipv4 {
                        Some(own) => mac_of_address(own.address),
                        None => random_mac()?,
                    }),
                };
                endpoint.mac = mac.map(mac_text).unwrap_or_default();
                netlink
                    .create_sub_interface(&SubInterface {
                        parent_index: index,
                        mode,
                        mtu_bytes,
                        place: PeerLocation {
                            namespace,
                            name: &endpoint.interface,
                            mac,
                        },
                    })
                    .map_err(NetworkError::netlink(format!(
                        "create {} in the container",
                        endpoint.interface
                    )))?;
            }
        }
        self.configure(namespace, endpoint, request)
    }

    /// Gives the interface inside its settings, addresses and, if it is the gateway, its routes.
    fn configure(
        &self,
        namespace: BorrowedFd<'_>,
        endpoint: &Endpoint,
        request: &EndpointRequest,
    ) -> Result<(), NetworkError> {
        let name = &endpoint.interface;
        let is_gateway: Vec<bool> = {
            let state = self.lock();
            [false, true]
                .map(|ipv6| {
                    state
                        .gateway_endpoint(&endpoint.container_id, ipv6)
                        .is_some_and(|chosen| chosen.endpoint_id == endpoint.endpoint_id)
                })
                .into()
        };
        let mut inside = netlink_inside(namespace, || apply_settings(endpoint, request))?;
        let index = index_of(&mut inside, name)?;
        inside.set_up(index).map_err(NetworkError::netlink(format!(
            "set up {name} in the container"
        )))?;
        let own = [
            endpoint
                .ipv4
                .map(|own| (IpAddr::V4(own.address), own.prefix_length)),
            endpoint
                .ipv6
                .map(|own| (IpAddr::V6(own.address), own.prefix_length)),
        ];
        let [ipv4_length, ipv6_length] = LINK_LOCAL_PREFIX_LENGTHS;
        let link_local = request.link_local.iter().map(|address| {
            let length = if address.is_ipv6() {
                ipv6_length
            } else {
                ipv4_length
            };
            (*address, length)
        });
        for (address, prefix_length) in own.into_iter().flatten().chain(link_local) {
            inside
                .add_address(index, address, prefix_length)
                .map_err(NetworkError::netlink(format!(
                    "give address {address} to the container"
                )))?;
        }
        for (is_gateway, ipv6) in is_gateway.into_iter().zip([false, true]) {
            if is_gateway {
                default_route_by(&mut inside, endpoint, ipv6, index)?;
            }
        }
        Ok(())
    }

    fn join_of(&self, network_id: &str) -> Result<Join, NetworkError> {
        let state = self.lock();
        let network =
            state
                .networks
                .get(network_id)
                .ok_or_else(|| NetworkError::UnknownNetwork {
                    id: network_id.to_owned(),
                })?;
        Ok(match &network.kind {
            Kind::Bridge { index, options, .. } => Join::Bridge {
                index: *index,
                mtu_bytes: options.mtu_bytes,
                isolated: !options.icc,
            },
            Kind::Sub {
                index,
                mtu_bytes,
                options,
                ..
            } => Join::Sub {
                index: *index,
                mtu_bytes: *mtu_bytes,
                mode: options.mode,
            },
        })
    }

    fn create_veth(
        &self,
        netlink: &mut Netlink,
        namespace: BorrowedFd<'_>,
        endpoint: &mut Endpoint,
        (bridge_index, mtu_bytes, mac): (u32, u32, [u8; 6]),
    ) -> Result<(), NetworkError> {
        let mut last_error = io::Error::from(io::ErrorKind::AlreadyExists);
        let mut waiting_removed = false;
        for _ in 0..MAX_NAME_TRIES {
            let pair = VethPair {
                name: &endpoint.host_interface,
                bridge_index,
                mtu_bytes,
                peer: PeerLocation {
                    namespace,
                    name: &endpoint.interface,
                    mac: Some(mac),
                },
            };
            let Err(error) = netlink.create_veth(&pair) else {
                return Ok(());
            };
            last_error = error;
            // The same errno comes for a taken name out here and for the interface in there.
            let name_taken = last_error.kind() == io::ErrorKind::AlreadyExists
                && matches!(netlink.link_by_name(&endpoint.host_interface), Ok(Some(_)));
            if name_taken {
                endpoint.host_interface = host_interface_name()?;
            } else if !waiting_removed && last_error.kind() == io::ErrorKind::AlreadyExists {
                // The namespace may have been detached a moment ago.
                self.reaper.flush();
                waiting_removed = true;
            } else {
                break;
            }
        }
        let action = format!(
            "create veth pair {} with {} in the container",
            endpoint.host_interface, endpoint.interface
        );
        Err(NetworkError::Netlink {
            action,
            source: last_error,
        })
    }
}

/// Opens a netlink socket inside a namespace, after `prepare` has run on a thread there.
fn netlink_inside(
    namespace: BorrowedFd<'_>,
    prepare: impl FnOnce() -> Result<(), NetworkError> + Send,
) -> Result<Netlink, NetworkError> {
    on_own_thread(|| {
        enter_namespace(namespace)?;
        prepare()?;
        Netlink::open().map_err(|source| NetworkError::Namespace {
            action: "enter",
            source,
        })
    })
}

/// Writes the interface's settings; the calling thread is inside the container's namespace.
fn apply_settings(endpoint: &Endpoint, request: &EndpointRequest) -> Result<(), NetworkError> {
    let name = &endpoint.interface;
    if endpoint.ipv6.is_some() {
        sysctl::ensure(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0")?;
        // Neighbours learn at once that the address has moved here.
        sysctl::ensure_if_present(&format!("net/ipv6/conf/{name}/ndisc_notify"), "1")?;
        sysctl::ensure_if_present(&format!("net/ipv6/conf/{name}/accept_ra"), "0")?;
        // The pool gives every address once: it can be used at once.
        sysctl::ensure_if_present(&format!("net/ipv6/conf/{name}/accept_dad"), "0")?;
    }
    if request.mac.is_some() {
        sysctl::ensure_if_present(&format!("net/ipv4/conf/{name}/arp_notify"), "1")?;
    }
    for (path, value) in &request.sysctls {
        sysctl::ensure(&path.replace("IFNAME", name), value)?;
    }
    Ok(())
}

fn has_ipv6() -> bool {
    sysctl::read_text("/proc/net/if_inet6").is_ok()
}

fn set_default_route(
    inside: &mut Netlink,
    endpoint: &Endpoint,
    ipv6: bool,
) -> Result<(), NetworkError> {
    let index = index_of(inside, &endpoint.interface)?;
    default_route_by(inside, endpoint, ipv6, index)
}

/// Makes an interface the way out, in place of another one.
fn default_route_by(
    inside: &mut Netlink,
    endpoint: &Endpoint,
    ipv6: bool,
    device_index: u32,
) -> Result<(), NetworkError> {
    let route = DefaultRoute {
        gateway: endpoint.gateway(ipv6),
        device_index,
    };
    let present = inside
        .default_routes(ipv6)
        .map_err(NetworkError::netlink("list the container's routes"))?;
    if present == [route] {
        return Ok(());
    }
    // IPv6 adds a second route where IPv4 replaces the first.
    for _ in &present {
        inside
            .delete_default_route(ipv6)
            .map_err(NetworkError::netlink(
                "remove the container's default route",
            ))?;
    }
    inside
        .replace_default_route(ipv6, route)
        .map_err(NetworkError::netlink(format!(
            "add the container's default route by {}",
            route
                .gateway
                .map_or_else(|| endpoint.interface.clone(), |gateway| gateway.to_string())
        )))
}

fn index_of(inside: &mut Netlink, name: &str) -> Result<u32, NetworkError> {
    inside
        .link_by_name(name)
        .and_then(|link| link.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
        .map(|link| link.index)
        .map_err(NetworkError::netlink(format!(
            "look up {name} in the container"
        )))
}

fn host_interface_name() -> Result<String, NetworkError> {
    Ok(format!("{VETH_PREFIX}{}", random_hexadecimal(7)?))
}

fn random_hexadecimal(digits: usize) -> Result<String, NetworkError> {
    let mut bytes = vec![0_u8; digits.div_ceil(2)];
    getrandom::fill(&mut bytes).map_err(|error| NetworkError::InvalidRequest {
        reason: format!("no random identifier: {error}"),
    })?;
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    Ok(text)
}
