//! Addresses of a new network: which subnet each belongs to.

use serde_json::{Map, Value as Json, json};

use crate::commands::network::CreateArgs;
use crate::error::{CliError, Result};

/// Assigns gateways, ranges and reserved addresses to the subnets that contain them.
pub(super) fn address_config(args: &CreateArgs) -> Result<Vec<Json>> {
    if args.subnet.is_empty() {
        if !args.gateway.is_empty() || !args.ip_range.is_empty() || !args.aux_address.is_empty() {
            return Err(CliError::usage(
                "every ip-range, gateway or aux-address must have a corresponding subnet",
            ));
        }
        return Ok(Vec::new());
    }
    if args.gateway.len() > args.subnet.len() || args.ip_range.len() > args.subnet.len() {
        return Err(CliError::usage(
            "no matching subnet: there are more gateways or ranges than subnets",
        ));
    }
    let mut configs: Vec<Map<String, Json>> = args
        .subnet
        .iter()
        .map(|subnet| Map::from_iter([("Subnet".to_owned(), subnet.as_str().into())]))
        .collect();
    for (key, values) in [("Gateway", &args.gateway), ("IPRange", &args.ip_range)] {
        for value in values {
            let position = args
                .subnet
                .iter()
                .position(|subnet| contains(subnet, value))
                .ok_or_else(|| CliError::usage(format!("no matching subnet for {value}")))?;
            configs[position].insert(key.into(), value.as_str().into());
        }
    }
    for pair in &args.aux_address {
        let (name, address) = pair.split_once('=').unwrap_or((pair, ""));
        let position = args
            .subnet
            .iter()
            .position(|subnet| contains(subnet, address))
            .ok_or_else(|| {
                CliError::usage(format!("no matching subnet for aux-address {pair:?}"))
            })?;
        let known = configs[position]
            .entry("AuxiliaryAddresses")
            .or_insert_with(|| json!({}));
        known[name] = address.into();
    }
    Ok(configs.into_iter().map(Json::Object).collect())
}

/// Returns whether a network in CIDR notation contains an address, given with or without a prefix length.
fn contains(subnet: &str, address: &str) -> bool {
    use std::net::IpAddr;
    let parts = |text: &str| -> Option<(IpAddr, Option<u32>)> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse().ok()?)),
            None => (text, None),
        };
        Some((address.parse().ok()?, length))
    };
    let (Some((network, Some(length))), Some((address, _))) = (parts(subnet), parts(address))
    else {
        return false;
    };
    let (network_bits, address_bits, width) = match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return false,
    };
    if length > width {
        return false;
    }
    let shift = width - length;
    network_bits.checked_shr(shift).unwrap_or(0) == address_bits.checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    #[test]
    fn auxiliary_addresses_go_to_the_subnet_that_has_them() {
        let configs = |aux: &[&str]| {
            let mut line = vec!["create", "--subnet=10.1.0.0/16", "--subnet=fd00::/8", "net"];
            line.extend(aux.iter().flat_map(|pair| ["--aux-address", pair]));
            let command = CreateArgs::augment_args(clap::Command::new("create"));
            let matches = command.get_matches_from(line);
            address_config(&CreateArgs::from_arg_matches(&matches).unwrap())
        };
        let found = configs(&["a=10.1.0.9", "b=fd00::9", "c=10.1.0.8"]).unwrap();
        assert_eq!(
            Json::from(found),
            json!([
                {"Subnet": "10.1.0.0/16", "AuxiliaryAddresses": {"a": "10.1.0.9", "c": "10.1.0.8"}},
                {"Subnet": "fd00::/8", "AuxiliaryAddresses": {"b": "fd00::9"}},
            ])
        );
        for wrong in ["a", "a=10.2.0.1"] {
            assert!(configs(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_matched_to_their_subnets() {
        assert!(contains("10.1.0.0/16", "10.1.200.3"));
        assert!(contains("10.1.0.0/16", "10.1.2.0/24"));
        assert!(!contains("10.1.0.0/16", "10.2.0.1"));
        assert!(contains("fd00::/8", "fd12::1"));
        assert!(!contains("10.0.0.0/8", "fd12::1"));
        assert!(contains("0.0.0.0/0", "1.2.3.4"));
    }
}
