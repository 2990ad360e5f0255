//! Making and adopting macvlan and ipvlan networks and their parents.

use crate::config::{Driver, NetworkConfig, NetworkRequest};
use crate::error::NetworkError;
use crate::netlink::{Link, Netlink};
use crate::networks::state::{Kind, Open};
use crate::networks::{Inner, open_netlink};
use crate::options::{SubInterfaceOptions, SubMode};

/// Numbers of VLANs (IEEE 802.1Q §9.6).
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

impl Inner {
    /// Chooses the subnets of a macvlan or ipvlan network and makes its parent.
    pub(super) fn create_sub(&self, request: &NetworkRequest) -> Result<Open, NetworkError> {
        // Reading the options first: nothing is chosen for a request that cannot be.
        sub_options(request.driver, &request.options)?;
        let config = self.choose(&mut open_netlink()?, request, 0)?;
        self.open_sub(config)
    }

    /// Finds or makes the parent of a macvlan or ipvlan network.
    pub(super) fn open_sub(&self, config: NetworkConfig) -> Result<Open, NetworkError> {
        let options = sub_options(config.driver, &config.options)?;
        let mut netlink = open_netlink()?;
        let alias = self.alias();
        let (parent, made) = ensure_parent(&mut netlink, &options, &config.id, &alias)?;
        let mtu_bytes = options.mtu_bytes.unwrap_or(parent.mtu_bytes);
        Ok(Open::new(
            config,
            Kind::Sub {
                own: made || parent.alias == alias,
                parent: parent.name,
                index: parent.index,
                mtu_bytes,
                options,
            },
        ))
    }
}

fn sub_options(
    driver: Driver,
    options: &std::collections::BTreeMap<String, String>,
) -> Result<SubInterfaceOptions, NetworkError> {
    match driver {
        Driver::Ipvlan => SubInterfaceOptions::ipvlan(options),
        Driver::Macvlan | Driver::Bridge => SubInterfaceOptions::macvlan(options),
    }
}

/// Finds the parent of a macvlan or ipvlan network; makes the VLAN `name.id` of a device that is
/// there, and a device that leads nowhere when none was given.
fn ensure_parent(
    netlink: &mut Netlink,
    options: &SubInterfaceOptions,
    id: &str,
    alias: &str,
) -> Result<(Link, bool), NetworkError> {
    let look_up = |netlink: &mut Netlink, name: &str| {
        netlink
            .link_by_name(name)
            .map_err(NetworkError::netlink(format!("look up device {name}")))
    };
    let prefix = match options.mode {
        SubMode::Macvlan(_) => "dm",
        SubMode::Ipvlan(..) => "di",
    };
    let name = options
        .parent
        .clone()
        .unwrap_or_else(|| format!("{prefix}-{}", id.get(..12).unwrap_or(id)));
    if let Some(link) = look_up(netlink, &name)? {
        return Ok((link, false));
    }
    let missing = || NetworkError::NoParent { name: name.clone() };
    if options.parent.is_none() {
        netlink
            .create_dummy(&name)
            .map_err(NetworkError::netlink(format!("create device {name}")))?;
    } else {
        let (base, vlan) = name.rsplit_once('.').ok_or_else(missing)?;
        let vlan = parse_vlan(vlan)?;
        let base = look_up(netlink, base)?.ok_or_else(missing)?;
        netlink
            .create_vlan(&name, base.index, vlan)
            .map_err(NetworkError::netlink(format!("create VLAN device {name}")))?;
    }
    let link = look_up(netlink, &name)?.ok_or_else(missing)?;
    netlink
        .set_alias(link.index, alias)
        .map_err(NetworkError::netlink(format!("mark device {name}")))?;
    Ok((link, true))
}

/// Parses the number of a VLAN, in docker's words where it is none.
fn parse_vlan(text: &str) -> Result<u16, NetworkError> {
    let invalid = |reason| NetworkError::InvalidNetwork { reason };
    let number: i64 = text.parse().map_err(|_| {
        invalid(format!(
            "unable to parse a valid vlan id from: {text} (ex. eth0.10 for vlan 10)"
        ))
    })?;
    u16::try_from(number)
        .ok()
        .filter(|vlan| VLANS.contains(vlan))
        .ok_or_else(|| {
            invalid(format!(
                "vlan id must be between 1-4094, received: {number}"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_have_limits() {
        for (text, expected) in [("1", 1), ("4094", 4094)] {
            assert_eq!(parse_vlan(text).unwrap(), expected);
        }
        for text in ["0", "4095", "-1", "70000", "x", ""] {
            assert!(parse_vlan(text).is_err(), "{text}");
        }
    }
}
