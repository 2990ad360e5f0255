//! Connecting containers to networks and disconnecting them, while they run or not.

use super::check::check_endpoint;
use super::{join, names};
use crate::container::registry::Entry;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::{Container, NetworkEndpoint, Status};
use crate::model::network::Network;
use crate::model::request::EndpointRequest;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Told of a container that has no network namespace of its own.
pub(super) const SHARING: &str = "container sharing network namespace with another container or host cannot be connected to any other network";
/// Told of a container that has no way out.
pub(super) const NO_COMPANY: &str = "container cannot be connected to multiple networks with one of the networks in private (none) mode";

impl Engine {
    /// Connects a container to a network.
    ///
    /// # Errors
    /// Docker's texts: not found, already connected, host and none, wrong settings.
    pub async fn connect_network(
        self: &Arc<Self>,
        network: &str,
        container: &str,
        request: EndpointRequest,
    ) -> Result<()> {
        let entry = self.containers.find(container)?;
        let found = self.networks.find(network);
        let _operation = entry.operation.lock().await;
        let network = match found {
            Ok(network) => network,
            // A network may be made later, before the container starts.
            Err(_) if !entry.snapshot().is_running() => {
                refuse_dying(&entry.snapshot())?;
                let container = entry.change(|container| {
                    container.networks.insert(
                        network.to_owned(),
                        NetworkEndpoint {
                            mac_address: request.mac_address.clone(),
                            request,
                            ..NetworkEndpoint::default()
                        },
                    );
                });
                return self
                    .with_store(move |engine| engine.persist(&container))
                    .await;
            }
            Err(error) => return Err(error),
        };
        let connecting = Arc::clone(&entry);
        self.with_store(move |engine| engine.connect_blocking(&connecting, &network, request))
            .await
    }

    fn connect_blocking(
        &self,
        entry: &Arc<Entry>,
        network: &Arc<Network>,
        request: EndpointRequest,
    ) -> Result<()> {
        let before = entry.snapshot();
        let running = before.is_running();
        refuse_dying(&before)?;
        if before.host_config.network_mode.starts_with("container:") {
            return Err(EngineError::invalid(SHARING));
        }
        if before.config.network_disabled {
            return Err(EngineError::not_found(format!(
                "network sandbox for container {} not found",
                before.id
            )));
        }
        check_endpoint(Some(network), &network.name, &request)?;
        self.check_company(&before, network)?;
        if !running && before.networks.contains_key(&network.name) {
            // What was asked for first stays.
            return Ok(());
        }
        if running
            && let Some(present) = before.networks.get(&network.name)
            && !present.endpoint_id.is_empty()
        {
            return Err(EngineError::new(
                ErrorKind::Forbidden,
                format!(
                    "endpoint with name {} already exists in network {}",
                    before.name, network.name
                ),
            ));
        }
        let names = {
            let asked = NetworkEndpoint {
                request: request.clone(),
                ..NetworkEndpoint::default()
            };
            names::dns_names(&before, network, &asked)
        };
        entry.change(|container| {
            container.networks.insert(
                network.name.clone(),
                NetworkEndpoint {
                    network_id: match running {
                        true => network.id.clone(),
                        false => String::new(),
                    },
                    mac_address: request.mac_address.clone(),
                    request,
                    dns_names: names,
                    ..NetworkEndpoint::default()
                },
            );
        });
        if running && let Err(error) = self.connect_running(entry, &before, network) {
            entry.change(|container| {
                container.networks.remove(&network.name);
            });
            return Err(error);
        }
        self.persist(&entry.snapshot())
    }

    /// Refuses networks that cannot be joined beside those that a container is on (spec engine-api §5.4).
    fn check_company(&self, container: &Container, network: &Network) -> Result<()> {
        if network.config_only {
            return Err(EngineError::new(
                ErrorKind::Forbidden,
                format!(
                    "cannot connect container to network {}: it is a configuration network",
                    network.name
                ),
            ));
        }
        if container.host_config.network_mode != "host" && network.name == "host" {
            return Err(EngineError::invalid(
                "cannot connect container to host network - container must be created in host network mode",
            ));
        }
        if container.networks.contains_key(&network.name) {
            return Ok(());
        }
        let known = |name: &&str| self.networks.find(name).is_ok();
        let mut others = container.networks.keys().map(String::as_str).filter(known);
        if others.clone().any(|name| name == "host")
            || network.name == "host" && others.next().is_some()
        {
            return Err(EngineError::invalid(SHARING));
        }
        if others.clone().any(|name| name == "none")
            || network.name == "none" && others.next().is_some()
        {
            return Err(EngineError::invalid(NO_COMPANY));
        }
        Ok(())
    }

