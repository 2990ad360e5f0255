//! The bridge device: made or taken over, with its address and settings.

use std::collections::HashSet;
use std::io;

use crate::error::NetworkError;
use crate::netlink::{Link, Netlink};
use crate::subnet::Ipv4Subnet;
use crate::subnet_choice::{self, ChoiceLock};
use crate::sysctl;

/// Largest packet on the bridge and its ports (spec runtime §8.1).
pub(crate) const MTU_BYTES: u32 = 1500;
/// Start of the name of every host end of a container.
pub(crate) const VETH_PREFIX: &str = "veth";
/// Longest device name (`IFNAMSIZ` less the final zero byte).
const MAX_DEVICE_NAME_BYTES: usize = 15;
/// Tries to find a subnet while another program takes the ones found.
const MAX_CHOICES: usize = 8;

/// The bridge of one daemon.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bridge {
    /// The kernel's number of the device.
    pub(crate) index: u32,
    /// Its subnet; its address is the first one.
    pub(crate) subnet: Ipv4Subnet,
}

/// Makes the bridge, or takes over one that an earlier daemon left.
///
/// Without a `requested` subnet a bridge found keeps its own, a new one gets the first free pool.
///
/// # Errors
/// [`NetworkError::NotABridge`], [`NetworkError::SubnetInUse`], [`NetworkError::NoFreeSubnet`],
/// [`NetworkError::Netlink`], [`NetworkError::Sysctl`].
pub(crate) fn ensure(
    netlink: &mut Netlink,
    name: &str,
    requested: Option<Ipv4Subnet>,
) -> Result<Bridge, NetworkError> {
    let (link, created) = ensure_device(netlink, name)?;
    let ensured = ensure_settings(name)
        .and_then(|()| ensure_address(netlink, &link, requested))
        .and_then(|subnet| {
            netlink
                .set_up(link.index)
                .map_err(NetworkError::netlink(format!("set up bridge {name}")))?;
            Ok(Bridge {
                index: link.index,
                subnet,
            })
        });
    if ensured.is_err() && created {
        // The first error is the one to report.
        let _ = netlink.delete_link(name);
    }
    ensured
}

