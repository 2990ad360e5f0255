//! IPv4 subnets: text form, containment, overlap.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::NetworkError;

/// Longest prefix that still leaves a network, a gateway, a container and a broadcast address.
const LONGEST_PREFIX_LENGTH: u8 = 30;
/// Shortest prefix taken for a bridge; anything wider is a mistake.
const SHORTEST_PREFIX_LENGTH: u8 = 8;

/// An IPv4 network address with its prefix length, such as `172.17.0.0/16`.
///
/// The host bits are always zero. Serialized as its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Subnet {
    network: Ipv4Addr,
    prefix_length: u8,
}

impl Ipv4Subnet {
    /// Returns the subnet that holds `address`; a prefix length above 32 counts as 32.
    pub fn containing(address: Ipv4Addr, prefix_length: u8) -> Ipv4Subnet {
        let prefix_length = prefix_length.min(32);
        Ipv4Subnet {
            network: Ipv4Addr::from_bits(address.to_bits() & mask(prefix_length)),
            prefix_length,
        }
    }

    /// Returns the first address, whose host bits are zero.
    pub fn network(&self) -> Ipv4Addr {
        self.network
    }

    /// Returns the number of leading bits that all addresses share.
    pub fn prefix_length(&self) -> u8 {
        self.prefix_length
    }

    /// Returns the first usable address (spec runtime §8.1: "gateway = first usable address").
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | 1)
    }

    /// Returns the last address, whose host bits are all one.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !mask(self.prefix_length))
    }

    /// Tells whether `address` belongs to this subnet.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix_length) == self.network.to_bits()
    }

    /// Tells whether the two subnets share an address.
    pub fn overlaps(&self, other: &Ipv4Subnet) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// Returns the subnet's mask in dotted form, such as `255.255.0.0`.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.prefix_length))
    }
}

impl FromStr for Ipv4Subnet {
    type Err = NetworkError;

    /// Parses `address/prefix`; host bits are cleared, the prefix length must be 8 to 30.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let invalid = |reason| NetworkError::InvalidSubnet {
            text: text.to_owned(),
            reason,
        };
        let (address, prefix) = text
            .split_once('/')
            .ok_or_else(|| invalid("no prefix length"))?;
        let address: Ipv4Addr = address
            .parse()
            .map_err(|_| invalid("not an IPv4 address"))?;
        let prefix_length: u8 = prefix
            .parse()
            .map_err(|_| invalid("prefix length is not a number"))?;
        if !(SHORTEST_PREFIX_LENGTH..=LONGEST_PREFIX_LENGTH).contains(&prefix_length) {
            return Err(invalid("prefix length is not between 8 and 30"));
        }
        Ok(Ipv4Subnet::containing(address, prefix_length))
    }
}

impl fmt::Display for Ipv4Subnet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix_length)
    }
}

impl TryFrom<String> for Ipv4Subnet {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Ipv4Subnet> for String {
    fn from(subnet: Ipv4Subnet) -> String {
        subnet.to_string()
    }
}

fn mask(prefix_length: u8) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(prefix_length))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_clears_host_bits() {
        for (text, shown, gateway, broadcast) in [
            (
                "172.17.0.0/16",
                "172.17.0.0/16",
                "172.17.0.1",
                "172.17.255.255",
            ),
            (
                "192.168.5.9/20",
                "192.168.0.0/20",
                "192.168.0.1",
                "192.168.15.255",
            ),
            ("10.0.0.0/8", "10.0.0.0/8", "10.0.0.1", "10.255.255.255"),
            ("10.1.2.4/30", "10.1.2.4/30", "10.1.2.5", "10.1.2.7"),
        ] {
            let subnet: Ipv4Subnet = text.parse().unwrap();
            assert_eq!(subnet.to_string(), shown);
            assert_eq!(subnet.gateway().to_string(), gateway);
            assert_eq!(subnet.broadcast().to_string(), broadcast);
            let json = serde_json::to_string(&subnet).unwrap();
            assert_eq!(serde_json::from_str::<Ipv4Subnet>(&json).unwrap(), subnet);
        }
    }

    #[test]
    fn bad_text_is_refused() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0/8",
            "10.0.0.0/7",
            "10.0.0.0/31",
            "10.0.0.0/x",
            "::/64",
        ] {
            assert!(text.parse::<Ipv4Subnet>().is_err(), "{text}");
        }
    }

    #[test]
    fn overlap_is_symmetric() {
        let subnet = |address: [u8; 4], length| Ipv4Subnet::containing(address.into(), length);
        let wide = subnet([172, 16, 0, 0], 12);
        let narrow = subnet([172, 17, 3, 0], 24);
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide));
        assert!(!narrow.overlaps(&subnet([172, 17, 4, 0], 24)));
        assert!(subnet([0, 0, 0, 0], 0).overlaps(&narrow));
    }
}
