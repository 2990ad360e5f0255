//! docker's `daemon.json`: which keys count, which change nothing, and which wharf has not.

use super::Read;

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
const HARMLESS: [(&str, &str); 15] = [
    ("userns-remap", "\"\""),
    ("rootless", "false"),
    ("storage-opts", "[]"),
    // Kernels that this option was for are long gone.
    ("storage-opts", "[\"overlay2.override_kernel_check=true\"]"),
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
const UNSUPPORTED: [(&str, &str); 14] = [
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
        "http-proxy https-proxy no-proxy",
        "they belong into the table proxies",
    ),
    ("userns-remap rootless", "user namespaces are not supported"),
    (
        "storage-opts",
        "layers are kept in plain directories, without options",
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

/// Features of docker's file, the value that says what is so anyway, and why the other one has no effect.
const FEATURES: [(&str, bool, &str); 3] = [
    (
        "buildkit",
        false,
        "images are built by the engine's own builder, which clients reach as the classic one",
    ),
    (
        "containerd-snapshotter",
        false,
        "there is no containerd, images are kept in one way",
    ),
    ("cdi", false, "CDI devices are not supported"),
];

/// Returns what is to be told of the features that a file turns on or off.
fn told_of_features(value: serde_json::Value) -> Result<Vec<String>, String> {
    let features: std::collections::BTreeMap<String, bool> =
        serde_json::from_value(value).map_err(|error| format!("features: {error}"))?;
    let told = features.into_iter().filter_map(|(name, is_on)| {
        match FEATURES.iter().find(|(known, ..)| *known == name) {
            Some((_, so_anyway, _)) if *so_anyway == is_on => None,
            Some((_, _, reason)) => Some(format!("features.{name} has no effect: {reason}")),
            None => Some(format!(
                "features.{name} has no effect: no feature of that name is known"
            )),
        }
    });
    Ok(told.collect())
}

/// Reads the text of docker's file; `is_asked_for` says that the user named it.
///
/// # Errors
/// What is no JSON, and keys that neither docker nor wharf has.
pub(super) fn from_json(text: &str, is_asked_for: bool) -> Result<Read, String> {
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
        if key == "features" {
            warnings.extend(told_of_features(value)?);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::file::{Layer, Size};

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
        assert_eq!(told, ["hosts", "userns-remap"]);
        assert_eq!(read.layer.bridge.as_deref(), Some("br7"));
        let named = from_json(text, true).expect("read");
        assert_eq!(named.layer.hosts, Some(vec!["unix:///x".to_owned()]));
    }

    /// Every key that docker 28.5 knows in its file, with a value, and what becomes of it: it is
    /// honoured, changes nothing because it says what is so anyway, or is warned about.
    const DOCKER_KEYS: &str = r#"
        honoured bip "10.9.0.1/16"
        honoured bip6 "fd00:9::1/64"
        honoured bridge "br0"
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
        so-anyway features {"buildkit": false, "containerd-snapshotter": false, "cdi": false}
        so-anyway firewall-backend "nftables"
        so-anyway ip-forward true
        so-anyway ip6tables true
        so-anyway iptables true
        so-anyway live-restore true
        so-anyway raw-logs true
        so-anyway rootless false
        so-anyway selinux-enabled false
        so-anyway storage-driver "overlay2"
        so-anyway storage-opts ["overlay2.override_kernel_check=true"]
        so-anyway storage-opts []
        so-anyway userland-proxy false
        so-anyway userns-remap ""
        warned allow-direct-routing true
        warned allow-nondistributable-artifacts ["x"]
        warned api-cors-header "x"
        warned authorization-plugins ["x"]
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
        warned features {"containerd-snapshotter": true}
        warned features {"cdi": true}
        warned features {"time-travel": false}
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
    fn features_are_switches() {
        let error = from_json(r#"{"features": {"buildkit": "yes"}}"#, true)
            .expect_err("a word is no truth value");
        assert!(error.starts_with("features: "), "{error}");
    }
}
