//! Addresses and routes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::socket::Netlink;
use crate::subnet::Subnet;

/// Routes with a prefix this short stand for "everywhere", as VPNs split the default route in two
/// or four; they take no pool away.
const DEFAULT_LIKE_PREFIX_LENGTH: u8 = 2;

/// A subnet that a route or an address of this machine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteUse {
    /// The subnet.
    pub(crate) subnet: Subnet,
    /// Number of the device, 0 when the route has none.
    pub(crate) device_index: u32,
}

/// A default route: by a gateway, or straight out of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DefaultRoute {
    /// The gateway, `None` for a device that routes by itself.
    pub(crate) gateway: Option<IpAddr>,
    /// Number of the device.
    pub(crate) device_index: u32,
}

/// Returns every subnet of a family that a route of any table or an address uses, default routes
/// and link-local subnets left out.
pub(crate) fn subnets_in_use(netlink: &mut Netlink, ipv6: bool) -> io::Result<Vec<RouteUse>> {
    let mut uses: Vec<RouteUse> = netlink
        .addresses(ipv6)?
        .into_iter()
        .map(|(device_index, address, prefix_length)| RouteUse {
            subnet: Subnet::containing(address, prefix_length),
            device_index,
        })
        .collect();
    let mut request = RouteMessage::default();
    request.header.address_family = family(ipv6);
    for message in netlink.dump(RouteNetlinkMessage::GetRoute(request))? {
        let RouteNetlinkMessage::NewRoute(route) = message else {
            continue;
        };
        if route.header.destination_prefix_length <= DEFAULT_LIKE_PREFIX_LENGTH
            || route.header.kind == RouteType::Broadcast
            || route.header.kind == RouteType::Multicast
        {
            continue;
        }
        let mut destination = None;
        let mut device_index = 0;
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Destination(address) => destination = ip_of(address),
                RouteAttribute::Oif(index) => device_index = *index,
                _ => {}
            }
        }
        if let Some(address) = destination {
            uses.push(RouteUse {
                subnet: Subnet::containing(address, route.header.destination_prefix_length),
                device_index,
            });
        }
    }
    uses.retain(|used| match used.subnet.network() {
        IpAddr::V4(_) => true,
        IpAddr::V6(network) => !network.is_unicast_link_local() && !network.is_multicast(),
    });
    Ok(uses)
}

impl Netlink {
    /// Returns device number, address and prefix length of every address of a family.
    pub(crate) fn addresses(&mut self, ipv6: bool) -> io::Result<Vec<(u32, IpAddr, u8)>> {
        let mut request = AddressMessage::default();
        request.header.family = family(ipv6);
        let messages = self.dump(RouteNetlinkMessage::GetAddress(request))?;
        Ok(messages
            .iter()
            .filter_map(|message| {
                let RouteNetlinkMessage::NewAddress(message) = message else {
                    return None;
                };
                local_address(message)
                    .map(|address| (message.header.index, address, message.header.prefix_len))
            })
            .collect())
    }

    /// Gives a device an address; an IPv4 one with its broadcast address, an IPv6 one that is used
    /// at once, since the pool already keeps it from being given twice.
    pub(crate) fn add_address(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix_length: u8,
    ) -> io::Result<()> {
        let mut message = address_message(index, address, prefix_length);
        match (address, Subnet::containing(address, prefix_length).last()) {
            (IpAddr::V4(_), IpAddr::V4(broadcast)) if prefix_length < 31 => message
                .attributes
                .push(AddressAttribute::Broadcast(broadcast)),
            (IpAddr::V6(_), _) => {
                message.header.flags = AddressHeaderFlags::Nodad;
                message
                    .attributes
                    .push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            _ => {}
        }
        self.request(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Takes an address from a device.
    pub(crate) fn delete_address(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix_length: u8,
    ) -> io::Result<()> {
        self.request(
            RouteNetlinkMessage::DelAddress(address_message(index, address, prefix_length)),
            0,
        )
    }

    /// Makes `route` the default route of a family, in place of another one.
    pub(crate) fn replace_default_route(
        &mut self,
        ipv6: bool,
        route: DefaultRoute,
    ) -> io::Result<()> {
        let mut message = default_route_message(ipv6);
        message.header.scope = if route.gateway.is_some() {
            RouteScope::Universe
        } else {
            RouteScope::Link
        };
        if let Some(gateway) = route.gateway {
            message
                .attributes
                .push(RouteAttribute::Gateway(route_address(gateway)));
        }
        message
            .attributes
            .push(RouteAttribute::Oif(route.device_index));
        self.request(
            RouteNetlinkMessage::NewRoute(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Removes the default route of a family; none is no failure.
    pub(crate) fn delete_default_route(&mut self, ipv6: bool) -> io::Result<()> {
        let message = default_route_message(ipv6);
        match self.request(RouteNetlinkMessage::DelRoute(message), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Returns the default routes of a family in the main table.
    pub(crate) fn default_routes(&mut self, ipv6: bool) -> io::Result<Vec<DefaultRoute>> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(ipv6);
        let messages = self.dump(RouteNetlinkMessage::GetRoute(request))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| {
                let RouteNetlinkMessage::NewRoute(route) = message else {
                    return None;
                };
                let is_default = route.header.destination_prefix_length == 0
                    && route.header.kind == RouteType::Unicast
                    && route.header.table == RouteHeader::RT_TABLE_MAIN;
                is_default.then(|| default_route_of(&route))
            })
            .collect())
    }
}

fn default_route_of(route: &RouteMessage) -> DefaultRoute {
    let mut found = DefaultRoute {
        gateway: None,
        device_index: 0,
    };
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(address) => found.gateway = ip_of(address),
            RouteAttribute::Oif(index) => found.device_index = *index,
            _ => {}
        }
    }
    found
}

fn default_route_message(ipv6: bool) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(ipv6),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Boot,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message
}

fn family(ipv6: bool) -> AddressFamily {
    if ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn address_message(index: u32, address: IpAddr, prefix_length: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.is_ipv6());
    message.header.prefix_len = prefix_length;
    message.header.index = index;
    if is_link_local(address) {
        message.header.scope = AddressScope::Link;
    }
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    message
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => Ipv4Addr::is_link_local(&address),
        IpAddr::V6(address) => Ipv6Addr::is_unicast_link_local(&address),
    }
}

/// Returns a device's own address; on point-to-point links `Address` is the other side's.
fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => return Some(*address),
            AddressAttribute::Address(address) => found = Some(*address),
            _ => {}
        }
    }
    found
}
