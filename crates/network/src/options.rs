//! The drivers' options by docker's names (spec runtime §8.1). Unknown ones belong to others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bridge::{MTU_BYTES, validate_name};
use crate::error::NetworkError;

const BRIDGE: &str = "com.docker.network.bridge.";
const MTU: &str = "com.docker.network.driver.mtu";
const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
const HOST_IPV4: &str = "com.docker.network.host_ipv4";
const HOST_IPV6: &str = "com.docker.network.host_ipv6";
/// Smallest and largest packet size the kernel takes for a bridge (`ETH_MIN_MTU`, `ETH_MAX_MTU`).
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65_535;

/// Docker's words for a text that is no address.
const NO_ADDRESS: &str = "nil ip";

/// Name of a container's interfaces, before the number.
pub const DEFAULT_INTERFACE_PREFIX: &str = "eth";

/// How containers of one family reach the outside and are reached from there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum GatewayMode {
    /// Translated both ways; reached only through published ports.
    #[default]
    Nat,
    /// Translated on the way out; reached from everywhere by their own addresses too.
    NatUnprotected,
    /// Not translated; published ports are reached by the containers' own addresses.
    Routed,
    /// Internal networks only: the host has no address on the bridge.
    Isolated,
}

impl GatewayMode {
    /// Tells whether packets are translated.
    pub(crate) fn is_nat(self) -> bool {
        matches!(self, GatewayMode::Nat | GatewayMode::NatUnprotected)
    }
}

/// Options of a bridge network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeOptions {
    /// Name of the device, if the user chose one.
    pub(crate) device: Option<String>,
    /// Lets containers of the network reach each other.
    pub(crate) icc: bool,
    /// Lets containers leave with the host's address.
    pub(crate) masquerade: bool,
    /// Address that ports are published at when none is given.
    pub(crate) host_binding: IpAddr,
    /// Largest packet.
    pub(crate) mtu_bytes: u32,
    /// How IPv4 passes the gateway.
    pub(crate) mode_ipv4: GatewayMode,
    /// How IPv6 passes the gateway.
    pub(crate) mode_ipv6: GatewayMode,
    /// Leaves the bridge without IPv4 address.
    pub(crate) inhibit_ipv4: bool,
    /// Source address of what leaves.
    pub(crate) host_ipv4: Option<Ipv4Addr>,
    /// Source address of what leaves, IPv6.
    pub(crate) host_ipv6: Option<Ipv6Addr>,
    /// Devices of the host from which containers are reached directly.
    pub(crate) trusted_interfaces: Vec<String>,
    /// Start of the interfaces' names in containers.
    pub(crate) interface_prefix: String,
}

impl BridgeOptions {
    /// Reads the options of a bridge network.
    ///
    /// # Errors
    /// [`NetworkError::InvalidOption`] for a value that is none, [`NetworkError::InvalidName`] for
    /// a device name the kernel would not take.
    pub(crate) fn parse(
        options: &BTreeMap<String, String>,
        internal: bool,
    ) -> Result<BridgeOptions, NetworkError> {
        let bridge = |key: &str| options.get(&format!("{BRIDGE}{key}")).map(String::as_str);
        let flag = |key: &str, default: bool| match bridge(key) {
            None => Ok(default),
            Some(text) => parse_bool(text)
                .ok_or_else(|| invalid(&format!("{BRIDGE}{key}"), text, no_bool(text))),
        };
        let device = bridge("name").filter(|name| !name.is_empty());
        if let Some(name) = device {
            validate_name(name)?;
        }
        let mode = |key: &str| match bridge(key) {
            None => Ok(GatewayMode::Nat),
            Some(text) => parse_mode(&format!("{BRIDGE}{key}"), text, internal),
        };
        Ok(BridgeOptions {
            device: device.map(str::to_owned),
            icc: flag("enable_icc", true)?,
            masquerade: flag("enable_ip_masquerade", true)?,
            host_binding: match bridge("host_binding_ipv4").filter(|text| !text.is_empty()) {
                None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                Some(text) => text.parse().map_err(|_| {
                    invalid(&format!("{BRIDGE}host_binding_ipv4"), text, NO_ADDRESS)
                })?,
            },
            mtu_bytes: mtu(options)?.unwrap_or(MTU_BYTES),
            mode_ipv4: mode("gateway_mode_ipv4")?,
            mode_ipv6: mode("gateway_mode_ipv6")?,
            inhibit_ipv4: flag("inhibit_ipv4", false)?,
            host_ipv4: address(options, HOST_IPV4)?,
            host_ipv6: address(options, HOST_IPV6)?,
            trusted_interfaces: trusted(bridge("trusted_host_interfaces").unwrap_or_default())?,
            interface_prefix: interface_prefix(options)?,
        })
    }

    /// Returns the mode of a family.
    pub(crate) fn mode(&self, ipv6: bool) -> GatewayMode {
        if ipv6 { self.mode_ipv6 } else { self.mode_ipv4 }
    }
}

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

/// Parses a Go boolean.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn parse_mode(key: &str, text: &str, internal: bool) -> Result<GatewayMode, NetworkError> {
    match text {
        "" | "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" if internal => Ok(GatewayMode::Isolated),
        "isolated" => Err(NetworkError::InvalidNetwork {
            reason: "gateway mode 'isolated' can only be used for an internal network".to_owned(),
        }),
        _ => Err(invalid(key, text, format!("unknown gateway mode {text}"))),
    }
}

