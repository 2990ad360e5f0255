//! The networks of one daemon: opening them, joining containers to them, taking them off.

mod attach;
mod explain;
mod lifecycle;
mod ports;
mod state;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use explain::{Explanation, Verdict};
use state::{Kind, State};

use crate::bridge;
use crate::config::NetworkConfig;
use crate::counters::{self, InterfaceCounters};
use crate::dns::{Resolver, ResolverPorts, ResolverRequest};
use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::firewall::{self, AllowedLink, Firewall, Monitor};
use crate::namespace::NamespacePool;
use crate::netlink::Netlink;
use crate::port::PublishedPort;
use crate::reaper::Reaper;
use crate::subnet::Subnet;
use crate::subnet_choice::AddressPoolBase;
use crate::sysctl;

/// Names of the kernel objects of one daemon, and what it gives out.
#[derive(Debug, Clone)]
pub struct NetworksOptions {
    /// Device name of the default bridge, at most 15 bytes (`wharf0` for the default root,
    /// `wh<8 hex>` for others). Networks without the option for a device name get
    /// `br-<12 hex of the identifier>`.
    pub default_bridge: String,
    /// True when the default bridge is a device of the user's: it has to be there with its addresses, and both stay.
    pub default_bridge_is_users: bool,
    /// Identifier of the network that the default bridge belongs to.
    pub default_bridge_id: String,
    /// nftables table name (family inet), such as `wharf` or `wharf_<8 hex>`.
    pub table: String,
    /// The daemon's name, noted on devices so that a later start finds its own again.
    pub instance: String,
    /// IPv4 and IPv6 subnets for networks whose user chose none, first come first served.
    pub pools: Vec<AddressPoolBase>,
}

/// A container that runs while the daemon starts.
#[derive(Debug, Clone, Default)]
pub struct LiveContainer {
    /// Its places on networks.
    pub endpoints: Vec<Endpoint>,
    /// Its published ports.
    pub ports: Vec<PublishedPort>,
}

/// The networks of one daemon, with firewall table, published ports and names.
///
/// Dropping it leaves the kernel's objects as they are, so that containers keep their networks
/// while no daemon runs; only [`Networks::destroy`] removes them.
pub struct Networks {
    // Stopped first: it works on what follows.
    _monitor: Monitor,
    inner: Arc<Inner>,
}

struct Inner {
    options: NetworksOptions,
    firewall: Firewall,
    state: Mutex<State>,
    namespaces: NamespacePool,
    reaper: Reaper,
    resolver: Resolver,
    /// Serialises making and removing networks, which choose subnets and devices.
    lifecycle: Mutex<()>,
}

impl Networks {
    /// Creates or adopts the networks of `configs` with their devices, `ip_forward` and the
    /// nftables table, and removes devices and published ports that no container of `live` owns.
    ///
    /// Addresses and ports of `live` are taken; a port that another process has meanwhile bound is
    /// no failure. A network that cannot be set up now is told with its error and tried again when
    /// a container joins it. The calling thread's network namespace is the host's for these networks.
    ///
    /// # Errors
    /// Any [`NetworkError`] of naming, settings and rules.
    pub fn open(
        options: NetworksOptions,
        configs: Vec<NetworkConfig>,
        live: &[LiveContainer],
    ) -> Result<(Networks, Vec<NetworkError>), NetworkError> {
        bridge::validate_name(&options.default_bridge)?;
        firewall::validate_table_name(&options.table)?;
        sysctl::ensure("net/ipv4/ip_forward", "1")?;
        let inner = Arc::new(Inner {
            firewall: Firewall::new(&options.table)?,
            state: Mutex::default(),
            namespaces: NamespacePool::start()?,
            reaper: Reaper::start()?,
            resolver: Resolver::start()?,
            lifecycle: Mutex::default(),
            options,
        });
        let mut failures = Vec::new();
        for config in configs {
            if let Err(error) = inner.open_network(config.clone()) {
                inner.lock().dormant.insert(config.id.clone(), config);
                failures.push(error);
            }
        }
        inner.adopt(live);
        inner.sweep()?;
        inner.install()?;
        let weak = Arc::downgrade(&inner);
        let monitor = inner.firewall.watch(move || {
            if let Some(inner) = weak.upgrade() {
                // What cannot be mended now is tried again by the next change.
                let _ = inner.install();
            }
        })?;
        Ok((
            Networks {
                _monitor: monitor,
                inner,
            },
            failures,
        ))
    }

