//! What a caller asks of a network for one container, and what it gets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::error::NetworkError;

/// Most names and links of one endpoint.
pub const MAX_NAMES_PER_ENDPOINT: usize = 1024;
/// Most link-local addresses and settings of one endpoint.
pub const MAX_EXTRAS_PER_ENDPOINT: usize = 64;
/// Length of a container, network or endpoint identifier in hexadecimal digits.
const IDENTIFIER_LENGTH: usize = 64;
/// Longest device name (`IFNAMSIZ` less the final zero byte).
const MAX_DEVICE_NAME_BYTES: usize = 15;

/// What one container asks of a network.
#[derive(Debug, Clone, Default)]
pub struct EndpointRequest {
    /// The network's identifier.
    pub network_id: String,
    /// The container's identifier, 64 hexadecimal digits.
    pub container_id: String,
    /// The IPv4 address to use; `None` takes the next free one.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address to use; `None` takes the next free one.
    pub ipv6: Option<Ipv6Addr>,
    /// Leaves out IPv6 on a network that has it, for a container that has it turned off.
    pub without_ipv6: bool,
    /// Further addresses, link-local ones.
    pub link_local: Vec<IpAddr>,
    /// The hardware address to use; `None` draws one that no other endpoint has.
    pub mac: Option<[u8; 6]>,
    /// Name of the interface in the container; empty takes the first free `eth<number>`.
    pub interface: String,
    /// Settings of the interface: paths below `/proc/sys` with `IFNAME` for its name, and values.
    pub sysctls: Vec<(String, String)>,
    /// Which network becomes the default gateway: the highest wins.
    pub gateway_priority: i64,
    /// Names of the container on this network, its own first; none on networks without names.
    pub names: Vec<String>,
    /// Private names of this container: alias to the name of another container.
    pub links: BTreeMap<String, String>,
}

/// An address with the length of its subnet's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceAddress<A> {
    /// The address.
    pub address: A,
    /// Prefix length of the subnet.
    pub prefix_length: u8,
}

/// One container's place on one network. The caller keeps it across restarts of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The endpoint's own identifier, 64 hexadecimal digits.
    pub endpoint_id: String,
    /// The network's identifier.
    pub network_id: String,
    /// The container's identifier.
    pub container_id: String,
    /// The container's IPv4 address.
    pub ipv4: Option<InterfaceAddress<Ipv4Addr>>,
    /// The container's IPv6 address.
    pub ipv6: Option<InterfaceAddress<Ipv6Addr>>,
    /// The IPv4 gateway; `None` on networks that lead nowhere.
    pub gateway_ipv4: Option<Ipv4Addr>,
    /// The IPv6 gateway; `None` on networks that lead nowhere.
    pub gateway_ipv6: Option<Ipv6Addr>,
    /// Hardware address of the interface, such as `02:42:ac:11:00:02`; empty
    /// where it is that of another device.
    pub mac: String,
    /// Name of the interface in the container.
    pub interface: String,
    /// The host's end of the veth pair: `veth` and seven hexadecimal digits; empty when the
    /// interface has no other end.
    pub host_interface: String,
    /// Which network becomes the default gateway: the highest wins.
    #[serde(default)]
    pub gateway_priority: i64,
    /// Names of the container on this network.
    #[serde(default)]
    pub names: Vec<String>,
    /// Private names of this container.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
}

impl Endpoint {
    /// Returns the address of a family.
    pub fn address(&self, ipv6: bool) -> Option<IpAddr> {
        if ipv6 {
            self.ipv6.map(|own| IpAddr::V6(own.address))
        } else {
            self.ipv4.map(|own| IpAddr::V4(own.address))
        }
    }

    /// Returns the gateway of a family.
    pub fn gateway(&self, ipv6: bool) -> Option<IpAddr> {
        if ipv6 {
            self.gateway_ipv6.map(IpAddr::V6)
        } else {
            self.gateway_ipv4.map(IpAddr::V4)
        }
    }

    /// Returns the addresses of both families.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [self.address(false), self.address(true)]
            .into_iter()
            .flatten()
    }
}

