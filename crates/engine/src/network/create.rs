//! Making, removing and pruning networks (spec engine-api §5.4).

use super::{PREDEFINED, default_ipam, network_error, save};
use crate::clock::now_ns;
use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::filters;
use crate::identity;
use crate::model::network::{CreateNetwork, IpamConfig, Network, Prefix};
use crate::model::request::Filters;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use wharf_network::{Driver, NetworkRequest, PoolRequest};

/// Networks of one engine.
const MAX_NETWORKS: usize = 4096;
/// Longest name of a network.
const MAX_NAME_BYTES: usize = 255;

impl Engine {
    /// Makes a network and returns its ID.
    ///
    /// # Errors
    /// Docker's texts: a predefined or taken name, wrong subnets, pools that overlap.
    pub async fn create_network(self: &Arc<Self>, request: CreateNetwork) -> Result<String> {
        self.with_store(move |engine| engine.create_network_blocking(request))
            .await
    }

    fn create_network_blocking(&self, request: CreateNetwork) -> Result<String> {
        let request = self.complete(request)?;
        let _gate = self
            .networks
            .gate
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let all = self.networks.all();
        if all.iter().any(|network| network.name == request.name) {
            return Err(EngineError::conflict(format!(
                "network with name {} already exists",
                request.name
            )));
        }
        if all.len() >= MAX_NETWORKS {
            return Err(EngineError::new(
                ErrorKind::Forbidden,
                format!("there are {MAX_NETWORKS} networks already: remove some first"),
            ));
        }
        let mut network = Network {
            id: identity::random_id()?,
            name: request.name.clone(),
            // What only keeps settings is of no driver, as docker shows it.
            driver: match request.config_only {
                true => "null".to_owned(),
                false => request.driver.clone(),
            },
            created_at_ns: now_ns(),
            ipv4: request.ipv4.unwrap_or(true),
            ipv6: request.ipv6.unwrap_or(false),
            internal: request.internal,
            attachable: request.attachable,
            config_only: request.config_only,
            config_from: request.config_from.clone(),
            ipam: request.ipam.clone().unwrap_or_else(default_ipam),
            options: request.options.clone(),
            labels: request.labels.clone(),
            config: None,
        };
        if !request.config_only {
            let driver = driver(&network.driver)?;
            let made = self.network.create(NetworkRequest {
                id: network.id.clone(),
                name: network.name.clone(),
                driver,
                ipv4: network.ipv4,
                ipv6: network.ipv6,
                internal: network.internal,
                pools: network.ipam.config.iter().map(pool_request).collect(),
                options: network.options.clone(),
            });
            network.config = Some(made.map_err(network_error)?);
        }
        if let Err(error) = save(&self.store, &network) {
            // What is left is swept at the next start.
            let _swept_later = self.network.remove(&network.id);
            return Err(error);
        }
        let network = self.networks.insert(network);
        self.network_event("create", &network, None);
        Ok(network.id.clone())
    }

    /// Checks a request and fills in what another network's settings say.
    fn complete(&self, mut request: CreateNetwork) -> Result<CreateNetwork> {
        let forbidden = |text: String| Err(EngineError::new(ErrorKind::Forbidden, text));
        if request.name.trim().is_empty() {
            return Err(EngineError::invalid("invalid name: name is empty"));
        }
        if request.name.len() > MAX_NAME_BYTES {
            return Err(EngineError::invalid(format!(
                "invalid name: longer than {MAX_NAME_BYTES} bytes"
            )));
        }
        if request.name == "default" || PREDEFINED.iter().any(|(name, _)| *name == request.name) {
            return forbidden(format!(
                "operation is not permitted on predefined {} network ",
                request.name
            ));
        }
        if request.driver.is_empty() || request.driver == "default" {
            request.driver = "bridge".to_owned();
        }
        if request.driver == "overlay" || request.ingress || request.scope == "swarm" {
            return Err(EngineError::new(
                ErrorKind::Forbidden,
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
            ));
        }
        if !request.scope.is_empty() && request.scope != "local" {
            return Err(EngineError::invalid(format!(
                "invalid scope {:?}: expected local",
                request.scope
            )));
        }
        if let Some(ipam) = &request.ipam {
            validate_ipam(&ipam.config, request.ipv6.unwrap_or(false))?;
            if !matches!(ipam.driver.as_str(), "" | "default" | "null") {
                return Err(EngineError::not_found(format!(
                    "plugin {:?} not found",
                    ipam.driver
                )));
            }
        }
        if request.config_only {
            if request.internal || request.attachable || !request.config_from.is_empty() {
                return forbidden(
                    "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported."
                        .to_owned(),
                );
            }
            return Ok(request);
        }
        if !request.config_from.is_empty() {
            self.take_config(&mut request)?;
        }
        driver(&request.driver)?;
        let settings = self.settings();
        let defaults = settings.network.default_options.get(&request.driver);
        for (key, value) in defaults.into_iter().flatten() {
            let own = request.options.entry(key.clone());
            own.or_insert_with(|| value.clone());
        }
        Ok(request)
    }

