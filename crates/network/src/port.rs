//! Ports of containers that are published on the host.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::error::NetworkError;

/// Most published ports of one container; a whole port range of one protocol fits.
pub const MAX_PORTS_PER_CONTAINER: usize = 65_536;

/// A transport protocol that can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Returns the protocol's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// Returns the protocol of that name.
    pub fn from_name(name: &str) -> Option<Protocol> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .find(|protocol| protocol.as_str() == name)
    }

    /// Tells whether the daemon can pass on what the kernel cannot translate.
    pub(crate) fn is_relayable(self) -> bool {
        matches!(self, Protocol::Tcp | Protocol::Udp)
    }

    /// Returns the IP protocol number (IANA assigned protocol numbers).
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The host ports that a request is content with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPorts {
    /// Any port of the kernel's ephemeral range (`net.ipv4.ip_local_port_range`).
    Ephemeral,
    /// The first free port of a range; a single port is a range of one.
    Range(RangeInclusive<u16>),
}

/// A container port to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// The port inside the container.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The host address; `None` means every address of every family the container has.
    pub host_ip: Option<IpAddr>,
    /// The host port.
    pub host_ports: HostPorts,
}

/// A published port and where it leads. The caller keeps it across restarts of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The port inside the container.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The host address; unspecified means every address of its family.
    pub host_ip: IpAddr,
    /// The host port; 0 on networks that are routed, where the container's own address is reached.
    pub host_port: u16,
    /// The container's address.
    pub address: IpAddr,
}

impl PublishedPort {
    /// Tells whether rules of the kernel lead to the container: within one family.
    pub fn is_translated(&self) -> bool {
        self.host_ip.is_ipv6() == self.address.is_ipv6()
    }

    /// Tells whether the daemon takes what comes itself, all or that from ::1.
    pub(crate) fn is_relayed(&self) -> bool {
        self.protocol.is_relayable() && self.host_ip.is_ipv6() && self.host_port != 0
    }
}

impl PortRequest {
    /// Checks what can be checked without the kernel.
    ///
    /// # Errors
    /// [`NetworkError::InvalidRequest`] for port 0 or an empty range.
    pub(crate) fn validate(&self) -> Result<(), NetworkError> {
        let invalid = |reason: String| Err(NetworkError::InvalidRequest { reason });
        if self.container_port == 0 {
            return invalid("container port 0 cannot be published".to_owned());
        }
        match &self.host_ports {
            HostPorts::Range(range) if range.is_empty() || *range.start() == 0 => invalid(format!(
                "invalid host port range {}-{}",
                range.start(),
                range.end()
            )),
            _ => Ok(()),
        }
    }
}

/// Checks the requests of one container.
///
/// # Errors
/// [`NetworkError::InvalidRequest`].
pub(crate) fn validate_all(requests: &[PortRequest]) -> Result<(), NetworkError> {
    if requests.len() > MAX_PORTS_PER_CONTAINER {
        return Err(NetworkError::InvalidRequest {
            reason: format!(
                "{} published ports, at most {MAX_PORTS_PER_CONTAINER} are possible",
                requests.len()
            ),
        });
    }
    requests.iter().try_for_each(PortRequest::validate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(container_port: u16, host_ports: HostPorts) -> PortRequest {
        PortRequest {
            container_port,
            protocol: Protocol::Tcp,
            host_ip: None,
            host_ports,
        }
    }

    #[test]
    fn requests_are_checked() {
        assert!(port(80, HostPorts::Range(80..=80)).validate().is_ok());
        assert!(port(0, HostPorts::Ephemeral).validate().is_err());
        assert!(port(80, HostPorts::Range(0..=0)).validate().is_err());
        #[allow(
            clippy::reversed_empty_ranges,
            reason = "an empty range is what is tested"
        )]
        let reversed = HostPorts::Range(90..=80);
        assert!(port(80, reversed).validate().is_err());
    }

    #[test]
    fn the_number_of_ports_has_a_limit() {
        let mut requests = vec![port(80, HostPorts::Ephemeral); MAX_PORTS_PER_CONTAINER];
        assert!(validate_all(&requests).is_ok());
        requests.push(port(80, HostPorts::Ephemeral));
        assert!(validate_all(&requests).is_err());
    }

    #[test]
    fn protocols_have_names() {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            assert_eq!(Protocol::from_name(protocol.as_str()), Some(protocol));
        }
        assert_eq!(Protocol::from_name("icmp"), None);
    }
}
