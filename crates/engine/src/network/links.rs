//! Links on the default bridge: environment, `/etc/hosts` and, where containers are kept apart, the
//! way through (spec runtime §8.4).

use super::{DEFAULT_NETWORK, is_user_defined};
use crate::container::create::fs_error;
use crate::container::registry::Entry;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::Container;
use crate::model::host_config::HostConfig;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use wharf_network::files::HostRecord;
use wharf_network::{AllowedLink, Protocol};
use wharf_safefs::trusted;

/// Links of one container.
const MAX_LINKS: usize = 256;
/// Largest hosts file that is changed, in bytes.
const MAX_HOSTS_BYTES: u64 = 1024 * 1024;

/// Checks the links of a create request.
pub(crate) fn check_links(engine: &Engine, host: &HostConfig) -> Result<()> {
    if is_user_defined(&host.network_mode) {
        return Ok(());
    }
    if host.links.len() > MAX_LINKS {
        return Err(EngineError::invalid(format!(
            "{} links, at most {MAX_LINKS} are possible",
            host.links.len()
        )));
    }
    for link in &host.links {
        let (name, _) = parse(link)?;
        let child = engine.containers.find(&name).map_err(|error| {
            EngineError::invalid(format!(
                "could not get container for {name}: {}",
                error.message()
            ))
        })?;
        if child.snapshot().host_config.network_mode == "host" {
            return Err(EngineError::invalid(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
            ));
        }
    }
    Ok(())
}

/// Makes the links of a create request name containers by ID, so that a rename does not part them and no other
/// container takes a removed one's place.
pub(crate) fn keep(engine: &Engine, host: &mut HostConfig) -> Result<()> {
    if is_user_defined(&host.network_mode) {
        return Ok(());
    }
    for link in &mut host.links {
        let (name, alias) = parse(link)?;
        let child = engine.containers.find(&name)?.snapshot();
        *link = format!("{}:{alias}", child.id);
    }
    Ok(())
}

/// Splits `name:alias`, `name`, or what inspect shows: `/name:/parent/alias`.
fn parse(link: &str) -> Result<(String, String)> {
    let invalid =
        || EngineError::invalid(format!("invalid argument \"{link}\": bad format for links"));
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    let name = name.trim_start_matches('/');
    let alias = alias.rsplit('/').next().unwrap_or_default();
    if name.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(invalid());
    }
    Ok((name.to_owned(), alias.to_owned()))
}

/// Returns the name of the container that another one knows under an alias.
pub(crate) fn target_of(parent: &Container, alias: &str) -> Option<String> {
    let links = parent.host_config.links.iter();
    links
        .filter_map(|link| parse(link).ok())
        .find_map(|(name, own)| (own == alias).then_some(name))
}

impl Engine {
    /// Returns the further names that links give to containers, `parent/alias`, by container ID.
    pub(crate) fn link_names(&self) -> HashMap<String, Vec<String>> {
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        for parent in self.containers.snapshots() {
            if is_user_defined(&parent.host_config.network_mode) {
                continue;
            }
            for (name, alias) in parent.host_config.links.iter().flat_map(|link| parse(link)) {
                if let Ok(child) = self.containers.find(&name) {
                    let known = names.entry(child.snapshot().id.clone()).or_default();
                    known.push(format!("{}/{alias}", parent.name));
                }
            }
        }
        names
    }

    /// Returns a container's links as docker shows them, `/child:/parent/alias`; those to removed containers are gone.
    pub fn shown_links(&self, container: &Container) -> Vec<String> {
        let host = &container.host_config;
        if is_user_defined(&host.network_mode) {
            return Vec::new();
        }
        let links = host.links.iter().flat_map(|link| parse(link));
        links
            .filter_map(|(name, alias)| {
                let child = self.containers.find(&name).ok()?.snapshot();
                Some(format!("/{}:/{}/{alias}", child.name, container.name))
            })
            .collect()
    }

    /// Removes a link, `parent/alias`; both containers stay.
    ///
    /// # Errors
    /// Docker's texts for a container's own name and for a link that is not there.
    pub async fn remove_link(self: &Arc<Self>, name: &str) -> Result<()> {
        let name = name.trim_start_matches('/');
        self.containers.find(name)?;
        let Some((parent, alias)) = name.rsplit_once('/') else {
            return Err(EngineError::internal(
                "Conflict, cannot remove the default link name of the container",
            ));
        };
        let entry = self.containers.find(parent)?;
        let _operation = entry.operation.lock().await;
        let container = entry.change(|container| {
            let is_other = |link: &String| parse(link).map_or(true, |(_, own)| own != alias);
            container.host_config.links.retain(is_other);
        });
        let alias = alias.to_owned();
        self.with_store(move |engine| {
            engine.persist(&container)?;
            if !container.is_running() {
                return Ok(());
            }
            forget_alias(&container, &alias)?;
            engine.allow_links(&container)
        })
        .await
    }

