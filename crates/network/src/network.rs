//! The network of one daemon: opening it, joining containers to it, taking them off.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::address_pool::AddressPool;
use crate::bridge::{self, Bridge, MTU_BYTES, VETH_PREFIX};
use crate::counters::{self, InterfaceCounters};
use crate::endpoint::{Endpoint, EndpointRequest, mac_of_address, mac_text};
use crate::error::NetworkError;
use crate::firewall::{self, Firewall, Mapping};
use crate::namespace::{NamespacePool, netlink_inside};
use crate::netlink::{Netlink, PeerLocation, VethPair};
use crate::port_allocator::PortAllocator;
use crate::reaper::Reaper;
use crate::subnet::Ipv4Subnet;
use crate::sysctl;

/// Name of a container's interface.
const CONTAINER_INTERFACE: &str = "eth0";
/// Tries to find a host interface name that is not taken; one in 268 million is.
const MAX_NAME_TRIES: usize = 4;

/// Tries to bind a port that somebody else has bound.
const PORT_TRIES: usize = 6;
const PORT_RETRY: Duration = Duration::from_millis(2);

/// Names of the kernel objects of one daemon.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Bridge device name, at most 15 bytes (`wharf0` for the default root, `wh<8 hex>` for others).
    pub bridge: String,
    /// nftables table name (family ip), such as `wharf` or `wharf_<8 hex>`.
    pub table: String,
    /// Subnet to use. `None` keeps the subnet of a bridge that exists, else takes the first
    /// predefined pool (172.17/16, 172.18/16, …) that no host route, address or DNS server is in;
    /// the caller remembers [`Network::subnet`] for the next start.
    pub subnet: Option<Ipv4Subnet>,
}

/// A bridge with its addresses, firewall table and published ports.
///
/// Dropping it leaves the kernel's objects as they are, so that containers keep their network
/// while no daemon runs; only [`Network::destroy`] removes them.
pub struct Network {
    options: NetworkOptions,
    bridge: Bridge,
    firewall: Firewall,
    state: Mutex<State>,
    namespaces: NamespacePool,
    reaper: Reaper,
}

/// What is given out. The lock is never held while the kernel changes devices or rules.
struct State {
    addresses: AddressPool,
    ports: PortAllocator,
    /// Published ports by endpoint identifier; the keys are the endpoints that exist.
    mappings: HashMap<String, Vec<Mapping>>,
}

impl Network {
    /// Creates or adopts bridge, address, `ip_forward` and nftables table, and removes devices and
    /// published ports that no endpoint of `live` owns.
    ///
    /// Addresses and ports of `live` are taken; a port that another process has meanwhile bound is
    /// no failure. The calling thread's network namespace is the host's for this network.
    ///
    /// # Errors
    /// Any [`NetworkError`] of naming, subnets, devices, settings and rules.
    pub fn open(options: NetworkOptions, live: &[Endpoint]) -> Result<Network, NetworkError> {
        bridge::validate_name(&options.bridge)?;
        firewall::validate_table_name(&options.table)?;
        sysctl::ensure("net/ipv4/ip_forward", "1")?;
        let mut netlink =
            Netlink::open().map_err(NetworkError::netlink("open a netlink socket"))?;
        let bridge = bridge::ensure(&mut netlink, &options.bridge, options.subnet)?;
        let live_names: HashSet<&str> = live
            .iter()
            .map(|endpoint| endpoint.host_interface.as_str())
            .collect();
        bridge::sweep(&mut netlink, bridge, &live_names)?;

        let state = State::of_live(bridge.subnet, live);
        let firewall = Firewall::new(&options.table, &options.bridge, bridge.subnet)?;
        firewall.install(&state.all_mappings())?;
        let namespaces = NamespacePool::start()?;
        let reaper = Reaper::start()?;
        Ok(Network {
            options,
            bridge,
            firewall,
            state: Mutex::new(state),
            namespaces,
            reaper,
        })
    }

    /// Returns the bridge's subnet.
    pub fn subnet(&self) -> Ipv4Subnet {
        self.bridge.subnet
    }

    /// Returns the bridge's address, which is the containers' default route.
    pub fn gateway(&self) -> Ipv4Addr {
        self.bridge.subnet.gateway()
    }

    /// Returns the bridge's device name.
    pub fn bridge(&self) -> &str {
        &self.options.bridge
    }

    /// Makes an empty network namespace with `lo` up, from a stock when one is ready.
    ///
    /// Good for containers without a network too. The namespace lives as long as the descriptor
    /// or a process in it.
    ///
    /// # Errors
    /// [`NetworkError::Namespace`].
    pub fn new_namespace(&self) -> Result<OwnedFd, NetworkError> {
        self.namespaces.take()
    }

