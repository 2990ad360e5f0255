//! Checking what a create request says of networks (spec engine-api §7.3).

use super::is_user_defined;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::container::NetworkEndpoint;
use crate::model::host_config::HostConfig;
use crate::model::network::Network;
use crate::model::request::{CreateContainer, EndpointRequest};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks of one container.
const MAX_NETWORKS_PER_CONTAINER: usize = 64;
/// Driver option of an endpoint: settings of its interface.
pub(super) const ENDPOINT_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
/// Driver option of an endpoint: the interface's name.
pub(super) const ENDPOINT_INTERFACE: &str = "com.docker.network.endpoint.ifname";

/// Checks the networks of a create request. Networks need not exist before the start.
pub(crate) fn check_endpoints(
    engine: &Engine,
    host: &HostConfig,
    request: &CreateContainer,
) -> Result<()> {
    let mode = host.network_mode.as_str();
    if mode.starts_with("container:") {
        check_joined(host, request)?;
    }
    if mode == "host" && !host.links.is_empty() {
        return Err(EngineError::invalid(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ));
    }
    if request.networks.len() > MAX_NETWORKS_PER_CONTAINER {
        return Err(EngineError::invalid(format!(
            "{} networks, at most {MAX_NETWORKS_PER_CONTAINER} are possible",
            request.networks.len()
        )));
    }
    let findings = request.networks.iter().filter_map(|(name, endpoint)| {
        let name = named_network(name);
        let network = engine.networks.find(name).ok();
        let error = check_endpoint(network.as_deref(), name, endpoint).err()?;
        Some(format!("invalid config for network {name}: {error}"))
    });
    match joined(&findings.collect::<Vec<_>>()) {
        Some(text) => Err(EngineError::invalid(text)),
        None => Ok(()),
    }
}

/// Puts findings into one text: one stands alone, several are a list.
fn joined(findings: &[String]) -> Option<String> {
    match findings {
        [] => None,
        [only] => Some(only.clone()),
        several => {
            let items = several.iter().map(|text| text.replace('\n', "\n\t"));
            let items: Vec<String> = items.collect();
            Some(format!("* {}", items.join("\n* ")))
        }
    }
}

fn check_joined(host: &HostConfig, request: &CreateContainer) -> Result<()> {
    let conflict = |what: &str| Err(EngineError::invalid(format!("conflicting options: {what}")));
    if !host.port_bindings.is_empty() || host.publish_all_ports {
        return conflict("port publishing and the container type network mode");
    }
    if !request.config.hostname.is_empty() {
        return conflict("hostname and the network mode");
    }
    if !host.links.is_empty() {
        return conflict(
            "container type network can't be used with links. This would result in undefined behavior",
        );
    }
    if !host.dns.is_empty() {
        return conflict("dns and the network mode");
    }
    if !host.extra_hosts.is_empty() {
        return conflict("custom host-to-IP mapping and the network mode");
    }
    if !request.config.exposed_ports.is_empty() {
        return conflict("port exposing and the container type network mode");
    }
    Ok(())
}

