//! Bridge devices: made or taken over, with their addresses and settings.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use crate::error::NetworkError;
use crate::netlink::{Link, Netlink};
use crate::subnet::Subnet;
use crate::sysctl;

/// Largest packet on a bridge and its ports unless the user says otherwise (spec runtime §8.1).
pub(crate) const MTU_BYTES: u32 = 1500;
/// Start of the name of every host end of a container.
pub(crate) const VETH_PREFIX: &str = "veth";
/// Longest device name (`IFNAMSIZ` less the final zero byte).
const MAX_DEVICE_NAME_BYTES: usize = 15;

/// How a bridge has to be.
#[derive(Debug, Clone)]
pub(crate) struct BridgePlan {
    /// The device's name.
    pub(crate) device: String,
    /// Note on the device that says whose it is; other devices are used but never removed.
    pub(crate) alias: String,
    /// Largest packet in bytes.
    pub(crate) mtu_bytes: u32,
    /// Lets the host speak IPv6 on it.
    pub(crate) ipv6: bool,
    /// Keeps containers apart, so that the host has to answer for them (RFC 3069).
    pub(crate) answers_for_neighbours: bool,
    /// The device has to be there.
    pub(crate) is_users: bool,
}

/// Makes the bridge, or takes over one that is there; `true` tells that it was made.
///
/// # Errors
/// [`NetworkError::NotABridge`], [`NetworkError::Netlink`], [`NetworkError::Sysctl`].
pub(crate) fn ensure(
    netlink: &mut Netlink,
    plan: &BridgePlan,
) -> Result<(Link, bool), NetworkError> {
    let name = &plan.device;
    let (link, created) = ensure_device(netlink, plan)?;
    let ensured = ensure_settings(plan).and_then(|()| {
        netlink
            .set_up(link.index)
            .map_err(NetworkError::netlink(format!("set up bridge {name}")))
    });
    if let Err(error) = ensured {
        if created {
            // The first error is the one to report.
            let _ = netlink.delete_link(name);
        }
        return Err(error);
    }
    Ok((link, created))
}

/// Finds a bridge that is there.
///
/// # Errors
/// [`NetworkError::NoDevice`], [`NetworkError::NotABridge`], [`NetworkError::Netlink`].
pub(crate) fn find(netlink: &mut Netlink, name: &str) -> Result<Link, NetworkError> {
    let link = netlink
        .link_by_name(name)
        .map_err(NetworkError::netlink(format!("look up device {name}")))?
        .ok_or_else(|| NetworkError::NoDevice {
            name: name.to_owned(),
        })?;
    if link.kind == "bridge" {
        return Ok(link);
    }
    let found = if link.kind.is_empty() {
        "hardware device".to_owned()
    } else {
        link.kind
    };
    Err(NetworkError::NotABridge {
        name: name.to_owned(),
        found,
    })
}

/// Gives a bridge exactly these addresses. A bridge of somebody else keeps what it has beside them.
///
/// # Errors
/// [`NetworkError::Netlink`].
pub(crate) fn ensure_addresses(
    netlink: &mut Netlink,
    link: &Link,
    own: bool,
    wanted: &[(IpAddr, Subnet)],
) -> Result<(), NetworkError> {
    for ipv6 in [false, true] {
        let present = addresses_of(netlink, link, ipv6)?;
        let is_wanted = |address: IpAddr, prefix_length: u8| {
            wanted
                .iter()
                .any(|(want, subnet)| *want == address && subnet.prefix_length() == prefix_length)
        };
        for &(address, prefix_length) in &present {
            if own && !is_wanted(address, prefix_length) {
                netlink
                    .delete_address(link.index, address, prefix_length)
                    .map_err(NetworkError::netlink(format!(
                        "remove address {address} from bridge {}",
                        link.name
                    )))?;
            }
        }
        for (address, subnet) in wanted.iter().filter(|(want, _)| want.is_ipv6() == ipv6) {
            if !present.contains(&(*address, subnet.prefix_length())) {
                netlink
                    .add_address(link.index, *address, subnet.prefix_length())
                    .map_err(NetworkError::netlink(format!(
                        "give address {address} to bridge {}",
                        link.name
                    )))?;
            }
        }
    }
    Ok(())
}

/// Returns the addresses of a device but for those it gave itself (IPv6 link-local).
///
/// # Errors
/// [`NetworkError::Netlink`].
pub(crate) fn addresses_of(
    netlink: &mut Netlink,
    link: &Link,
    ipv6: bool,
) -> Result<Vec<(IpAddr, u8)>, NetworkError> {
    let all = netlink
        .addresses(ipv6)
        .map_err(NetworkError::netlink("list addresses"))?;
    Ok(all
        .into_iter()
        .filter(|(index, ..)| *index == link.index)
        .map(|(_, address, prefix_length)| (address, prefix_length))
        .filter(|(address, _)| !matches!(address, IpAddr::V6(own) if own.is_unicast_link_local()))
        .collect())
}

