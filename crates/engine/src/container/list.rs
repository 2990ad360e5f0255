//! Listing containers (spec engine-api §6.3).

use crate::engine::{Engine, in_place};
use crate::error::{EngineError, Result};
use crate::filters::{self, values};
use crate::model::container::{Container, Status};
use crate::model::request::{Filters, ListContainers};
use crate::model::view::ContainerSummary;
use std::collections::HashMap;
use std::sync::Arc;
use wharf_image::ImageId;
use wharf_units::{Port, PortRange};

/// Words of the filter `status`.
const STATES: [&str; 7] = [
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];
/// Words of the filter `health`.
const HEALTH_STATES: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

const KNOWN_FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "is-task",
    // Of other systems: taken, and all containers here are alike.
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

impl Engine {
    /// Returns a container's snapshot.
    ///
    /// # Errors
    /// Docker's texts when none or several match.
    pub fn container(&self, name_or_id: &str) -> Result<Arc<Container>> {
        Ok(self.containers.find(name_or_id)?.snapshot())
    }

    /// Lists containers, newest first; without their sizes, which take long.
    ///
    /// # Errors
    /// Unknown filters and values.
    pub fn list_containers(&self, request: &ListContainers) -> Result<Vec<ContainerSummary>> {
        filters::allow(&request.filters, &KNOWN_FILTERS)?;
        let chosen = Chosen::new(self, &request.filters)?;
        let mut containers = self.containers.snapshots();
        containers.sort_by(|a, b| {
            b.created_at_ns
                .cmp(&a.created_at_ns)
                .then_with(|| a.id.cmp(&b.id))
        });
        let all = request.all
            || request.limit > 0
            || request.filters.contains_key("status")
            || chosen.around;
        containers.retain(|container| {
            (all || container.is_running() || container.state.status == Status::Restarting)
                && chosen.accepts(container)
        });
        if request.limit > 0 {
            containers.truncate(request.limit);
        }
        // Many containers share an image: each name is looked up once.
        let mut named: HashMap<String, Option<ImageId>> = HashMap::new();
        let mut link_names = self.link_names();
        let summaries = containers.into_iter().map(|container| {
            let given = &container.config.image;
            let current = *named
                .entry(given.clone())
                .or_insert_with(|| self.find_image(given).ok().map(|image| image.id));
            let image = match container.image_id {
                Some(id) if current != Some(id) => id.to_string(),
                _ => given.clone(),
            };
            ContainerSummary {
                link_names: link_names.remove(&container.id).unwrap_or_default(),
                container,
                image,
                size_bytes: None,
            }
        });
        Ok(in_place(|| summaries.collect()))
    }

    /// Measures a container: bytes of its own files, and these plus its image's.
    ///
    /// # Errors
    /// A disk that cannot be read.
    pub async fn container_sizes(self: &Arc<Self>, id: &str) -> Result<(u64, u64)> {
        let container = self.container(id)?;
        let sizes = {
            let container = Arc::clone(&container);
            self.with_store(move |engine| engine.sizes(&container))
                .await
        };
        self.unless_removed(id, &container, sizes)
    }

    fn sizes(&self, container: &Container) -> Result<(u64, u64)> {
        let own = wharf_safefs::trusted::disk_usage(crate::sizes::upper_of(container))
            .map_err(super::create::fs_error("cannot measure the container"))?;
        self.with_layers(container, own.apparent_bytes)
    }

    /// Measures a container as rarely as the disk usage needs it.
    pub(crate) fn recent_sizes(&self, container: &Container) -> Result<(u64, u64)> {
        let upper = crate::sizes::upper_of(container);
        let own = self.sizes.of(&upper, container.is_running())?;
        self.with_layers(container, own.apparent_bytes)
    }

    fn with_layers(&self, container: &Container, own_bytes: u64) -> Result<(u64, u64)> {
        let mut total = own_bytes;
        for diff_id in &container.diff_ids {
            let layer = self
                .store
                .layer(diff_id)
                .map_err(super::create::store_error("cannot read layers"))?;
            total += layer.map_or(0, |layer| layer.size_bytes);
        }
        Ok((own_bytes, total))
    }
}

/// The filters of one list call, resolved.
struct Chosen<'a> {
    filters: &'a Filters,
    ancestors: Option<Vec<ImageId>>,
    before_ns: Option<i64>,
    since_ns: Option<i64>,
    around: bool,
    exited: Vec<i32>,
    tasks_only: bool,
    networks: Vec<String>,
}

/// Checks a filter that takes certain words only.
fn one_of(filters: &Filters, key: &str, what: &str, words: &[&str]) -> Result<()> {
    match values(filters, key)
        .iter()
        .find(|value| !words.contains(&value.as_str()))
    {
        Some(value) => Err(EngineError::invalid(format!(
            "invalid filter '{key}={value}': invalid value for {what} ({value}): must be one of {}",
            words.join(", ")
        ))),
        None => Ok(()),
    }
}