    /// Returns the running containers that a container is linked to, with their aliases; a link to one that was
    /// removed is no more.
    ///
    /// # Errors
    /// Docker's text for one that does not run.
    pub(crate) fn linked(&self, container: &Container) -> Result<Vec<(String, Arc<Container>)>> {
        let host = &container.host_config;
        if is_user_defined(&host.network_mode) {
            return Ok(Vec::new());
        }
        host.links
            .iter()
            .filter_map(|link| {
                let (name, alias) = parse(link).ok()?;
                let child = self.containers.find(&name).ok()?.snapshot();
                Some((alias, child))
            })
            .map(|(alias, child)| {
                if !child.is_running() {
                    return Err(EngineError::internal(format!(
                        "Cannot link to a non running container: /{} AS /{}/{alias}",
                        child.name, container.name
                    )));
                }
                if !child.networks.contains_key(DEFAULT_NETWORK) {
                    return Err(EngineError::internal(format!(
                        "Cannot link to /{}, as it does not belong to the default network",
                        child.name
                    )));
                }
                Ok((alias, child))
            })
            .collect()
    }

    /// Returns the variables that tell a container of those it is linked to.
    pub(crate) fn link_environment(&self, container: &Container) -> Result<Vec<String>> {
        let linked = self.linked(container)?;
        Ok(linked
            .iter()
            .flat_map(|(alias, child)| environment(&container.name, alias, child))
            .collect())
    }

    /// Returns the lines of `/etc/hosts` for those a container is linked to.
    pub(crate) fn link_records(&self, container: &Container) -> Result<Vec<HostRecord>> {
        let linked = self.linked(container)?;
        Ok(linked
            .iter()
            .filter_map(|(alias, child)| {
                let own = child.networks.get(DEFAULT_NETWORK)?;
                let mut names = format!("{alias} {}", child.config.hostname);
                if *alias != child.name {
                    names.push(' ');
                    names.push_str(&child.name);
                }
                Some(HostRecord {
                    address: own.address.parse().ok()?,
                    names,
                })
            })
            .collect())
    }

    /// Opens the way of a starting container to those it is linked to, and tells those that are
    /// linked to it where it is now.
    pub(super) fn link(&self, entry: &Entry) -> Result<()> {
        let container = entry.snapshot();
        let Some(own) = container.networks.get(DEFAULT_NETWORK) else {
            return Ok(());
        };
        self.allow_links(&container)?;
        if let Ok(address) = own.address.parse() {
            self.tell_parents(&container, address);
        }
        Ok(())
    }

    /// Opens the way to those a container is linked to, and to nobody else.
    fn allow_links(&self, container: &Container) -> Result<()> {
        let linked = self.linked(container)?;
        let own = container.networks.get(DEFAULT_NETWORK);
        let Some(own) = own.filter(|_| self.keeps_apart()) else {
            return Ok(());
        };
        let from: Option<std::net::Ipv4Addr> = own.address.parse().ok();
        let allowed = linked
            .iter()
            .flat_map(|(_, child)| allowed(from, child))
            .collect();
        self.network
            .set_links(&container.id, allowed)
            .map_err(super::network_error)
    }

    fn keeps_apart(&self) -> bool {
        self.networks.find(DEFAULT_NETWORK).is_ok_and(|bridge| {
            bridge
                .options
                .get("com.docker.network.bridge.enable_icc")
                .is_some_and(|value| value == "false")
        })
    }

    /// Changes the address of a container in the hosts files of those that are linked to it.
    fn tell_parents(&self, child: &Container, address: IpAddr) {
        for parent in self.containers.snapshots() {
            if !parent.is_running() || parent.host_config.links.is_empty() {
                continue;
            }
            for link in &parent.host_config.links {
                let Ok((name, alias)) = parse(link) else {
                    continue;
                };
                let is_child = self
                    .containers
                    .find(&name)
                    .is_ok_and(|found| found.snapshot().id == child.id);
                if is_child && let Err(error) = move_alias(&parent, &alias, address) {
                    self.events.emit(
                        "daemon",
                        "error",
                        &self.id,
                        [("message", error.message().to_owned())],
                    );
                }
            }
        }
    }
}

/// Writes a linked container's new address over its old one.
fn move_alias(parent: &Container, alias: &str, address: IpAddr) -> Result<()> {
    change_alias(parent, alias, |names| format!("{address}\t{names}\n"))
}

/// Takes a linked container out of the hosts file.
fn forget_alias(parent: &Container, alias: &str) -> Result<()> {
    change_alias(parent, alias, |_| String::new())
}

/// Puts other text in the place of the line of an alias, made from the names on it.
fn change_alias(parent: &Container, alias: &str, line_of: impl Fn(&str) -> String) -> Result<()> {
    let path = Path::new(&parent.directory).join("hosts");
    let text = trusted::read_to_string(&path, MAX_HOSTS_BYTES)
        .map_err(fs_error("cannot read a hosts file"))?;
    let mut changed = String::with_capacity(text.len());
    for line in text.lines() {
        match line.split_once('\t') {
            Some((_, names)) if names.split(' ').next() == Some(alias) => {
                changed.push_str(&line_of(names));
            }
            _ => {
                changed.push_str(line);
                changed.push('\n');
            }
        }
    }
    super::names::overwrite(&path, &changed)
        .map_err(|error| EngineError::new(ErrorKind::Internal, error.message().to_owned()))
}