impl EndpointRequest {
    /// Checks what can be checked without the kernel.
    ///
    /// # Errors
    /// [`NetworkError::InvalidRequest`] for a malformed identifier, a hardware address of a group,
    /// an interface name or setting that cannot be, or too many of anything.
    pub(crate) fn validate(&self) -> Result<(), NetworkError> {
        let invalid = |reason: String| Err(NetworkError::InvalidRequest { reason });
        if !is_identifier(&self.container_id) {
            return invalid(format!(
                "container id {:?} is not 64 hexadecimal digits",
                self.container_id
            ));
        }
        if let Some(mac) = self.mac
            && (mac[0] & 1 != 0 || mac == [0; 6])
        {
            return invalid(format!(
                "hardware address {} is not one of a single device",
                mac_text(mac)
            ));
        }
        if self.names.len() + self.links.len() > MAX_NAMES_PER_ENDPOINT {
            return invalid(format!(
                "{} names and links, at most {MAX_NAMES_PER_ENDPOINT} are possible",
                self.names.len() + self.links.len()
            ));
        }
        if self.link_local.len().max(self.sysctls.len()) > MAX_EXTRAS_PER_ENDPOINT {
            return invalid(format!(
                "more than {MAX_EXTRAS_PER_ENDPOINT} link-local addresses or settings"
            ));
        }
        if let Some(address) = self.link_local.iter().find(|ip| !is_link_local(**ip)) {
            return Err(NetworkError::InvalidNetwork {
                reason: format!("invalid link local IP address: {address}"),
            });
        }
        if !self.interface.is_empty() && !is_interface_name(&self.interface) {
            return invalid(format!(
                "interface name {:?} cannot be used",
                self.interface
            ));
        }
        if let Some((name, _)) = self.sysctls.iter().find(|(name, _)| !is_setting(name)) {
            return invalid(format!("{name:?} is no setting of an interface"));
        }
        Ok(())
    }
}

/// Tells whether a text is an identifier.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.len() == IDENTIFIER_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_interface_name(name: &str) -> bool {
    name.len() <= MAX_DEVICE_NAME_BYTES
        && !["lo", "all", "default", ".", ".."].contains(&name)
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Tells whether a path names a setting of the own interface: `net/ipv4/conf/IFNAME/log_martians`.
fn is_setting(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let word = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match parts.as_slice() {
        ["net", "ipv4" | "ipv6" | "mpls", kind, "IFNAME", name] => word(kind) && word(name),
        _ => false,
    }
}

/// Returns a hardware address as colon-separated lower-case hexadecimal.
pub fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> EndpointRequest {
        EndpointRequest {
            container_id: "ab".repeat(32),
            ..EndpointRequest::default()
        }
    }

    #[test]
    fn requests_are_checked() {
        assert!(request().validate().is_ok());
        let setting = |path: &str| vec![(path.to_owned(), "1".to_owned())];
        let good: [EndpointRequest; 2] = [
            EndpointRequest {
                sysctls: setting("net/ipv4/conf/IFNAME/log_martians"),
                ..request()
            },
            EndpointRequest {
                interface: "lan0.5".into(),
                ..request()
            },
        ];
        for request in good {
            assert!(request.validate().is_ok());
        }
        let bad: [EndpointRequest; 8] = [
            EndpointRequest {
                link_local: vec!["10.0.0.1".parse().unwrap()],
                ..request()
            },
            EndpointRequest {
                container_id: "x".into(),
                ..request()
            },
            EndpointRequest {
                mac: Some([1, 0, 0, 0, 0, 1]),
                ..request()
            },
            EndpointRequest {
                interface: "sixteen-bytes-00".into(),
                ..request()
            },
            EndpointRequest {
                interface: "../x".into(),
                ..request()
            },
            EndpointRequest {
                sysctls: setting("net/ipv4/conf/../x"),
                ..request()
            },
            EndpointRequest {
                sysctls: setting("kernel/IFNAME/x"),
                ..request()
            },
            EndpointRequest {
                names: vec!["a".into(); MAX_NAMES_PER_ENDPOINT + 1],
                ..request()
            },
        ];
        for (index, request) in bad.iter().enumerate() {
            assert!(request.validate().is_err(), "case {index}");
        }
    }

    #[test]
    fn names_have_a_limit() {
        let at_limit = EndpointRequest {
            names: vec!["a".into(); MAX_NAMES_PER_ENDPOINT],
            ..request()
        };
        assert!(at_limit.validate().is_ok());
    }

    #[test]
    fn hardware_addresses_are_written_with_colons() {
        assert_eq!(mac_text([2, 0x42, 172, 17, 0, 2]), "02:42:ac:11:00:02");
    }
}