    /// Joins a namespace to the bridge: a veth pair, `eth0` with address and default route inside,
    /// published ports. Either all of it is done or nothing is left.
    ///
    /// # Errors
    /// [`NetworkError::InvalidRequest`], errors of addresses and ports,
    /// [`NetworkError::Netlink`], [`NetworkError::Elements`].
    pub fn attach(
        &self,
        namespace: BorrowedFd<'_>,
        request: &EndpointRequest,
    ) -> Result<Endpoint, NetworkError> {
        request.validate()?;
        let mut endpoint = self.reserve_patiently(request)?;
        let mac = request
            .mac
            .unwrap_or_else(|| mac_of_address(endpoint.address));
        let joined = self
            .connect(namespace, &mut endpoint, mac)
            .and_then(|()| self.publish(&mappings_of(&endpoint)));
        if let Err(error) = joined {
            // The first error is the one to report.
            let _ = self.detach(&endpoint);
            return Err(error);
        }
        Ok(endpoint)
    }

    /// Undoes [`Network::attach`]; what is already gone is no failure.
    ///
    /// Ports are withdrawn and free when this returns. The veth pair goes with its namespace; if
    /// the namespace lives on, the pair is removed a quarter of a second later, or at once when the
    /// namespace is attached again.
    ///
    /// # Errors
    /// [`NetworkError::Elements`] if the kernel refuses to withdraw a port; address and ports are
    /// free again all the same.
    pub fn detach(&self, endpoint: &Endpoint) -> Result<(), NetworkError> {
        // An endpoint that is not known has no claim on its ports any more: they may be another's.
        let known = lock(&self.state).mappings.remove(&endpoint.endpoint_id);
        if endpoint.host_interface.starts_with(VETH_PREFIX) {
            self.reaper.remove_soon(&endpoint.host_interface);
        }
        let Some(mappings) = known else { return Ok(()) };
        let withdrawn = if mappings.is_empty() {
            Ok(())
        } else {
            self.firewall.withdraw(&mappings)
        };
        let mut state = lock(&self.state);
        state.addresses.release(endpoint.address);
        for port in &endpoint.ports {
            state.ports.release(port);
        }
        withdrawn
    }

    /// Returns the counters of every interface but `lo` in the network namespace of `pid`.
    ///
    /// # Errors
    /// [`NetworkError::Counters`] if the process is gone.
    pub fn counters(pid: u32) -> Result<Vec<InterfaceCounters>, NetworkError> {
        counters::of_process(pid)
    }

    /// Removes bridge, host interfaces and table; only for a network that no container is on.
    ///
    /// # Errors
    /// [`NetworkError::Netlink`], [`NetworkError::Ruleset`].
    pub fn destroy(&self) -> Result<(), NetworkError> {
        let mut netlink =
            Netlink::open().map_err(NetworkError::netlink("open a netlink socket"))?;
        let swept = bridge::sweep(&mut netlink, self.bridge, &HashSet::new());
        let removed = netlink
            .delete_link(&self.options.bridge)
            .map_err(NetworkError::netlink(format!(
                "remove bridge {}",
                self.options.bridge
            )));
        let table = self.firewall.remove();
        swept.and(removed).and(table)
    }

    /// Takes address and ports; a port that is bound by somebody else gets a second chance.
    ///
    /// A child process that is just being started holds a copy of every socket until it executes
    /// its program, so a port freed a moment ago can still be taken for a millisecond.
    fn reserve_patiently(&self, request: &EndpointRequest) -> Result<Endpoint, NetworkError> {
        for _ in 1..PORT_TRIES {
            match self.reserve(request) {
                Err(NetworkError::PortBind { .. }) => std::thread::sleep(PORT_RETRY),
                other => return other,
            }
        }
        self.reserve(request)
    }

    /// Takes address and ports, all or none.
    fn reserve(&self, request: &EndpointRequest) -> Result<Endpoint, NetworkError> {
        let endpoint_id = random_hexadecimal(64)?;
        let host_interface = host_interface_name()?;
        let mut state = lock(&self.state);
        let address = match request.address {
            Some(address) => state.addresses.reserve(address).map(|()| address)?,
            None => state.addresses.allocate()?,
        };
        let mut ports = Vec::with_capacity(request.ports.len());
        for wanted in &request.ports {
            match state.ports.reserve(wanted) {
                Ok(port) => ports.push(port),
                Err(error) => {
                    for port in &ports {
                        state.ports.release(port);
                    }
                    state.addresses.release(address);
                    return Err(error);
                }
            }
        }
        let endpoint = Endpoint {
            endpoint_id,
            container_id: request.container_id.clone(),
            address,
            prefix_length: self.bridge.subnet.prefix_length(),
            gateway: self.gateway(),
            mac: mac_text(request.mac.unwrap_or_else(|| mac_of_address(address))),
            host_interface,
            ports,
        };
        state
            .mappings
            .insert(endpoint.endpoint_id.clone(), mappings_of(&endpoint));
        Ok(endpoint)
    }

