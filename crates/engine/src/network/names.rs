//! Names on networks: a container's own, its resolver, and its name files while networks change.

use super::is_user_defined;
use crate::container::create::fs_error;
use crate::container::files;
use crate::error::Result;
use crate::model::container::{Container, NetworkEndpoint};
use crate::model::network::Network;
use crate::model::request::EndpointRequest;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use wharf_network::{ResolverRequest, Upstream};
use wharf_safefs::trusted;

/// Largest name file that is changed, in bytes.
const MAX_NAME_FILE_BYTES: u64 = 1024 * 1024;

/// Returns the names of a container on a network, its own first; none on the default bridge
/// (spec runtime §8.4).
pub(super) fn dns_names(
    container: &Container,
    network: &Network,
    endpoint: &NetworkEndpoint,
) -> Vec<String> {
    if !is_user_defined(&network.name) {
        return Vec::new();
    }
    let mut names: Vec<String> = Vec::new();
    let all = std::iter::once(container.name.as_str())
        .chain(endpoint.request.aliases.iter().map(String::as_str))
        .chain([container.short_id(), container.config.hostname.as_str()]);
    for name in all.filter(|name| !name.is_empty()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Returns the private names that an endpoint's links give: alias to name.
pub(super) fn private_names(request: &EndpointRequest) -> BTreeMap<String, String> {
    request
        .links
        .iter()
        .map(|link| {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            (
                alias.trim_start_matches('/').to_owned(),
                name.trim_start_matches('/').to_owned(),
            )
        })
        .collect()
}

/// Tells whether a container's names are answered at 127.0.0.11.
pub(crate) fn has_resolver(container: &Container) -> bool {
    container.networks.keys().any(|name| is_user_defined(name))
}

/// Says how a container wants its names answered.
pub(super) fn resolver_request(container: &Container) -> Result<ResolverRequest> {
    let host = &container.host_config;
    let upstream = if host.dns.is_empty() {
        Upstream::Host
    } else {
        Upstream::Container(files::name_servers(host)?)
    };
    let options = if host.dns_options.is_empty() {
        host_options()
    } else {
        host.dns_options.clone()
    };
    let ndots_set = options.iter().any(|option| {
        option
            .strip_prefix("ndots:")
            .and_then(|number| number.parse::<u32>().ok())
            .is_some_and(|number| number > 0)
    });
    Ok(ResolverRequest {
        upstream,
        ndots_set,
        ports: container.resolver,
    })
}

fn host_options() -> Vec<String> {
    files::host_resolv_conf()
        .lines()
        .filter_map(|line| line.trim().strip_prefix("options"))
        .flat_map(str::split_ascii_whitespace)
        .map(str::to_owned)
        .collect()
}

/// Brings a running container's name files in line with its networks: lines of addresses it has no
/// more go, lines of new ones come, and its resolver file changes when it gets a resolver. What the
/// container itself has written stays.
pub(super) fn networks_changed(before: &Container, after: &Container) -> Result<()> {
    let directory = Path::new(&after.directory);
    let old = files::own_records(before);
    let new = files::own_records(after);
    rewrite(&directory.join("hosts"), |text| {
        let gone = |line: &str| {
            old.iter().any(|record| {
                !new.contains(record) && line == format!("{}\t{}", record.address, record.names)
            })
        };
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !gone(line))
            .map(str::to_owned)
            .collect();
        for record in new.iter().filter(|record| !old.contains(record)) {
            lines.push(format!("{}\t{}", record.address, record.names));
        }
        let mut text = lines.join("\n");
        text.push('\n');
        text
    })?;
    if has_resolver(before) || !has_resolver(after) {
        return Ok(());
    }
    let (untouched, wanted) = (files::resolv_conf(before)?, files::resolv_conf(after)?);
    rewrite(&directory.join("resolv.conf"), |text| {
        if text == untouched {
            wanted
        } else {
            text.to_owned()
        }
    })
}

/// Changes a file in place: it is mounted in the container, which would keep seeing the old one if
/// another took its name.
fn rewrite(path: &Path, change: impl FnOnce(&str) -> String) -> Result<()> {
    let text = trusted::read_to_string(path, MAX_NAME_FILE_BYTES)
        .map_err(fs_error("cannot read a name file"))?;
    let changed = change(&text);
    if changed == text {
        return Ok(());
    }
    overwrite(path, &changed)
}

/// Writes a file's new text over its old one.
pub(super) fn overwrite(path: &Path, changed: &str) -> Result<()> {
    let failed = |e: std::io::Error| {
        crate::error::EngineError::wrap(
            crate::error::ErrorKind::Internal,
            "cannot change a name file",
            e,
        )
    };
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    let mut file =
        trusted::open_with(path, &options).map_err(fs_error("cannot open a name file"))?;
    // Longer than before: written in one call, so that a reader sees the old or the new start.
    file.write_all_at(changed.as_bytes(), 0).map_err(failed)?;
    file.set_len(changed.len() as u64).map_err(failed)?;
    file.flush().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_dockers_order_without_repetition() {
        let mut container = Container {
            id: "0123456789abcdef".repeat(4),
            name: "web".into(),
            ..Container::default()
        };
        container.config.hostname = "web".into();
        let endpoint = NetworkEndpoint {
            request: EndpointRequest {
                aliases: vec!["www".into(), "web".into()],
                ..EndpointRequest::default()
            },
            ..NetworkEndpoint::default()
        };
        let on = |name: &str| {
            let network = Network {
                name: name.into(),
                ..Network::default()
            };
            dns_names(&container, &network, &endpoint)
        };
        assert_eq!(on("front"), ["web", "www", "0123456789ab"]);
        assert!(on("bridge").is_empty());
    }

    #[test]
    fn links_are_names_with_aliases() {
        let request = EndpointRequest {
            links: vec!["db:database".into(), "/cache".into()],
            ..EndpointRequest::default()
        };
        let names = private_names(&request);
        assert_eq!(names["database"], "db");
        assert_eq!(names["cache"], "cache");
    }
}
