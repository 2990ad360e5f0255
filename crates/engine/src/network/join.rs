//! A container's networks over its run: joined at the start, left at the end, taken over by the
//! next engine.

use super::check::{ENDPOINT_INTERFACE, parse_mac, sysctls};
use super::{DEFAULT_NETWORK, is_user_defined, names, network_error, ports};
use crate::container::registry::Entry;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::identity;
use crate::model::container::{Container, NetworkEndpoint};
use crate::model::network::Network;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use wharf_network::{Endpoint, EndpointRequest, NetworkError};

/// Setting of a container that turns IPv6 off.
const IPV6_OFF: &str = "net.ipv6.conf.all.disable_ipv6";
/// Start of the text of every failure to set a container's networks up; clients look for it
/// (spec engine-api §7.4).
const SETUP_FAILED: &str = "failed to set up container networking";

impl Engine {
    /// Gives a starting container its namespace, networks, published ports and resolver; `None`
    /// when it shares another namespace.
    pub(crate) fn join_networks(&self, entry: &Entry) -> Result<Option<OwnedFd>> {
        let container = entry.snapshot();
        let mode = container.host_config.network_mode.as_str();
        if mode.starts_with("container:") {
            return Ok(None);
        }
        refuse_company(&container).map_err(setup_failed)?;
        if mode == "host" {
            self.mark_joined(entry, "host")?;
            return Ok(None);
        }
        let namespace = self.network.new_namespace().map_err(network_error)?;
        if container.networks.contains_key("none") {
            self.mark_joined(entry, "none")?;
            return Ok(Some(namespace));
        }
        if let Err(error) = self.join_all(entry, namespace.as_fd()) {
            let joined = entry.snapshot();
            self.leave_network(entry);
            self.tell_networks_left(&joined);
            return Err(error);
        }
        Ok(Some(namespace))
    }

    fn join_all(&self, entry: &Entry, namespace: BorrowedFd<'_>) -> Result<()> {
        let container = entry.snapshot();
        let mut wanted: Vec<(&String, &NetworkEndpoint)> = container.networks.iter().collect();
        wanted.sort_by(|(a_name, a), (b_name, b)| {
            b.request
                .gateway_priority
                .cmp(&a.request.gateway_priority)
                .then_with(|| a_name.cmp(b_name))
        });
        for (name, endpoint) in wanted {
            if name == DEFAULT_NETWORK && self.networks.find(name).is_err() {
                // Without a default network such containers have only themselves.
                continue;
            }
            let network = self.network_of(name, endpoint).map_err(setup_failed)?;
            self.attach(entry, namespace, name, &network)
                .map_err(setup_failed)?;
        }
        self.publish_ports(entry)?;
        self.link(entry)?;
        self.serve_names(entry, namespace)
    }

    /// Finds the network that a container's endpoint means: the one it was made for, or the one
    /// that has its name now.
    pub(super) fn network_of(
        &self,
        name: &str,
        endpoint: &NetworkEndpoint,
    ) -> Result<Arc<Network>> {
        if !endpoint.network_id.is_empty()
            && is_user_defined(name)
            && let Ok(network) = self.networks.find(&endpoint.network_id)
        {
            return Ok(network);
        }
        self.networks.find(name)
    }

    /// Joins a namespace to one network and notes it in the container.
    pub(super) fn attach(
        &self,
        entry: &Entry,
        namespace: BorrowedFd<'_>,
        name: &str,
        network: &Arc<Network>,
    ) -> Result<()> {
        let container = entry.snapshot();
        let Some(asked) = container.networks.get(name) else {
            return Ok(());
        };
        if network.config.is_none() {
            return Err(EngineError::invalid(format!(
                "network {} cannot be joined: it has no subnets of its own",
                network.name
            )));
        }
        let dns_names = names::dns_names(&container, network, asked);
        let request = endpoint_request(&container, network, asked, &dns_names)?;
        let endpoint = self
            .network
            .attach(namespace, &request)
            .map_err(network_error)?;
        let container = entry.change(|container| {
            let mut own = container.networks.remove(name).unwrap_or_default();
            fill(&mut own, network, &endpoint);
            own.dns_names = dns_names;
            container.networks.insert(network.name.clone(), own);
        });
        self.network_event("connect", network, Some(&container));
        Ok(())
    }

