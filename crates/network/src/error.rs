//! The one error type of this room.

use std::io;
use std::net::IpAddr;

use crate::port::Protocol;
use crate::subnet::Subnet;

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
    /// A text that is not a subnet.
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
        value: String,
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
        "cannot install firewall rules in table inet {table}: {reason}; check that the kernel has nf_tables, nft_nat and nft_masq"
    )]
    Ruleset {
        /// The table's name.
        table: String,
        /// `nft`'s own message or the reason it could not be run.
        reason: String,
    },
    /// A change of published ports that the kernel refused.
    #[error("cannot change the published ports in table inet {table}: {source}")]
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
    /// A device that has to be there is not.
    #[error("no device {name} on this host: make the bridge first, or take out the setting")]
    NoDevice {
        /// The device's name.
        name: String,
    },
    /// Every predefined pool overlaps something in use on this machine.
    #[error("all predefined address pools have been fully subnetted")]
    NoFreeSubnet,
    /// A subnet asked for by name is in use by another device.
    #[error(
        "invalid pool request: Pool overlaps with other one on this address space: {subnet} overlaps {other}, which this machine uses on another device; choose another subnet"
    )]
    SubnetInUse {
        /// The subnet asked for.
        subnet: Subnet,
        /// The overlapping one.
        other: Subnet,
    },
    /// Every address of the subnet is taken.
    #[error("no available addresses in subnet {subnet}; remove containers or use a larger subnet")]
    AddressesExhausted {
        /// The bridge's subnet.
        subnet: Subnet,
    },
    /// An address asked for by name belongs to another endpoint.
    #[error("Address already in use")]
    AddressInUse {
        /// The address asked for.
        address: IpAddr,
    },
    /// An address asked for by name cannot belong to a container here.
    #[error("address {address} is not a container address of subnet {subnet}")]
    AddressOutside {
        /// The address asked for.
        address: IpAddr,
        /// The bridge's subnet.
        subnet: Subnet,
    },
    /// A port that this daemon has already given to another container.
    #[error("Bind for {} failed: port is already allocated", std::net::SocketAddr::new(*host_ip, *host_port))]
    PortAllocated {
        /// The host address asked for.
        host_ip: IpAddr,
        /// The host port asked for.
        host_port: u16,
    },
    /// A port that the kernel refused, most often because another process has it.
    #[error("failed to bind host port {}/{protocol}: {reason}", std::net::SocketAddr::new(*host_ip, *host_port))]
    PortBind {
        /// The host address asked for.
        host_ip: IpAddr,
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
        host_ip: IpAddr,
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// A network with this identifier is not open here.
    #[error("network {id} is not set up")]
    UnknownNetwork {
        /// The identifier asked for.
        id: String,
    },
    /// A network that containers are on cannot be removed.
    #[error("network {name} has active endpoints")]
    NetworkInUse {
        /// The network's name.
        name: String,
    },
    /// A subnet asked for overlaps one of another network of this daemon.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlap {
        /// The subnet asked for.
        subnet: Subnet,
        /// The subnet that is there.
        other: Subnet,
    },
    /// Another network of this daemon has the same bridge.
    #[error("conflicts with network {id} ({device}): networks have same bridge name")]
    BridgeNameTaken {
        /// The other network's identifier.
        id: String,
        /// The bridge's device name.
        device: String,
    },
    /// A driver's option with a value that is none.
    #[error("failed to parse {key} value: {value} ({reason})")]
    InvalidOption {
        /// The option's name.
        key: String,
        /// The refused value.
        value: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// A request for a network that cannot be.
    #[error("{reason}")]
    InvalidNetwork {
        /// Which rule it breaks.
        reason: String,
    },
    /// The host's device that a macvlan or ipvlan network lies on is not there.
    #[error("parent interface {name} was not found on this host")]
    NoParent {
        /// The device's name.
        name: String,
    },
    /// A container may only choose its address where the user chose the subnet.
    #[error(
        "user specified IP address is supported only when connecting to networks with user configured subnets"
    )]
    AddressNotChoosable,
    /// A port asked for at an address whose family the container has no address of.
    #[error(
        "cannot publish port {container_port} at {host_ip}: the container has no address of that family; connect it to a network that has one (--ipv6)"
    )]
    NoAddressOfFamily {
        /// The container's port.
        container_port: u16,
        /// The host address asked for.
        host_ip: IpAddr,
    },
    /// The resolver inside a container could not be set up.
    #[error("cannot set up the resolver at 127.0.0.11: cannot {action}: {source}")]
    Resolver {
        /// What was being done, in words.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
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