fn mtu(options: &BTreeMap<String, String>) -> Result<Option<u32>, NetworkError> {
    let Some(text) = options.get(MTU).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.parse::<i64>().map(|mtu| (mtu, u32::try_from(mtu))) {
        Ok((0, _)) => Ok(None),
        Ok((_, Ok(mtu))) if MTU_RANGE.contains(&mtu) => Ok(Some(mtu)),
        Ok((mtu, _)) => Err(NetworkError::InvalidNetwork {
            reason: format!("invalid MTU number: {mtu}"),
        }),
        Err(_) => Err(invalid(
            MTU,
            text,
            format!("strconv.Atoi: parsing {text:?}: invalid syntax"),
        )),
    }
}

fn address<A: std::str::FromStr>(
    options: &BTreeMap<String, String>,
    key: &str,
) -> Result<Option<A>, NetworkError> {
    options
        .get(key)
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|_| invalid(key, text, NO_ADDRESS)))
        .transpose()
}

/// Reads a list of device names; docker separates them with colons.
fn trusted(text: &str) -> Result<Vec<String>, NetworkError> {
    text.split(':')
        .filter(|name| !name.is_empty())
        .map(|name| validate_name(name).map(|()| name.to_owned()))
        .collect()
}

fn interface_prefix(options: &BTreeMap<String, String>) -> Result<String, NetworkError> {
    let prefix = options
        .get(INTERFACE_PREFIX)
        .map_or(DEFAULT_INTERFACE_PREFIX, String::as_str);
    // A number of up to three digits follows.
    if prefix.is_empty()
        || prefix.len() > 12
        || !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Err(invalid(
            INTERFACE_PREFIX,
            prefix,
            "expected 1 to 12 letters and digits",
        ));
    }
    Ok(prefix.to_owned())
}

/// Returns Go's words for a text that is no boolean.
fn no_bool(text: &str) -> String {
    format!("strconv.ParseBool: parsing {text:?}: invalid syntax")
}

fn no_mode(what: &str, mode: &str, default: &str) -> NetworkError {
    NetworkError::InvalidNetwork {
        reason: format!("requested {what} '{mode}' is not valid, {default} driver default"),
    }
}

fn invalid(key: &str, value: &str, reason: impl Into<String>) -> NetworkError {
    NetworkError::InvalidOption {
        key: key.to_owned(),
        value: value.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_bridge_without_options_has_dockers_defaults() {
        let parsed = BridgeOptions::parse(&options(&[("unknown", "x")]), false).unwrap();
        assert!(parsed.icc && parsed.masquerade && !parsed.inhibit_ipv4);
        assert_eq!(parsed.mtu_bytes, 1500);
        assert_eq!(parsed.host_binding.to_string(), "0.0.0.0");
        assert_eq!(
            (parsed.mode_ipv4, parsed.mode_ipv6),
            (GatewayMode::Nat, GatewayMode::Nat)
        );
        assert_eq!(parsed.interface_prefix, "eth");
    }

    #[test]
    fn bridge_options_are_read() {
        let parsed = BridgeOptions::parse(
            &options(&[
                ("com.docker.network.bridge.name", "web0"),
                ("com.docker.network.bridge.enable_icc", "false"),
                ("com.docker.network.bridge.enable_ip_masquerade", "0"),
                ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
                ("com.docker.network.driver.mtu", "9000"),
                ("com.docker.network.bridge.gateway_mode_ipv6", "routed"),
                (
                    "com.docker.network.bridge.trusted_host_interfaces",
                    "vxlan0:wg0",
                ),
                ("com.docker.network.container_iface_prefix", "lan"),
            ]),
            false,
        )
        .unwrap();
        assert_eq!(parsed.device.as_deref(), Some("web0"));
        assert!(!parsed.icc && !parsed.masquerade);
        assert_eq!(parsed.mtu_bytes, 9000);
        assert_eq!(parsed.mode(true), GatewayMode::Routed);
        assert_eq!(parsed.trusted_interfaces, ["vxlan0", "wg0"]);
        assert_eq!(parsed.interface_prefix, "lan");
    }

    #[test]
    fn wrong_values_are_named() {
        for (key, value, reason) in [
            (
                "com.docker.network.bridge.enable_icc",
                "maybe",
                "strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            (
                "com.docker.network.driver.mtu",
                "x",
                "strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                "com.docker.network.bridge.host_binding_ipv4",
                "here",
                "nil ip",
            ),
            (
                "com.docker.network.bridge.gateway_mode_ipv4",
                "x",
                "unknown gateway mode x",
            ),
            (
                "com.docker.network.container_iface_prefix",
                "../x",
                "expected 1 to 12 letters and digits",
            ),
            ("com.docker.network.host_ipv4", "::1", "nil ip"),
        ] {
            let error = BridgeOptions::parse(&options(&[(key, value)]), false).unwrap_err();
            let expected = format!("failed to parse {key} value: {value} ({reason})");
            assert_eq!(error.to_string(), expected);
        }
        for (key, value, expected) in [
            (
                "com.docker.network.bridge.gateway_mode_ipv4",
                "isolated",
                "gateway mode 'isolated' can only be used for an internal network",
            ),
            (
                "com.docker.network.driver.mtu",
                "12",
                "invalid MTU number: 12",
            ),
            (
                "com.docker.network.driver.mtu",
                "-5",
                "invalid MTU number: -5",
            ),
        ] {
            let error = BridgeOptions::parse(&options(&[(key, value)]), false).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        assert!(
            BridgeOptions::parse(
                &options(&[("com.docker.network.bridge.name", "a b")]),
                false
            )
            .is_err()
        );
        assert!(
            BridgeOptions::parse(
                &options(&[("com.docker.network.bridge.gateway_mode_ipv4", "isolated")]),
                true
            )
            .is_ok()
        );
    }

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