    /// Publishes a container's ports at the networks it leaves by.
    pub(super) fn publish_ports(&self, entry: &Entry) -> Result<()> {
        let container = entry.snapshot();
        let requests = ports::port_requests(&container)?;
        let published = self
            .network
            .publish(&container.id, &requests)
            .map_err(|error| publish_error(&container, &error))?;
        entry.change(|container| {
            container.published_ports = published.iter().map(ports::published).collect();
            container.port_mappings = published;
        });
        Ok(())
    }

    /// Starts answering names for a container that is on a network of a user.
    pub(super) fn serve_names(&self, entry: &Entry, namespace: BorrowedFd<'_>) -> Result<()> {
        let container = entry.snapshot();
        if !names::has_resolver(&container) {
            return Ok(());
        }
        let request = names::resolver_request(&container)?;
        let namespace = rustix::io::fcntl_dupfd_cloexec(namespace, 0).map_err(|e| {
            EngineError::wrap(ErrorKind::Internal, "cannot keep a network namespace", e)
        })?;
        let ports = self
            .network
            .serve_names(&container.id, namespace, &request)
            .map_err(network_error)
            .map_err(setup_failed)?;
        entry.change(|container| container.resolver = Some(ports));
        Ok(())
    }

    /// Takes a container that no longer runs off its networks.
    pub(crate) fn leave_network(&self, entry: &Entry) {
        let container = entry.snapshot();
        if container.resolver.is_some() {
            self.network.stop_names(&container.id);
        }
        let withdrawn = self
            .network
            .withdraw(&container.id)
            .and_then(|()| self.network.set_links(&container.id, Vec::new()));
        if let Err(error) = withdrawn {
            self.events.emit(
                "daemon",
                "error",
                &self.id,
                [("message", error.to_string())],
            );
        }
        for endpoint in container.endpoints() {
            self.network.detach(endpoint);
        }
        entry.change(|container| {
            container.published_ports.clear();
            container.port_mappings.clear();
            container.resolver = None;
            container.networks.values_mut().for_each(clear);
        });
    }

    /// Tells that an ended container has left its networks; `before` is as it was while it ran.
    pub(crate) fn tell_networks_left(&self, before: &Container) {
        for (name, endpoint) in &before.networks {
            if !endpoint.endpoint_id.is_empty()
                && let Ok(network) = self.network_of(name, endpoint)
            {
                self.network_event("disconnect", &network, Some(before));
            }
        }
    }

    /// Takes over the resolver of a container that has run on while no engine did.
    pub(crate) fn adopt_networks(&self, entry: &Entry) {
        let container = entry.snapshot();
        if container.resolver.is_none() {
            return;
        }
        let served = namespace_of(&container)
            .and_then(|namespace| self.serve_names(entry, namespace.as_fd()));
        if let Err(error) = served {
            self.events.emit(
                "daemon",
                "error",
                &self.id,
                [("message", error.message().to_owned())],
            );
        }
    }

    /// Notes that a container is on a network that gives it nothing.
    pub(super) fn mark_joined(&self, entry: &Entry, name: &str) -> Result<()> {
        let network = self.networks.find(name)?;
        let endpoint_id = identity::random_id()?;
        let container = entry.change(|container| {
            let own = container.networks.entry(name.to_owned()).or_default();
            own.network_id.clone_from(&network.id);
            own.endpoint_id = endpoint_id;
            own.mac_address.clone_from(&own.request.mac_address);
        });
        self.network_event("connect", &network, Some(&container));
        Ok(())
    }

    /// Tells of something that happened to a network.
    pub(super) fn network_event(
        &self,
        action: &str,
        network: &Network,
        container: Option<&Container>,
    ) {
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), network.name.clone()),
            ("type".to_owned(), network.driver.clone()),
        ]);
        if let Some(container) = container {
            attributes.insert("container".to_owned(), container.id.clone());
        }
        self.events
            .publish("network", action, &network.id, attributes);
    }
}

