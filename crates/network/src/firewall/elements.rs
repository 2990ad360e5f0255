//! Elements of the published-port maps, changed by nfnetlink without starting a process.
//!
//! Message and attribute numbers: the kernel's `nf_tables.h` and `nfnetlink.h`. In a key or value
//! of several fields every field is padded to four bytes.

use std::io;
use std::net::IpAddr;

use super::attributes::Messages;
use super::nfnetlink::{NFNL_SUBSYS_NFTABLES, NLM_F_CREATE, NfNetlink};
use crate::port::PublishedPort;

const NFT_MSG_NEWSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12;
const NFT_MSG_DELSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 14;
const NFPROTO_INET: u8 = 1;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;

/// Elements in one message: an element takes at most 76 bytes, an attribute at most 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 512;
/// Elements in one transaction, so that a batch fits the socket's send buffer (208 KiB unless the
/// machine says otherwise).
const ELEMENTS_PER_BATCH: usize = 1024;

/// The maps and sets that published ports are elements of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Published at every host address: `protocol . port` to `address . port`.
    Any,
    /// Published at one host address: `address . protocol . port` to `address . port`.
    At,
    /// Reached at the container's own address: `address . protocol . port`.
    Routed,
}

/// All places with their names, for IPv4 and IPv6.
pub(super) const PLACES: [(Place, [&str; 2]); 3] = [
    (Place::Any, ["published_any4", "published_any6"]),
    (Place::At, ["published_at4", "published_at6"]),
    (Place::Routed, ["routed4", "routed6"]),
];

/// Returns where a published port belongs.
pub(super) fn place_of(port: &PublishedPort) -> Place {
    match port {
        PublishedPort { host_port: 0, .. } => Place::Routed,
        PublishedPort { host_ip, .. } if host_ip.is_unspecified() => Place::Any,
        _ => Place::At,
    }
}

/// Adds elements for `ports`. Up to 1024 ports are added all or none.
///
/// # Errors
/// `NotFound` if table or maps are gone, `AlreadyExists` if a port leads elsewhere already. A port
/// that leads to the same place is no failure: a repair of the table may have added it.
pub(super) fn add(
    netfilter: &mut NfNetlink,
    table: &str,
    ports: &[PublishedPort],
) -> io::Result<()> {
    ports
        .chunks(ELEMENTS_PER_BATCH)
        .try_for_each(|chunk| change(netfilter, table, NFT_MSG_NEWSETELEM, NLM_F_CREATE, chunk))
}

/// Removes the elements of `ports`; those that are gone are no failure.
pub(super) fn remove(
    netfilter: &mut NfNetlink,
    table: &str,
    ports: &[PublishedPort],
) -> io::Result<()> {
    for chunk in ports.chunks(ELEMENTS_PER_BATCH) {
        let all = change(netfilter, table, NFT_MSG_DELSETELEM, 0, chunk);
        if !is_not_found(&all) {
            all?;
            continue;
        }
        // One missing element undoes a whole batch: take the others out one by one.
        for port in chunk {
            let one = change(
                netfilter,
                table,
                NFT_MSG_DELSETELEM,
                0,
                std::slice::from_ref(port),
            );
            if !is_not_found(&one) {
                one?;
            }
        }
    }
    Ok(())
}

fn change(
    netfilter: &mut NfNetlink,
    table: &str,
    kind: u16,
    flags: u16,
    ports: &[PublishedPort],
) -> io::Result<()> {
    netfilter.transaction(|batch| {
        for (place, names) in PLACES {
            for (name, ipv6) in names.into_iter().zip([false, true]) {
                let members: Vec<&PublishedPort> = ports
                    .iter()
                    .filter(|port| {
                        port.is_translated()
                            && place_of(port) == place
                            && port.address.is_ipv6() == ipv6
                    })
                    .collect();
                for chunk in members.chunks(ELEMENTS_PER_MESSAGE) {
                    batch.push(kind, flags, NFPROTO_INET, |message| {
                        message.text(NFTA_SET_ELEM_LIST_TABLE, table);
                        message.text(NFTA_SET_ELEM_LIST_SET, name);
                        message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                            for port in chunk {
                                push_element(list, port, place);
                            }
                        });
                    });
                }
            }
        }
    })
}

fn push_element(list: &mut Messages, port: &PublishedPort, place: Place) {
    let (address, number) = match place {
        Place::Any => (None, port.host_port),
        Place::At => (Some(port.host_ip), port.host_port),
        Place::Routed => (Some(port.address), port.container_port),
    };
    let mut key = Vec::with_capacity(24);
    if let Some(address) = address {
        push_address(&mut key, address);
    }
    key.extend_from_slice(&[port.protocol.number(), 0, 0, 0]);
    key.extend_from_slice(&padded(number));
    list.nest(NFTA_LIST_ELEM, |element| {
        element.nest(NFTA_SET_ELEM_KEY, |value| {
            value.attribute(NFTA_DATA_VALUE, &key)
        });
        if place != Place::Routed {
            let mut target = Vec::with_capacity(20);
            push_address(&mut target, port.address);
            target.extend_from_slice(&padded(port.container_port));
            element.nest(NFTA_SET_ELEM_DATA, |value| {
                value.attribute(NFTA_DATA_VALUE, &target);
            });
        }
    });
}

fn push_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
    }
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn is_not_found(result: &io::Result<()>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::NotFound)
}
