//! Addresses of one subnet: which are taken, which comes next.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::error::NetworkError;
use crate::subnet::Ipv4Subnet;

/// The container addresses of one subnet, given out in order and reused as late as possible.
#[derive(Debug)]
pub(crate) struct AddressPool {
    subnet: Ipv4Subnet,
    used: BTreeSet<u32>,
    last: u32,
}

impl AddressPool {
    /// Makes a pool in which only network, gateway and broadcast address are taken.
    pub(crate) fn new(subnet: Ipv4Subnet) -> AddressPool {
        AddressPool {
            subnet,
            used: BTreeSet::new(),
            last: subnet.gateway().to_bits(),
        }
    }

    /// Takes a given address.
    ///
    /// # Errors
    /// [`NetworkError::AddressOutside`] or [`NetworkError::AddressInUse`].
    pub(crate) fn reserve(&mut self, address: Ipv4Addr) -> Result<(), NetworkError> {
        let bits = address.to_bits();
        if !(self.first()..=self.end()).contains(&bits) {
            return Err(NetworkError::AddressOutside {
                address,
                subnet: self.subnet,
            });
        }
        if !self.used.insert(bits) {
            return Err(NetworkError::AddressInUse { address });
        }
        Ok(())
    }

    /// Makes the search go on after `address`, as if it had been given out last.
    pub(crate) fn continue_after(&mut self, address: Ipv4Addr) {
        if self.subnet.contains(address) {
            self.last = self.last.max(address.to_bits());
        }
    }

    /// Takes the next free address after the last one given, starting over at the subnet's end
    /// (spec runtime §8.1).
    ///
    /// # Errors
    /// [`NetworkError::AddressesExhausted`].
    pub(crate) fn allocate(&mut self) -> Result<Ipv4Addr, NetworkError> {
        let (first, end) = (self.first(), self.end());
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
        Ok(Ipv4Addr::from_bits(bits))
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        self.used.remove(&address.to_bits());
    }

    fn first(&self) -> u32 {
        self.subnet.gateway().to_bits() + 1
    }

    fn end(&self) -> u32 {
        self.subnet.broadcast().to_bits() - 1
    }

    /// Finds the first hole in the sorted set of used addresses: the cost is the run of used ones.
    fn first_free(&self, start: u32, end: u32) -> Option<u32> {
        let mut candidate = start;
        for &used in self.used.range(start..=end) {
            if used != candidate {
                break;
            }
            candidate += 1;
        }
        (candidate <= end).then_some(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> AddressPool {
        AddressPool::new("10.9.0.0/29".parse().unwrap())
    }

    fn allocate(pool: &mut AddressPool) -> u8 {
        pool.allocate().unwrap().octets()[3]
    }

    #[test]
    fn addresses_come_in_order_and_are_reused_last() {
        let mut pool = pool();
        assert_eq!(
            [
                allocate(&mut pool),
                allocate(&mut pool),
                allocate(&mut pool)
            ],
            [2, 3, 4]
        );
        pool.release(Ipv4Addr::new(10, 9, 0, 3));
        assert_eq!(
            [
                allocate(&mut pool),
                allocate(&mut pool),
                allocate(&mut pool)
            ],
            [5, 6, 3]
        );
        assert!(matches!(
            pool.allocate(),
            Err(NetworkError::AddressesExhausted { .. })
        ));
        pool.release(Ipv4Addr::new(10, 9, 0, 2));
        assert_eq!(allocate(&mut pool), 2);
    }

    #[test]
    fn given_addresses_are_checked() {
        let mut pool = pool();
        for last in [0, 1, 7, 8] {
            let refused = pool.reserve(Ipv4Addr::new(10, 9, 0, last));
            assert!(
                matches!(refused, Err(NetworkError::AddressOutside { .. })),
                "{last}"
            );
        }
        pool.reserve(Ipv4Addr::new(10, 9, 0, 2)).unwrap();
        assert!(matches!(
            pool.reserve(Ipv4Addr::new(10, 9, 0, 2)),
            Err(NetworkError::AddressInUse { .. })
        ));
        assert_eq!(allocate(&mut pool), 3);
    }

    #[test]
    fn a_restart_goes_on_after_the_highest_live_address() {
        let mut pool = pool();
        pool.reserve(Ipv4Addr::new(10, 9, 0, 4)).unwrap();
        pool.continue_after(Ipv4Addr::new(10, 9, 0, 4));
        assert_eq!(allocate(&mut pool), 5);
    }

    #[test]
    fn the_smallest_subnet_has_one_container() {
        let mut pool = AddressPool::new("10.9.0.0/30".parse().unwrap());
        assert_eq!(allocate(&mut pool), 2);
        assert!(pool.allocate().is_err());
    }
}
