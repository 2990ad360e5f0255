//! Removing and pruning networks (spec engine-api §5.4).

use super::{DOCUMENT_KIND, network_error, save};
use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::filters;
use crate::model::network::Network;
use crate::model::request::Filters;
use std::sync::{Arc, PoisonError};

impl Engine {
    /// Removes a network that no running container is on.
    ///
    /// # Errors
    /// Docker's texts: not found, predefined, active endpoints.
    pub async fn remove_network(self: &Arc<Self>, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.with_store(move |engine| engine.remove_network_blocking(&name))
            .await
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
        self.check_unused(&network)?;
        // The document goes first: a crash in between leaves a device, which a start sweeps.
        self.store
            .delete_document(DOCUMENT_KIND, &network.id)
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

    /// Refuses a network that a running container is on, or another network takes its settings from.
    fn check_unused(&self, network: &Network) -> Result<()> {
        let active = self.active_endpoints(network);
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
        Ok(())
    }

    /// Names the places of running containers on a network, in order.
    fn active_endpoints(&self, network: &Network) -> Vec<String> {
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
        active
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
