//! Telling a bridge's neighbours which hardware address an IP address has from now on.
//!
//! Addresses are given out again at once, and every interface has a new hardware address: who spoke to the address's
//! owner before would send to an interface that is gone for up to half a minute. A container cannot tell it itself in
//! time, as its port forwards only some time after the interface is up, so the host does: an ARP announcement (RFC 5227
//! §3) and an unsolicited neighbour advertisement (RFC 4861 §7.2.6) go out to all ports of the bridge.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::endpoint::Endpoint;
use crate::netlink::Netlink;
use crate::networks::Inner;
use crate::networks::state::Kind;

/// Hardware address of everybody.
const EVERYBODY: [u8; 6] = [0xff; 6];
/// Hardware address and IPv6 address of all nodes of a link (RFC 2464 §7, RFC 4291 §2.7.1).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Types of frames (IEEE 802 numbers).
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// IPv6's number of ICMP.
const ICMPV6: u8 = 58;

impl Inner {
    /// Makes an endpoint's addresses known on its bridge. A failure costs neighbours a wait and nothing else.
    pub(super) fn announce(
        &self,
        netlink: &mut Netlink,
        bridge_index: u32,
        endpoint: &Endpoint,
        mac: [u8; 6],
    ) {
        let tells_neighbours = {
            let state = self.lock();
            // Where containers are kept apart, they reach each other through the host only.
            let announces = state
                .networks
                .get(&endpoint.network_id)
                .is_some_and(|network| matches!(&network.kind, Kind::Bridge { options, .. } if options.icc && options.announces));
            announces && state.has_neighbours(endpoint)
        };
        for address in endpoint.addresses() {
            let _waits_for_the_kernel_to_ask = netlink.set_neighbour(bridge_index, address, mac);
            if tells_neighbours {
                let _waits_for_the_kernel_to_ask = send(bridge_index, &frame(address, mac));
            }
        }
    }
}

/// Returns the frame that says which hardware address an IP address has.
fn frame(address: IpAddr, mac: [u8; 6]) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp_announcement(address, mac),
        IpAddr::V6(address) => neighbour_advertisement(address, mac),
    }
}

fn ethernet(destination: [u8; 6], source: [u8; 6], kind: u16) -> Vec<u8> {
    [&destination[..], &source, &kind.to_be_bytes()].concat()
}

/// Layout: RFC 826; sender and target address are the announced one.
fn arp_announcement(address: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    // Ethernet, IPv4, the lengths of their addresses, a request.
    const HEAD: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    let mut frame = ethernet(EVERYBODY, mac, ARP);
    frame.extend_from_slice(&HEAD);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&address.octets());
    frame
}

/// Layout: RFC 8200 §3, RFC 4861 §4.4 and §4.6.1.
fn neighbour_advertisement(address: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    // An advertisement, the checksum's place, what was known is overridden.
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend_from_slice(&address.octets());
    // The target's hardware address, in units of eight bytes.
    message.extend_from_slice(&[2, 1]);
    message.extend_from_slice(&mac);
    let sum = checksum(address, ALL_NODES, &message).to_be_bytes();
    if let Some(place) = message.get_mut(2..4) {
        place.copy_from_slice(&sum);
    }
    let length = u16::try_from(message.len()).unwrap_or_default();
    let mut frame = ethernet(ALL_NODES_MAC, mac, IPV6);
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    // The largest hop limit proves that no router passed it on.
    frame.extend_from_slice(&[ICMPV6, 255]);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&ALL_NODES.octets());
    frame.extend_from_slice(&message);
    frame
}

/// Returns the Internet checksum of an ICMPv6 message with its pseudo header (RFC 8200 §8.1, RFC 1071).
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or_default();
    let pseudo = [
        &source.octets()[..],
        &destination.octets(),
        &length.to_be_bytes(),
        &[0, 0, 0, ICMPV6],
    ]
    .concat();
    let words = pseudo.chunks(2).chain(message.chunks(2)).map(|pair| {
        let high = pair.first().copied().unwrap_or_default();
        let low = pair.get(1).copied().unwrap_or_default();
        u32::from(u16::from_be_bytes([high, low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Sends a whole frame out of a device (packet(7)).
fn send(index: u32, frame: &[u8]) -> io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all bits zero are a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as i32;
    // SAFETY: frame and address are valid for reads of the given lengths during the call, and the socket is open.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_standards() {
        let mac = [2, 1, 2, 3, 4, 5];
        let arp = frame("10.9.0.2".parse().unwrap(), mac);
        assert_eq!(
            hexadecimal(&arp),
            "ffffffffffff020102030405080600010800060400010201020304050a090002000000000000\
             0a090002"
        );
        let advertisement = frame("fd00::2".parse().unwrap(), mac);
        assert_eq!(advertisement.len(), 14 + 40 + 32);
        // A message with its right checksum sums up to nothing.
        let (source, message) = ("fd00::2".parse().unwrap(), &advertisement[54..]);
        assert_eq!(checksum(source, ALL_NODES, message), 0);
    }

    fn hexadecimal(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
