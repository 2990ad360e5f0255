//! Where the daemon listens, who may use its sockets for what, and the files for TLS.

use crate::daemon::file::{Layer, Listen, PolicyTable};
use std::collections::BTreeMap;
use std::path::PathBuf;
use wharf_api::{Policy, PolicyOptions, TlsFiles};
use wharf_cli::DEFAULT_SOCKET;

/// Where docker's own clients look.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// Group that may use the sockets when none is named, as with docker.
const DEFAULT_GROUP: &str = "docker";

/// A socket to listen on.
#[derive(Debug, Clone, PartialEq)]
pub struct SocketSetting {
    pub address: Address,
    pub policy: Policy,
    pub group: Group,
}

/// The group of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// Named by the user: must exist.
    Named(String),
    /// The usual one, if it exists.
    Usual(&'static str),
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    Tcp(String),
    /// Sockets passed by the service manager: all, or those of one name or number.
    Passed(String),
}

/// Returns the sockets to listen on: the usual one where none is named.
pub(super) fn sockets(layer: &Layer) -> Result<Vec<SocketSetting>, String> {
    let policies = layer.policy.clone().unwrap_or_default();
    let group = match &layer.group {
        Some(name) => Group::Named(name.clone()),
        None => Group::Usual(DEFAULT_GROUP),
    };
    let from_hosts = layer.hosts.iter().flatten().map(|host| {
        let (address, policy) = match host.split_once("?policy=") {
            Some((address, policy)) => (address, Some(policy.to_owned())),
            None => (host.as_str(), None),
        };
        Listen {
            address: address.to_owned(),
            policy,
            group: None,
        }
    });
    let mut listens: Vec<Listen> = from_hosts
        .chain(layer.listen.iter().flatten().cloned())
        .collect();
    if listens.is_empty() {
        let has_passed = crate::daemon::sockets::has_passed();
        listens.push(Listen {
            address: if has_passed {
                "fd://".to_owned()
            } else {
                format!("unix://{DEFAULT_SOCKET}")
            },
            policy: None,
            group: None,
        });
    }
    if layer.docker_socket == Some(true) {
        listens.push(Listen {
            address: format!("unix://{DOCKER_SOCKET}"),
            policy: None,
            group: None,
        });
    }
    let has_tls = layer.tls != Some(false) && (layer.tls.is_some() || layer.tlsverify.is_some());
    listens
        .into_iter()
        .map(|listen| {
            Ok(SocketSetting {
                address: parse_address(&listen.address, has_tls)?,
                policy: find_policy(listen.policy.as_deref(), &policies)?,
                group: listen.group.map_or_else(|| group.clone(), Group::Named),
            })
        })
        .collect()
}

/// Returns the files for TLS; none where no socket has it.
pub(super) fn tls(layer: &Layer, has_tcp: bool) -> Option<TlsFiles> {
    let verifies = layer.tlsverify == Some(true);
    let wants = verifies || layer.tls == Some(true) || layer.tlscacert.is_some();
    if layer.tls == Some(false) || !wants || !has_tcp {
        return None;
    }
    let directory = std::env::var_os("DOCKER_CERT_PATH").map_or_else(
        || {
            let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
            PathBuf::from(home).join(".docker")
        },
        PathBuf::from,
    );
    let or_usual =
        |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| directory.join(name));
    Some(TlsFiles {
        client_ca: verifies.then(|| or_usual(&layer.tlscacert, "ca.pem")),
        certificate: or_usual(&layer.tlscert, "cert.pem"),
        key: or_usual(&layer.tlskey, "key.pem"),
    })
}

/// Returns the policy of a name: one that is defined, or a preset; everything is allowed without a name.
fn find_policy(
    name: Option<&str>,
    tables: &BTreeMap<String, PolicyTable>,
) -> Result<Policy, String> {
    let Some(name) = name else {
        return Ok(Policy::full());
    };
    if let Some(table) = tables.get(name) {
        let options = PolicyOptions {
            allow: table.allow.clone(),
            label: table.label.clone(),
            host_access: table.host_access,
        };
        return Policy::new(&options).map_err(|error| format!("policy {name}: {error}"));
    }
    Policy::preset(name).ok_or_else(|| {
        format!(
            "policy {name:?} is neither defined nor one of full, read-only, traefik, watchtower, ci"
        )
    })
}

/// Reads an address as `--host` takes it.
fn parse_address(url: &str, has_tls: bool) -> Result<Address, String> {
    if let Some(rest) = url.strip_prefix("tcp://") {
        let rest = rest.trim_end_matches('/');
        let port = if has_tls { 2376 } else { 2375 };
        let has_port = rest.rsplit_once(':').is_some_and(|(host, port)| {
            port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
        });
        let address = match rest {
            "" => format!("127.0.0.1:{port}"),
            _ if has_port && rest.starts_with(':') => format!("127.0.0.1{rest}"),
            _ if has_port => rest.to_owned(),
            host => format!("{host}:{port}"),
        };
        return Ok(Address::Tcp(address));
    }
    if let Some(name) = url.strip_prefix("fd://") {
        let name = if name == "*" { "" } else { name };
        return Ok(Address::Passed(name.to_owned()));
    }
    let path = match url.strip_prefix("unix://") {
        Some("") => DEFAULT_SOCKET,
        Some(path) => path,
        None => url,
    };
    if path.starts_with('/') {
        return Ok(Address::Unix(path.into()));
    }
    Err(format!(
        "cannot listen on {url:?}: expected unix:///PATH, tcp://HOST:PORT or fd://"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, expected) in [
            ("unix:///a", Address::Unix("/a".into())),
            ("/a", Address::Unix("/a".into())),
            ("unix://", Address::Unix(DEFAULT_SOCKET.into())),
            ("tcp://", Address::Tcp("127.0.0.1:2375".into())),
            ("tcp://:99", Address::Tcp("127.0.0.1:99".into())),
            ("tcp://h", Address::Tcp("h:2375".into())),
            ("tcp://h:1/", Address::Tcp("h:1".into())),
            ("tcp://[::1]:1", Address::Tcp("[::1]:1".into())),
            ("tcp://[::1]", Address::Tcp("[::1]:2375".into())),
            ("fd://", Address::Passed(String::new())),
            ("fd://web", Address::Passed("web".into())),
        ] {
            assert_eq!(parse_address(url, false), Ok(expected), "{url}");
        }
        assert_eq!(
            parse_address("tcp://h", true),
            Ok(Address::Tcp("h:2376".into()))
        );
        assert!(parse_address("npipe://x", false).is_err());
        assert!(parse_address("relative", false).is_err());
    }
}
