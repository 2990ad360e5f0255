//! The options of macvlan and ipvlan networks.

use std::collections::BTreeMap;

use super::{interface_prefix, mtu};
use crate::bridge::validate_name;
use crate::error::NetworkError;

/// How a macvlan or ipvlan network lies on its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubMode {
    /// `private`, `vepa`, `bridge`, `passthru` by the kernel's number (`macvlan_mode`).
    Macvlan(u32),
    /// `l2`, `l3`, `l3s` and the flag `bridge`, `private`, `vepa` by the kernel's numbers.
    Ipvlan(u16, u16),
}

/// Options of a macvlan or ipvlan network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubInterfaceOptions {
    /// The host's device, `name.id` for a VLAN of it; `None` keeps the network to this host.
    pub(crate) parent: Option<String>,
    /// How it is used.
    pub(crate) mode: SubMode,
    /// Largest packet; `None` means the parent's.
    pub(crate) mtu_bytes: Option<u32>,
    /// Start of the interfaces' names in containers.
    pub(crate) interface_prefix: String,
}

impl SubInterfaceOptions {
    /// Reads the options of a macvlan network.
    ///
    /// # Errors
    /// [`NetworkError::InvalidOption`], [`NetworkError::InvalidName`].
    pub(crate) fn macvlan(
        options: &BTreeMap<String, String>,
    ) -> Result<SubInterfaceOptions, NetworkError> {
        let mode = match options.get("macvlan_mode").map_or("", String::as_str) {
            "private" => 1,
            "vepa" => 2,
            "" | "bridge" => 4,
            "passthru" => 8,
            other => {
                return Err(no_mode(
                    "macvlan mode",
                    other,
                    "'bridge' mode is the macvlan",
                ));
            }
        };
        SubInterfaceOptions::with_mode(options, SubMode::Macvlan(mode))
    }

    /// Reads the options of an ipvlan network.
    ///
    /// # Errors
    /// [`NetworkError::InvalidOption`], [`NetworkError::InvalidName`].
    pub(crate) fn ipvlan(
        options: &BTreeMap<String, String>,
    ) -> Result<SubInterfaceOptions, NetworkError> {
        let mode = match options.get("ipvlan_mode").map_or("", String::as_str) {
            "" | "l2" => 0,
            "l3" => 1,
            "l3s" => 2,
            other => {
                return Err(no_mode("ipvlan mode", other, "'l2' mode is the ipvlan"));
            }
        };
        let flag = match options.get("ipvlan_flag").map_or("", String::as_str) {
            "" | "bridge" => 0,
            "private" => 1,
            "vepa" => 2,
            other => {
                return Err(no_mode("ipvlan flag", other, "'bridge' is the ipvlan"));
            }
        };
        SubInterfaceOptions::with_mode(options, SubMode::Ipvlan(mode, flag))
    }

    fn with_mode(
        options: &BTreeMap<String, String>,
        mode: SubMode,
    ) -> Result<SubInterfaceOptions, NetworkError> {
        let parent = options.get("parent").filter(|name| !name.is_empty());
        if let Some(parent) = parent {
            if parent == "lo" {
                return Err(NetworkError::InvalidNetwork {
                    reason: "loopback interface is not a valid macvlan parent link".to_owned(),
                });
            }
            validate_name(parent)?;
        }
        Ok(SubInterfaceOptions {
            parent: parent.cloned(),
            mode,
            mtu_bytes: mtu(options)?,
            interface_prefix: interface_prefix(options)?,
        })
    }

    /// Tells whether packets are routed at the device, so that no gateway can be addressed.
    pub(crate) fn is_layer3(&self) -> bool {
        matches!(self.mode, SubMode::Ipvlan(1 | 2, _))
    }
}

fn no_mode(what: &str, mode: &str, default: &str) -> NetworkError {
    NetworkError::InvalidNetwork {
        reason: format!("requested {what} '{mode}' is not valid, {default} driver default"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;

    #[test]
    fn sub_interface_modes_are_the_kernels_numbers() {
        let macvlan = |mode| SubInterfaceOptions::macvlan(&options(&[("macvlan_mode", mode)]));
        assert_eq!(macvlan("vepa").unwrap().mode, SubMode::Macvlan(2));
        assert_eq!(macvlan("bridge").unwrap().mode, SubMode::Macvlan(4));
        assert!(macvlan("l2").is_err());
        let ipvlan = SubInterfaceOptions::ipvlan(&options(&[
            ("ipvlan_mode", "l3"),
            ("ipvlan_flag", "private"),
            ("parent", "eth0.50"),
        ]))
        .unwrap();
        assert_eq!(ipvlan.mode, SubMode::Ipvlan(1, 1));
        assert!(ipvlan.is_layer3());
        assert_eq!(ipvlan.parent.as_deref(), Some("eth0.50"));
    }
}
