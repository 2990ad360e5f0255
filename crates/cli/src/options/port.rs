//! `-p [IP:][HOST-PORT:]CONTAINER-PORT[/PROTOCOL]`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value as Json, json};

use crate::error::{CliError, Result};

/// Ports a container exposes and publishes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PortMap {
    /// `80/tcp` → the host bindings in the order given.
    pub bindings: BTreeMap<String, Vec<HostBinding>>,
}

/// Where on the host a port is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBinding {
    /// Address, empty for all.
    pub ip: String,
    /// Port or `first-last` range, empty for any free port.
    pub port: String,
}

impl PortMap {
    /// Reads all `--publish` values.
    pub fn parse<'a>(specs: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut map = Self::default();
        for spec in specs {
            map.add(spec)?;
        }
        Ok(map)
    }

    /// Returns the `HostConfig.PortBindings` object.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let entries = self.bindings.iter().map(|(port, bindings)| {
            let bindings: Vec<Json> = bindings
                .iter()
                .map(|binding| json!({"HostIp": binding.ip, "HostPort": binding.port}))
                .collect();
            (port.clone(), Json::Array(bindings))
        });
        Json::Object(entries.collect())
    }

    fn add(&mut self, spec: &str) -> Result<()> {
        let (ip, host, container) = parts(spec);
        let (container, protocol) = port_and_protocol(container);
        let ip = address(ip)?;
        if container.is_empty() {
            return Err(CliError::usage(format!("no port specified: {spec}<empty>")));
        }
        let (first, last) = parse_range(container)
            .ok_or_else(|| CliError::usage(format!("invalid containerPort: {container}")))?;
        let host_range = match host {
            "" => None,
            host => Some(
                parse_range(host)
                    .ok_or_else(|| CliError::usage(format!("invalid hostPort: {host}")))?,
            ),
        };
        if let Some((host_first, host_last)) = host_range
            && last - first != host_last - host_first
            && first != last
        {
            return Err(CliError::usage(format!(
                "invalid ranges specified for container and host Ports: {container} and {host}"
            )));
        }
        let protocol = protocol.to_lowercase();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(CliError::usage(format!("invalid proto: {protocol}")));
        }
        for port in first..=last {
            let port_on_host = match host_range {
                None => String::new(),
                Some((host_first, host_last)) if first == last && host_first != host_last => {
                    format!("{host_first}-{host_last}")
                }
                Some((host_first, _)) => (host_first + (port - first)).to_string(),
            };
            let binding = HostBinding {
                ip: ip.clone(),
                port: port_on_host,
            };
            self.bindings
                .entry(format!("{port}/{protocol}"))
                .or_default()
                .push(binding);
        }
        Ok(())
    }
}

/// Returns the `80/tcp` names of one `--expose` value, which may be a range.
pub fn expose(value: &str) -> Result<Vec<String>> {
    if value.contains(':') {
        return Err(CliError::usage(format!(
            "invalid port format for --expose: {value}"
        )));
    }
    let (ports, protocol) = port_and_protocol(value);
    let invalid = || CliError::usage(format!("invalid range format for --expose: {value}"));
    let (first, last) = parse_range(ports).ok_or_else(invalid)?;
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(invalid());
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

/// Splits at the last two colons, so that an IPv6 address keeps its own.
fn parts(spec: &str) -> (&str, &str, &str) {
    match spec.rsplit_once(':') {
        None => ("", "", spec),
        Some((rest, container)) => match rest.rsplit_once(':') {
            None => ("", rest, container),
            Some((ip, host)) => (ip, host, container),
        },
    }
}

fn port_and_protocol(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        None => (text, "tcp"),
        Some(("", _)) => ("", ""),
        Some((port, "")) => (port, "tcp"),
        Some((port, protocol)) => (port, protocol),
    }
}

fn address(text: &str) -> Result<String> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| {
            CliError::usage(format!("invalid IP address {text}: missing ']' in address"))
        })?,
        None => text,
    };
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(CliError::usage(format!("invalid IP address: {bare}")));
    }
    Ok(bare.to_owned())
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if plain {
            digits.parse::<u16>().ok()
        } else {
            None
        }
    };
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        }
    }
}