fn allowed(from: Option<std::net::Ipv4Addr>, child: &Container) -> Vec<AllowedLink> {
    let to = child
        .networks
        .get(DEFAULT_NETWORK)
        .and_then(|own| own.address.parse().ok());
    let (Some(from), Some(to)) = (from, to) else {
        return Vec::new();
    };
    ports(child)
        .into_iter()
        .filter_map(|(protocol, port)| {
            Some(AllowedLink {
                from,
                to,
                protocol: Protocol::from_name(&protocol)?,
                port,
            })
        })
        .collect()
}

/// Returns the exposed ports of a container, those of TCP first.
fn ports(container: &Container) -> Vec<(String, u16)> {
    let mut ports: Vec<(String, u16)> = container
        .config
        .exposed_ports
        .keys()
        .filter_map(|port| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            Some((protocol.to_owned(), number.parse().ok()?))
        })
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    ports.sort_by_key(|(protocol, port)| (protocol != "tcp", protocol.clone(), *port));
    ports
}

/// Returns the variables of one link.
fn environment(parent: &str, alias: &str, child: &Container) -> Vec<String> {
    let prefix = alias.to_uppercase().replace('-', "_");
    let address = child
        .networks
        .get(DEFAULT_NETWORK)
        .map(|own| own.address.clone())
        .unwrap_or_default();
    let ports = ports(child);
    let mut variables = Vec::new();
    if let Some((protocol, port)) = ports.first() {
        variables.push(format!("{prefix}_PORT={protocol}://{address}:{port}"));
    }
    let named = |(protocol, port): &(String, u16)| {
        format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase())
    };
    let mut run = 0;
    for (index, port) in ports.iter().enumerate() {
        let (protocol, number) = port;
        let name = named(port);
        variables.push(format!("{name}={protocol}://{address}:{number}"));
        variables.push(format!("{name}_ADDR={address}"));
        variables.push(format!("{name}_PORT={number}"));
        variables.push(format!("{name}_PROTO={protocol}"));
        let next = ports.get(index + 1);
        let goes_on = next.is_some_and(|(next_protocol, next)| {
            next_protocol == protocol && number.checked_add(1) == Some(*next)
        });
        if goes_on {
            continue;
        }
        if let Some(first) = ports.get(run).filter(|_| run < index) {
            let start = named(first);
            let (first_protocol, first_number) = first;
            variables.push(format!(
                "{start}_START={first_protocol}://{address}:{first_number}"
            ));
            variables.push(format!("{start}_PORT_START={first_number}"));
            variables.push(format!("{start}_END={protocol}://{address}:{number}"));
            variables.push(format!("{start}_PORT_END={number}"));
        }
        run = index + 1;
    }
    variables.push(format!("{prefix}_NAME=/{parent}/{alias}"));
    for variable in &child.config.env {
        if let Some((name, value)) = variable.split_once('=')
            && !matches!(name, "HOME" | "PATH")
        {
            variables.push(format!("{prefix}_ENV_{name}={value}"));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::NetworkEndpoint;

    #[test]
    fn links_are_read_in_all_forms() {
        let read = |text: &str| parse(text).map_err(|error| error.message().to_owned());
        assert_eq!(read("db:database"), Ok(("db".into(), "database".into())));
        assert_eq!(read("db"), Ok(("db".into(), "db".into())));
        assert_eq!(
            read("/db:/web/database"),
            Ok(("db".into(), "database".into()))
        );
        for bad in ["", ":x", "a:", "a:b:c"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_tell_of_ports_and_environment() {
        let mut child = Container {
            name: "db".into(),
            networks: [(
                DEFAULT_NETWORK.to_owned(),
                NetworkEndpoint {
                    address: "172.17.0.2".into(),
                    ..NetworkEndpoint::default()
                },
            )]
            .into(),
            ..Container::default()
        };
        child.config.env = vec!["PATH=/bin".into(), "USER=me".into()];
        child.config.exposed_ports = ["53/udp", "5432/tcp", "5433/tcp"]
            .map(|port| (port.to_owned(), wharf_image::Empty {}))
            .into();
        let variables = environment("web", "my-db", &child);
        for expected in [
            "MY_DB_PORT=tcp://172.17.0.2:5432",
            "MY_DB_PORT_5433_TCP_ADDR=172.17.0.2",
            "MY_DB_PORT_5432_TCP_PORT_END=5433",
            "MY_DB_PORT_53_UDP_PROTO=udp",
            "MY_DB_NAME=/web/my-db",
            "MY_DB_ENV_USER=me",
        ] {
            assert!(
                variables.iter().any(|one| one == expected),
                "{expected} in {variables:?}"
            );
        }
        assert!(!variables.iter().any(|one| one.contains("_ENV_PATH")));
    }
}
