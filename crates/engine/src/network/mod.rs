//! Networks: those every engine has (bridge, host, none) and those of users.

mod check;
mod connect;
mod create;
mod explain;
mod join;
mod links;
mod list;
mod names;
mod ports;
mod registry;

use crate::clock::now_ns;
use crate::container::create::store_error;
use crate::engine::DEFAULT_ROOT;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::Container;
use crate::model::network::Network;
use std::collections::BTreeMap;
use std::path::Path;
use wharf_image::Digest;
use wharf_network::{
    AddressPoolBase, Driver, LiveContainer, NetworkConfig, NetworkError, NetworkRequest, Networks,
    NetworksOptions,
};
use wharf_store::Store;

pub(crate) use check::{check_endpoints, endpoints_of};
pub(crate) use names::has_resolver;
pub(crate) use registry::NetworkRegistry;

/// Kind of the store's documents of networks.
pub(crate) const DOCUMENT_KIND: &str = "network";
/// Name of the network that containers join when nothing is said.
pub(crate) const DEFAULT_NETWORK: &str = "bridge";
/// Networks that cannot be made or removed, with their drivers.
const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// The networks of a data root, open.
pub(crate) struct OpenNetworks {
    pub(crate) room: Networks,
    pub(crate) registry: NetworkRegistry,
    /// What could not be set up.
    pub(crate) failures: Vec<String>,
}

/// Opens the networks of a data root; the default bridge keeps its subnet.
pub(crate) fn open(
    store: &Store,
    root: &Path,
    engine_id: &str,
    containers: &[Container],
) -> Result<OpenNetworks> {
    let options = options(root, engine_id);
    let mut networks = load(store)?;
    let bridge = networks
        .iter()
        .position(|network| network.name == DEFAULT_NETWORK)
        .map(|index| networks.swap_remove(index));
    let live: Vec<LiveContainer> = containers
        .iter()
        .filter(|container| container.is_running())
        .map(|container| LiveContainer {
            endpoints: container.endpoints().cloned().collect(),
            ports: container.port_mappings.clone(),
        })
        .filter(|container| !container.endpoints.is_empty())
        .collect();
    let mut configs: Vec<NetworkConfig> = networks
        .iter()
        .filter_map(|network| network.config.clone())
        .collect();
    let bridge_config = bridge.as_ref().and_then(|bridge| bridge.config.clone());
    let default_id = options.default_bridge_id.clone();
    let in_use = live
        .iter()
        .flat_map(|container| &container.endpoints)
        .any(|endpoint| endpoint.network_id == default_id);
    configs.extend(bridge_config.clone());
    let (room, errors) = Networks::open(options, configs, &live).map_err(network_error)?;
    let mut failures: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let config = match bridge_config.filter(|_| room.device(&default_id).is_some()) {
        Some(config) => config,
        // While no container has an address, a subnet that someone else took meanwhile is given up.
        None if !in_use => {
            failures.clear();
            room.remove(&default_id).map_err(network_error)?;
            room.create(default_bridge(&default_id))
                .map_err(network_error)?
        }
        None => {
            return Err(EngineError::internal(format!(
                "network: cannot set up the default bridge: {}",
                failures.join("; ")
            )));
        }
    };
    let bridge = bridge
        .filter(|bridge| bridge.config.as_ref() == Some(&config))
        .map_or_else(|| store_bridge(store, config, &room), Ok)?;
    let registry = NetworkRegistry::default();
    registry.insert(bridge);
    for (name, driver) in PREDEFINED.into_iter().skip(1) {
        registry.insert(Network {
            id: predefined_id(name),
            name: name.to_owned(),
            driver: driver.to_owned(),
            created_at_ns: now_ns(),
            ipv4: true,
            ipam: default_ipam(),
            ..Network::default()
        });
    }
    networks.into_iter().for_each(|network| {
        registry.insert(network);
    });
    Ok(OpenNetworks {
        room,
        registry,
        failures,
    })
}

fn options(root: &Path, engine_id: &str) -> NetworksOptions {
    let digest = Digest::of(root.as_os_str().as_encoded_bytes());
    let suffix = digest.hex();
    let suffix = suffix.get(..8).unwrap_or_default();
    let own_root = root == Path::new(DEFAULT_ROOT);
    let mut pools = AddressPoolBase::docker();
    pools.push(wharf_network::local_ipv6_pools(ipv6_seed(engine_id)));
    NetworksOptions {
        default_bridge: if own_root {
            "wharf0".to_owned()
        } else {
            format!("wh{suffix}")
        },
        default_bridge_id: predefined_id(DEFAULT_NETWORK),
        table: if own_root {
            "wharf".to_owned()
        } else {
            format!("wharf_{suffix}")
        },
        instance: crate::engine::instance_name(root),
        pools,
    }
}

