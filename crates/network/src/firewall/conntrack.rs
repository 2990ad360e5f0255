//! Forgetting tracked connections of a container that is gone.
//!
//! Message and attribute numbers: the kernel's `nfnetlink_conntrack.h`.

use std::io;
use std::net::IpAddr;

use super::nfnetlink::NfNetlink;

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 2;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// Only the source address of the tuple is compared.
const CTA_FILTER_FLAG_IP_SRC: u32 = 1;
const NLM_F_REQUEST_ACK: u16 = 0x1 | 0x4;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Forgets every tracked connection whose answers come from `address`.
///
/// These are the connections that were led to a container by a published port, or made to it by
/// the host. Needs Linux 5.8; older kernels answer with an error and change nothing.
pub(super) fn forget_replies_from(netfilter: &mut NfNetlink, address: IpAddr) -> io::Result<()> {
    netfilter.exchange(|messages, sequence| {
        let header = (IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST_ACK, sequence);
        let family = if address.is_ipv6() { AF_INET6 } else { AF_INET };
        messages.push(header, (family, 0), |message| {
            message.nest(CTA_TUPLE_REPLY, |tuple| {
                tuple.nest(CTA_TUPLE_IP, |ip| match address {
                    IpAddr::V4(address) => ip.attribute(CTA_IP_V4_SRC, &address.octets()),
                    IpAddr::V6(address) => ip.attribute(CTA_IP_V6_SRC, &address.octets()),
                });
            });
            message.nest(CTA_FILTER, |filter| {
                filter.attribute(CTA_FILTER_ORIG_FLAGS, &0_u32.to_ne_bytes());
                filter.attribute(
                    CTA_FILTER_REPLY_FLAGS,
                    &CTA_FILTER_FLAG_IP_SRC.to_ne_bytes(),
                );
            });
        });
        sequence
    })
}
