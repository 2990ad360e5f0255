//! Which names there are, and who may ask for them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::endpoint::Endpoint;

/// All names of all networks.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    zones: HashMap<String, Zone>,
    /// The networks of each container, the one that is asked first in front.
    clients: HashMap<String, Vec<Membership>>,
}

/// The names of one network.
#[derive(Debug, Default)]
struct Zone {
    name: String,
    internal: bool,
    names: HashMap<String, Vec<Member>>,
    reverse: HashMap<IpAddr, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    endpoint_id: String,
    addresses: Vec<IpAddr>,
}

/// One container's place on one network.
#[derive(Debug)]
struct Membership {
    network_id: String,
    network_name: String,
    priority: i64,
    /// Private names: alias to name.
    links: BTreeMap<String, String>,
}

/// What the directory knows of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Addresses of the family asked for.
    Addresses(Vec<IpAddr>),
    /// The name is known, but has only addresses of the other family.
    OtherFamily,
    /// Somebody else may know.
    Nothing,
}

impl Directory {
    /// Makes an endpoint's names known on its network.
    pub(crate) fn join(&mut self, endpoint: &Endpoint, network_name: &str, internal: bool) {
        let zone = self.zones.entry(endpoint.network_id.clone()).or_default();
        network_name.clone_into(&mut zone.name);
        zone.internal = internal;
        let member = Member {
            endpoint_id: endpoint.endpoint_id.clone(),
            addresses: endpoint.addresses().collect(),
        };
        for name in &endpoint.names {
            let members = zone.names.entry(folded(name)).or_default();
            if !members.contains(&member) {
                members.push(member.clone());
            }
        }
        if let Some(first) = endpoint.names.first() {
            for address in &member.addresses {
                zone.reverse.insert(*address, first.clone());
            }
        }
        let memberships = self
            .clients
            .entry(endpoint.container_id.clone())
            .or_default();
        memberships.retain(|membership| membership.network_id != endpoint.network_id);
        memberships.push(Membership {
            network_id: endpoint.network_id.clone(),
            network_name: network_name.to_owned(),
            priority: endpoint.gateway_priority,
            links: endpoint
                .links
                .iter()
                .map(|(alias, name)| (folded(alias), folded(name)))
                .collect(),
        });
        memberships.sort_by(|a, b| {
            b.priority
                .cmp(&a.priority)
                .then_with(|| a.network_name.cmp(&b.network_name))
        });
    }

    /// Forgets an endpoint.
    pub(crate) fn leave(&mut self, endpoint: &Endpoint) {
        if let Some(zone) = self.zones.get_mut(&endpoint.network_id) {
            zone.names.retain(|_, members| {
                members.retain(|member| member.endpoint_id != endpoint.endpoint_id);
                !members.is_empty()
            });
            for address in endpoint.addresses() {
                zone.reverse.remove(&address);
            }
            if zone.names.is_empty() {
                self.zones.remove(&endpoint.network_id);
            }
        }
        if let Some(memberships) = self.clients.get_mut(&endpoint.container_id) {
            memberships.retain(|membership| membership.network_id != endpoint.network_id);
            if memberships.is_empty() {
                self.clients.remove(&endpoint.container_id);
            }
        }
    }

    /// Looks a name up for a container: in each of its networks, as it is and without the
    /// network's own name at its end.
    pub(crate) fn look_up(&self, client: &str, name: &str, ipv6: bool) -> Found {
        let name = folded(name.trim_end_matches('.'));
        let memberships = self.memberships(client);
        let mut other_family = false;
        let zones = memberships
            .iter()
            .filter_map(|membership| Some((membership, self.zones.get(&membership.network_id)?)));
        for qualified in [false, true] {
            for (membership, zone) in zones.clone() {
                let name = if qualified {
                    let suffix = folded(&zone.name);
                    match name
                        .strip_suffix(&suffix)
                        .and_then(|rest| rest.strip_suffix('.'))
                    {
                        Some(short) => short,
                        None => continue,
                    }
                } else {
                    name.as_str()
                };
                let name = membership.links.get(name).map_or(name, String::as_str);
                let Some(members) = zone.names.get(name) else {
                    continue;
                };
                let addresses: Vec<IpAddr> = members
                    .iter()
                    .flat_map(|member| &member.addresses)
                    .filter(|address| address.is_ipv6() == ipv6)
                    .copied()
                    .collect();
                if !addresses.is_empty() {
                    return Found::Addresses(addresses);
                }
                other_family = true;
            }
        }
        if other_family {
            Found::OtherFamily
        } else {
            Found::Nothing
        }
    }

    /// Returns the full name of an address on one of a container's networks.
    pub(crate) fn name_of(&self, client: &str, address: IpAddr) -> Option<String> {
        self.memberships(client).iter().find_map(|membership| {
            let zone = self.zones.get(&membership.network_id)?;
            let name = zone.reverse.get(&address)?;
            Some(format!("{name}.{}", zone.name))
        })
    }

