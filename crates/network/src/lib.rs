//! Networks, addresses, firewall, published ports and names of one daemon.
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
mod config;
mod counters;
mod dns;
mod endpoint;
mod error;
pub mod files;
mod firewall;
mod namespace;
mod netlink;
mod networks;
mod options;
mod port;
mod port_allocator;
mod reaper;
mod relay;
mod subnet;
mod subnet_choice;
mod sysctl;

pub use config::{Driver, NetworkConfig, NetworkRequest, Pool, PoolRequest, gateway_name};
pub use counters::InterfaceCounters;
pub use dns::{ResolverPorts, ResolverRequest, Upstream};
pub use endpoint::{Endpoint, EndpointRequest, InterfaceAddress};
pub use error::NetworkError;
pub use firewall::AllowedLink;
pub use networks::{
    Explanation, LiveContainer, Networks, NetworksOptions, Verdict, addresses_of_bridge,
    local_ipv6_pools,
};
pub use options::parse_bool;
pub use port::{HostPorts, MAX_PORTS_PER_CONTAINER, PortRequest, Protocol, PublishedPort};
pub use subnet::Subnet;
pub use subnet_choice::AddressPoolBase;
