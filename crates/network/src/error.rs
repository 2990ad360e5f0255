//! The one error type of this room.

use std::io;
use std::net::Ipv4Addr;

use crate::endpoint::Protocol;
use crate::subnet::Ipv4Subnet;

/// Everything that can go wrong between a daemon and the kernel's networking.
///
/// The texts of [`NetworkError::PortAllocated`], [`NetworkError::PortBind`] and
/// [`NetworkError::NoFreeSubnet`] are the ones docker's clients know (spec runtime §8.1, §8.3).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A name for a kernel object that the kernel or `nft` would not take.
    #[error("invalid {kind} name {name:?}: {reason}")]
    InvalidName {
        /// What the name is for: `bridge`, `nftables table`.
        kind: &'static str,
        /// The refused name.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A text that is not an IPv4 subnet.
    #[error("invalid subnet {text:?}: {reason}; expected address/prefix such as 172.17.0.0/16")]
    InvalidSubnet {
        /// The refused text.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A rtnetlink request that the kernel refused.
    #[error("cannot {action}: {source}")]
    Netlink {
        /// What was asked for, in words: `create veth pair veth0123456`.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A network namespace that could not be made or entered.
    #[error("cannot {action} a network namespace: {source}")]
    Namespace {
        /// `create`, `enter`, `open`.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A kernel setting that could not be read or written.
    #[error("cannot set {name} to {value}: {source}")]
    Sysctl {
        /// The setting's path below `/proc/sys`.
        name: String,
        /// The value asked for.
        value: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The interface counters of a process that could not be read.
    #[error("cannot read the network counters of process {pid}: {source}")]
    Counters {
        /// The process asked about.
        pid: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The `nft` program is not installed.
    #[error("cannot install firewall rules: nft not found; install the nftables package")]
    NftMissing,
    /// `nft` could not be run or refused the rules.
    #[error(
        "cannot install firewall rules in table ip {table}: {reason}; check that the kernel has nf_tables, nft_nat and nft_masq"
    )]
    Ruleset {
        /// The table's name.
        table: String,
        /// `nft`'s own message or the reason it could not be run.
        reason: String,
    },
    /// A change of published ports that the kernel refused.
    #[error("cannot change the published ports in table ip {table}: {source}")]
    Elements {
        /// The table's name.
        table: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A device of another kind has the bridge's name.
    #[error("device {name} is a {found}, not a bridge; remove it or choose another bridge name")]
    NotABridge {
        /// The device's name.
        name: String,
        /// The kind the kernel reports.
        found: String,
    },
    /// Every predefined pool overlaps something in use on this machine.
    #[error("all predefined address pools have been fully subnetted")]
    NoFreeSubnet,
    /// A subnet asked for by name is in use by another device.
    #[error("subnet {subnet} overlaps {other} in use on this machine; choose another subnet")]
    SubnetInUse {
        /// The subnet asked for.
        subnet: Ipv4Subnet,
        /// The overlapping one.
        other: Ipv4Subnet,
    },
    /// Every address of the subnet is taken.
    #[error(
        "no available IPv4 addresses in subnet {subnet}; remove containers or use a larger subnet"
    )]
    AddressesExhausted {
        /// The bridge's subnet.
        subnet: Ipv4Subnet,
    },
    /// An address asked for by name belongs to another endpoint.
    #[error("address {address} is already in use")]
    AddressInUse {
        /// The address asked for.
        address: Ipv4Addr,
    },
    /// An address asked for by name cannot belong to a container here.
    #[error("address {address} is not a container address of subnet {subnet}")]
    AddressOutside {
        /// The address asked for.
        address: Ipv4Addr,
        /// The bridge's subnet.
        subnet: Ipv4Subnet,
    },
    /// A port that this daemon has already given to another container.
    #[error("Bind for {host_ip}:{host_port} failed: port is already allocated")]
    PortAllocated {
        /// The host address asked for.
        host_ip: Ipv4Addr,
        /// The host port asked for.
        host_port: u16,
    },
    /// A port that the kernel refused, most often because another process has it.
    #[error("failed to bind host port {host_ip}:{host_port}/{protocol}: {reason}")]
    PortBind {
        /// The host address asked for.
        host_ip: Ipv4Addr,
        /// The host port asked for.
        host_port: u16,
        /// The protocol asked for.
        protocol: Protocol,
        /// The kernel's answer in words.
        reason: String,
    },
    /// No port of a range, or of the ephemeral range, is free.
    #[error(
        "Bind for {host_ip}:{first}-{last} failed: all ports are allocated; widen the range or stop a container"
    )]
    PortsExhausted {
        /// The host address asked for.
        host_ip: Ipv4Addr,
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// A request that makes no sense before the kernel is asked.
    #[error("invalid endpoint request: {reason}")]
    InvalidRequest {
        /// Which rule it breaks.
        reason: String,
    },
}

impl NetworkError {
    /// Returns a function that wraps an I/O error of a rtnetlink request.
    pub(crate) fn netlink(action: impl Into<String>) -> impl FnOnce(io::Error) -> NetworkError {
        move |source| NetworkError::Netlink {
            action: action.into(),
            source,
        }
    }
}
