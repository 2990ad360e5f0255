//! Networks: those every engine has (bridge, host, none) and those of users.

mod check;
mod connect;
mod create;
mod explain;
mod ipam;
mod join;
mod links;
mod list;
mod names;
mod ports;
mod registry;
mod remove;
mod settings;

use crate::clock::now_ns;
use crate::container::create::store_error;
use crate::engine::DEFAULT_ROOT;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::Container;
use crate::model::network::Network;
use crate::settings::Settings;
use std::path::Path;
use wharf_image::Digest;
use wharf_network::{
    Driver, LiveContainer, NetworkConfig, NetworkError, NetworkRequest, Networks, NetworksOptions,
};
use wharf_store::Store;

pub(crate) use check::{check_endpoints, endpoints_of};
pub(crate) use links::{check_links, keep as keep_links, target_of};
pub(crate) use names::has_resolver;
pub(crate) use registry::NetworkRegistry;
pub use settings::{DefaultBridge, NetworkSettings};

/// Kind of the store's documents of networks.
pub(crate) const DOCUMENT_KIND: &str = "network";
/// Name of the network that containers join when nothing is said.
pub(crate) const DEFAULT_NETWORK: &str = "bridge";
/// The option of a network that names its bridge.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
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
    settings: &Settings,
) -> Result<OpenNetworks> {
    let mut settings = settings.clone();
    settings.network = settings.network.with_users_addresses()?;
    let settings = &settings;
    let mut options = options(root, engine_id, &settings.network);
    let default_device = options.default_bridge.clone();
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
    let default_id = options.default_bridge_id.clone();
    let in_use = live
        .iter()
        .flat_map(|container| &container.endpoints)
        .any(|endpoint| endpoint.network_id == default_id);
    let is_as_set = bridge
        .as_ref()
        .is_none_or(|bridge| is_as_set(bridge, settings, &default_device));
    if in_use
        && !is_as_set
        && let Some(device) = bridge
            .as_ref()
            .and_then(|bridge| bridge.options.get(BRIDGE_NAME))
    {
        // The containers stay where they are.
        options.default_bridge_is_users = *device != own_device(root);
        options.default_bridge.clone_from(device);
    }
    let bridge = bridge.filter(|_| is_as_set || in_use);
    configs.extend(bridge.as_ref().and_then(|bridge| bridge.config.clone()));
    let (room, errors) = Networks::open(options, configs, &live).map_err(network_error)?;
    let mut failures: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if !is_as_set && in_use {
        failures.push(
            "the settings of the default bridge have changed: they count from the next start without containers on it"
                .to_owned(),
        );
    }
    let registry = NetworkRegistry::default();
    let has_bridge = settings.network.bridge != DefaultBridge::Absent || in_use;
    if has_bridge {
        registry.insert(open_bridge(
            store,
            &room,
            settings,
            bridge,
            in_use,
            &mut failures,
        )?);
    }
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

/// Returns the default network: the one that was taken over, or a new one.
fn open_bridge(
    store: &Store,
    room: &Networks,
    settings: &Settings,
    bridge: Option<Network>,
    in_use: bool,
    failures: &mut Vec<String>,
) -> Result<Network> {
    let default_id = predefined_id(DEFAULT_NETWORK);
    let is_open = room.device(&default_id).is_some();
    let bridge = match bridge {
        // Its containers go on; what is wrong has been told, and the next one that joins tries again.
        Some(bridge) if in_use && !is_open => return Ok(bridge),
        bridge => bridge,
    };
    let bridge_config = bridge.as_ref().and_then(|bridge| bridge.config.clone());
    let config = match bridge_config.filter(|_| is_open) {
        Some(config) => config,
        // While no container has an address, a subnet that someone else took meanwhile is given up.
        None => {
            failures.clear();
            room.remove(&default_id).map_err(network_error)?;
            room.create(default_bridge(&default_id, settings))
                .map_err(network_error)?
        }
    };
    bridge
        .filter(|bridge| bridge.config.as_ref() == Some(&config))
        .map_or_else(|| store_bridge(store, config, room, settings), Ok)
}

fn options(root: &Path, engine_id: &str, settings: &NetworkSettings) -> NetworksOptions {
    let suffix = suffix(root);
    let own_root = root == Path::new(DEFAULT_ROOT);
    let own_ipv6 = wharf_network::local_ipv6_pools(ipv6_seed(engine_id));
    NetworksOptions {
        default_bridge: match &settings.bridge {
            DefaultBridge::Users(name) => name.clone(),
            DefaultBridge::Own | DefaultBridge::Absent => own_device(root),
        },
        default_bridge_is_users: matches!(settings.bridge, DefaultBridge::Users(_)),
        default_bridge_id: predefined_id(DEFAULT_NETWORK),
        table: if own_root {
            "wharf".to_owned()
        } else {
            format!("wharf_{suffix}")
        },
        instance: crate::engine::instance_name(root),
        pools: settings.pools(own_ipv6),
    }
}

/// Returns the name of the bridge that the engine makes for the default network.
fn own_device(root: &Path) -> String {
    if root == Path::new(DEFAULT_ROOT) {
        return "wharf0".to_owned();
    }
    format!("wh{}", suffix(root))
}

/// Returns what the names of a root of one's own end with.
fn suffix(root: &Path) -> String {
    let digest = Digest::of(root.as_os_str().as_encoded_bytes());
    digest.hex().get(..8).unwrap_or_default().to_owned()
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

fn default_bridge(id: &str, settings: &Settings) -> NetworkRequest {
    let subnets = settings.network.bridge_subnets();
    NetworkRequest {
        id: id.to_owned(),
        name: DEFAULT_NETWORK.to_owned(),
        driver: Driver::Bridge,
        ipv4: true,
        ipv6: settings.network.bridge_has_ipv6(),
        internal: false,
        pools: subnets.iter().map(ipam::pool_request).collect(),
        options: settings.network.bridge_options(&settings.publish_address),
    }
}

/// Tells whether the default bridge was made with the settings that are in force.
fn is_as_set(bridge: &Network, settings: &Settings, device: &str) -> bool {
    let mut own = settings.network.bridge_options(&settings.publish_address);
    own.insert(BRIDGE_NAME.to_owned(), device.to_owned());
    settings.network.bridge != DefaultBridge::Absent
        && own
            .iter()
            .all(|(key, value)| bridge.options.get(key) == Some(value))
        && bridge.ipv6 == settings.network.bridge_has_ipv6()
        && (bridge.ipam.config == settings.network.bridge_subnets()
            || has_users_addresses(bridge, settings))
}

/// Tells whether the default network has the subnets of the user's bridge: those that the engine gave it at an earlier
/// start count as the user's from then on.
fn has_users_addresses(bridge: &Network, settings: &Settings) -> bool {
    let subnets = settings.network.bridge_subnets();
    let pools = bridge.config.as_ref().map(|config| config.pools.as_slice());
    let pools = pools.unwrap_or_default();
    matches!(settings.network.bridge, DefaultBridge::Users(_))
        && pools.len() == subnets.len()
        && pools.iter().zip(&subnets).all(|(pool, asked)| {
            let asked = ipam::pool_request(asked);
            asked.subnet == Some(pool.subnet)
                && asked.range == pool.range
                && asked.gateway == pool.gateway
        })
}

fn default_ipam() -> crate::model::network::Ipam {
    crate::model::network::Ipam {
        driver: "default".to_owned(),
        ..Default::default()
    }
}

/// Writes the default bridge down.
fn store_bridge(
    store: &Store,
    config: NetworkConfig,
    room: &Networks,
    settings: &Settings,
) -> Result<Network> {
    let mut options = settings.network.bridge_options(&settings.publish_address);
    options.insert(
        BRIDGE_NAME.to_owned(),
        room.device(&config.id).unwrap_or_default(),
    );
    let bridge = Network {
        id: config.id.clone(),
        name: DEFAULT_NETWORK.to_owned(),
        driver: "bridge".to_owned(),
        created_at_ns: now_ns(),
        ipv4: true,
        ipv6: settings.network.bridge_has_ipv6(),
        ipam: crate::model::network::Ipam {
            config: settings.network.bridge_subnets(),
            ..default_ipam()
        },
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
