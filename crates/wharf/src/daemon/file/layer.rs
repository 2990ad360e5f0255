//! What one source of settings says, and how several are merged.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What one source of settings says; None where it says nothing. Both files have docker's names
/// for what docker has too.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Layer {
    #[serde(alias = "data-root", alias = "graph")]
    pub root: Option<PathBuf>,
    #[serde(alias = "exec-root")]
    pub run_dir: Option<PathBuf>,
    pub pidfile: Option<PathBuf>,
    pub hosts: Option<Vec<String>>,
    pub listen: Option<Vec<Listen>>,
    pub docker_socket: Option<bool>,
    pub policy: Option<BTreeMap<String, PolicyTable>>,
    pub group: Option<String>,
    pub debug: Option<bool>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
    pub metrics_addr: Option<String>,
    pub tls: Option<bool>,
    pub tlsverify: Option<bool>,
    pub tlscacert: Option<PathBuf>,
    pub tlscert: Option<PathBuf>,
    pub tlskey: Option<PathBuf>,
    pub labels: Option<Vec<String>>,
    pub log_driver: Option<String>,
    pub log_opts: Option<BTreeMap<String, String>>,
    pub insecure_registries: Option<Vec<String>>,
    pub registry_mirrors: Option<Vec<String>>,
    pub dns: Option<Vec<String>>,
    pub dns_opts: Option<Vec<String>>,
    pub dns_search: Option<Vec<String>>,
    pub default_ulimits: Option<BTreeMap<String, Limit>>,
    pub default_shm_size: Option<Size>,
    pub default_cgroupns_mode: Option<String>,
    pub cgroup_parent: Option<String>,
    pub init: Option<bool>,
    pub no_new_privileges: Option<bool>,
    pub ip: Option<String>,
    pub default_ipc_mode: Option<String>,
    pub default_runtime: Option<String>,
    pub runtimes: Option<BTreeMap<String, RuntimeTable>>,
    pub default_address_pools: Option<Vec<Pool>>,
    pub bridge: Option<String>,
    pub bip: Option<String>,
    pub bip6: Option<String>,
    pub fixed_cidr: Option<String>,
    pub fixed_cidr_v6: Option<String>,
    pub default_gateway: Option<String>,
    pub default_gateway_v6: Option<String>,
    pub ipv6: Option<bool>,
    pub init_path: Option<PathBuf>,
    pub mtu: Option<u32>,
    pub icc: Option<bool>,
    pub ip_masq: Option<bool>,
    pub default_network_opts: Option<BTreeMap<String, BTreeMap<String, String>>>,
    pub max_concurrent_downloads: Option<i64>,
    pub max_concurrent_uploads: Option<i64>,
    pub max_download_attempts: Option<i64>,
    pub seccomp_profile: Option<String>,
    pub proxies: Option<Proxies>,
    #[serde(alias = "host-gateway-ip")]
    pub host_gateway_ips: Option<Addresses>,
}

impl Layer {
    /// Returns these settings, and where they say nothing those of `lower`.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        macro_rules! first {
            ($($field:ident)+) => {
                Self { $($field: self.$field.or(lower.$field),)+ ..Self::default() }
            };
        }
        // Addresses given at one place replace all those of the places below.
        let says_where = self.hosts.is_some() || self.listen.is_some();
        let (hosts, listen) = if says_where {
            (self.hosts, self.listen)
        } else {
            (lower.hosts, lower.listen)
        };
        let mut merged = first! {
            root run_dir pidfile docker_socket policy group debug log_level log_format metrics_addr
            tls tlsverify tlscacert tlscert tlskey labels log_driver log_opts insecure_registries
            registry_mirrors dns dns_opts dns_search default_ulimits default_shm_size
            default_cgroupns_mode cgroup_parent init no_new_privileges ip default_ipc_mode
            default_runtime runtimes default_address_pools bridge bip bip6 fixed_cidr fixed_cidr_v6 ipv6
            default_gateway default_gateway_v6 init_path mtu icc ip_masq default_network_opts host_gateway_ips max_concurrent_downloads
            max_concurrent_uploads max_download_attempts seccomp_profile proxies
        };
        merged.hosts = hosts;
        merged.listen = listen;
        merged
    }
}

/// Proxies of the engine itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Proxies {
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    pub no_proxy: Option<String>,
}

/// An OCI runtime program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeTable {
    pub path: PathBuf,
    #[serde(rename = "runtimeArgs")]
    pub arguments: Vec<String>,
}

/// Subnets for new networks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    pub base: String,
    pub size: u8,
}

/// One address or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Addresses {
    One(String),
    Several(Vec<String>),
}

/// A socket in `daemon.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Listen {
    /// `unix://…`, `tcp://…` or `fd://…`.
    pub address: String,
    /// A policy's name; everything is allowed without one.
    pub policy: Option<String>,
    /// Group that may use a unix socket.
    pub group: Option<String>,
}

/// A policy in `daemon.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct PolicyTable {
    pub allow: Vec<String>,
    pub label: Option<String>,
    pub host_access: bool,
}

/// A resource limit as docker writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limit {
    #[serde(rename = "Name", alias = "name")]
    pub name: String,
    #[serde(rename = "Hard", alias = "hard")]
    pub hard: i64,
    #[serde(rename = "Soft", alias = "soft")]
    pub soft: i64,
}

/// Bytes, or a size such as `64M`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Size {
    Bytes(i64),
    Text(String),
}

#[cfg(test)]
mod tests {
    use crate::daemon::file::from_toml;

    #[test]
    fn upper_layers_win_key_by_key() {
        let upper = from_toml("debug = true\nhosts = [\"unix:///a\"]\n").expect("read");
        let lower = from_toml(
            "debug = false\nlog-level = \"warn\"\n[[listen]]\naddress = \"unix:///b\"\npolicy = \"read-only\"\n",
        )
        .expect("read");
        let merged = upper.layer.over(lower.layer);
        assert_eq!(merged.debug, Some(true));
        assert_eq!(merged.log_level.as_deref(), Some("warn"));
        assert_eq!(merged.hosts, Some(vec!["unix:///a".to_owned()]));
        assert_eq!(merged.listen, None);
    }
}
