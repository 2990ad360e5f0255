//! Sets and maps of the table: published ports, links, bridges and their subnets.

use std::fmt::Write as _;

use crate::firewall::elements::{PLACES, Place, place_of};
use crate::firewall::{BridgeRules, FamilyRules, Rules};
use crate::options::GatewayMode;
use crate::port::PublishedPort;

/// Adds the maps and sets whose elements come and go with containers.
pub(super) fn push_maps(text: &mut String, rules: &Rules) {
    for (place, names) in PLACES {
        for (name, ipv6) in names.into_iter().zip([false, true]) {
            let address = if ipv6 { "ipv6_addr" } else { "ipv4_addr" };
            let (kind, types) = match place {
                Place::Any => (
                    "map",
                    format!("inet_proto . inet_service : {address} . inet_service"),
                ),
                Place::At => (
                    "map",
                    format!("{address} . inet_proto . inet_service : {address} . inet_service"),
                ),
                Place::Routed => ("set", format!("{address} . inet_proto . inet_service")),
            };
            let elements = rules
                .ports
                .iter()
                .filter(|port| {
                    port.is_translated()
                        && place_of(port) == place
                        && port.address.is_ipv6() == ipv6
                })
                .map(|port| element_text(port, place));
            push_set(text, kind, name, &format!("type {types}"), elements);
        }
    }
    let links = rules.links.iter().map(|link| {
        format!(
            "{} . {} . {} . {}",
            link.from, link.to, link.protocol, link.port
        )
    });
    push_set(
        text,
        "set",
        "linked",
        "type ipv4_addr . ipv4_addr . inet_proto . inet_service",
        links,
    );
}

/// Adds the sets that come and go with networks.
pub(super) fn push_sets(text: &mut String, bridges: &[BridgeRules]) {
    let names = bridges
        .iter()
        .map(|bridge| format!("\"{}\"", bridge.device));
    push_set(text, "set", "bridges", "type ifname", names);
    for ipv6 in [false, true] {
        let suffix = if ipv6 { 6 } else { 4 };
        let kind = if ipv6 { "ipv6_addr" } else { "ipv4_addr" };
        let guarded = families(bridges, ipv6)
            .filter(|(_, family)| matches!(family.mode, GatewayMode::Nat | GatewayMode::Isolated))
            .map(|(_, family)| family.subnet.to_string());
        push_set(
            text,
            "set",
            &format!("guarded{suffix}"),
            &format!("type {kind}; flags interval"),
            guarded,
        );
        let gateways = families(bridges, ipv6)
            .filter_map(|(_, family)| family.gateway)
            .map(|gateway| gateway.to_string());
        push_set(
            text,
            "set",
            &format!("gateways{suffix}"),
            &format!("type {kind}"),
            gateways,
        );
    }
    let entering = bridges
        .iter()
        .map(|bridge| format!("\"{0}\" : goto enter_{0}", bridge.device));
    push_set(text, "map", "entering", "type ifname : verdict", entering);
    let leaving = bridges
        .iter()
        .filter(|bridge| bridge.internal)
        .map(|bridge| format!("\"{0}\" : jump leave_{0}", bridge.device));
    push_set(text, "map", "leaving", "type ifname : verdict", leaving);
}

/// Adds a set or map with its elements.
fn push_set(
    text: &mut String,
    kind: &str,
    name: &str,
    types: &str,
    elements: impl Iterator<Item = String>,
) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {kind} {name} {{\n    {types}");
    let elements: Vec<String> = elements.collect();
    if !elements.is_empty() {
        let _ = writeln!(text, "    elements = {{ {} }}", elements.join(", "));
    }
    text.push_str("  }\n");
}

fn element_text(port: &PublishedPort, place: Place) -> String {
    let PublishedPort {
        container_port,
        protocol,
        host_ip,
        host_port,
        address,
    } = port;
    match place {
        Place::Any => format!("{protocol} . {host_port} : {address} . {container_port}"),
        Place::At => format!("{host_ip} . {protocol} . {host_port} : {address} . {container_port}"),
        Place::Routed => format!("{address} . {protocol} . {container_port}"),
    }
}

fn families(
    bridges: &[BridgeRules],
    ipv6: bool,
) -> impl Iterator<Item = (&BridgeRules, &FamilyRules)> {
    bridges.iter().flat_map(move |bridge| {
        bridge
            .families
            .iter()
            .filter(move |family| family.subnet.is_ipv6() == ipv6)
            .map(move |family| (bridge, family))
    })
}
