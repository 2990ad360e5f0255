//! Bridges, addresses, firewall and published ports of one daemon.
//!
//! Everything this room makes in the kernel carries the instance's name (bridge, veth prefix,
//! nftables table), so that several daemons live side by side and a start can sweep what an
//! earlier one left. Nothing is mounted: a network namespace lives by a file descriptor and by its
//! processes. Host rules are never edited; all rules are in one nftables table of our own.
//! All calls block; callers on an async runtime use a blocking thread.

// A test that cannot go on may panic.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::disallowed_methods))]

mod address_pool;
mod bridge;
mod counters;
mod endpoint;
mod error;
pub mod files;
mod firewall;
mod namespace;
mod netlink;
mod network;
mod port_allocator;
mod reaper;
mod subnet;
mod subnet_choice;
mod sysctl;

pub use counters::InterfaceCounters;
pub use endpoint::{
    Endpoint, EndpointRequest, HostPorts, MAX_PORTS_PER_ENDPOINT, PortRequest, Protocol,
    PublishedPort,
};
pub use error::NetworkError;
pub use network::{Network, NetworkOptions};
pub use subnet::Ipv4Subnet;
