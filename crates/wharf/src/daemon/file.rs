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
    pub default_ipc_mode: Option<String>,
    pub default_runtime: Option<String>,
    pub runtimes: Option<BTreeMap<String, RuntimeTable>>,
    pub default_address_pools: Option<Vec<Pool>>,
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
const HARMLESS: [(&str, &str); 11] = [
    ("live-restore", "true"),
    ("storage-driver", "\"overlay2\""),
    ("exec-opts", "[\"native.cgroupdriver=cgroupfs\"]"),
    ("iptables", "true"),
    ("ip6tables", "true"),
    ("ip-forward", "true"),
    ("userland-proxy", "false"),
    ("selinux-enabled", "false"),
    ("experimental", "false"),
    ("raw-logs", "true"),
    ("firewall-backend", "\"nftables\""),
];

/// Keys that docker has and wharf has not, and why.
const UNSUPPORTED: [(&str, &str); 16] = [
    (
        "cluster-advertise cluster-store cluster-store-opts data-path-addr data-path-port \
         network-control-plane-mtu network-diagnostic-port node-generic-resources \
         swarm-default-advertise-addr swarm-raft-election-tick swarm-raft-heartbeat-tick",
        "there are no swarms",
    ),
    (
        "containerd containerd-namespace containerd-plugin-namespace cri-containerd",
        "there is no containerd",
    ),
    (
        "authorization-plugins",
        "there are no plugins, sockets have policies instead",
    ),
    ("shutdown-timeout", "stopping the daemon stops no container"),
    (
        "bridge",
        "the default bridge is the engine's own; make a network with the option com.docker.network.bridge.name for \
         another device",
    ),
    (
        "http-proxy https-proxy no-proxy",
        "they belong into the table proxies",
    ),
    ("userns-remap rootless", "user namespaces are not supported"),
    (
        "storage-opts",
        "layers are kept in plain directories, without options",
    ),
    (
        "features",
        "images are kept in one way, and the builder is the engine's own",
    ),
    (
        "builder",
        "the flag --cache-limit says what builds may keep",
    ),
    (
        "userland-proxy-path",
        "published ports need no program beside the engine",
    ),
    (
        "cpu-rt-period cpu-rt-runtime oom-score-adjust",
        "the engine leaves its own limits to what started it",
    ),
    (
        "allow-direct-routing bridge-accept-fwmark ip-forward-no-drop",
        "the firewall's own table has no such exception",
    ),
    ("cdi-spec-dirs", "CDI devices are not supported"),
    (
        "allow-nondistributable-artifacts api-cors-header deprecated-key-path metrics-address \
         min-api-version resolv-conf validate",
        "it is not supported",
    ),
    (
        "exec-opts experimental firewall-backend ip-forward ip6tables iptables live-restore raw-logs \
         selinux-enabled storage-driver userland-proxy",
        "the engine has only one way",
    ),
];

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
        let unsupported = UNSUPPORTED
            .iter()
            .find(|(keys, _)| keys.split_whitespace().any(|name| name == key));
        if harmless {
            continue;
        }
        if let Some((_, reason)) = unsupported {
            warnings.push(format!("{key} has no effect: {reason}"));
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
            default_cgroupns_mode cgroup_parent init no_new_privileges ip default_ipc_mode
            default_runtime runtimes default_address_pools bip bip6 fixed_cidr fixed_cidr_v6 ipv6
            default_gateway default_gateway_v6 init_path mtu icc ip_masq default_network_opts host_gateway_ips max_concurrent_downloads
            max_concurrent_uploads max_download_attempts seccomp_profile proxies
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
            "bip": "10.0.0.1/24", "bridge": "br7", "storage-driver": "overlay2"
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
        assert_eq!(told, ["bridge", "hosts", "userns-remap"]);
        let named = from_json(text, true).expect("read");
        assert_eq!(named.layer.hosts, Some(vec!["unix:///x".to_owned()]));
    }

    /// Every key that docker 28.5 knows in its file, with a value, and what becomes of it: it is
    /// honoured, changes nothing because it says what is so anyway, or is warned about.
    const DOCKER_KEYS: &str = r#"
        honoured bip "10.9.0.1/16"
        honoured bip6 "fd00:9::1/64"
        honoured cgroup-parent "/x"
        honoured data-root "/x"
        honoured debug true
        honoured default-address-pools [{"base": "10.0.0.0/8", "size": 24}]
        honoured default-cgroupns-mode "host"
        honoured default-gateway "10.0.0.1"
        honoured default-gateway-v6 "fd00::1"
        honoured default-ipc-mode "shareable"
        honoured default-network-opts {"bridge": {"com.docker.network.driver.mtu": "1400"}}
        honoured default-runtime "wharf"
        honoured default-shm-size "64M"
        honoured default-ulimits {"nofile": {"Name": "nofile", "Hard": 64, "Soft": 32}}
        honoured dns ["10.0.0.53"]
        honoured dns-opts ["ndots:1"]
        honoured dns-search ["example.com"]
        honoured exec-root "/x"
        honoured fixed-cidr "10.9.1.0/24"
        honoured fixed-cidr-v6 "fd00:8::/64"
        honoured group "staff"
        honoured host-gateway-ip "10.0.0.1"
        honoured host-gateway-ips ["10.0.0.1", "fd00::1"]
        honoured hosts ["unix:///x"]
        honoured icc false
        honoured init true
        honoured init-path "/x"
        honoured insecure-registries ["10.0.0.0/8"]
        honoured ip "127.0.0.1"
        honoured ip-masq false
        honoured ipv6 true
        honoured labels ["a=b"]
        honoured log-driver "local"
        honoured log-format "json"
        honoured log-level "warn"
        honoured log-opts {"max-size": "5m"}
        honoured max-concurrent-downloads 3
        honoured max-concurrent-uploads 5
        honoured max-download-attempts 5
        honoured proxies {"http-proxy": "http://x"}
        honoured seccomp-profile "unconfined"
        honoured metrics-addr "127.0.0.1:9323"
        honoured mtu 1400
        honoured no-new-privileges true
        honoured pidfile "/x"
        honoured registry-mirrors ["https://mirror.example.com"]
        honoured runtimes {"mine": {"path": "/opt/mine", "runtimeArgs": ["--debug"]}}
        honoured tls true
        honoured tlscacert "/x"
        honoured tlscert "/x"
        honoured tlskey "/x"
        honoured tlsverify true
        so-anyway exec-opts ["native.cgroupdriver=cgroupfs"]
        so-anyway experimental false
        so-anyway firewall-backend "nftables"
        so-anyway ip-forward true
        so-anyway ip6tables true
        so-anyway iptables true
        so-anyway live-restore true
        so-anyway raw-logs true
        so-anyway selinux-enabled false
        so-anyway storage-driver "overlay2"
        so-anyway userland-proxy false
        warned allow-direct-routing true
        warned allow-nondistributable-artifacts ["x"]
        warned api-cors-header "x"
        warned authorization-plugins ["x"]
        warned bridge "br0"
        warned bridge-accept-fwmark "1"
        warned builder {"gc": {"enabled": true}}
        warned cdi-spec-dirs ["/x"]
        warned containerd "/x"
        warned containerd-namespace "x"
        warned containerd-plugin-namespace "x"
        warned cpu-rt-period 1
        warned cpu-rt-runtime 1
        warned cri-containerd true
        warned exec-opts ["native.cgroupdriver=systemd"]
        warned experimental true
        warned features {"buildkit": true}
        warned firewall-backend "iptables"
        warned ip-forward false
        warned ip-forward-no-drop true
        warned ip6tables false
        warned iptables false
        warned live-restore false
        warned network-control-plane-mtu 1400
        warned network-diagnostic-port 1
        warned node-generic-resources ["a=b"]
        warned oom-score-adjust -500
        warned raw-logs false
        warned resolv-conf "/x"
        warned rootless true
        warned selinux-enabled true
        warned shutdown-timeout 15
        warned storage-driver "btrfs"
        warned storage-opts ["x=y"]
        warned swarm-default-advertise-addr "x"
        warned swarm-raft-election-tick 10
        warned swarm-raft-heartbeat-tick 1
        warned userland-proxy true
        warned userland-proxy-path "/x"
        warned userns-remap "default"
    "#;

    #[test]
    fn each_of_docker_s_keys_is_honoured_or_warned_about() {
        for line in DOCKER_KEYS.lines().map(str::trim) {
            let mut words = line.splitn(3, ' ');
            let (Some(fate), Some(key), Some(value)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let read = from_json(&format!("{{{key:?}: {value}}}"), true)
                .unwrap_or_else(|error| panic!("{line}: {error}"));
            let (is_set, is_told) = (read.layer != Layer::default(), !read.warnings.is_empty());
            let found = match (is_set, is_told) {
                (true, false) => "honoured",
                (false, true) => "warned",
                (false, false) => "so-anyway",
                (true, true) => "both",
            };
            assert_eq!(found, fate, "{line}: {:?}", read.warnings);
            for warning in &read.warnings {
                assert!(warning.starts_with(key), "{line}: {warning}");
            }
        }
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
