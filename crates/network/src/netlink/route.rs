//! Addresses and routes.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::socket::Netlink;
use crate::subnet::Ipv4Subnet;

/// Routes with a prefix this short stand for "everywhere", as VPNs split the default route in two
/// or four; they take no pool away.
const DEFAULT_LIKE_PREFIX_LENGTH: u8 = 2;

/// A subnet that a route or an address of this machine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteUse {
    /// The subnet.
    pub(crate) subnet: Ipv4Subnet,
    /// Number of the device, 0 when the route has none.
    pub(crate) device_index: u32,
}

/// Returns every IPv4 subnet that a route of any table or an address uses, default routes left out.
pub(crate) fn subnets_in_use(netlink: &mut Netlink) -> io::Result<Vec<RouteUse>> {
    let mut uses = netlink.address_subnets()?;
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
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
                RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                    destination = Some(*address)
                }
                RouteAttribute::Oif(index) => device_index = *index,
                _ => {}
            }
        }
        if let Some(address) = destination {
            let subnet = Ipv4Subnet::containing(address, route.header.destination_prefix_length);
            uses.push(RouteUse {
                subnet,
                device_index,
            });
        }
    }
    Ok(uses)
}

impl Netlink {
    /// Returns the IPv4 subnets of all addresses of all devices.
    pub(crate) fn address_subnets(&mut self) -> io::Result<Vec<RouteUse>> {
        Ok(self
            .addresses()?
            .into_iter()
            .map(|(device_index, address, prefix_length)| RouteUse {
                subnet: Ipv4Subnet::containing(address, prefix_length),
                device_index,
            })
            .collect())
    }

    /// Returns device number, address and prefix length of every IPv4 address.
    pub(crate) fn addresses(&mut self) -> io::Result<Vec<(u32, Ipv4Addr, u8)>> {
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Inet;
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

    /// Gives a device an IPv4 address with its broadcast address.
    pub(crate) fn add_address(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        subnet: Ipv4Subnet,
    ) -> io::Result<()> {
        let mut message = address_message(index, address, subnet.prefix_length());
        message
            .attributes
            .push(AddressAttribute::Broadcast(subnet.broadcast()));
        self.request(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Takes an IPv4 address from a device.
    pub(crate) fn delete_address(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        prefix_length: u8,
    ) -> io::Result<()> {
        self.request(
            RouteNetlinkMessage::DelAddress(address_message(index, address, prefix_length)),
            0,
        )
    }

    /// Adds the default route.
    pub(crate) fn add_default_route(&mut self, gateway: Ipv4Addr) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: AddressFamily::Inet,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Boot,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway))];
        self.request(
            RouteNetlinkMessage::NewRoute(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }
}

fn address_message(index: u32, address: Ipv4Addr, prefix_length: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix_length;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
    ];
    message
}

/// Returns a device's own address; on point-to-point links `Address` is the other side's.
fn local_address(message: &AddressMessage) -> Option<Ipv4Addr> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => return Some(*address),
            AddressAttribute::Address(IpAddr::V4(address)) => found = Some(*address),
            _ => {}
        }
    }
    found
}