    /// Takes the settings of a network that only keeps settings.
    fn take_config(&self, request: &mut CreateNetwork) -> Result<()> {
        let from = &request.config_from;
        let source = self
            .networks
            .find(from)
            .ok()
            .filter(|network| network.config_only)
            .ok_or_else(|| {
                EngineError::not_found(format!("configuration network {from:?} does not exist"))
            })?;
        let has_own = !request.options.is_empty()
            || !request.labels.is_empty()
            || request.ipv6 == Some(true)
            || request
                .ipam
                .as_ref()
                .is_some_and(|ipam| !ipam.config.is_empty());
        if has_own {
            return Err(EngineError::new(
                ErrorKind::Forbidden,
                "user supplied configurations are not supported if the network depends on a configuration network",
            ));
        }
        request.ipv4 = Some(source.ipv4);
        request.ipv6 = Some(source.ipv6);
        request.ipam = Some(source.ipam.clone());
        request.options = source.options.clone();
        request.labels = source.labels.clone();
        Ok(())
    }

    /// Removes a network that no running container is on.
    ///
    /// # Errors
    /// Docker's texts: not found, predefined, active endpoints.
    pub async fn remove_network(self: &Arc<Self>, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.with_store(move |engine| engine.remove_network_blocking(&name))
            .await
    }

    fn remove_network_blocking(&self, name: &str) -> Result<()> {
        let network = self.networks.find(name)?;
        if network.is_predefined() {
            return Err(EngineError::new(
                ErrorKind::Forbidden,
                format!(
                    "{} is a pre-defined network and cannot be removed",
                    network.name
                ),
            ));
        }
        let _gate = self
            .networks
            .gate
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut active: Vec<String> = self
            .containers
            .snapshots()
            .iter()
            .filter(|container| container.is_running())
            .flat_map(|container| {
                container
                    .networks
                    .values()
                    .filter(|endpoint| {
                        endpoint.network_id == network.id && !endpoint.endpoint_id.is_empty()
                    })
                    .map(|endpoint| {
                        format!(
                            "name:{:?} id:{:?}",
                            container.name,
                            short(&endpoint.endpoint_id)
                        )
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        active.sort();
        if !active.is_empty() {
            return Err(EngineError::new(
                ErrorKind::Forbidden,
                format!(
                    "error while removing network: network {} has active endpoints ({})",
                    network.name,
                    active.join(", ")
                ),
            ));
        }
        let users = self.networks.all();
        if network.config_only
            && users
                .iter()
                .any(|other| other.config_from == network.name || other.config_from == network.id)
        {
            return Err(EngineError::new(
                ErrorKind::Forbidden,
                format!(
                    "error while removing network: configuration network {:?} is in use",
                    network.name
                ),
            ));
        }
        // The document goes first: a crash in between leaves a device, which a start sweeps.
        self.store
            .delete_document(super::DOCUMENT_KIND, &network.id)
            .map_err(store_error("cannot remove the network"))?;
        let removed = self.network.remove(&network.id);
        if let Err(error) = removed {
            // Still there, and known as such.
            save(&self.store, &network)?;
            let error = network_error(error);
            return Err(EngineError::new(
                error.kind(),
                format!("error while removing network: {}", error.message()),
            ));
        }
        self.networks.remove(&network.id);
        self.network_event("destroy", &network, None);
        Ok(())
    }

    /// Removes all networks of users that no container is on; returns their names.
    ///
    /// # Errors
    /// An unknown filter, or another prune under way.
    pub async fn prune_networks(self: &Arc<Self>, filters: &Filters) -> Result<Vec<String>> {
        filters::allow(filters, &["label", "label!", "until"])?;
        let _guard = self.pruning.networks()?;
        let until = filters::until_ns(filters)?;
        let mut removed = Vec::new();
        for network in self.networks.all() {
            let chosen = !network.is_predefined()
                && until.is_none_or(|until| network.created_at_ns < until)
                && filters::labels_match(filters, &network.labels)
                && !self.is_network_used(&network);
            if chosen && self.remove_network(&network.id).await.is_ok() {
                removed.push(network.name.clone());
            }
        }
        self.events
            .emit("network", "prune", "", [("reclaimed", "0".to_owned())]);
        Ok(removed)
    }

    /// Tells whether a container that runs is on a network.
    pub(super) fn is_network_used(&self, network: &Network) -> bool {
        self.containers.snapshots().iter().any(|container| {
            container.is_running()
                && container
                    .networks
                    .values()
                    .any(|endpoint| endpoint.network_id == network.id)
        })
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn driver(name: &str) -> Result<Driver> {
    if matches!(name, "host" | "null") {
        return Err(EngineError::new(
            ErrorKind::Forbidden,
            format!("only one instance of \"{name}\" network is allowed"),
        ));
    }
    Driver::from_name(name)
        .ok_or_else(|| EngineError::not_found(format!("plugin {name:?} not found")))
}

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
fn validate_ipam(configs: &[IpamConfig], ipv6: bool) -> Result<()> {
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

    #[test]
    fn drivers_are_known_or_told() {
        assert!(driver("macvlan").is_ok());
        for (name, kind) in [
            ("host", ErrorKind::Forbidden),
            ("weave", ErrorKind::NotFound),
        ] {
            assert_eq!(driver(name).expect_err("no driver").kind(), kind);
        }
    }
}