/// Opens the network namespace of a running container.
pub(super) fn namespace_of(container: &Container) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/net", container.state.pid);
    wharf_safefs::trusted::open(&path)
        .map(OwnedFd::from)
        .map_err(|e| {
            EngineError::wrap(
                ErrorKind::Internal,
                format!(
                    "cannot open the network namespace of container {}",
                    container.id
                ),
                e,
            )
        })
}

fn endpoint_request(
    container: &Container,
    network: &Network,
    asked: &NetworkEndpoint,
    names: &[String],
) -> Result<EndpointRequest> {
    let asked = &asked.request;
    let settings = sysctls(asked).map_err(EngineError::invalid)?;
    let links = if is_user_defined(&network.name) {
        names::private_names(asked)
    } else {
        BTreeMap::new()
    };
    Ok(EndpointRequest {
        network_id: network.id.clone(),
        container_id: container.id.clone(),
        ipv4: asked.ipv4_address.parse().ok(),
        ipv6: asked.ipv6_address.parse().ok(),
        without_ipv6: has_ipv6_off(container),
        link_local: asked
            .link_local_addresses
            .iter()
            .filter_map(|address| address.parse::<IpAddr>().ok())
            .collect(),
        mac: parse_mac(&asked.mac_address),
        interface: asked
            .driver_options
            .get(ENDPOINT_INTERFACE)
            .cloned()
            .unwrap_or_default(),
        sysctls: settings,
        gateway_priority: asked.gateway_priority,
        names: names.to_vec(),
        links,
    })
}

/// Tells whether a container's own settings turn IPv6 off in it.
fn has_ipv6_off(container: &Container) -> bool {
    let setting = container.host_config.sysctls.get(IPV6_OFF);
    setting.is_some_and(|value| value.trim() == "1")
}

/// Notes in a container what it has on a network.
fn fill(own: &mut NetworkEndpoint, network: &Network, endpoint: &Endpoint) {
    own.network_id.clone_from(&network.id);
    own.endpoint_id.clone_from(&endpoint.endpoint_id);
    if let Some(ipv4) = endpoint.ipv4 {
        own.address = ipv4.address.to_string();
        own.prefix_length = ipv4.prefix_length;
    }
    if let Some(ipv6) = endpoint.ipv6 {
        own.ipv6_address = ipv6.address.to_string();
        own.ipv6_prefix_length = ipv6.prefix_length;
    }
    let text = |gateway: Option<IpAddr>| gateway.map(|own| own.to_string()).unwrap_or_default();
    own.gateway = text(endpoint.gateway(false));
    own.ipv6_gateway = text(endpoint.gateway(true));
    own.mac_address.clone_from(&endpoint.mac);
    own.endpoint = Some(endpoint.clone());
}

/// Forgets what a container had on a network while it ran.
pub(super) fn clear(own: &mut NetworkEndpoint) {
    *own = NetworkEndpoint {
        network_id: std::mem::take(&mut own.network_id),
        request: std::mem::take(&mut own.request),
        dns_names: std::mem::take(&mut own.dns_names),
        ..NetworkEndpoint::default()
    };
}

/// Refuses networks beside those that give nothing: they could not be joined.
fn refuse_company(container: &Container) -> Result<()> {
    let networks = &container.networks;
    let has_company = networks.len() > 1;
    if has_company && networks.contains_key("host") {
        return Err(EngineError::invalid(super::connect::SHARING));
    }
    if has_company && networks.contains_key("none") {
        return Err(EngineError::invalid(super::connect::NO_COMPANY));
    }
    Ok(())
}

fn setup_failed(error: EngineError) -> EngineError {
    EngineError::new(error.kind(), format!("{SETUP_FAILED}: {}", error.message()))
}

/// Words a failure to publish as docker does: clients look for the text.
fn publish_error(container: &Container, error: &NetworkError) -> EngineError {
    let endpoint = container
        .endpoints()
        .next()
        .map(|endpoint| endpoint.endpoint_id.clone())
        .unwrap_or_default();
    let text = format!(
        "{SETUP_FAILED}: driver failed programming external connectivity on endpoint {} ({endpoint}): {error}",
        container.name
    );
    match error {
        NetworkError::NoAddressOfFamily { .. } | NetworkError::InvalidRequest { .. } => {
            EngineError::invalid(text)
        }
        _ => EngineError::internal(text),
    }
}
