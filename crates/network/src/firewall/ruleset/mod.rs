//! The table's text for `nft`.

mod sets;

use std::fmt::Write as _;

use crate::firewall::ruleset::sets::{push_maps, push_sets};
use crate::firewall::{BridgeRules, FamilyRules, Rules};
use crate::options::GatewayMode;

/// Returns the whole table as one transaction that replaces an earlier one.
///
/// The rules follow spec runtime §8.2 without a userland proxy:
/// - `guard`: loopback addresses come only from `lo`, so that a port published at 127.0.0.1 is not
///   reachable from outside; container addresses are not reachable from outside at all, published
///   ports go through the host's addresses.
/// - `publish`: destinations that are the host's are looked up in the maps, from outside, from
///   containers and from the host itself.
/// - `output`: the kernel lets nothing from ::1 out to a bridge; the daemon passes it on itself.
/// - `postrouting`: containers leave with the host's address; a container that reaches another (or
///   itself) through the host's address, and the host through a loopback address, are seen as the
///   bridge, so that answers come back the same way.
/// - `forward`: what enters a bridge from elsewhere is an answer, came through a map, or goes to a
///   port of a routed network; nothing leaves or enters an internal network.
///
/// A packet meets the same number of rules however many networks and ports there are: bridges are
/// found in verdict maps, addresses and ports in sets and maps.
pub(super) fn table_text(table: &str, rules: &Rules) -> String {
    let mut text = format!(
        "add table ip {table}\ndelete table ip {table}\nadd table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n"
    );
    push_maps(&mut text, rules);
    push_sets(&mut text, &rules.bridges);
    push_guard(&mut text, &rules.bridges);
    text.push_str(PUBLISH_CHAINS);
    push_postrouting(&mut text, &rules.bridges);
    push_forward(&mut text, &rules.bridges);
    text.push_str("}\n");
    text
}

const PUBLISH_CHAINS: &str = "  chain publish {
    fib daddr type != local return
    meta nfproto ipv4 meta l4proto { tcp, udp, sctp } dnat ip to ip daddr . meta l4proto . th dport map @published_at4
    meta nfproto ipv4 meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @published_any4
    meta nfproto ipv6 meta l4proto { tcp, udp, sctp } dnat ip6 to ip6 daddr . meta l4proto . th dport map @published_at6
    meta nfproto ipv6 meta l4proto { tcp, udp, sctp } dnat ip6 to meta l4proto . th dport map @published_any6
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    jump publish
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip6 daddr ::1 return
    jump publish
  }
";

fn push_guard(text: &mut String, bridges: &[BridgeRules]) {
    text.push_str(
        "  chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname != \"lo\" ip daddr 127.0.0.0/8 drop
    ip daddr @guarded4 jump guarded
    ip6 daddr @guarded6 jump guarded
  }
  chain guarded {
    iifname \"lo\" return
    iifname @bridges return
    ip daddr @gateways4 return
    ip6 daddr @gateways6 return
",
    );
    for bridge in bridges {
        for interface in &bridge.trusted_interfaces {
            for family in &bridge.families {
                let _ = writeln!(
                    text,
                    "    iifname \"{interface}\" {} daddr {} return",
                    family_word(family),
                    family.subnet
                );
            }
        }
    }
    text.push_str("    drop\n  }\n");
}

fn push_postrouting(text: &mut String, bridges: &[BridgeRules]) {
    text.push_str(
        "  chain postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n",
    );
    for bridge in bridges {
        let device = &bridge.device;
        for family in bridge.families.iter().filter(|family| family.mode.is_nat()) {
            let (word, subnet) = (family_word(family), family.subnet);
            if bridge.masquerade && !bridge.internal {
                let translation = family
                    .host_address
                    .map_or("masquerade".to_owned(), |address| {
                        format!("snat {word} to {address}")
                    });
                let _ = writeln!(
                    text,
                    "    {word} saddr {subnet} oifname != \"{device}\" {translation}"
                );
            }
            let _ = writeln!(
                text,
                "    {word} saddr {subnet} oifname \"{device}\" ct status dnat masquerade"
            );
        }
    }
    text.push_str(
        "    ip saddr 127.0.0.0/8 oifname @bridges masquerade
  }
",
    );
}

fn push_forward(text: &mut String, bridges: &[BridgeRules]) {
    for bridge in bridges {
        push_enter_chain(text, bridge);
        if bridge.internal {
            let device = &bridge.device;
            let _ = writeln!(
                text,
                "  chain leave_{device} {{\n    oifname != \"{device}\" drop\n  }}"
            );
        }
    }
    text.push_str(
        "  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname vmap @leaving
    oifname vmap @entering
  }
",
    );
}