/// Checks one endpoint's settings, all findings at once.
pub(super) fn check_endpoint(
    network: Option<&Network>,
    name: &str,
    endpoint: &EndpointRequest,
) -> Result<()> {
    let name = network.map_or(name, |network| network.name.as_str());
    let mut findings = Vec::new();
    if !is_user_defined(name) {
        if !endpoint.ipv4_address.is_empty() || !endpoint.ipv6_address.is_empty() {
            findings.push(
                "user specified IP address is supported on user defined networks only".to_owned(),
            );
        }
        if !endpoint.aliases.is_empty() {
            findings.push(
                "network-scoped aliases are only supported for user-defined networks".to_owned(),
            );
        }
    }
    let ipv4 = endpoint.ipv4_address.parse::<Ipv4Addr>();
    if !endpoint.ipv4_address.is_empty() && !matches!(&ipv4, Ok(ip) if !ip.is_unspecified()) {
        findings.push(format!("invalid IPv4 address: {}", endpoint.ipv4_address));
    }
    let ipv6 = endpoint.ipv6_address.parse::<Ipv6Addr>();
    if !endpoint.ipv6_address.is_empty()
        && !matches!(&ipv6, Ok(ip) if !ip.is_unspecified() && ip.to_ipv4_mapped().is_none())
    {
        findings.push(format!("invalid IPv6 address: {}", endpoint.ipv6_address));
    }
    for address in &endpoint.link_local_addresses {
        if !matches!(address.parse::<IpAddr>(), Ok(ip) if !ip.is_unspecified()) {
            findings.push(format!("invalid link-local IP address: {address}"));
        }
    }
    if let Some(network) = network {
        findings.extend(wrong_place(network, &endpoint.ipv4_address, false));
        findings.extend(wrong_place(network, &endpoint.ipv6_address, true));
    }
    if !endpoint.mac_address.is_empty() && parse_mac(&endpoint.mac_address).is_none() {
        // Told alone, whatever else was found.
        return Err(EngineError::invalid(format!(
            "invalid MAC address {}",
            endpoint.mac_address
        )));
    }
    if let Err(reason) = sysctls(endpoint) {
        findings.push(reason);
    }
    match joined(&findings) {
        Some(text) => Err(EngineError::invalid(format!(
            "invalid endpoint settings:\n{text}"
        ))),
        None => Ok(()),
    }
}

/// Says why a network cannot give out the address that was asked for, empty for none.
fn wrong_place(network: &Network, address: &str, is_ipv6: bool) -> Option<String> {
    if address.is_empty() {
        return None;
    }
    let chosen = network
        .ipam
        .config
        .iter()
        .filter_map(|config| config.subnet);
    let mut chosen = chosen
        .filter(|subnet| subnet.address.is_ipv6() == is_ipv6)
        .peekable();
    if chosen.peek().is_none() {
        let reason = "user specified IP address is supported only when connecting to networks with user configured subnets";
        return Some(reason.to_owned());
    }
    let pools = network.config.iter().flat_map(|config| &config.pools);
    let is_inside = address.parse().is_ok_and(|address: IpAddr| {
        let mut pools = pools.into_iter();
        address.is_ipv6() == is_ipv6 && pools.any(|pool| pool.subnet.contains(address))
    });
    (!is_inside)
        .then(|| format!("no configured subnet or ip-range contain the IP address {address}"))
}

/// Returns the networks of a new container by name: what was asked for, without addresses until
/// the start.
pub(crate) fn endpoints_of(
    engine: &Engine,
    request: &CreateContainer,
) -> BTreeMap<String, NetworkEndpoint> {
    let mode = &request.host_config.network_mode;
    if mode.starts_with("container:") || request.config.network_disabled {
        return BTreeMap::new();
    }
    let named = |name: &str| match engine.networks.find(name) {
        Ok(network) => network.name.clone(),
        Err(_) => name.to_owned(),
    };
    // Which network a name means is settled when the container joins it.
    let endpoint = |asked: EndpointRequest| NetworkEndpoint {
        mac_address: asked.mac_address.clone(),
        request: asked,
        ..NetworkEndpoint::default()
    };
    let mut endpoints = BTreeMap::new();
    for (name, asked) in &request.networks {
        endpoints.insert(named(named_network(name)), endpoint(asked.clone()));
    }
    let name = named(mode);
    // A container that names networks is on those; its mode says which one came first.
    if endpoints.is_empty() || !is_user_defined(mode) && !is_only_user_defined(&endpoints) {
        endpoints
            .entry(name.clone())
            .or_insert_with(|| endpoint(EndpointRequest::default()));
    }
    let mac = &request.mac_address;
    if let Some(own) = endpoints.get_mut(&name)
        && own.request.mac_address.is_empty()
    {
        own.request.mac_address.clone_from(mac);
        own.mac_address.clone_from(mac);
    }
    endpoints
}

/// Returns the name of the network that a request means: clients call the default one so.
fn named_network(name: &str) -> &str {
    match name {
        "default" => super::DEFAULT_NETWORK,
        name => name,
    }
}

fn is_only_user_defined(endpoints: &BTreeMap<String, NetworkEndpoint>) -> bool {
    endpoints.keys().all(|name| is_user_defined(name))
}

