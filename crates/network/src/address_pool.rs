//! Addresses of one subnet: which are taken, which comes next.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::NetworkError;
use crate::subnet::{Subnet, address_of, bits_of};

/// The container addresses of one subnet, given out in order and reused as late as possible.
#[derive(Debug)]
pub(crate) struct AddressPool {
    subnet: Subnet,
    /// First and last address that is given out to who asks for none in particular.
    range: (u128, u128),
    used: BTreeSet<u128>,
    last: u128,
}

impl AddressPool {
    /// Makes a pool of `subnet`; without a wish, addresses come from `range`. `reserved` ones
    /// (gateway, auxiliary addresses) are never given out.
    pub(crate) fn new(subnet: Subnet, range: Option<Subnet>, reserved: &[IpAddr]) -> AddressPool {
        let (first, last) = usable(subnet);
        let range = range.map_or((first, last), |range| {
            (
                bits_of(range.network()).max(first),
                bits_of(range.last()).min(last),
            )
        });
        AddressPool {
            subnet,
            range,
            used: reserved
                .iter()
                .filter(|address| subnet.contains(**address))
                .map(|address| bits_of(*address))
                .collect(),
            last: range.0.wrapping_sub(1),
        }
    }

    /// Returns the pool's subnet.
    pub(crate) fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// Takes a given address.
    ///
    /// # Errors
    /// [`NetworkError::AddressOutside`] or [`NetworkError::AddressInUse`].
    pub(crate) fn reserve(&mut self, address: IpAddr) -> Result<(), NetworkError> {
        let (first, last) = usable(self.subnet);
        if !self.subnet.contains(address) || !(first..=last).contains(&bits_of(address)) {
            return Err(NetworkError::AddressOutside {
                address,
                subnet: self.subnet,
            });
        }
        if !self.used.insert(bits_of(address)) {
            return Err(NetworkError::AddressInUse { address });
        }
        Ok(())
    }

    /// Tells whether an address is one of those that are given to who asks for none in particular.
    pub(crate) fn is_for_anybody(&self, address: IpAddr) -> bool {
        self.subnet.contains(address) && (self.range.0..=self.range.1).contains(&bits_of(address))
    }

    /// Makes the search go on after `address`, as if it had been given out last.
    pub(crate) fn continue_after(&mut self, address: IpAddr) {
        let bits = bits_of(address);
        if self.subnet.contains(address) && (self.range.0..=self.range.1).contains(&bits) {
            self.last = if self.last == self.range.0.wrapping_sub(1) {
                bits
            } else {
                self.last.max(bits)
            };
        }
    }

    /// Takes the next free address after the last one given, starting over at the range's end
    /// (spec runtime §8.1).
    ///
    /// # Errors
    /// [`NetworkError::AddressesExhausted`].
    pub(crate) fn allocate(&mut self) -> Result<IpAddr, NetworkError> {
        let (first, end) = self.range;
        let start = if (first..end).contains(&self.last) {
            self.last + 1
        } else {
            first
        };
        let free = self
            .first_free(start, end)
            .or_else(|| self.first_free(first, end));
        let bits = free.ok_or(NetworkError::AddressesExhausted {
            subnet: self.subnet,
        })?;
        self.used.insert(bits);
        self.last = bits;
        Ok(address_of(bits, self.subnet.network()))
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, address: IpAddr) {
        self.used.remove(&bits_of(address));
    }

    /// Finds the first hole in the sorted set of used addresses: the cost is the run of used ones.
    fn first_free(&self, start: u128, end: u128) -> Option<u128> {
        if start > end {
            return None;
        }
        let mut candidate = start;
        for &used in self.used.range(start..=end) {
            if used != candidate {
                break;
            }
            candidate = candidate.checked_add(1)?;
        }
        (candidate <= end).then_some(candidate)
    }
}

