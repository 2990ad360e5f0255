//! Choosing a subnet that nothing on this machine uses.

use std::io;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use crate::error::NetworkError;
use crate::netlink::{Netlink, subnets_in_use};
use crate::subnet::Subnet;
use crate::sysctl::read_text;

/// Name of the abstract socket that only one choosing daemon can have at a time. Such names belong
/// to a network namespace, as subnets do, and vanish with their process (unix(7)).
const CHOICE_LOCK_NAME: &[u8] = b"wharf-subnet-choice";
/// How long another daemon's choice is waited for; afterwards the choice is made without the lock,
/// so that a process that squats on the name can only take away the protection against a race.
const CHOICE_LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const CHOICE_LOCK_RETRY: Duration = Duration::from_millis(2);

/// The right to choose a subnet, given back when dropped.
pub(crate) struct ChoiceLock {
    _listener: Option<UnixListener>,
}

impl ChoiceLock {
    /// Waits for the right to choose, at most five seconds.
    pub(crate) fn acquire() -> ChoiceLock {
        let deadline = Instant::now() + CHOICE_LOCK_TIMEOUT;
        loop {
            let bound = SocketAddr::from_abstract_name(CHOICE_LOCK_NAME)
                .and_then(|address| UnixListener::bind_addr(&address));
            match bound {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline =>
                {
                    std::thread::sleep(CHOICE_LOCK_RETRY);
                }
                other => {
                    return ChoiceLock {
                        _listener: other.ok(),
                    };
                }
            }
        }
    }
}

/// Subnets that are given out where nobody chose one: every part of `base` of length `size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPoolBase {
    /// The whole.
    pub base: Subnet,
    /// Prefix length of a part.
    pub size: u8,
}

/// Parts of one base that are looked at; a longer list holds nothing but waste.
const MAX_PARTS: u128 = 1 << 16;

impl AddressPoolBase {
    /// Returns docker's bases in docker's order: 172.17/16 to 172.31/16, then 192.168/16 in /20s
    /// (spec runtime §8.1).
    pub fn docker() -> Vec<AddressPoolBase> {
        let base = |network: [u8; 4], prefix_length, size| AddressPoolBase {
            base: Subnet::containing(IpAddr::from(network), prefix_length),
            size,
        };
        vec![
            base([172, 17, 0, 0], 16, 16),
            base([172, 18, 0, 0], 16, 16),
            base([172, 19, 0, 0], 16, 16),
            base([172, 20, 0, 0], 14, 16),
            base([172, 24, 0, 0], 14, 16),
            base([172, 28, 0, 0], 14, 16),
            base([192, 168, 0, 0], 16, 20),
        ]
    }

    fn parts(self) -> impl Iterator<Item = Subnet> {
        (0..MAX_PARTS).map_while(move |index| self.base.part(self.size, index))
    }
}

/// Returns the first part of `bases` of a family that overlaps none of `taken` and no route,
/// address or DNS server of this machine; what belongs to device `own_index` does not count
/// (spec runtime §8.1).
///
/// # Errors
/// [`NetworkError::NoFreeSubnet`] or [`NetworkError::Netlink`].
pub(crate) fn first_free(
    netlink: &mut Netlink,
    bases: &[AddressPoolBase],
    ipv6: bool,
    own_index: u32,
    taken: &[Subnet],
) -> Result<Subnet, NetworkError> {
    let mut used = used_elsewhere(netlink, ipv6, own_index)?;
    used.extend(dns_servers(
        &read_text("/etc/resolv.conf").unwrap_or_default(),
    ));
    used.extend_from_slice(taken);
    bases
        .iter()
        .filter(|base| base.base.is_ipv6() == ipv6)
        .flat_map(|base| base.parts())
        .find(|pool| !used.iter().any(|subnet| subnet.overlaps(pool)))
        .ok_or(NetworkError::NoFreeSubnet)
}

/// Returns a subnet in use on another device than `own_index` that overlaps `subnet`.
///
/// # Errors
/// [`NetworkError::Netlink`].
pub(crate) fn conflict(
    netlink: &mut Netlink,
    own_index: u32,
    subnet: Subnet,
) -> Result<Option<Subnet>, NetworkError> {
    Ok(used_elsewhere(netlink, subnet.is_ipv6(), own_index)?
        .into_iter()
        .find(|used| used.overlaps(&subnet)))
}

fn used_elsewhere(
    netlink: &mut Netlink,
    ipv6: bool,
    own_index: u32,
) -> Result<Vec<Subnet>, NetworkError> {
    let uses = subnets_in_use(netlink, ipv6).map_err(NetworkError::netlink("list routes"))?;
    Ok(uses
        .into_iter()
        .filter(|used| used.device_index != own_index)
        .map(|used| used.subnet)
        .collect())
}

fn dns_servers(resolv_conf: &str) -> Vec<Subnet> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|server| server.trim().parse::<IpAddr>().ok())
        .map(|address| Subnet::containing(address, if address.is_ipv6() { 128 } else { 32 }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_come_in_dockers_order() {
        let pools: Vec<String> = AddressPoolBase::docker()
            .into_iter()
            .flat_map(AddressPoolBase::parts)
            .map(|pool| pool.to_string())
            .collect();
        assert_eq!(pools.len(), 15 + 16);
        assert_eq!(pools[0], "172.17.0.0/16");
        assert_eq!(pools[14], "172.31.0.0/16");
        assert_eq!(pools[15], "192.168.0.0/20");
        assert_eq!(pools[30], "192.168.240.0/20");
    }

    #[test]
    fn dns_servers_are_found() {
        let servers =
            dns_servers("search x\nnameserver 172.17.0.53\nnameserver ::1\n#nameserver 1.1.1.1\n");
        let shown: Vec<String> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["172.17.0.53/32", "::1/128"]);
    }
}
