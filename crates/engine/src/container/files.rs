//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container (spec runtime §5).

use super::create::fs_error;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::container::Container;
use crate::model::host_config::HostConfig;
use crate::values;
use std::path::Path;
use wharf_network::files::{
    HostRecord, Nameserver, ResolvMode, ResolvOverrides, hostname_text, hosts_text,
    resolv_conf as resolv_conf_text,
};
use wharf_safefs::trusted;

/// Largest host file that is read, in bytes.
const MAX_HOST_FILE_BYTES: u64 = 1024 * 1024;

/// Writes the three files into the container's directory, or takes over those of the container whose
/// network is shared.
pub(crate) fn write(
    engine: &Engine,
    container: &Container,
    joined: Option<&Container>,
) -> Result<()> {
    let directory = Path::new(&container.directory);
    if let Some(other) = joined {
        for name in ["hosts", "hostname", "resolv.conf"] {
            let bytes =
                trusted::read_limited(Path::new(&other.directory).join(name), MAX_HOST_FILE_BYTES)
                    .map_err(fs_error("cannot read the joined container's name files"))?;
            put(directory, name, &bytes)?;
        }
        return Ok(());
    }
    put(
        directory,
        "hostname",
        hostname_text(&container.config.hostname).as_bytes(),
    )?;
    put(directory, "hosts", hosts(engine, container)?.as_bytes())?;
    put(directory, "resolv.conf", resolv_conf(container)?.as_bytes())
}

fn put(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    trusted::write_atomic(directory.join(name), bytes, 0o644, false)
        .map_err(fs_error("cannot write the container's name files"))
}

fn hosts(engine: &Engine, container: &Container) -> Result<String> {
    let host = &container.host_config;
    if host.network_mode == "host" && host.extra_hosts.is_empty() {
        let bytes =
            trusted::read_limited(Path::new("/etc/hosts"), MAX_HOST_FILE_BYTES).unwrap_or_default();
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    let mut records = extra_hosts(engine, &host.extra_hosts)?;
    records.extend(engine.link_records(container)?);
    records.extend(own_records(container));
    Ok(hosts_text(&records, has_ipv6(host)))
}

/// Says whether the container has the loopback address of IPv6: every network namespace has, unless the
/// kernel knows no IPv6 or the container asks for none.
fn has_ipv6(host: &HostConfig) -> bool {
    let is_off = |name: &str| {
        let value = host
            .sysctls
            .get(&format!("net.ipv6.conf.{name}.disable_ipv6"));
        value.is_some_and(|value| value != "0")
    };
    trusted::symlink_metadata("/proc/sys/net/ipv6").is_ok() && !is_off("all") && !is_off("lo")
}

/// Returns the lines of a container's own addresses.
pub(crate) fn own_records(container: &Container) -> Vec<HostRecord> {
    let config = &container.config;
    let mut names = config.hostname.clone();
    if !config.domainname.is_empty() {
        names = format!("{names}.{}", config.domainname);
    }
    if let Some((short, _)) = names.split_once('.') {
        names = format!("{names} {short}");
    }
    container
        .networks
        .values()
        .flat_map(|endpoint| [&endpoint.address, &endpoint.ipv6_address])
        .filter_map(|address| address.parse().ok())
        .map(|address| HostRecord {
            address,
            names: names.clone(),
        })
        .collect()
}

/// Turns `host:ip` lines into records; `host-gateway` is the bridge's address.
pub(crate) fn extra_hosts(engine: &Engine, lines: &[String]) -> Result<Vec<HostRecord>> {
    let mut records = Vec::with_capacity(lines.len());
    for line in lines {
        let (name, address) = values::parse_extra_host(line)?;
        if address == values::HOST_GATEWAY {
            let gateways = host_gateways(engine)?.into_iter();
            records.extend(gateways.map(|address| HostRecord {
                address,
                names: name.to_owned(),
            }));
            continue;
        }
        // The file has no place for the interface of an IPv6 address.
        let bare = address.split('%').next().unwrap_or(address);
        let address = bare.parse().map_err(|_| {
            EngineError::invalid(format!("invalid IP address in add-host: {address:?}"))
        })?;
        records.push(HostRecord {
            address,
            names: name.to_owned(),
        });
    }
    Ok(records)
}

/// Returns the addresses that reach the host: those that are set, else the default bridge's.
fn host_gateways(engine: &Engine) -> Result<Vec<std::net::IpAddr>> {
    let settings = engine.settings();
    if !settings.network.host_gateways.is_empty() {
        return Ok(settings.network.host_gateways.clone());
    }
    let bridge = engine.network("bridge").ok().map(|view| view.network);
    bridge
        .as_ref()
        .and_then(|bridge| bridge.config.as_ref())
        .and_then(|config| config.pools.first())
        .and_then(|pool| pool.gateway)
        .map(|gateway| vec![gateway])
        .ok_or_else(|| EngineError::internal("unable to derive the IP value for host-gateway"))
}

/// Returns the name servers that a container's user chose.
pub(crate) fn name_servers(
    host: &crate::model::host_config::HostConfig,
) -> Result<Vec<Nameserver>> {
    host.dns
        .iter()
        .map(|server| {
            server.parse().map_err(|_| {
                EngineError::invalid(format!("invalid DNS server address: {server:?}"))
            })
        })
        .collect()
}

/// Returns the text of a container's resolver file.
pub(crate) fn resolv_conf(container: &Container) -> Result<String> {
    let host = &container.host_config;
    let mode = if crate::network::has_resolver(container) {
        ResolvMode::Internal {
            required_options: vec!["ndots:0".to_owned()],
        }
    } else if container.networks.contains_key("bridge") {
        ResolvMode::Legacy { ipv6: false }
    } else {
        ResolvMode::Plain
    };
    let nameservers = name_servers(host)?;
    let overrides = ResolvOverrides {
        nameservers,
        search: host.dns_search.clone(),
        options: host.dns_options.clone(),
    };
    Ok(resolv_conf_text(&host_resolv_conf(), "/etc/resolv.conf", &mode, &overrides).file_text())
}

/// Reads the host's resolver file; where the host only has systemd's stub, the file behind it.
pub(crate) fn host_resolv_conf() -> String {
    let read = |path: &str| {
        trusted::read_limited(Path::new(path), MAX_HOST_FILE_BYTES)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read("/etc/resolv.conf").unwrap_or_default();
    if wharf_network::files::is_systemd_resolved_stub(&text) {
        return read(wharf_network::files::SYSTEMD_RESOLVED_STUB).unwrap_or(text);
    }
    text
}