/// Returns the first and last address of a device: in IPv4 all but network and broadcast address
/// (both count in a /31 or /32, RFC 3021), in IPv6 all but the subnet-router anycast address
/// (RFC 4291 §2.6.1).
fn usable(subnet: Subnet) -> (u128, u128) {
    let (network, last) = (bits_of(subnet.network()), bits_of(subnet.last()));
    match (subnet.is_ipv6(), last - network) {
        (_, 0 | 1) => (network, last),
        (true, _) => (network + 1, last),
        (false, _) => (network + 1, last - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool_of(subnet: &str, range: Option<&str>, reserved: &[&str]) -> AddressPool {
        let reserved: Vec<IpAddr> = reserved.iter().map(|text| text.parse().unwrap()).collect();
        AddressPool::new(
            subnet.parse().unwrap(),
            range.map(|range| range.parse().unwrap()),
            &reserved,
        )
    }

    fn pool() -> AddressPool {
        pool_of("10.9.0.0/29", None, &["10.9.0.1"])
    }

    fn allocate(pool: &mut AddressPool) -> String {
        pool.allocate().unwrap().to_string()
    }

    #[test]
    fn addresses_come_in_order_and_are_reused_last() {
        let mut pool = pool();
        let next: Vec<String> = (0..3).map(|_| allocate(&mut pool)).collect();
        assert_eq!(next, ["10.9.0.2", "10.9.0.3", "10.9.0.4"]);
        pool.release("10.9.0.3".parse().unwrap());
        let next: Vec<String> = (0..3).map(|_| allocate(&mut pool)).collect();
        assert_eq!(next, ["10.9.0.5", "10.9.0.6", "10.9.0.3"]);
        assert!(matches!(
            pool.allocate(),
            Err(NetworkError::AddressesExhausted { .. })
        ));
        pool.release("10.9.0.2".parse().unwrap());
        assert_eq!(allocate(&mut pool), "10.9.0.2");
    }

    #[test]
    fn given_addresses_are_checked() {
        let mut pool = pool();
        for outside in ["10.9.0.0", "10.9.0.7", "10.9.0.8", "fd00::2"] {
            let refused = pool.reserve(outside.parse().unwrap());
            assert!(
                matches!(refused, Err(NetworkError::AddressOutside { .. })),
                "{outside}"
            );
        }
        pool.reserve("10.9.0.2".parse().unwrap()).unwrap();
        for taken in ["10.9.0.1", "10.9.0.2"] {
            assert!(matches!(
                pool.reserve(taken.parse().unwrap()),
                Err(NetworkError::AddressInUse { .. })
            ));
        }
        assert_eq!(allocate(&mut pool), "10.9.0.3");
    }

    #[test]
    fn adopted_addresses_are_not_given_again_soon() {
        let mut pool = pool();
        let adopted = "10.9.0.4".parse().unwrap();
        pool.reserve(adopted).unwrap();
        pool.continue_after(adopted);
        assert_eq!(allocate(&mut pool), "10.9.0.5");
    }

    #[test]
    fn a_range_limits_what_is_given_but_not_what_is_asked_for() {
        let mut pool = pool_of(
            "10.9.0.0/24",
            Some("10.9.0.128/30"),
            &["10.9.0.1", "10.9.0.129"],
        );
        let next: Vec<String> = (0..3).map(|_| allocate(&mut pool)).collect();
        assert_eq!(next, ["10.9.0.128", "10.9.0.130", "10.9.0.131"]);
        assert!(pool.allocate().is_err());
        pool.reserve("10.9.0.77".parse().unwrap()).unwrap();
    }

    #[test]
    fn ipv6_and_tiny_subnets_work() {
        let mut pool = pool_of("fd00:9::/64", None, &["fd00:9::1"]);
        assert_eq!(allocate(&mut pool), "fd00:9::2");
        pool.reserve("fd00:9::ffff:ffff:ffff:ffff".parse().unwrap())
            .unwrap();
        let mut pool = pool_of("10.9.0.0/31", None, &["10.9.0.0"]);
        assert_eq!(allocate(&mut pool), "10.9.0.1");
        assert!(pool.allocate().is_err());
        let mut whole = pool_of("::/0", None, &[]);
        assert_eq!(allocate(&mut whole), "::1");
    }
}
