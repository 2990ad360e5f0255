//! The networks in memory: found by ID, name or ID prefix (spec engine-api §4).

use crate::error::{EngineError, Result};
use crate::model::network::Network;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// All networks of an engine.
#[derive(Default)]
pub(crate) struct NetworkRegistry {
    networks: RwLock<HashMap<String, Arc<Network>>>,
    /// Held while a network is made or removed, so that a name is given once.
    pub(crate) gate: Mutex<()>,
}

impl NetworkRegistry {
    pub(crate) fn insert(&self, network: Network) -> Arc<Network> {
        let network = Arc::new(network);
        self.networks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(network.id.clone(), Arc::clone(&network));
        network
    }

    pub(crate) fn remove(&self, id: &str) {
        self.networks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    /// Returns all networks, sorted by name.
    pub(crate) fn all(&self) -> Vec<Arc<Network>> {
        let mut networks: Vec<Arc<Network>> = self
            .networks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        networks.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
        networks
    }

    /// Finds a network by full ID, exact name, or unique ID prefix, in this order.
    ///
    /// # Errors
    /// Docker's texts when none or several match.
    pub(crate) fn find(&self, name_or_id: &str) -> Result<Arc<Network>> {
        let networks = self.networks.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(network) = networks.get(name_or_id) {
            return Ok(Arc::clone(network));
        }
        let not_found = || EngineError::not_found(format!("network {name_or_id} not found"));
        if let Some(network) = networks.values().find(|network| network.name == name_or_id) {
            return Ok(Arc::clone(network));
        }
        let mut matches = networks
            .values()
            .filter(|network| !name_or_id.is_empty() && network.id.starts_with(name_or_id));
        match (matches.next(), matches.count()) {
            (Some(network), 0) => Ok(Arc::clone(network)),
            (Some(_), more) => Err(EngineError::invalid(format!(
                "{} matches found based on ID prefix: network {name_or_id} is ambiguous",
                more + 1
            ))),
            (None, _) => Err(not_found()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_id_name_then_prefix() {
        let registry = NetworkRegistry::default();
        for (id, name) in [("ab12", "web"), ("ab34", "ab12x"), ("cd56", "ab")] {
            registry.insert(Network {
                id: id.into(),
                name: name.into(),
                ..Network::default()
            });
        }
        let found = |text: &str| registry.find(text).map(|network| network.id.clone());
        assert_eq!(found("ab12").ok().as_deref(), Some("ab12"));
        assert_eq!(found("web").ok().as_deref(), Some("ab12"));
        assert_eq!(found("ab").ok().as_deref(), Some("cd56"));
        assert_eq!(found("ab3").ok().as_deref(), Some("ab34"));
        let text = |text: &str| found(text).unwrap_or_else(|e| e.message().to_owned());
        assert_eq!(text("x"), "network x not found");
        assert_eq!(text(""), "network  not found");
        assert!(text("a").starts_with("2 matches found based on ID prefix"));
    }
}
