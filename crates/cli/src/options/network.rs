//! `--network NAME` and `--network name=NAME,alias=…,ip=…`.

use std::net::IpAddr;

use serde_json::{Map, Value as Json, json};

use crate::error::{CliError, Result};
use crate::options::csv;

/// One network a container is to be attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkAttachment {
    /// Network name or id, or a mode such as `host`, `none`, `container:x`.
    pub target: String,
    /// Names in the network's DNS.
    pub aliases: Vec<String>,
    /// Options for the network's driver.
    pub driver_options: Vec<(String, String)>,
    /// `container[:alias]` links.
    pub links: Vec<String>,
    /// Static IPv4 address, empty for none.
    pub ipv4: String,
    /// Static IPv6 address, empty for none.
    pub ipv6: String,
    /// Link-local addresses.
    pub link_local: Vec<String>,
    /// MAC address, empty for the daemon's choice.
    pub mac: String,
    /// Whether the attachment becomes the default gateway: the highest wins.
    pub gateway_priority: i64,
}

impl NetworkAttachment {
    /// Reads one `--network` value.
    pub fn parse(value: &str) -> Result<Self> {
        let mut attachment = Self::default();
        if !value.to_lowercase().trim_start_matches('"').contains('=') {
            attachment.target = value.to_owned();
            return Ok(attachment);
        }
        for field in csv::fields(value)? {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| CliError::usage(format!("invalid field {field}")))?;
            attachment.set(&key.trim().to_lowercase(), value.trim())?;
        }
        if attachment.target.is_empty() {
            return Err(CliError::usage("network name/id is not specified"));
        }
        Ok(attachment)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "name" => self.target = value.to_owned(),
            "alias" => self.aliases.push(value.to_owned()),
            "ip" => self.ipv4 = address(value)?,
            "ip6" => self.ipv6 = address(value)?,
            "mac-address" => self.mac = value.to_owned(),
            "link-local-ip" => self.link_local.push(address(value)?),
            "driver-opt" => {
                let (name, option) = value.split_once('=').ok_or_else(|| {
                    CliError::usage("invalid key value pair format in driver options")
                })?;
                self.driver_options
                    .push((name.trim().to_lowercase(), option.trim().to_owned()));
            }
            "gw-priority" => {
                self.gateway_priority = value.parse().map_err(|_| {
                    CliError::usage(format!("invalid gw-priority ({value}): invalid syntax"))
                })?;
            }
            _ => return Err(CliError::usage(format!("invalid field key {key}"))),
        }
        Ok(())
    }

    /// Returns the `EndpointsConfig` entry (engine-api.md §7.1).
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut entry = Map::new();
        let mut addresses = Map::new();
        for (key, text) in [("IPv4Address", &self.ipv4), ("IPv6Address", &self.ipv6)] {
            if !text.is_empty() {
                addresses.insert(key.into(), text.as_str().into());
            }
        }
        if !self.link_local.is_empty() {
            addresses.insert("LinkLocalIPs".into(), json!(self.link_local));
        }
        if !addresses.is_empty() {
            entry.insert("IPAMConfig".into(), Json::Object(addresses));
        }
        for (key, list) in [("Links", &self.links), ("Aliases", &self.aliases)] {
            if !list.is_empty() {
                entry.insert(key.into(), json!(list));
            }
        }
        if !self.mac.is_empty() {
            entry.insert("MacAddress".into(), self.mac.as_str().into());
        }
        if !self.driver_options.is_empty() {
            let options = self
                .driver_options
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().into()));
            entry.insert("DriverOpts".into(), Json::Object(options.collect()));
        }
        if self.gateway_priority != 0 {
            entry.insert("GwPriority".into(), self.gateway_priority.into());
        }
        Json::Object(entry)
    }

    /// Returns whether the container joins a network of its own rather than a mode such as `host`.
    #[must_use]
    pub fn is_user_defined(&self) -> bool {
        !matches!(
            self.target.as_str(),
            "" | "default" | "bridge" | "host" | "none"
        ) && !self.target.starts_with("container:")
    }
}

fn address(text: &str) -> Result<String> {
    text.parse::<IpAddr>()
        .map(|address| address.to_string())
        .map_err(|_| CliError::usage(format!("ParseAddr({text:?}): unable to parse IP")))
}