    /// Makes the veth pair and sets the container's end up.
    fn connect(
        &self,
        namespace: BorrowedFd<'_>,
        endpoint: &mut Endpoint,
        mac: [u8; 6],
    ) -> Result<(), NetworkError> {
        let mut netlink =
            Netlink::open().map_err(NetworkError::netlink("open a netlink socket"))?;
        self.create_veth(&mut netlink, namespace, endpoint, mac)?;
        if !endpoint.ports.is_empty() {
            let name = &endpoint.host_interface;
            netlink
                .set_hairpin(name)
                .map_err(NetworkError::netlink(format!("set hairpin mode of {name}")))?;
        }
        let mut inside = netlink_inside(namespace)?;
        let index = inside
            .link_by_name(CONTAINER_INTERFACE)
            .and_then(|link| link.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
            .map_err(NetworkError::netlink("look up eth0 in the container"))?
            .index;
        inside
            .set_up(index)
            .map_err(NetworkError::netlink("set up eth0 in the container"))?;
        let Endpoint {
            address, gateway, ..
        } = *endpoint;
        inside
            .add_address(index, address, self.bridge.subnet)
            .map_err(NetworkError::netlink(format!(
                "give address {address} to the container"
            )))?;
        inside
            .add_default_route(gateway)
            .map_err(NetworkError::netlink(format!(
                "add the container's default route by {gateway}"
            )))
    }

    fn create_veth(
        &self,
        netlink: &mut Netlink,
        namespace: BorrowedFd<'_>,
        endpoint: &mut Endpoint,
        mac: [u8; 6],
    ) -> Result<(), NetworkError> {
        let mut last_error = io::Error::from(io::ErrorKind::AlreadyExists);
        let mut waiting_removed = false;
        for _ in 0..MAX_NAME_TRIES {
            let pair = VethPair {
                name: &endpoint.host_interface,
                bridge_index: self.bridge.index,
                mtu_bytes: MTU_BYTES,
                peer: PeerLocation {
                    namespace,
                    name: CONTAINER_INTERFACE,
                    mac,
                },
            };
            let Err(error) = netlink.create_veth(&pair) else {
                return Ok(());
            };
            last_error = error;
            // The same errno comes for a taken name out here and for an eth0 in there.
            let name_taken = last_error.kind() == io::ErrorKind::AlreadyExists
                && matches!(netlink.link_by_name(&endpoint.host_interface), Ok(Some(_)));
            if name_taken {
                endpoint.host_interface = host_interface_name()?;
            } else if !waiting_removed && last_error.kind() == io::ErrorKind::AlreadyExists {
                // The namespace may have been detached a moment ago.
                self.reaper.flush();
                waiting_removed = true;
            } else {
                break;
            }
        }
        let action = format!(
            "create veth pair {} with eth0 in the container",
            endpoint.host_interface
        );
        Err(NetworkError::Netlink {
            action,
            source: last_error,
        })
    }

    /// Adds published ports; if somebody has flushed the firewall, installs the table again first.
    fn publish(&self, mappings: &[Mapping]) -> Result<(), NetworkError> {
        if mappings.is_empty() {
            return Ok(());
        }
        match self.firewall.publish(mappings) {
            Err(NetworkError::Elements { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                let all = lock(&self.state).all_mappings();
                self.firewall.install(&all)
            }
            other => other,
        }
    }
}

impl State {
    fn of_live(subnet: Ipv4Subnet, live: &[Endpoint]) -> State {
        let mut state = State {
            addresses: AddressPool::new(subnet),
            ports: PortAllocator::default(),
            mappings: HashMap::new(),
        };
        for endpoint in live {
            // An address outside a changed subnet takes nothing away from anybody.
            let _ = state.addresses.reserve(endpoint.address);
            state.addresses.continue_after(endpoint.address);
            for port in &endpoint.ports {
                state.ports.adopt(port);
            }
            state
                .mappings
                .insert(endpoint.endpoint_id.clone(), mappings_of(endpoint));
        }
        state
    }

    fn all_mappings(&self) -> Vec<Mapping> {
        self.mappings.values().flatten().cloned().collect()
    }
}

fn mappings_of(endpoint: &Endpoint) -> Vec<Mapping> {
    endpoint
        .ports
        .iter()
        .map(|port| Mapping {
            port: port.clone(),
            address: endpoint.address,
        })
        .collect()
}

fn host_interface_name() -> Result<String, NetworkError> {
    Ok(format!("{VETH_PREFIX}{}", random_hexadecimal(7)?))
}

fn random_hexadecimal(digits: usize) -> Result<String, NetworkError> {
    let mut bytes = vec![0_u8; digits.div_ceil(2)];
    getrandom::fill(&mut bytes).map_err(|error| NetworkError::InvalidRequest {
        reason: format!("no random identifier: {error}"),
    })?;
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    Ok(text)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
