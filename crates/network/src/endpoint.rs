//! What a caller asks of the network for one container, and what it gets.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::error::NetworkError;

/// Most published ports of one container; a whole port range of one protocol fits.
pub const MAX_PORTS_PER_ENDPOINT: usize = 65_536;

/// Length of a container or endpoint identifier in hexadecimal digits.
const IDENTIFIER_LENGTH: usize = 64;

/// A transport protocol that can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Returns the IP protocol number (IANA assigned protocol numbers).
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
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

/// A published port as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// Port inside the container, 1 to 65535.
    pub container_port: u16,
    /// Protocol of both ports.
    pub protocol: Protocol,
    /// Host address to publish at; `None` and `0.0.0.0` mean every address.
    pub host_ip: Option<Ipv4Addr>,
    /// Host ports to choose from.
    pub host_ports: HostPorts,
}

/// A published port as given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Port inside the container.
    pub container_port: u16,
    /// Protocol of both ports.
    pub protocol: Protocol,
    /// Host address; `0.0.0.0` is every address.
    pub host_ip: Ipv4Addr,
    /// Host port.
    pub host_port: u16,
}

/// What one container asks of the bridge.
#[derive(Debug, Clone)]
pub struct EndpointRequest {
    /// The container's identifier, 64 hexadecimal digits.
    pub container_id: String,
    /// The address to use; `None` takes the next free one.
    pub address: Option<Ipv4Addr>,
    /// The hardware address to use; `None` derives it from the address (`02:42` and its four bytes).
    pub mac: Option<[u8; 6]>,
    /// Ports to publish, at most [`MAX_PORTS_PER_ENDPOINT`].
    pub ports: Vec<PortRequest>,
}

/// One container's place on the bridge. The caller keeps it across restarts of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The endpoint's own identifier, 64 hexadecimal digits.
    pub endpoint_id: String,
    /// The container's identifier.
    pub container_id: String,
    /// The container's address on `eth0`.
    pub address: Ipv4Addr,
    /// Prefix length of the bridge's subnet.
    pub prefix_length: u8,
    /// The bridge's address, the container's default route.
    pub gateway: Ipv4Addr,
    /// Hardware address of `eth0`, such as `02:42:ac:11:00:02`.
    pub mac: String,
    /// The host's end of the veth pair: `veth` and seven hexadecimal digits.
    pub host_interface: String,
    /// Published ports in the order they were asked for.
    pub ports: Vec<PublishedPort>,
}

impl EndpointRequest {
    /// Checks what can be checked without the kernel.
    ///
    /// # Errors
    /// [`NetworkError::InvalidRequest`] for a malformed identifier, too many ports, port 0, an
    /// empty range or a hardware address of a group.
    pub(crate) fn validate(&self) -> Result<(), NetworkError> {
        let invalid = |reason: String| Err(NetworkError::InvalidRequest { reason });
        if self.container_id.len() != IDENTIFIER_LENGTH
            || !self
                .container_id
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit())
        {
            return invalid(format!(
                "container id {:?} is not 64 hexadecimal digits",
                self.container_id
            ));
        }
        if self.ports.len() > MAX_PORTS_PER_ENDPOINT {
            return invalid(format!(
                "{} published ports, at most {MAX_PORTS_PER_ENDPOINT} are possible",
                self.ports.len()
            ));
        }
        for port in &self.ports {
            if port.container_port == 0 {
                return invalid("container port 0 cannot be published".to_owned());
            }
            if let HostPorts::Range(range) = &port.host_ports
                && (range.is_empty() || *range.start() == 0)
            {
                return invalid(format!(
                    "invalid host port range {}-{}",
                    range.start(),
                    range.end()
                ));
            }
        }
        match self.mac {
            Some(mac) if mac[0] & 1 != 0 || mac == [0; 6] => invalid(format!(
                "hardware address {} is not one of a single device",
                mac_text(mac)
            )),
            _ => Ok(()),
        }
    }
}

/// Returns the hardware address of a container address: `02:42` and its four bytes.
///
/// Derived, so that a neighbour's entry for a reused address is never stale (spec runtime §8.1).
pub(crate) fn mac_of_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// Returns a hardware address as colon-separated lower-case hexadecimal.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> EndpointRequest {
        EndpointRequest {
            container_id: "ab".repeat(32),
            address: None,
            mac: None,
            ports: Vec::new(),
        }
    }

    fn port(host_ports: HostPorts) -> PortRequest {
        PortRequest {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: None,
            host_ports,
        }
    }

    #[test]
    fn requests_are_checked() {
        assert!(request().validate().is_ok());
        let bad: [fn(&mut EndpointRequest); 5] = [
            |request| request.container_id = "x".into(),
            |request| request.mac = Some([1, 0, 0, 0, 0, 1]),
            |request| {
                request.ports = vec![PortRequest {
                    container_port: 0,
                    ..port(HostPorts::Ephemeral)
                }]
            },
            |request| request.ports = vec![port(HostPorts::Range(0..=0))],
            #[allow(
                clippy::reversed_empty_ranges,
                reason = "an empty range is what is tested"
            )]
            |request| request.ports = vec![port(HostPorts::Range(90..=80))],
        ];
        for (index, change) in bad.iter().enumerate() {
            let mut request = request();
            change(&mut request);
            assert!(request.validate().is_err(), "case {index}");
        }
    }

    #[test]
    fn port_count_has_a_limit() {
        let mut request = request();
        request.ports = vec![port(HostPorts::Ephemeral); MAX_PORTS_PER_ENDPOINT];
        assert!(request.validate().is_ok());
        request.ports.push(port(HostPorts::Ephemeral));
        assert!(request.validate().is_err());
    }

    #[test]
    fn hardware_address_follows_the_address() {
        assert_eq!(
            mac_text(mac_of_address(Ipv4Addr::new(172, 17, 0, 2))),
            "02:42:ac:11:00:02"
        );
    }
}