/// Adds the chain of what goes to a bridge's containers.
fn push_enter_chain(text: &mut String, bridge: &BridgeRules) {
    let device = &bridge.device;
    let _ = writeln!(
        text,
        "  chain enter_{device} {{\n    ct state established,related accept"
    );
    if bridge.internal {
        let _ = writeln!(text, "    iifname != \"{device}\" drop");
    }
    text.push_str("    ct status dnat accept\n");
    if bridge.icc {
        let _ = writeln!(text, "    iifname \"{device}\" accept");
    } else {
        let _ = writeln!(
            text,
            "    iifname \"{device}\" ip saddr . ip daddr . meta l4proto . th dport @linked accept\n    iifname \"{device}\" drop"
        );
    }
    for interface in &bridge.trusted_interfaces {
        let _ = writeln!(text, "    iifname \"{interface}\" accept");
    }
    for family in &bridge.families {
        let (word, icmp) = match family.subnet.is_ipv6() {
            true => ("ip6", "meta l4proto ipv6-icmp"),
            false => ("ip", "meta l4proto icmp"),
        };
        match family.mode {
            GatewayMode::NatUnprotected => {
                let _ = writeln!(text, "    {word} daddr {} accept", family.subnet);
            }
            GatewayMode::Routed => {
                let set = if family.subnet.is_ipv6() { 6 } else { 4 };
                let _ = writeln!(
                    text,
                    "    {word} daddr . meta l4proto . th dport @routed{set} accept\n    {word} daddr {} {icmp} accept",
                    family.subnet
                );
            }
            GatewayMode::Nat | GatewayMode::Isolated => {}
        }
    }
    text.push_str("    drop\n  }\n");
}

fn family_word(family: &FamilyRules) -> &'static str {
    if family.subnet.is_ipv6() { "ip6" } else { "ip" }
}

/// Returns the transaction that removes the table whether it exists or not.
pub(super) fn removal_text(table: &str) -> String {
    format!(
        "add table ip {table}\ndelete table ip {table}\nadd table inet {table}\ndelete table inet {table}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{Protocol, PublishedPort};

    fn port(host_ip: &str, host_port: u16, address: &str) -> PublishedPort {
        PublishedPort {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: host_ip.parse().unwrap(),
            host_port,
            address: address.parse().unwrap(),
        }
    }

    fn bridge(device: &str, subnets: &[&str]) -> BridgeRules {
        BridgeRules {
            device: device.to_owned(),
            internal: false,
            icc: true,
            masquerade: true,
            trusted_interfaces: Vec::new(),
            families: subnets
                .iter()
                .map(|subnet| {
                    let subnet: crate::subnet::Subnet = subnet.parse().unwrap();
                    FamilyRules {
                        subnet,
                        gateway: Some(subnet.gateway()),
                        mode: GatewayMode::Nat,
                        host_address: None,
                    }
                })
                .collect(),
        }
    }

    #[test]
    fn published_ports_become_elements_of_the_right_map() {
        let rules = Rules {
            ports: vec![
                port("0.0.0.0", 8080, "10.9.0.2"),
                port("0.0.0.0", 8081, "10.9.0.2"),
                port("127.0.0.1", 8082, "10.9.0.2"),
                port("::", 8080, "fd00::2"),
                port("::1", 8080, "fd00::2"),
                port("0.0.0.0", 0, "10.9.0.3"),
            ],
            ..Rules::default()
        };
        let text = table_text("t", &rules);
        for expected in [
            "elements = { tcp . 8080 : 10.9.0.2 . 80, tcp . 8081 : 10.9.0.2 . 80 }",
            "elements = { 127.0.0.1 . tcp . 8082 : 10.9.0.2 . 80 }",
            "elements = { tcp . 8080 : fd00::2 . 80 }",
            "elements = { ::1 . tcp . 8080 : fd00::2 . 80 }",
            "elements = { 10.9.0.3 . tcp . 80 }",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }

    #[test]
    fn every_kind_of_network_gets_its_rules() {
        let mut internal = bridge("br-internal", &["10.9.1.0/24"]);
        internal.internal = true;
        internal.icc = false;
        let mut routed = bridge("br-routed", &["10.9.2.0/24", "fd00:2::/64"]);
        routed.families[1].mode = GatewayMode::Routed;
        routed.trusted_interfaces = vec!["wg0".into()];
        let rules = Rules {
            bridges: vec![bridge("wharf0", &["10.9.0.0/24"]), internal, routed],
            ..Rules::default()
        };
        let text = table_text("t", &rules);
        for expected in [
            "elements = { \"wharf0\", \"br-internal\", \"br-routed\" }",
            "ip saddr 10.9.0.0/24 oifname != \"wharf0\" masquerade",
            "elements = { \"br-internal\" : jump leave_br-internal }",
            "@linked accept\n    iifname \"br-internal\" drop",
            "ip6 daddr . meta l4proto . th dport @routed6 accept",
            "iifname \"wg0\" ip daddr 10.9.2.0/24 return",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
        assert!(!text.contains("ip saddr 10.9.1.0/24 oifname !="));
        assert!(!text.contains("ip6 saddr fd00:2::/64 oifname !="));
        let guarded6 = text.split("set guarded6").nth(1).unwrap();
        assert!(!guarded6.split('}').next().unwrap().contains("elements"));
    }
}
