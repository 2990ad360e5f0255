//! The little of rtnetlink that networks need, blocking, one socket per caller.
//!
//! Message layout: rtnetlink(7); attributes as in the kernel's `if_link.h`, `if_addr.h` and
//! `rtnetlink.h`.

mod link;
mod neighbour;
mod route;
mod socket;

pub(crate) use link::{Link, PeerLocation, SubInterface, VethPair};
pub(crate) use route::{DefaultRoute, subnets_in_use};
pub(crate) use socket::{MAX_DATAGRAM_BYTES, Netlink, acknowledgement, receive_datagram};