    /// Joins a running container to a network that it is noted on; `before` is as it was without.
    fn connect_running(
        &self,
        entry: &Arc<Entry>,
        before: &Container,
        network: &Arc<Network>,
    ) -> Result<()> {
        if network.name == "none" {
            return self.mark_joined(entry, &network.name);
        }
        let namespace = join::namespace_of(before)?;
        self.attach(entry, namespace.as_fd(), &network.name, network)?;
        let finished = self
            .publish_ports(entry)
            .and_then(|()| {
                if before.resolver.is_some() {
                    return Ok(());
                }
                self.serve_names(entry, namespace.as_fd())
            })
            .and_then(|()| names::networks_changed(before, &entry.snapshot()));
        if finished.is_err() {
            let _first_error_counts = self.leave_one(entry, network);
        }
        finished
    }

    /// Disconnects a container from a network; `force` also when one of them is gone.
    ///
    /// # Errors
    /// Docker's texts: not found, not connected, host.
    pub async fn disconnect_network(
        self: &Arc<Self>,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<()> {
        let found = self.networks.find(network);
        let entry = match self.containers.find(container) {
            Err(_) if force => {
                // What a container that is gone left on a network went with it.
                found?;
                return Err(EngineError::not_found(format!(
                    "endpoint {container} not found"
                )));
            }
            entry => entry?,
        };
        let name = network.to_owned();
        let _operation = entry.operation.lock().await;
        let disconnecting = Arc::clone(&entry);
        self.with_store(move |engine| {
            engine.disconnect_blocking(&disconnecting, found, &name, force)
        })
        .await
    }

    fn disconnect_blocking(
        &self,
        entry: &Arc<Entry>,
        found: Result<Arc<Network>>,
        name: &str,
        force: bool,
    ) -> Result<()> {
        let before = entry.snapshot();
        refuse_dying(&before)?;
        let name = match &found {
            Ok(network) => network.name.clone(),
            Err(_) => name.to_owned(),
        };
        if name == "host" && before.host_config.network_mode == "host" {
            return Err(EngineError::invalid(
                "cannot disconnect container from host network - container was created in host network mode",
            ));
        }
        let connected = before.networks.contains_key(&name);
        match found {
            Ok(network) if connected && before.is_running() => {
                self.leave_one(entry, &network)?;
            }
            Err(error) if before.is_running() && !force => return Err(error),
            found if !connected => {
                let article = match found {
                    Ok(_) if before.is_running() => "",
                    _ => "the ",
                };
                return Err(EngineError::internal(format!(
                    "container {} is not connected to {article}network {name}",
                    before.id
                )));
            }
            _ => {
                entry.change(|container| {
                    container.networks.remove(&name);
                });
            }
        }
        self.persist(&entry.snapshot())
    }

    /// Takes a running container off one network.
    fn leave_one(&self, entry: &Arc<Entry>, network: &Arc<Network>) -> Result<()> {
        let before = entry.snapshot();
        let own = before.networks.get(&network.name).cloned();
        let after = entry.change(|container| {
            container.networks.remove(&network.name);
        });
        let Some(endpoint) = own.and_then(|own| own.endpoint) else {
            self.network_event("disconnect", network, Some(&after));
            return Ok(());
        };
        // Written down first: a crash in between leaves an interface, which a start sweeps.
        self.persist(&after)?;
        let namespace = join::namespace_of(&before)?;
        let left = self
            .network
            .leave(namespace.as_fd(), &endpoint)
            .map_err(super::network_error);
        let published = self.publish_ports(entry);
        self.network_event("disconnect", network, Some(&after));
        left.and(published)
            .and_then(|()| names::networks_changed(&before, &after))
    }

    /// Gives a renamed container its new name on its networks.
    pub(crate) fn rename_on_networks(&self, entry: &Entry) {
        let container = entry.snapshot();
        for (name, own) in &container.networks {
            let Ok(network) = self.network_of(name, own) else {
                continue;
            };
            let names = names::dns_names(&container, &network, own);
            if names == own.dns_names {
                continue;
            }
            self.network.set_names(&own.endpoint_id, names.clone());
            entry.change(|container| {
                if let Some(own) = container.networks.get_mut(name) {
                    if let Some(endpoint) = &mut own.endpoint {
                        endpoint.names.clone_from(&names);
                    }
                    own.dns_names = names;
                }
            });
        }
    }
}

fn refuse_dying(container: &Container) -> Result<()> {
    if matches!(container.state.status, Status::Removing | Status::Dead) {
        return Err(EngineError::internal(format!(
            "Container {} is marked for removal and cannot be connected or disconnected to the network",
            container.id
        )));
    }
    Ok(())
}
