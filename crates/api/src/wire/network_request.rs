//! Bodies of network calls, and endpoint settings of create calls (spec engine-api §5.4, §7.1).

use crate::respond::Failure;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use wharf_engine::model::network::{CreateNetwork, Ipam, IpamConfig, Prefix};
use wharf_engine::model::request::{EndpointRequest, GivenFields};

/// What a client may set of an endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct EndpointSettings {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<EndpointIpam>,
    links: Option<Vec<String>>,
    aliases: Option<Vec<String>>,
    mac_address: String,
    driver_opts: Option<BTreeMap<String, String>>,
    gw_priority: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EndpointIpam {
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
    #[serde(rename = "LinkLocalIPs")]
    link_local_addresses: Vec<String>,
}

impl From<EndpointSettings> for EndpointRequest {
    fn from(settings: EndpointSettings) -> Self {
        let given = GivenFields {
            addresses: settings.ipam_config.is_some(),
            aliases: settings.aliases.is_some(),
            links: settings.links.is_some(),
            driver_options: settings.driver_opts.is_some(),
        };
        let addresses = settings.ipam_config.unwrap_or_default();
        Self {
            ipv4_address: addresses.ipv4_address,
            ipv6_address: addresses.ipv6_address,
            link_local_addresses: addresses.link_local_addresses,
            aliases: settings.aliases.unwrap_or_default(),
            links: settings.links.unwrap_or_default(),
            mac_address: settings.mac_address,
            driver_options: settings.driver_opts.unwrap_or_default(),
            gateway_priority: settings.gw_priority,
            given,
        }
    }
}

/// Body of `POST /networks/{name}/connect`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ConnectBody {
    pub(crate) container: String,
    pub(crate) endpoint_config: EndpointSettings,
}

/// Body of `POST /networks/{name}/disconnect`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DisconnectBody {
    pub(crate) container: String,
    pub(crate) force: bool,
}

/// Body of `POST /networks/create`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct CreateBody {
    name: String,
    driver: String,
    scope: String,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    config_from: ConfigReference,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Option<IpamBody>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigReference {
    network: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct IpamBody {
    driver: String,
    options: Option<BTreeMap<String, String>>,
    config: Vec<IpamConfigBody>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct IpamConfigBody {
    subnet: String,
    #[serde(rename = "IPRange")]
    ip_range: String,
    gateway: String,
    auxiliary_addresses: BTreeMap<String, String>,
}

impl CreateBody {
    /// Returns the engine's request.
    ///
    /// # Errors
    /// 400 for addresses that are none, in the words of Go's parser.
    pub(crate) fn into_request(self) -> Result<CreateNetwork, Failure> {
        let ipam = self
            .ipam
            .map(|ipam| {
                Ok::<_, Failure>(Ipam {
                    driver: if ipam.driver.is_empty() {
                        "default".to_owned()
                    } else {
                        ipam.driver
                    },
                    options: ipam.options,
                    config: ipam
                        .config
                        .into_iter()
                        .map(IpamConfigBody::into_config)
                        .collect::<Result<_, _>>()?,
                })
            })
            .transpose()?;
        Ok(CreateNetwork {
            name: self.name,
            driver: self.driver,
            scope: self.scope,
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            config_only: self.config_only,
            config_from: self.config_from.network,
            ipv4: self.enable_ipv4,
            ipv6: self.enable_ipv6,
            ipam,
            options: self.options,
            labels: self.labels,
        })
    }
}

impl IpamConfigBody {
    fn into_config(self) -> Result<IpamConfig, Failure> {
        Ok(IpamConfig {
            subnet: prefix(&self.subnet)?,
            ip_range: prefix(&self.ip_range)?,
            gateway: address(&self.gateway)?,
            auxiliary: self
                .auxiliary_addresses
                .into_iter()
                .filter_map(|(name, text)| match address(&text) {
                    Ok(found) => found.map(|found| Ok((name, found))),
                    Err(failure) => Some(Err(failure)),
                })
                .collect::<Result<_, _>>()?,
        })
    }
}

fn prefix(text: &str) -> Result<Option<Prefix>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let reason = if text.contains('/') {
        "bad address or prefix length"
    } else {
        "no '/'"
    };
    Prefix::parse(text).map(Some).ok_or_else(|| {
        Failure::bad_request(format!(
            "invalid JSON: netip.ParsePrefix({text:?}): {reason}"
        ))
    })
}

fn address(text: &str) -> Result<Option<IpAddr>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Failure::bad_request(format!(
            "invalid JSON: ParseAddr({text:?}): unable to parse IP"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_create_body_becomes_a_request() {
        let body: CreateBody = crate::body::read_document(json!({
            "Name": "n", "EnableIPv6": true, "Internal": true,
            "IPAM": {"Config": [{"Subnet": "10.1.0.0/16", "IPRange": "10.1.2.0/24",
                "Gateway": "10.1.0.9", "AuxiliaryAddresses": {"router": "10.1.0.7"}}]},
            "Options": {"a": "b"}, "Labels": {"c": "d"}, "ConfigFrom": null,
        }))
        .expect("a body");
        let request = body.into_request().expect("a request");
        assert_eq!(request.ipv6, Some(true));
        assert_eq!(request.ipv4, None);
        let ipam = request.ipam.expect("subnets");
        assert_eq!(ipam.driver, "default");
        let config = &ipam.config[0];
        assert_eq!(
            config.subnet.map(|subnet| subnet.to_string()).as_deref(),
            Some("10.1.0.0/16")
        );
        assert_eq!(config.auxiliary["router"].to_string(), "10.1.0.7");
    }

    #[test]
    fn wrong_addresses_are_told_as_go_does() {
        for (text, expected) in [
            ("bad", "invalid JSON: netip.ParsePrefix(\"bad\"): no '/'"),
            (
                "10.0.0.0/99",
                "invalid JSON: netip.ParsePrefix(\"10.0.0.0/99\"): bad address or prefix length",
            ),
        ] {
            assert_eq!(prefix(text).expect_err("no prefix").message(), expected);
        }
        assert!(address("x").is_err());
    }
}