    /// Makes an empty network namespace with `lo` up, from a stock when one is ready.
    ///
    /// Good for containers without a network too. The namespace lives as long as the descriptor
    /// or a process in it.
    ///
    /// # Errors
    /// [`NetworkError::Namespace`].
    pub fn new_namespace(&self) -> Result<OwnedFd, NetworkError> {
        self.inner.namespaces.take()
    }

    /// Returns the device of a bridge network, the parent of others.
    pub fn device(&self, network_id: &str) -> Option<String> {
        let state = self.inner.lock();
        match &state.networks.get(network_id)?.kind {
            Kind::Bridge { device, .. } => Some(device.clone()),
            Kind::Sub { parent, .. } => Some(parent.clone()),
        }
    }

    /// Answers names for a container at 127.0.0.11 inside its namespace, over UDP and TCP, until
    /// [`Networks::stop_names`]. Returns where it listens, so that a later daemon can again.
    ///
    /// # Errors
    /// [`NetworkError::Resolver`], [`NetworkError::Namespace`].
    pub fn serve_names(
        &self,
        container_id: &str,
        namespace: OwnedFd,
        request: &ResolverRequest,
    ) -> Result<ResolverPorts, NetworkError> {
        self.inner.resolver.serve(container_id, namespace, request)
    }

    /// Ends answering names for a container.
    pub fn stop_names(&self, container_id: &str) {
        self.inner.resolver.stop(container_id);
    }

    /// Gives a container's endpoint other names, as after a change of the container's name.
    pub fn set_names(&self, endpoint_id: &str, names: Vec<String>) {
        let mut state = self.inner.lock();
        if let Some(endpoint) = state.endpoints.get_mut(endpoint_id) {
            endpoint.names = names;
            let endpoint = endpoint.clone();
            drop(state);
            self.inner.resolver.directory().leave(&endpoint);
            self.inner.register(&endpoint);
        }
    }

    /// Says which ports a container may reach although its network keeps containers apart.
    ///
    /// # Errors
    /// [`NetworkError::NftMissing`], [`NetworkError::Ruleset`].
    pub fn set_links(
        &self,
        container_id: &str,
        links: Vec<AllowedLink>,
    ) -> Result<(), NetworkError> {
        let changed = {
            let mut state = self.inner.lock();
            let before = if links.is_empty() {
                state.links.remove(container_id)
            } else {
                state.links.insert(container_id.to_owned(), links.clone())
            };
            before.unwrap_or_default() != links
        };
        if changed {
            self.inner.install()
        } else {
            Ok(())
        }
    }

    /// Returns the counters of every interface but `lo` in the network namespace of `pid`.
    ///
    /// # Errors
    /// [`NetworkError::Counters`] if the process is gone.
    pub fn counters(pid: u32) -> Result<Vec<InterfaceCounters>, NetworkError> {
        counters::of_process(pid)
    }

    /// Removes all devices, host interfaces and the table; only when no container is on a network.
    ///
    /// # Errors
    /// [`NetworkError::Netlink`], [`NetworkError::Ruleset`].
    pub fn destroy(&self) -> Result<(), NetworkError> {
        let _gate = self.inner.lifecycle();
        let mut netlink = open_netlink()?;
        let networks = std::mem::take(&mut self.inner.lock().networks);
        let indexes = networks.values().filter_map(state::Open::own_index);
        let swept = bridge::sweep(&mut netlink, &indexes.collect(), |_| None);
        let mut removed = Ok(());
        for network in networks.values() {
            // All are tried, the first error is reported.
            removed = removed.and(lifecycle::remove_devices(&mut netlink, network));
        }
        swept.and(removed).and(self.inner.firewall.remove())
    }
}

impl Inner {
    /// Installs the table with all that is known now.
    fn install(&self) -> Result<(), NetworkError> {
        self.firewall.install(|| self.lock().rules())
    }

