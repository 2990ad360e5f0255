//! Choosing a subnet that nothing on this machine uses.

use std::io;
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use crate::error::NetworkError;
use crate::netlink::{Netlink, subnets_in_use};
use crate::subnet::Ipv4Subnet;
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

/// Returns the first predefined pool that overlaps no route, address or DNS server of this
/// machine; what belongs to device `own_index` does not count (spec runtime §8.1).
///
/// # Errors
/// [`NetworkError::NoFreeSubnet`] or [`NetworkError::Netlink`].
pub(crate) fn first_free(
    netlink: &mut Netlink,
    own_index: u32,
) -> Result<Ipv4Subnet, NetworkError> {
    let mut used = used_elsewhere(netlink, own_index)?;
    used.extend(dns_servers(
        &read_text("/etc/resolv.conf").unwrap_or_default(),
    ));
    predefined_pools()
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
    subnet: Ipv4Subnet,
) -> Result<Option<Ipv4Subnet>, NetworkError> {
    Ok(used_elsewhere(netlink, own_index)?
        .into_iter()
        .find(|used| used.overlaps(&subnet)))
}

fn used_elsewhere(netlink: &mut Netlink, own_index: u32) -> Result<Vec<Ipv4Subnet>, NetworkError> {
    let uses = subnets_in_use(netlink).map_err(NetworkError::netlink("list routes"))?;
    Ok(uses
        .into_iter()
        .filter(|used| used.device_index != own_index)
        .map(|used| used.subnet)
        .collect())
}

/// The pools in docker's order: 172.17/16 to 172.31/16, then 192.168/16 in /20s.
fn predefined_pools() -> impl Iterator<Item = Ipv4Subnet> {
    let wide = (17..=31).map(|second| Ipv4Subnet::containing(Ipv4Addr::new(172, second, 0, 0), 16));
    let narrow = (0..=240)
        .step_by(16)
        .map(|third| Ipv4Subnet::containing(Ipv4Addr::new(192, 168, third, 0), 20));
    wide.chain(narrow)
}

fn dns_servers(resolv_conf: &str) -> Vec<Ipv4Subnet> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|server| server.trim().parse().ok())
        .map(|address| Ipv4Subnet::containing(address, 32))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_come_in_dockers_order() {
        let pools: Vec<String> = predefined_pools().map(|pool| pool.to_string()).collect();
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
        assert_eq!(
            servers,
            [Ipv4Subnet::containing(Ipv4Addr::new(172, 17, 0, 53), 32)]
        );
    }
}