    /// Tells whether a container's questions may leave this machine: one of its networks must.
    pub(crate) fn may_forward(&self, client: &str) -> bool {
        self.memberships(client).iter().any(|membership| {
            self.zones
                .get(&membership.network_id)
                .is_some_and(|zone| !zone.internal)
        })
    }

    fn memberships(&self, client: &str) -> &[Membership] {
        self.clients.get(client).map_or(&[], Vec::as_slice)
    }
}

/// Returns a name in the spelling it is compared in (RFC 4343).
fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::endpoint::InterfaceAddress;

    pub(crate) fn endpoint(container: &str, network: &str, ipv4: &str, names: &[&str]) -> Endpoint {
        Endpoint {
            endpoint_id: format!("{container}@{network}"),
            network_id: network.to_owned(),
            container_id: container.to_owned(),
            ipv4: Some(InterfaceAddress {
                address: ipv4.parse().unwrap(),
                prefix_length: 24,
            }),
            ipv6: None,
            gateway_ipv4: None,
            gateway_ipv6: None,
            mac: String::new(),
            interface: "eth0".into(),
            host_interface: String::new(),
            gateway_priority: 0,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            links: BTreeMap::new(),
        }
    }

    fn found(directory: &Directory, client: &str, name: &str) -> Vec<String> {
        match directory.look_up(client, name, false) {
            Found::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect(),
            other => vec![format!("{other:?}")],
        }
    }

    fn two_networks() -> Directory {
        let mut directory = Directory::default();
        directory.join(
            &endpoint("a", "n1", "10.0.1.2", &["web", "www"]),
            "front",
            false,
        );
        directory.join(
            &endpoint("b", "n1", "10.0.1.3", &["db", "www"]),
            "front",
            false,
        );
        directory.join(&endpoint("b", "n2", "10.0.2.3", &["db"]), "back.tier", true);
        directory.join(
            &endpoint("c", "n2", "10.0.2.4", &["only"]),
            "back.tier",
            true,
        );
        directory
    }

    #[test]
    fn names_are_found_on_the_containers_own_networks() {
        let directory = two_networks();
        assert_eq!(found(&directory, "a", "DB"), ["10.0.1.3"]);
        assert_eq!(found(&directory, "a", "www."), ["10.0.1.2", "10.0.1.3"]);
        assert_eq!(found(&directory, "a", "db.front"), ["10.0.1.3"]);
        assert_eq!(found(&directory, "a", "db.back.tier"), ["Nothing"]);
        assert_eq!(found(&directory, "b", "db.back.tier"), ["10.0.2.3"]);
        assert_eq!(found(&directory, "a", "only"), ["Nothing"]);
        assert_eq!(found(&directory, "stranger", "web"), ["Nothing"]);
        assert_eq!(directory.look_up("a", "web", true), Found::OtherFamily);
    }

    #[test]
    fn addresses_have_names() {
        let directory = two_networks();
        let name =
            |client: &str, address: &str| directory.name_of(client, address.parse().unwrap());
        assert_eq!(name("a", "10.0.1.3").as_deref(), Some("db.front"));
        assert_eq!(name("c", "10.0.2.3").as_deref(), Some("db.back.tier"));
        assert_eq!(name("a", "10.0.2.3"), None);
    }

    #[test]
    fn only_internal_networks_keep_questions_in() {
        let directory = two_networks();
        assert!(directory.may_forward("a") && directory.may_forward("b"));
        assert!(!directory.may_forward("c") && !directory.may_forward("stranger"));
    }

    #[test]
    fn links_are_private_names() {
        let mut directory = two_networks();
        let mut linked = endpoint("d", "n1", "10.0.1.4", &["d"]);
        linked.links.insert("database".into(), "db".into());
        directory.join(&linked, "front", false);
        assert_eq!(found(&directory, "d", "database"), ["10.0.1.3"]);
        assert_eq!(found(&directory, "a", "database"), ["Nothing"]);
    }

    #[test]
    fn who_leaves_is_forgotten() {
        let mut directory = two_networks();
        directory.leave(&endpoint("b", "n1", "10.0.1.3", &["db", "www"]));
        assert_eq!(found(&directory, "a", "www"), ["10.0.1.2"]);
        assert_eq!(found(&directory, "a", "db"), ["Nothing"]);
        assert!(!directory.may_forward("b"));
        for (container, network) in [("a", "n1"), ("b", "n2"), ("c", "n2")] {
            directory.leave(&endpoint(container, network, "10.0.1.2", &[]));
        }
        assert!(directory.zones.is_empty() && directory.clients.is_empty());
    }

    #[test]
    fn the_network_of_the_highest_priority_is_asked_first() {
        let mut directory = two_networks();
        let mut preferred = endpoint("b", "n2", "10.0.2.3", &["db"]);
        preferred.gateway_priority = 5;
        directory.join(&preferred, "back.tier", true);
        assert_eq!(found(&directory, "b", "db"), ["10.0.2.3"]);
    }
}
