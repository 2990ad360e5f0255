//! Passing on what the kernel cannot lead to a container.
//!
//! Rules translate addresses within a family, and the kernel lets nothing from ::1 out to a bridge. So what comes to a
//! port published at an IPv6 address is taken here and passed on where the container has only IPv4, or where it comes
//! from ::1. Everything else is led by rules and goes on while no daemon runs.

mod tcp;
mod udp;

pub(crate) use tcp::relay_connections;
pub(crate) use udp::relay_packets;