/// Returns the settings that an endpoint's driver options ask for: path below `/proc/sys`, value.
pub(super) fn sysctls(endpoint: &EndpointRequest) -> Result<Vec<(String, String)>, String> {
    let Some(list) = endpoint.driver_options.get(ENDPOINT_SYSCTLS) else {
        return Ok(Vec::new());
    };
    list.split(',')
        .map(|setting| {
            let parsed = || {
                let (name, value) = setting.split_once('=')?;
                let parts: Vec<&str> = name.splitn(5, '.').collect();
                match parts.as_slice() {
                    [
                        "net",
                        family @ ("ipv4" | "ipv6" | "mpls"),
                        kind,
                        "IFNAME" | "ifname",
                        rest,
                    ] => Some((
                        format!("net/{family}/{kind}/IFNAME/{rest}"),
                        value.to_owned(),
                    )),
                    _ => None,
                }
            };
            parsed().ok_or_else(|| {
                format!(
                    "unrecognised network interface sysctl '{setting}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
                )
            })
        })
        .collect()
}

/// Parses a hardware address of six bytes, separated by colons or dashes.
pub(super) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0u8; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, endpoint: &EndpointRequest) -> String {
        check_endpoint(None, name, endpoint)
            .map_or_else(|error| error.message().to_owned(), |()| String::new())
    }

    #[test]
    fn settings_are_checked_in_dockers_words() {
        let with = |change: fn(&mut EndpointRequest)| {
            let mut endpoint = EndpointRequest::default();
            change(&mut endpoint);
            endpoint
        };
        let address = with(|endpoint| endpoint.ipv4_address = "10.0.0.5".into());
        assert_eq!(said("mine", &address), "");
        assert_eq!(
            said("bridge", &address),
            "invalid endpoint settings:\nuser specified IP address is supported on user defined networks only"
        );
        let alias = with(|endpoint| endpoint.aliases = vec!["a".into()]);
        assert!(said("bridge", &alias).contains("network-scoped aliases are only supported"));
        let mac = with(|endpoint| endpoint.mac_address = "02:42".into());
        assert_eq!(said("mine", &mac), "invalid MAC address 02:42");
        for wrong in [
            with(|endpoint| endpoint.ipv4_address = "::1".into()),
            with(|endpoint| endpoint.ipv6_address = "::".into()),
            with(|endpoint| endpoint.ipv6_address = "::ffff:10.0.0.1".into()),
            with(|endpoint| endpoint.link_local_addresses = vec!["x".into()]),
            with(|endpoint| {
                endpoint.driver_options =
                    [(ENDPOINT_SYSCTLS.to_owned(), "kernel.x=1".to_owned())].into();
            }),
        ] {
            assert!(
                said("mine", &wrong).starts_with("invalid endpoint settings:\n"),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn several_findings_are_a_list() {
        let findings = ["a:\nb", "c"].map(str::to_owned);
        assert_eq!(joined(&[]), None);
        assert_eq!(joined(&findings[..1]).as_deref(), Some("a:\nb"));
        assert_eq!(joined(&findings).as_deref(), Some("* a:\n\tb\n* c"));
    }

    #[test]
    fn interface_settings_become_paths() {
        let endpoint = EndpointRequest {
            driver_options: [(
                ENDPOINT_SYSCTLS.to_owned(),
                "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=0".to_owned(),
            )]
            .into(),
            ..EndpointRequest::default()
        };
        assert_eq!(
            sysctls(&endpoint).expect("settings"),
            [
                (
                    "net/ipv4/conf/IFNAME/log_martians".to_owned(),
                    "1".to_owned()
                ),
                ("net/ipv6/conf/IFNAME/accept_ra".to_owned(), "0".to_owned()),
            ]
        );
    }

    #[test]
    fn hardware_addresses_are_parsed() {
        assert_eq!(
            parse_mac("02:42:ac:11:00:02"),
            Some([2, 0x42, 0xac, 0x11, 0, 2])
        );
        assert_eq!(
            parse_mac("02-42-ac-11-00-02"),
            Some([2, 0x42, 0xac, 0x11, 0, 2])
        );
        for bad in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:0:2",
            "zz:42:ac:11:00:02",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }
}
