//! The configuration files: wharf's own `daemon.toml` and docker's `daemon.json`.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wharf_safefs::trusted;

/// wharf's own file.
pub const TOML_PATH: &str = "/etc/wharf/daemon.toml";
/// docker's file.
pub const JSON_PATH: &str = "/etc/docker/daemon.json";
/// Bytes of a configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

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

/// Keys of docker's file that name docker's own places: they count only in a file that was asked for.
const PLACES: [&str; 6] = [
    "data-root",
    "graph",
    "exec-root",
    "hosts",
    "pidfile",
    "group",
];

/// Keys of docker's file whose value must be this one to change nothing, as JSON.
const HARMLESS: [(&str, &str); 16] = [
    ("live-restore", "true"),
    ("storage-driver", "\"overlay2\""),
    ("exec-opts", "[\"native.cgroupdriver=cgroupfs\"]"),
    ("iptables", "true"),
    ("ip6tables", "true"),
    ("ip-masq", "true"),
    ("ip-forward", "true"),
    ("icc", "true"),
    ("userland-proxy", "false"),
    ("selinux-enabled", "false"),
    ("experimental", "false"),
    ("raw-logs", "true"),
    ("seccomp-profile", "\"builtin\""),
    ("default-ipc-mode", "\"private\""),
    ("default-runtime", "\"wharf\""),
    ("firewall-backend", "\"nftables\""),
];

/// Keys that docker has and wharf has not.
const UNSUPPORTED: &str = "allow-direct-routing allow-nondistributable-artifacts api-cors-header \
    authorization-plugins bip bip6 bridge bridge-accept-fwmark builder cdi-spec-dirs cluster-advertise \
    cluster-store cluster-store-opts containerd containerd-namespace containerd-plugin-namespace \
    cpu-rt-period cpu-rt-runtime data-path-addr data-path-port default-address-pools default-gateway \
    default-gateway-v6 default-network-opts default-runtime deprecated-key-path exec-opts features \
    firewall-backend fixed-cidr fixed-cidr-v6 host-gateway-ip host-gateway-ips http-proxy https-proxy \
    init-path ipv6 max-concurrent-downloads max-concurrent-uploads max-download-attempts \
    metrics-address min-api-version mtu network-control-plane-mtu network-diagnostic-port \
    no-proxy node-generic-resources oom-score-adjust proxies raw-logs rootless runtimes \
    seccomp-profile shutdown-timeout storage-driver storage-opts swarm-default-advertise-addr \
    userland-proxy userland-proxy-path userns-remap validate";

/// A file's settings and what the user should know about them.
#[derive(Debug, Default, PartialEq)]
pub struct Read {
    pub layer: Layer,
    pub warnings: Vec<String>,
}

/// Reads a file; None when it is not there.
///
/// `is_asked_for` says that the user named the file: then it must exist, and all of it counts.
pub fn read(path: &Path, is_asked_for: bool) -> Result<Option<Read>, String> {
    if !is_asked_for && !trusted::exists(path).unwrap_or(false) {
        return Ok(None);
    }
    let text = trusted::read_to_string(path, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
    let read = if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        from_json(&text, is_asked_for)
    } else {
        from_toml(&text)
    };
    match read {
        Ok(mut read) => {
            for warning in &mut read.warnings {
                warning.insert_str(0, &format!("{}: ", path.display()));
            }
            Ok(Some(read))
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn from_toml(text: &str) -> Result<Read, String> {
    let layer = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    Ok(Read {
        layer,
        warnings: Vec::new(),
    })
}

fn from_json(text: &str, is_asked_for: bool) -> Result<Read, String> {
    if text.trim().is_empty() {
        return Ok(Read::default());
    }
    let keys: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut supported = serde_json::Map::new();
    let mut warnings = Vec::new();
    for (key, value) in keys {
        let harmless = HARMLESS.iter().any(|(name, wanted)| {
            *name == key
                && serde_json::from_str(wanted)
                    .is_ok_and(|wanted: serde_json::Value| wanted == value)
        });
        let is_unsupported = UNSUPPORTED.split_whitespace().any(|name| name == key)
            || HARMLESS.iter().any(|(name, _)| *name == key);
        if harmless {
            continue;
        }
        if is_unsupported {
            warnings.push(format!("{key} is not supported and has no effect"));
        } else if !is_asked_for && PLACES.contains(&key.as_str()) {
            warnings.push(format!(
                "{key} is docker's own and left to it: name the file with --config-file to use it"
            ));
        } else {
            supported.insert(key, value);
        }
    }
    let layer = serde_json::from_value(supported.into()).map_err(|error| error.to_string())?;
    Ok(Read { layer, warnings })
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
            default_cgroupns_mode cgroup_parent init no_new_privileges ip
        };
        merged.hosts = hosts;
        merged.listen = listen;
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_keys_are_read_and_the_others_told() {
        let text = r#"{
            "debug": true, "log-opts": {"max-size": "5m"}, "hosts": ["unix:///x"],
            "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 64, "Soft": 32}},
            "default-shm-size": "64M", "live-restore": true, "userns-remap": "default",
            "bip": "10.0.0.1/24", "storage-driver": "overlay2"
        }"#;
        let read = from_json(text, false).expect("read");
        assert_eq!(read.layer.debug, Some(true));
        assert_eq!(read.layer.hosts, None, "docker's own socket");
        assert_eq!(
            read.layer.default_shm_size,
            Some(Size::Text("64M".to_owned()))
        );
        let told: Vec<&str> = read
            .warnings
            .iter()
            .filter_map(|warning| warning.split(' ').next())
            .collect();
        let mut told = told;
        told.sort_unstable();
        assert_eq!(told, ["bip", "hosts", "userns-remap"]);
        let named = from_json(text, true).expect("read");
        assert_eq!(named.layer.hosts, Some(vec!["unix:///x".to_owned()]));
    }

    #[test]
    fn mistakes_name_the_key() {
        let error = from_json(r#"{"debgu": true}"#, true).expect_err("a mistake");
        assert!(error.contains("debgu"), "{error}");
        let error = from_toml("lisen = []").expect_err("a mistake");
        assert!(error.contains("lisen"), "{error}");
        assert_eq!(from_json("", true), Ok(Read::default()));
    }

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
