//! Elements of the published-port maps, changed by nfnetlink without starting a process.
//!
//! Message and attribute numbers: the kernel's `nf_tables.h` and `nfnetlink.h`. In a key or value
//! of several fields every field is padded to four bytes.

use std::io;
use std::net::Ipv4Addr;

use super::attributes::Messages;
use super::nfnetlink::NfNetlink;
use super::{MAP_ANY, MAP_AT, Mapping};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12;
const NFT_MSG_DELSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 14;
const NFPROTO_IPV4: u8 = 2;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;

/// Elements in one message: an element takes at most 52 bytes, an attribute at most 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 512;
/// Elements in one transaction, so that a batch fits the socket's send buffer (208 KiB unless the
/// machine says otherwise).
const ELEMENTS_PER_BATCH: usize = 1024;

/// Adds elements for `mappings`. Up to 1024 ports are added all or none.
///
/// # Errors
/// `NotFound` if table or maps are gone, `AlreadyExists` if a port leads elsewhere already. A port
/// that leads to the same place is no failure: a repair of the table may have added it.
pub(super) fn add(netfilter: &mut NfNetlink, table: &str, mappings: &[Mapping]) -> io::Result<()> {
    mappings
        .chunks(ELEMENTS_PER_BATCH)
        .try_for_each(|chunk| change(netfilter, table, NFT_MSG_NEWSETELEM, NLM_F_CREATE, chunk))
}

/// Removes the elements of `mappings`; those that are gone are no failure.
pub(super) fn remove(
    netfilter: &mut NfNetlink,
    table: &str,
    mappings: &[Mapping],
) -> io::Result<()> {
    for chunk in mappings.chunks(ELEMENTS_PER_BATCH) {
        let all = change(netfilter, table, NFT_MSG_DELSETELEM, 0, chunk);
        if !is_not_found(&all) {
            all?;
            continue;
        }
        // One missing element undoes a whole batch: take the others out one by one.
        for mapping in chunk {
            let one = change(
                netfilter,
                table,
                NFT_MSG_DELSETELEM,
                0,
                std::slice::from_ref(mapping),
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
    mappings: &[Mapping],
) -> io::Result<()> {
    let (any, at): (Vec<_>, Vec<_>) = mappings
        .iter()
        .partition(|mapping| mapping.port.host_ip.is_unspecified());
    let batch = (0, NFNL_SUBSYS_NFTABLES);
    netfilter.exchange(|messages, mut sequence| {
        messages.push(
            (NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, sequence),
            batch,
            |_| {},
        );
        for (map, members) in [(MAP_ANY, any), (MAP_AT, at)] {
            for chunk in members.chunks(ELEMENTS_PER_MESSAGE) {
                sequence += 1;
                let header = (kind, NLM_F_REQUEST | NLM_F_ACK | flags, sequence);
                messages.push(header, (NFPROTO_IPV4, 0), |message| {
                    message.text(NFTA_SET_ELEM_LIST_TABLE, table);
                    message.text(NFTA_SET_ELEM_LIST_SET, map);
                    message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                        for mapping in chunk {
                            push_element(list, mapping);
                        }
                    });
                });
            }
        }
        messages.push((NFNL_MSG_BATCH_END, NLM_F_REQUEST, sequence), batch, |_| {});
        sequence
    })
}

fn push_element(list: &mut Messages, mapping: &Mapping) {
    let port = &mapping.port;
    let mut key = Vec::with_capacity(12);
    if !port.host_ip.is_unspecified() {
        key.extend_from_slice(&port.host_ip.octets());
    }
    key.extend_from_slice(&[port.protocol.number(), 0, 0, 0]);
    key.extend_from_slice(&padded(port.host_port));
    list.nest(NFTA_LIST_ELEM, |element| {
        element.nest(NFTA_SET_ELEM_KEY, |value| {
            value.attribute(NFTA_DATA_VALUE, &key)
        });
        element.nest(NFTA_SET_ELEM_DATA, |value| {
            value.attribute(
                NFTA_DATA_VALUE,
                &target(mapping.address, port.container_port),
            );
        });
    });
}

fn target(address: Ipv4Addr, port: u16) -> [u8; 8] {
    let [a, b, c, d] = address.octets();
    let [high, low, ..] = padded(port);
    [a, b, c, d, high, low, 0, 0]
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn is_not_found(result: &io::Result<()>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::NotFound)
}
