//! The options of bridge networks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{NO_ADDRESS, interface_prefix, invalid, mtu, parse_bool};
use crate::bridge::{MTU_BYTES, validate_name};
use crate::error::NetworkError;

const BRIDGE: &str = "com.docker.network.bridge.";
const HOST_IPV4: &str = "com.docker.network.host_ipv4";
const HOST_IPV6: &str = "com.docker.network.host_ipv6";
const ANNOUNCEMENTS: &str = "com.docker.network.advertise_addr_nmsgs";
const ANNOUNCEMENT_PAUSE: &str = "com.docker.network.advertise_addr_ms";
/// Docker's limits for how often and in what distance, in milliseconds, new addresses are announced.
const ANNOUNCEMENT_RANGE: std::ops::RangeInclusive<i64> = 0..=3;
const ANNOUNCEMENT_PAUSE_RANGE: std::ops::RangeInclusive<i64> = 100..=2000;

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
    /// Tells the neighbours of a new container which hardware address its addresses have.
    pub(crate) announces: bool,
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
            announces: announces(options)?,
        })
    }

    /// Returns the mode of a family.
    pub(crate) fn mode(&self, ipv6: bool) -> GatewayMode {
        if ipv6 { self.mode_ipv6 } else { self.mode_ipv4 }
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
        .map(|name| match name {
            // No bridge can have the name, but packets can come from there.
            "lo" => Ok(name.to_owned()),
            _ => validate_name(name).map(|()| name.to_owned()),
        })
        .collect()
}

/// Tells whether new addresses are announced. Docker repeats it up to three times, as what it sends can be lost; one
/// announcement that is not is enough.
fn announces(options: &BTreeMap<String, String>) -> Result<bool, NetworkError> {
    let in_range = |key: &str, range: std::ops::RangeInclusive<i64>, what: &str| {
        let invalid = |reason| NetworkError::InvalidNetwork { reason };
        let Some(text) = options.get(key) else {
            return Ok(None);
        };
        let number: i64 = text
            .parse()
            .map_err(|_| invalid(format!("value for option {key} {text:?} must be {what}")))?;
        if !range.contains(&number) {
            return Err(invalid(format!(
                "{key} must be in the range {} to {}",
                range.start(),
                range.end()
            )));
        }
        Ok(Some(number))
    };
    let count = in_range(ANNOUNCEMENTS, ANNOUNCEMENT_RANGE, "an integer")?;
    in_range(
        ANNOUNCEMENT_PAUSE,
        ANNOUNCEMENT_PAUSE_RANGE,
        "integer milliseconds",
    )?;
    Ok(count != Some(0))
}

/// Returns Go's words for a text that is no boolean.
fn no_bool(text: &str) -> String {
    format!("strconv.ParseBool: parsing {text:?}: invalid syntax")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;

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
        assert!(parsed.announces);
        let silent = options(&[
            ("com.docker.network.advertise_addr_nmsgs", "0"),
            ("com.docker.network.container_iface_prefix", ""),
        ]);
        let parsed = BridgeOptions::parse(&silent, false).unwrap();
        assert!(!parsed.announces && parsed.interface_prefix == "eth");
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
                    "vxlan0:lo:wg0",
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
        assert_eq!(parsed.trusted_interfaces, ["vxlan0", "lo", "wg0"]);
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
            (
                "com.docker.network.advertise_addr_nmsgs",
                "4",
                "com.docker.network.advertise_addr_nmsgs must be in the range 0 to 3",
            ),
            (
                "com.docker.network.advertise_addr_ms",
                "x",
                "value for option com.docker.network.advertise_addr_ms \"x\" must be integer milliseconds",
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
}