/// Returns the bytes that this engine's IPv6 subnets start with: the same at every start.
fn ipv6_seed(engine_id: &str) -> [u8; 5] {
    let digest = hex::decode(Digest::of(format!("ipv6 {engine_id}")).hex()).unwrap_or_default();
    let mut seed = [0; 5];
    for (place, byte) in seed.iter_mut().zip(digest) {
        *place = byte;
    }
    seed
}

fn default_bridge(id: &str) -> NetworkRequest {
    NetworkRequest {
        id: id.to_owned(),
        name: DEFAULT_NETWORK.to_owned(),
        driver: Driver::Bridge,
        ipv4: true,
        ipv6: false,
        internal: false,
        pools: Vec::new(),
        options: BTreeMap::new(),
    }
}

fn default_ipam() -> crate::model::network::Ipam {
    crate::model::network::Ipam {
        driver: "default".to_owned(),
        ..Default::default()
    }
}

/// Writes the default bridge down.
fn store_bridge(store: &Store, config: NetworkConfig, room: &Networks) -> Result<Network> {
    let mut options = BTreeMap::new();
    let device = room.device(&config.id).unwrap_or_default();
    for (key, value) in [
        ("default_bridge", "true"),
        ("enable_icc", "true"),
        ("enable_ip_masquerade", "true"),
        ("host_binding_ipv4", "0.0.0.0"),
        ("name", device.as_str()),
    ] {
        options.insert(format!("com.docker.network.bridge.{key}"), value.to_owned());
    }
    options.insert(
        "com.docker.network.driver.mtu".to_owned(),
        "1500".to_owned(),
    );
    let bridge = Network {
        id: config.id.clone(),
        name: DEFAULT_NETWORK.to_owned(),
        driver: "bridge".to_owned(),
        created_at_ns: now_ns(),
        ipv4: true,
        ipam: default_ipam(),
        options,
        config: Some(config),
        ..Network::default()
    };
    save(store, &bridge)?;
    Ok(bridge)
}

/// Reads all stored networks.
fn load(store: &Store) -> Result<Vec<Network>> {
    let documents = store
        .documents(DOCUMENT_KIND)
        .map_err(store_error("cannot read networks"))?;
    documents
        .into_iter()
        .map(|(id, document)| {
            serde_json::from_value(document).map_err(|e| {
                EngineError::wrap(ErrorKind::Internal, format!("cannot read network {id}"), e)
            })
        })
        .collect()
}

/// Stores a network.
pub(crate) fn save(store: &Store, network: &Network) -> Result<()> {
    let document = serde_json::to_value(network)
        .map_err(|e| EngineError::wrap(ErrorKind::Internal, "cannot write a network down", e))?;
    store
        .put_document(DOCUMENT_KIND, &network.id, &document)
        .map_err(store_error("cannot store the network"))
}

/// Turns a network error into the engine's; what the user asked wrongly is told as docker tells it.
pub(crate) fn network_error(error: NetworkError) -> EngineError {
    let kind = match &error {
        NetworkError::InvalidRequest { .. }
        | NetworkError::InvalidNetwork { .. }
        | NetworkError::InvalidOption { .. }
        | NetworkError::InvalidName { .. }
        | NetworkError::InvalidSubnet { .. }
        | NetworkError::AddressNotChoosable
        | NetworkError::AddressOutside { .. }
        | NetworkError::NoAddressOfFamily { .. }
        | NetworkError::NoParent { .. } => ErrorKind::Invalid,
        NetworkError::AddressInUse { .. }
        | NetworkError::PoolOverlap { .. }
        | NetworkError::SubnetInUse { .. }
        | NetworkError::BridgeNameTaken { .. }
        | NetworkError::NetworkInUse { .. } => ErrorKind::Forbidden,
        NetworkError::UnknownNetwork { .. } => ErrorKind::NotFound,
        _ => return EngineError::wrap(ErrorKind::Internal, "network", error),
    };
    EngineError::new(kind, error.to_string())
}

/// Returns the ID of a predefined network: the same at every start.
pub(crate) fn predefined_id(name: &str) -> String {
    Digest::of(format!("wharf network {name}")).hex()
}

/// Tells whether a network mode names a network of a user (spec runtime §2.3).
pub(crate) fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "" | "default" | "bridge" | "host" | "none") && !mode.starts_with("container:")
}
