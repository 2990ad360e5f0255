//! Addresses of one subnet: which are taken, which is given out next.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::NetworkError;
use crate::subnet::{Subnet, address_of, bits_of};

/// The container addresses of one subnet; the lowest free one is given out, as docker 28 does.
#[derive(Debug)]
pub(crate) struct AddressPool {
    subnet: Subnet,
    /// First and last address that is given out to who asks for none in particular.
    range: (u128, u128),
    used: BTreeSet<u128>,
}

impl AddressPool {
    /// Makes a pool of `subnet`; without a wish, addresses come from `range`. `reserved` ones
    /// (gateway, auxiliary addresses) are never given out.
    pub(crate) fn new(subnet: Subnet, range: Option<Subnet>, reserved: &[IpAddr]) -> AddressPool {
        let (first, last) = subnet.devices();
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
        }
    }

    /// Returns the pool's subnet.
    pub(crate) fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// Takes a given address.
    ///
    /// # Errors
    /// [`NetworkError::AddressOutside`] or [`NetworkError::AddressInUse`], also for addresses that no device can have.
    pub(crate) fn reserve(&mut self, address: IpAddr) -> Result<(), NetworkError> {
        if !self.subnet.contains(address) {
            return Err(NetworkError::AddressOutside {
                address,
                subnet: self.subnet,
            });
        }
        // Those that no device can have are taken from the beginning, as docker has it.
        if !self.subnet.is_for_devices(address) || !self.used.insert(bits_of(address)) {
            return Err(NetworkError::AddressInUse { address });
        }
        Ok(())
    }

    /// Takes the lowest free address of the range.
    ///
    /// # Errors
    /// [`NetworkError::AddressesExhausted`].
    pub(crate) fn allocate(&mut self) -> Result<IpAddr, NetworkError> {
        let (first, end) = self.range;
        let free = self.first_free(first, end);
        let bits = free.ok_or(NetworkError::AddressesExhausted {
            subnet: self.subnet,
        })?;
        self.used.insert(bits);
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
    fn the_lowest_free_address_is_next() {
        let mut pool = pool();
        let next: Vec<String> = (0..3).map(|_| allocate(&mut pool)).collect();
        assert_eq!(next, ["10.9.0.2", "10.9.0.3", "10.9.0.4"]);
        pool.release("10.9.0.3".parse().unwrap());
        let next: Vec<String> = (0..3).map(|_| allocate(&mut pool)).collect();
        assert_eq!(next, ["10.9.0.3", "10.9.0.5", "10.9.0.6"]);
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
        for outside in ["10.9.0.8", "fd00::2"] {
            let refused = pool.reserve(outside.parse().unwrap());
            assert!(
                matches!(refused, Err(NetworkError::AddressOutside { .. })),
                "{outside}"
            );
        }
        pool.reserve("10.9.0.2".parse().unwrap()).unwrap();
        for taken in ["10.9.0.0", "10.9.0.1", "10.9.0.2", "10.9.0.7"] {
            assert!(matches!(
                pool.reserve(taken.parse().unwrap()),
                Err(NetworkError::AddressInUse { .. })
            ));
        }
        assert_eq!(allocate(&mut pool), "10.9.0.3");
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
