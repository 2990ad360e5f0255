//! Listing and inspecting networks.

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::filters::{self, values};
use crate::model::network::Network;
use crate::model::request::Filters;
use crate::model::view::NetworkView;
use std::sync::Arc;

/// Filters of a network list (spec engine-api §5.4).
const KNOWN_FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

impl Engine {
    /// Lists networks by name.
    ///
    /// # Errors
    /// Unknown filters and values.
    pub fn list_networks(&self, filters: &Filters) -> Result<Vec<NetworkView>> {
        filters::allow(filters, &KNOWN_FILTERS)?;
        let dangling = dangling(filters)?;
        if let Some(wrong) = values(filters, "type")
            .iter()
            .find(|value| !matches!(value.as_str(), "builtin" | "custom"))
        {
            return Err(EngineError::invalid(format!(
                "invalid filter: 'type'='{wrong}'"
            )));
        }
        Ok(self
            .networks
            .all()
            .into_iter()
            .filter(|network| matches(filters, network))
            .filter(|network| {
                dangling.is_none_or(|wanted| {
                    let used = network.is_predefined() || self.is_network_used(network);
                    used != wanted
                })
            })
            .map(|network| self.network_view(network))
            .collect())
    }

    /// Returns a network by ID, name or ID prefix.
    ///
    /// # Errors
    /// Docker's `network x not found`, or that several match.
    pub fn network(&self, name: &str) -> Result<NetworkView> {
        Ok(self.network_view(self.networks.find(name)?))
    }

    fn network_view(&self, network: Arc<Network>) -> NetworkView {
        let mut containers = self.containers.snapshots();
        containers.retain(|container| {
            container.is_running()
                && container.networks.values().any(|endpoint| {
                    endpoint.network_id == network.id && !endpoint.endpoint_id.is_empty()
                })
        });
        NetworkView {
            network,
            containers,
        }
    }
}

fn dangling(filters: &Filters) -> Result<Option<bool>> {
    match values(filters, "dangling") {
        [] => Ok(None),
        [value] => match value.as_str() {
            "1" | "true" => Ok(Some(true)),
            "0" | "false" => Ok(Some(false)),
            _ => Err(EngineError::invalid(
                "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
            )),
        },
        _ => Err(EngineError::invalid(
            "got more than one value for filter key \"dangling\"",
        )),
    }
}

fn matches(filters: &Filters, network: &Network) -> bool {
    let any = |key: &str, test: &dyn Fn(&str) -> bool| {
        let wanted = values(filters, key);
        wanted.is_empty() || wanted.iter().any(|value| test(value))
    };
    any("driver", &|value| value == network.driver)
        && any("id", &|value| {
            crate::name_pattern::search(value, &network.id)
        })
        && any("name", &|value| {
            crate::name_pattern::search(value, &network.name)
        })
        && any("scope", &|value| value == "local")
        && any("type", &|value| {
            (value == "builtin") == network.is_predefined()
        })
        && filters::labels_match(filters, &network.labels)
}