    /// Takes addresses, ports and names of containers that run.
    fn adopt(&self, live: &[LiveContainer]) {
        for container in live {
            let mut state = self.lock();
            for endpoint in &container.endpoints {
                state.adopt(endpoint);
            }
            for port in &container.ports {
                state.ports.adopt(port);
            }
            if let Some(endpoint) = container.endpoints.first()
                && !container.ports.is_empty()
            {
                state
                    .published
                    .insert(endpoint.container_id.clone(), container.ports.clone());
            }
            drop(state);
            for endpoint in &container.endpoints {
                self.register(endpoint);
            }
            self.start_relays(&container.ports);
        }
    }

    /// Makes an endpoint's names known.
    fn register(&self, endpoint: &Endpoint) {
        let (name, internal) = {
            let state = self.lock();
            let Some(network) = state.networks.get(&endpoint.network_id) else {
                return;
            };
            (network.config.name.clone(), network.config.internal)
        };
        self.resolver.directory().join(endpoint, &name, internal);
    }

    /// Removes what an earlier daemon left: host ends without a container, devices without a network.
    fn sweep(&self) -> Result<(), NetworkError> {
        let mut netlink = open_netlink()?;
        let (indexes, bridges_of_live, host_ends, devices) = {
            let state = self.lock();
            let indexes: HashSet<u32> = state
                .networks
                .values()
                .filter_map(state::Open::own_index)
                .collect();
            let bridges: HashMap<String, u32> = state
                .endpoints
                .values()
                .filter_map(|endpoint| {
                    let index = state.networks.get(&endpoint.network_id)?.index()?;
                    Some((endpoint.host_interface.clone(), index))
                })
                .collect();
            let devices: HashSet<String> = state
                .networks
                .values()
                .map(|network| network.device().to_owned())
                .collect();
            // Also of networks that could not be opened.
            let host_ends: HashSet<String> = state
                .endpoints
                .values()
                .map(|endpoint| endpoint.host_interface.clone())
                .collect();
            (indexes, bridges, host_ends, devices)
        };
        bridge::sweep(&mut netlink, &indexes, |name| {
            bridges_of_live.get(name).copied()
        })?;
        let alias = self.alias();
        let links = netlink
            .links()
            .map_err(NetworkError::netlink("list devices"))?;
        for link in links {
            let is_live = devices.contains(&link.name) || host_ends.contains(&link.name);
            if link.alias == alias && !is_live {
                netlink
                    .delete_link(&link.name)
                    .map_err(NetworkError::netlink(format!(
                        "remove left-over device {}",
                        link.name
                    )))?;
            }
        }
        Ok(())
    }

    /// Returns the note on this daemon's devices.
    fn alias(&self) -> String {
        format!("wharf:{}", self.options.instance)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lifecycle(&self) -> MutexGuard<'_, ()> {
        self.lifecycle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the IPv6 pools of a daemon: the /64s of a /48 of its own (RFC 4193).
pub fn local_ipv6_pools(random: [u8; 5]) -> AddressPoolBase {
    let [a, b, c, d, e] = random;
    let mut octets = [0_u8; 16];
    for (place, byte) in octets.iter_mut().zip([0xfd, a, b, c, d, e]) {
        *place = byte;
    }
    AddressPoolBase {
        base: Subnet::containing(IpAddr::from(octets), 48),
        size: 64,
    }
}

/// Returns the addresses of a bridge of the user's with their prefix lengths, those of IPv4 first.
///
/// # Errors
/// [`NetworkError::NoDevice`], [`NetworkError::NotABridge`], [`NetworkError::Netlink`].
pub fn addresses_of_bridge(name: &str) -> Result<Vec<(IpAddr, u8)>, NetworkError> {
    bridge::validate_name(name)?;
    let mut netlink = open_netlink()?;
    let link = bridge::find(&mut netlink, name)?;
    let mut addresses = bridge::addresses_of(&mut netlink, &link, false)?;
    addresses.extend(bridge::addresses_of(&mut netlink, &link, true)?);
    Ok(addresses)
}

fn open_netlink() -> Result<Netlink, NetworkError> {
    Netlink::open().map_err(NetworkError::netlink("open a netlink socket"))
}
