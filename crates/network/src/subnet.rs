//! Subnets of both families: text form, containment, overlap.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::NetworkError;

/// A network address with its prefix length, such as `172.17.0.0/16` or `fd00:1::/64`.
///
/// The host bits are always zero. Serialized as its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    network: IpAddr,
    prefix_length: u8,
}

impl Subnet {
    /// Returns the subnet that holds `address`; a prefix length above the address's width counts as
    /// that width.
    pub fn containing(address: impl Into<IpAddr>, prefix_length: u8) -> Subnet {
        let address = address.into();
        let prefix_length = prefix_length.min(width(address));
        let bits = bits_of(address) & mask(prefix_length, width(address));
        Subnet {
            network: address_of(bits, address),
            prefix_length,
        }
    }

    /// Returns the first address, whose host bits are zero.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// Returns the number of leading bits that all addresses share.
    pub fn prefix_length(&self) -> u8 {
        self.prefix_length
    }

    /// Tells whether this is an IPv6 subnet.
    pub fn is_ipv6(&self) -> bool {
        self.network.is_ipv6()
    }

    /// Returns the first usable address (spec runtime §8.1: "gateway = first usable address").
    pub fn gateway(&self) -> IpAddr {
        address_of(bits_of(self.network) | 1, self.network)
    }

    /// Returns the last address, whose host bits are all one.
    pub fn last(&self) -> IpAddr {
        let width = width(self.network);
        let bits = bits_of(self.network) | (all_ones(width) & !mask(self.prefix_length, width));
        address_of(bits, self.network)
    }

    /// Returns the first and last address of a device as numbers: in IPv4 all but network and broadcast address (both
    /// count in a /31 or /32, RFC 3021), in IPv6 all but the subnet-router anycast address (RFC 4291 §2.6.1).
    pub(crate) fn devices(&self) -> (u128, u128) {
        let (network, last) = (bits_of(self.network), bits_of(self.last()));
        match (self.is_ipv6(), last - network) {
            (_, 0 | 1) => (network, last),
            (true, _) => (network + 1, last),
            (false, _) => (network + 1, last - 1),
        }
    }

    /// Tells whether a device can have `address`.
    pub(crate) fn is_for_devices(&self, address: IpAddr) -> bool {
        let (first, last) = self.devices();
        self.contains(address) && (first..=last).contains(&bits_of(address))
    }

    /// Tells whether `address` belongs to this subnet.
    pub fn contains(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        let width = width(self.network);
        address.is_ipv6() == self.is_ipv6()
            && bits_of(address) & mask(self.prefix_length, width) == bits_of(self.network)
    }

    /// Tells whether the two subnets share an address.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// Returns the `index`-th subnet of `prefix_length` within this one, if there is one.
    pub(crate) fn part(&self, prefix_length: u8, index: u128) -> Option<Subnet> {
        let width = width(self.network);
        let index_bits = u32::from(prefix_length.checked_sub(self.prefix_length)?);
        if prefix_length > width || (index_bits < 128 && index >> index_bits != 0) {
            return None;
        }
        let offset = index.checked_shl(u32::from(width - prefix_length))?;
        Some(Subnet {
            network: address_of(bits_of(self.network) | offset, self.network),
            prefix_length,
        })
    }
}

impl FromStr for Subnet {
    type Err = NetworkError;

    /// Parses `address/prefix`; host bits are cleared.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let invalid = |reason| NetworkError::InvalidSubnet {
            text: text.to_owned(),
            reason,
        };
        let (address, prefix) = text
            .split_once('/')
            .ok_or_else(|| invalid("no prefix length"))?;
        let address: IpAddr = address.parse().map_err(|_| invalid("not an IP address"))?;
        let prefix_length: u8 = prefix
            .parse()
            .map_err(|_| invalid("prefix length is not a number"))?;
        if prefix_length > width(address) {
            return Err(invalid("the prefix is longer than the address"));
        }
        Ok(Subnet::containing(address, prefix_length))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix_length)
    }
}

impl TryFrom<String> for Subnet {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

/// Returns an address as a number; the family is told apart by the caller.
pub(crate) fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Returns the address with these bits in the family of `like`.
pub(crate) fn address_of(bits: u128, like: IpAddr) -> IpAddr {
    match like {
        // The bits above 32 are never set: they come from addresses of that family.
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

fn all_ones(width: u8) -> u128 {
    u128::MAX >> (128 - u32::from(width))
}

fn mask(prefix_length: u8, width: u8) -> u128 {
    let host_bits = u32::from(width - prefix_length);
    all_ones(width) & u128::MAX.checked_shl(host_bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_clears_host_bits() {
        for (text, shown, gateway, last) in [
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
            (
                "fd00:1::5/64",
                "fd00:1::/64",
                "fd00:1::1",
                "fd00:1::ffff:ffff:ffff:ffff",
            ),
            (
                "::/0",
                "::/0",
                "::1",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ),
            ("0.0.0.0/0", "0.0.0.0/0", "0.0.0.1", "255.255.255.255"),
        ] {
            let subnet: Subnet = text.parse().unwrap();
            assert_eq!(subnet.to_string(), shown);
            assert_eq!(subnet.gateway().to_string(), gateway);
            assert_eq!(subnet.last().to_string(), last);
            let json = serde_json::to_string(&subnet).unwrap();
            assert_eq!(serde_json::from_str::<Subnet>(&json).unwrap(), subnet);
        }
    }

    #[test]
    fn bad_text_is_refused() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0/8",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "::/129",
            "fd00::",
        ] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }

    #[test]
    fn overlap_is_symmetric_and_keeps_families_apart() {
        let subnet = |text: &str| text.parse::<Subnet>().unwrap();
        let wide = subnet("172.16.0.0/12");
        let narrow = subnet("172.17.3.0/24");
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide));
        assert!(!narrow.overlaps(&subnet("172.17.4.0/24")));
        assert!(subnet("0.0.0.0/0").overlaps(&narrow));
        assert!(!subnet("::/0").overlaps(&narrow) && !narrow.overlaps(&subnet("::/0")));
    }

    #[test]
    fn parts_are_counted_from_the_start() {
        let base: Subnet = "192.168.0.0/16".parse().unwrap();
        assert_eq!(base.part(20, 0).unwrap().to_string(), "192.168.0.0/20");
        assert_eq!(base.part(20, 15).unwrap().to_string(), "192.168.240.0/20");
        assert_eq!(base.part(20, 16), None);
        assert_eq!(base.part(8, 0), None);
        let base: Subnet = "fd00:1:2::/48".parse().unwrap();
        assert_eq!(base.part(64, 258).unwrap().to_string(), "fd00:1:2:102::/64");
    }
}