impl<'a> Chosen<'a> {
    fn new(engine: &Engine, filters: &'a Filters) -> Result<Self> {
        one_of(filters, "status", "state", &STATES)?;
        one_of(filters, "health", "health", &HEALTH_STATES)?;
        // Tasks are of swarms: no container is one.
        let is_task = filters::flag(filters, "is-task")?;
        for (key, what) in [("publish", "publish"), ("expose", "expose")] {
            for range in values(filters, key) {
                PortRange::parse(range).map_err(|error| {
                    EngineError::internal(format!(
                        "error while looking up for {what} {range}: {error}"
                    ))
                })?;
            }
        }
        let exited = values(filters, "exited")
            .iter()
            .map(|code| {
                code.parse()
                    .map_err(|_| {
                        EngineError::invalid(format!(
                            "invalid filter 'exited={code}': strconv.Atoi: parsing {code:?}: invalid syntax"
                        ))
                    })
            })
            .collect::<Result<_>>()?;
        let created = |key: &str| match values(filters, key) {
            [] => Ok(None),
            [name, ..] => engine
                .container(name)
                .map(|container| Some(container.created_at_ns)),
        };
        let (before_ns, since_ns) = (created("before")?, created("since")?);
        let ancestors = filters
            .get("ancestor")
            .map(|names| engine.with_descendants(names));
        let networks = values(filters, "network").to_vec();
        Ok(Self {
            filters,
            ancestors,
            around: before_ns.is_some() || since_ns.is_some(),
            before_ns,
            since_ns,
            exited,
            tasks_only: is_task == Some(true),
            networks,
        })
    }

    fn accepts(&self, container: &Container) -> bool {
        let any = |key: &str, test: &dyn Fn(&str) -> bool| {
            let wanted = values(self.filters, key);
            wanted.is_empty() || wanted.iter().any(|value| test(value))
        };
        let health = container
            .state
            .health
            .as_ref()
            .map_or("none", |health| health.status.as_str());
        self.before_ns
            .is_none_or(|before| container.created_at_ns < before)
            && self
                .since_ns
                .is_none_or(|since| container.created_at_ns > since)
            && any("id", &|value| {
                container.id.starts_with(value) || container.id.contains(value)
            })
            && any("name", &|value| name_matches(value, &container.name))
            && any("status", &|value| container.state.status.as_str() == value)
            && any("health", &|value| health == value)
            && !self.tasks_only
            && any("volume", &|value| {
                container.mounts.iter().any(|mount| {
                    mount.name == value || mount.destination == value || mount.source == value
                })
            })
            && self.ports_match(container)
            && (self.networks.is_empty()
                || self.networks.iter().any(|wanted| {
                    container.networks.iter().any(|(name, endpoint)| {
                        name == wanted || endpoint.network_id.starts_with(wanted)
                    })
                }))
            && (self.exited.is_empty()
                || (!container.is_running()
                    && container.state.started_at_ns != 0
                    && self.exited.contains(&container.state.exit_code)))
            && self
                .ancestors
                .as_ref()
                .is_none_or(|images| container.image_id.is_some_and(|id| images.contains(&id)))
            && filters::labels_match(self.filters, &container.config.labels)
    }
}

impl Chosen<'_> {
    /// Matches the filters `publish`, by a port of the host, and `expose`, by a port of the container: one of them is
    /// enough where both are given. Containers that do not run have no ports.
    fn ports_match(&self, container: &Container) -> bool {
        let (published, exposed) = (
            values(self.filters, "publish"),
            values(self.filters, "expose"),
        );
        if published.is_empty() && exposed.is_empty() {
            return true;
        }
        if !container.is_running() {
            return false;
        }
        let any = |wanted: &[String], port: &Port| {
            wanted
                .iter()
                .filter_map(|range| PortRange::parse(range).ok())
                .any(|range| range.contains(port))
        };
        let bound = container.published_ports.iter().any(|port| {
            let of = |number| Port {
                number,
                protocol: port.protocol.clone(),
            };
            any(published, &of(port.host_port)) || any(exposed, &of(port.container_port))
        });
        let mut only_exposed = container
            .config
            .exposed_ports
            .keys()
            .filter_map(|port| Port::parse(port).ok());
        bound || only_exposed.any(|port| any(exposed, &port))
    }
}

/// Matches a name filter: exact, or found anywhere; `^` and `$` anchor it, as users write it.
///
/// As docker does, the name is tried with and without its leading slash.
fn name_matches(pattern: &str, name: &str) -> bool {
    let with_slash = format!("/{name}");
    crate::name_pattern::search(pattern, name) || crate::name_pattern::search(pattern, &with_slash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::PublishedPort;

    #[test]
    fn ports_are_matched_at_the_host_and_in_the_container() {
        let mut container = Container::default();
        container.published_ports.push(PublishedPort {
            container_port: 80,
            protocol: "tcp".into(),
            host_ip: "0.0.0.0".into(),
            host_port: 8080,
        });
        for port in ["80/tcp", "53/udp"] {
            let ports = &mut container.config.exposed_ports;
            ports.insert(port.to_owned(), Default::default());
        }
        let mut stopped = container.clone();
        stopped.state.status = Status::Exited;
        container.state.status = Status::Running;
        for (wanted, expected) in [
            (&[("publish", "8080")][..], true),
            (&[("publish", "8000-8100/tcp")], true),
            (&[("publish", "8080/udp")], false),
            (&[("publish", "80")], false),
            (&[("expose", "80")], true),
            (&[("expose", "53/udp")], true),
            (&[("expose", "8080")], false),
            (&[("publish", "1"), ("expose", "80")], true),
            (&[], true),
        ] {
            let filters: Filters = wanted
                .iter()
                .map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()]))
                .collect();
            let chosen = Chosen {
                filters: &filters,
                ancestors: None,
                before_ns: None,
                since_ns: None,
                around: false,
                exited: Vec::new(),
                tasks_only: false,
                networks: Vec::new(),
            };
            assert_eq!(chosen.ports_match(&container), expected, "{wanted:?}");
            assert_eq!(chosen.ports_match(&stopped), wanted.is_empty());
        }
    }
}