/// Removes host ends on bridges of `indexes` that no live endpoint has, and puts those of live
/// endpoints back on a bridge that had to be made anew: `live` gives the bridge of a host end.
///
/// # Errors
/// [`NetworkError::Netlink`].
pub(crate) fn sweep(
    netlink: &mut Netlink,
    indexes: &HashSet<u32>,
    live: impl Fn(&str) -> Option<u32>,
) -> Result<(), NetworkError> {
    let links = netlink
        .links()
        .map_err(NetworkError::netlink("list devices"))?;
    for link in links
        .iter()
        .filter(|link| link.name.starts_with(VETH_PREFIX))
    {
        let on_ours = link
            .controller
            .is_some_and(|index| indexes.contains(&index));
        match live(&link.name) {
            None if on_ours => {
                netlink
                    .delete_link(&link.name)
                    .map_err(NetworkError::netlink(format!(
                        "remove left-over device {}",
                        link.name
                    )))?;
            }
            Some(bridge) if link.controller.is_none() => {
                netlink
                    .set_controller(link.index, bridge)
                    .map_err(NetworkError::netlink(format!(
                        "put device {} back on its bridge",
                        link.name
                    )))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks a device name against the kernel's rules and `nft`'s quoting.
///
/// # Errors
/// [`NetworkError::InvalidName`].
pub(crate) fn validate_name(name: &str) -> Result<(), NetworkError> {
    let invalid = |reason| {
        Err(NetworkError::InvalidName {
            kind: "device",
            name: name.to_owned(),
            reason,
        })
    };
    if name.is_empty() || name.len() > MAX_DEVICE_NAME_BYTES {
        return invalid("expected 1 to 15 bytes");
    }
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric())
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return invalid("expected a letter or digit, then letters, digits, '-', '_' and '.'");
    }
    if ["all", "default", "lo"].contains(&name) || name.starts_with(VETH_PREFIX) {
        return invalid("the name is reserved");
    }
    Ok(())
}

/// Lets the host pass IPv6 on, without losing what routers told it: a host that passes packets on
/// listens to routers only where it is told to (kernel doc ip-sysctl, `accept_ra`).
///
/// # Errors
/// [`NetworkError::Sysctl`], [`NetworkError::Netlink`].
pub(crate) fn ensure_ipv6_forwarding(netlink: &mut Netlink) -> Result<(), NetworkError> {
    const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
    let forwards = sysctl::read_text(&format!("/proc/sys/{FORWARDING}"))
        .is_ok_and(|text| text.trim_end() == "1");
    if forwards {
        return Ok(());
    }
    let links = netlink
        .links()
        .map_err(NetworkError::netlink("list devices"))?;
    for link in links {
        let setting = format!("net/ipv6/conf/{}/accept_ra", link.name);
        let listens = sysctl::read_text(&format!("/proc/sys/{setting}"))
            .is_ok_and(|text| text.trim_end() == "1");
        if listens && !link.name.starts_with(VETH_PREFIX) {
            sysctl::ensure_if_present(&setting, "2")?;
        }
    }
    sysctl::ensure(FORWARDING, "1")
}

fn ensure_device(netlink: &mut Netlink, plan: &BridgePlan) -> Result<(Link, bool), NetworkError> {
    let name = &plan.device;
    match find(netlink, name) {
        Err(NetworkError::NoDevice { .. }) if !plan.is_users => {}
        found => return found.map(|link| (link, false)),
    }
    let create = NetworkError::netlink(format!("create bridge {name}"));
    if let Err(source) = netlink.create_bridge(name, random_mac()?, plan.mtu_bytes) {
        return Err(create(source));
    }
    let mut link = find(netlink, name)?;
    // The kernel takes no alias with a new device.
    netlink
        .set_alias(link.index, &plan.alias)
        .map_err(NetworkError::netlink(format!("mark bridge {name}")))?;
    link.alias.clone_from(&plan.alias);
    Ok((link, true))
}

/// Turns on what reaching containers through 127.0.0.1 needs, and off what containers could use
/// against the host: IPv6 router advertisements (CVE-2020-13401).
fn ensure_settings(plan: &BridgePlan) -> Result<(), NetworkError> {
    let name = &plan.device;
    sysctl::ensure(&format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
    if plan.answers_for_neighbours {
        // Packets between two containers come in and leave by the same device: that is meant.
        sysctl::ensure(&format!("net/ipv4/conf/{name}/proxy_arp_pvlan"), "1")?;
        sysctl::ensure(&format!("net/ipv4/conf/{name}/send_redirects"), "0")?;
        sysctl::ensure(&format!("net/ipv4/neigh/{name}/proxy_delay"), "0")?;
    }
    if plan.ipv6 {
        sysctl::ensure(&format!("net/ipv6/conf/{name}/accept_ra"), "0")?;
        // Nobody else has its addresses: they can be used at once.
        sysctl::ensure(&format!("net/ipv6/conf/{name}/accept_dad"), "0")?;
        return sysctl::ensure(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0");
    }
    sysctl::ensure_if_present(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1")
}

/// Returns a random hardware address of a single device, locally administered.
///
/// # Errors
/// [`NetworkError::Netlink`] when the kernel has no random bytes.
pub(crate) fn random_mac() -> Result<[u8; 6], NetworkError> {
    let mut mac = [0; 6];
    getrandom::fill(&mut mac).map_err(|error| NetworkError::Netlink {
        action: "choose a hardware address".to_owned(),
        source: io::Error::other(error.to_string()),
    })?;
    // Not a group's, and locally administered (IEEE 802, two lowest bits of the first byte).
    let [first, ..] = &mut mac;
    *first = (*first & !1) | 2;
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_hardware_addresses_are_of_single_devices() {
        let drawn: HashSet<[u8; 6]> = (0..64).map(|_| random_mac().unwrap()).collect();
        assert_eq!(drawn.len(), 64);
        assert!(drawn.iter().all(|mac| mac[0] & 3 == 2));
    }

    #[test]
    fn device_names_are_checked() {
        for good in [
            "wharf0",
            "wh0a1b2c3d",
            "br-0123456789ab",
            "a.b_c",
            "exactly15bytes0",
        ] {
            assert!(validate_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "sixteen-bytes-00",
            "a/b",
            "..",
            ".",
            "a b",
            "a\"b",
            "lo",
            "all",
            "default",
            "veth1",
            "-a",
        ] {
            assert!(validate_name(bad).is_err(), "{bad}");
        }
    }
}
