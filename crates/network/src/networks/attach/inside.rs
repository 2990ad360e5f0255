//! The container's end of an interface: settings, addresses, default routes.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::endpoint::{Endpoint, EndpointRequest};
use crate::error::NetworkError;
use crate::namespace::{enter_namespace, on_own_thread};
use crate::netlink::{DefaultRoute, Netlink};
use crate::networks::Inner;
use crate::sysctl;

/// Prefix lengths of link-local subnets (RFC 3927, RFC 4291).
const LINK_LOCAL_PREFIX_LENGTHS: [u8; 2] = [16, 64];

impl Inner {
    /// Gives the interface inside its settings, addresses and, if it is the gateway, its routes.
    pub(super) fn configure(
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
}

/// Opens a netlink socket inside a namespace, after `prepare` has run on a thread there.
pub(super) fn netlink_inside(
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
    for (path, value) in &request.sysctls {
        sysctl::ensure(&path.replace("IFNAME", name), value)?;
    }
    Ok(())
}

pub(super) fn has_ipv6() -> bool {
    sysctl::read_text("/proc/net/if_inet6").is_ok()
}

pub(super) fn set_default_route(
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
