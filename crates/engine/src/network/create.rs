//! Making networks (spec engine-api §5.4).

use super::ipam::{pool_request, validate_ipam};
use super::{PREDEFINED, default_ipam, network_error, save};
use crate::clock::now_ns;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::identity;
use crate::model::network::{CreateNetwork, Network};
use std::sync::{Arc, PoisonError};
use wharf_network::{Driver, NetworkRequest, parse_bool};

/// Networks of one engine.
const MAX_NETWORKS: usize = 4096;
/// Options that say which addresses a network has, where the request itself does not.
const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
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
        let request = checked(request)?;
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
        let request = self.complete(request)?;
        if all.len() >= MAX_NETWORKS {
            return Err(EngineError::new(
                ErrorKind::Forbidden,
                format!("there are {MAX_NETWORKS} networks already: remove some first"),
            ));
        }
        let network = self.make(request)?;
        let network = self.networks.insert(network);
        self.network_event("create", &network, None);
        Ok(network.id.clone())
    }

    /// Sets a network up and stores it.
    fn make(&self, request: CreateNetwork) -> Result<Network> {
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
        Ok(network)
    }

    /// Checks what a network is to be of against its driver, and fills in what another network's settings say.
    fn complete(&self, mut request: CreateNetwork) -> Result<CreateNetwork> {
        let forbidden = |text: String| Err(EngineError::new(ErrorKind::Forbidden, text));
        if request.config_only {
            if request.internal
                || request.attachable
                || request.ingress
                || !request.scope.is_empty()
                || !request.config_from.is_empty()
            {
                return forbidden(
                    "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported."
                        .to_owned(),
                );
            }
            return Ok(request);
        }
        driver(&request.driver)?;
        if request.ingress {
            return forbidden("Ingress network can only be global scope network".to_owned());
        }
        if request.scope == "swarm" {
            return forbidden(
                "cannot create a swarm scoped network when swarm is not active".to_owned(),
            );
        }
        if !request.scope.is_empty() && request.scope != "local" {
            return Err(EngineError::invalid(format!(
                "invalid scope {:?}: expected local",
                request.scope
            )));
        }
        if !request.config_from.is_empty() {
            self.take_config(&mut request)?;
        }
        for (key, wanted) in [
            (ENABLE_IPV4, &mut request.ipv4),
            (ENABLE_IPV6, &mut request.ipv6),
        ] {
            if wanted.is_none()
                && let Some(text) = request.options.get(key)
            {
                let flag = parse_bool(text).ok_or_else(|| {
                    EngineError::invalid(format!("driver-opt {key:?} is not a valid bool"))
                })?;
                *wanted = Some(flag);
            }
        }
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
}

/// Checks what a request says, whatever else there is.
fn checked(mut request: CreateNetwork) -> Result<CreateNetwork> {
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
    if request.driver == "overlay" {
        return Err(EngineError::new(
            ErrorKind::Forbidden,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        ));
    }
    if let Some(ipam) = &request.ipam {
        validate_ipam(&ipam.config, request.ipv6.unwrap_or(false))?;
        if !matches!(ipam.driver.as_str(), "" | "default" | "null") {
            return Err(EngineError::not_found(format!(
                "plugin {:?} not found",
                ipam.driver
            )));
        }
        if ipam.driver == "null" {
            // The driver gives out nothing, and the networks here all need addresses.
            return Err(EngineError::invalid(match ipam.config.is_empty() {
                true => "ipv4 pool is empty",
                false => "null ipam driver does not handle specific address pool requests",
            }));
        }
    }
    Ok(request)
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

#[cfg(test)]
mod tests {
    use super::*;

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