/// Removes host ends on the bridge that no live endpoint has, and puts those of live endpoints
/// back on a bridge that had to be made anew.
///
/// # Errors
/// [`NetworkError::Netlink`].
pub(crate) fn sweep(
    netlink: &mut Netlink,
    bridge: Bridge,
    live: &HashSet<&str>,
) -> Result<(), NetworkError> {
    let links = netlink
        .links()
        .map_err(NetworkError::netlink("list devices"))?;
    for link in links
        .iter()
        .filter(|link| link.name.starts_with(VETH_PREFIX))
    {
        let on_bridge = link.controller == Some(bridge.index);
        if on_bridge && !live.contains(link.name.as_str()) {
            netlink
                .delete_link(&link.name)
                .map_err(NetworkError::netlink(format!(
                    "remove left-over device {}",
                    link.name
                )))?;
        } else if link.controller.is_none() && live.contains(link.name.as_str()) {
            netlink
                .set_controller(link.index, bridge.index)
                .map_err(NetworkError::netlink(format!(
                    "put device {} back on its bridge",
                    link.name
                )))?;
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
            kind: "bridge",
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

fn ensure_device(netlink: &mut Netlink, name: &str) -> Result<(Link, bool), NetworkError> {
    let look_up = |netlink: &mut Netlink| {
        netlink
            .link_by_name(name)
            .map_err(NetworkError::netlink(format!("look up device {name}")))
    };
    if let Some(link) = look_up(netlink)? {
        return if link.kind == "bridge" {
            Ok((link, false))
        } else {
            let found = if link.kind.is_empty() {
                "hardware device".to_owned()
            } else {
                link.kind
            };
            Err(NetworkError::NotABridge {
                name: name.to_owned(),
                found,
            })
        };
    }
    let create = NetworkError::netlink(format!("create bridge {name}"));
    if let Err(source) = netlink.create_bridge(name, random_mac()?, MTU_BYTES) {
        return Err(create(source));
    }
    match look_up(netlink)? {
        Some(link) => Ok((link, true)),
        None => Err(create(io::Error::from(io::ErrorKind::NotFound))),
    }
}

/// Turns on what reaching containers through 127.0.0.1 needs, and off what containers could use
/// against the host: IPv6 router advertisements (CVE-2020-13401).
fn ensure_settings(name: &str) -> Result<(), NetworkError> {
    sysctl::ensure(&format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
    sysctl::ensure_if_present(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1")
}

fn ensure_address(
    netlink: &mut Netlink,
    link: &Link,
    requested: Option<Ipv4Subnet>,
) -> Result<Ipv4Subnet, NetworkError> {
    let present = addresses_of(netlink, link)?;
    let owned = present.iter().copied().find(|&(address, prefix_length)| {
        let subnet = Ipv4Subnet::containing(address, prefix_length);
        address == subnet.gateway()
            && requested.map_or_else(|| is_usable(subnet), |requested| requested == subnet)
    });
    for &(address, prefix_length) in present.iter().filter(|&&other| Some(other) != owned) {
        netlink
            .delete_address(link.index, address, prefix_length)
            .map_err(NetworkError::netlink(format!(
                "remove address {address} from bridge {}",
                link.name
            )))?;
    }
    if let Some((address, prefix_length)) = owned {
        return Ok(Ipv4Subnet::containing(address, prefix_length));
    }
    let _lock = ChoiceLock::acquire();
    for _ in 0..MAX_CHOICES {
        if let Some(subnet) = claim_subnet(netlink, link, requested)? {
            return Ok(subnet);
        }
    }
    Err(NetworkError::NoFreeSubnet)
}

/// Tries one subnet; `None` if another program took it between the look and the claim.
fn claim_subnet(
    netlink: &mut Netlink,
    link: &Link,
    requested: Option<Ipv4Subnet>,
) -> Result<Option<Ipv4Subnet>, NetworkError> {
    let subnet = match requested {
        Some(subnet) => match subnet_choice::conflict(netlink, link.index, subnet)? {
            Some(other) => return Err(NetworkError::SubnetInUse { subnet, other }),
            None => subnet,
        },
        None => subnet_choice::first_free(netlink, link.index)?,
    };
    let gateway = subnet.gateway();
    netlink
        .add_address(link.index, gateway, subnet)
        .map_err(NetworkError::netlink(format!(
            "give address {gateway} to bridge {}",
            link.name
        )))?;
    if subnet_choice::conflict(netlink, link.index, subnet)?.is_none() {
        return Ok(Some(subnet));
    }
    netlink
        .delete_address(link.index, gateway, subnet.prefix_length())
        .map_err(NetworkError::netlink(format!(
            "take address {gateway} from bridge {}",
            link.name
        )))?;
    Ok(None)
}

fn addresses_of(
    netlink: &mut Netlink,
    link: &Link,
) -> Result<Vec<(std::net::Ipv4Addr, u8)>, NetworkError> {
    let all = netlink
        .addresses()
        .map_err(NetworkError::netlink("list addresses"))?;
    Ok(all
        .into_iter()
        .filter(|(index, ..)| *index == link.index)
        .map(|(_, address, prefix_length)| (address, prefix_length))
        .collect())
}

fn is_usable(subnet: Ipv4Subnet) -> bool {
    subnet.to_string().parse::<Ipv4Subnet>().is_ok()
}

fn random_mac() -> Result<[u8; 6], NetworkError> {
    let mut mac = [0x02, 0x42, 0, 0, 0, 0];
    let (_, tail) = mac.split_at_mut(2);
    getrandom::fill(tail).map_err(|error| NetworkError::Netlink {
        action: "choose a hardware address".to_owned(),
        source: io::Error::other(error.to_string()),
    })?;
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridge_names_are_checked() {
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
