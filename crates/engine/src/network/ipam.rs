//! Subnets of a request: what is wrong with them, and what the network room is asked for.

use crate::error::{EngineError, Result};
use crate::model::network::{IpamConfig, Prefix};
use std::net::IpAddr;
use wharf_network::PoolRequest;

/// Returns what the network room is asked for.
pub(super) fn pool_request(config: &IpamConfig) -> PoolRequest {
    PoolRequest {
        subnet: config.subnet.map(Prefix::masked),
        range: config.ip_range.map(Prefix::masked),
        gateway: config.gateway,
        auxiliary: config.auxiliary.clone(),
    }
}

/// Checks subnets as docker does, all findings at once.
pub(super) fn validate_ipam(configs: &[IpamConfig], ipv6: bool) -> Result<()> {
    let mut findings = Vec::new();
    for config in configs {
        let subnet_is_ipv6 = config.subnet.is_some_and(|subnet| subnet.address.is_ipv6());
        if subnet_is_ipv6 && !ipv6 {
            continue;
        }
        let family = if subnet_is_ipv6 { 6 } else { 4 };
        let shown = config
            .subnet
            .map_or("invalid Prefix".to_owned(), |subnet| subnet.to_string());
        if let Some(subnet) = config.subnet
            && subnet.masked().network() != subnet.address
        {
            findings.push(format!(
                "invalid subnet {subnet}: it should be {}",
                subnet.masked()
            ));
        }
        if let Some(range) = config.ip_range {
            check_range(range, config.subnet, family, &shown, &mut findings);
        }
        let outside = |address: IpAddr| {
            if address.is_ipv6() != subnet_is_ipv6 {
                Some(format!("parent subnet is an IPv{family} block"))
            } else if config
                .subnet
                .is_none_or(|subnet| !subnet.masked().contains(address))
            {
                Some(format!(
                    "parent subnet {shown} doesn't contain this address"
                ))
            } else {
                None
            }
        };
        if let Some(gateway) = config.gateway
            && let Some(reason) = outside(gateway)
        {
            findings.push(format!("invalid gateway {gateway}: {reason}"));
        }
        for (name, address) in &config.auxiliary {
            if let Some(reason) = outside(*address) {
                findings.push(format!("invalid auxiliary address {name}: {reason}"));
            }
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    Err(EngineError::invalid(format!(
        "invalid network config:\n{}",
        findings.join("\n")
    )))
}

fn check_range(
    range: Prefix,
    subnet: Option<Prefix>,
    family: u8,
    shown: &str,
    findings: &mut Vec<String>,
) {
    if range.address.is_ipv6() != (family == 6) {
        findings.push(format!(
            "invalid ip-range {range}: parent subnet is an IPv{family} block"
        ));
        return;
    }
    if subnet.is_some_and(|subnet| range.length < subnet.length) {
        findings.push(format!(
            "invalid ip-range {range}: CIDR block is bigger than its parent subnet {shown}"
        ));
    }
    if range.masked().network() != range.address {
        findings.push(format!(
            "invalid ip-range {range}: it should be {}",
            range.masked()
        ));
    }
    if subnet.is_none_or(|subnet| !subnet.masked().overlaps(&range.masked())) {
        findings.push(format!(
            "invalid ip-range {range}: parent subnet {shown} doesn't contain ip-range"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(config: IpamConfig, ipv6: bool) -> String {
        validate_ipam(&[config], ipv6)
            .map_or_else(|error| error.message().to_owned(), |()| String::new())
    }

    fn config(subnet: &str, range: &str, gateway: &str) -> IpamConfig {
        IpamConfig {
            subnet: Prefix::parse(subnet),
            ip_range: Prefix::parse(range),
            gateway: gateway.parse().ok(),
            ..IpamConfig::default()
        }
    }

    #[test]
    fn subnets_are_checked_in_dockers_words() {
        for (config, ipv6, expected) in [
            (config("10.1.0.0/16", "10.1.2.0/24", "10.1.0.1"), false, ""),
            (
                config("10.1.0.0/16", "", "10.2.0.1"),
                false,
                "invalid network config:\ninvalid gateway 10.2.0.1: parent subnet 10.1.0.0/16 doesn't contain this address",
            ),
            (
                config("", "", "10.2.0.1"),
                false,
                "invalid network config:\ninvalid gateway 10.2.0.1: parent subnet invalid Prefix doesn't contain this address",
            ),
            (
                config("10.1.0.5/16", "", ""),
                false,
                "invalid network config:\ninvalid subnet 10.1.0.5/16: it should be 10.1.0.0/16",
            ),
            (
                config("10.1.0.0/16", "10.2.0.0/24", ""),
                false,
                "invalid network config:\ninvalid ip-range 10.2.0.0/24: parent subnet 10.1.0.0/16 doesn't contain ip-range",
            ),
            (
                config("10.1.0.0/16", "10.0.0.0/8", ""),
                false,
                "invalid network config:\ninvalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/16",
            ),
            (config("fd00::5/64", "", ""), false, ""),
            (
                config("fd00::/64", "", "10.0.0.1"),
                true,
                "invalid network config:\ninvalid gateway 10.0.0.1: parent subnet is an IPv6 block",
            ),
        ] {
            assert_eq!(said(config, ipv6), expected);
        }
    }
}
