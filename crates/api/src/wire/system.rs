//! What the engine tells of itself: version, info, disk usage (spec engine-api §5.1, §6.1, §6.2).

use super::container::STORAGE_DRIVER;
use super::container_list::ContainerItem;
use super::image::ImageItem;
use super::volume::Volume;
use crate::timestamp::{now_ns, rfc3339_nano};
use crate::version::{API_VERSION, ApiVersion, ENGINE_VERSION, MIN_API_VERSION};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wharf_engine::Settings;
use wharf_engine::model::view::{BuildCacheRecord, DiskUsage, SystemInfo, UsageKinds};

/// Version of wharf itself.
const WHARF_VERSION: &str = env!("CARGO_PKG_VERSION");
/// First version without the keys about bridged packets.
const FIRST_WITHOUT_BRIDGE_NETFILTER: &str = "1.50";
/// First version that tells what the firewall is made of.
const FIRST_WITH_FIREWALL: &str = "1.49";

/// First version without the keys about layers that may not be pushed.
const FIRST_WITHOUT_NONDISTRIBUTABLE: &str = "1.47";

/// Returns Go's name of an architecture that the kernel calls `machine`.
fn go_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv6l" => "arm",
        "i686" | "i386" => "386",
        other => other,
    }
}

/// Returns the answer of `GET /version`.
pub(crate) fn version(info: &SystemInfo) -> Value {
    let architecture = go_architecture(&info.architecture);
    let details = json!({
        "ApiVersion": API_VERSION,
        "Arch": architecture,
        "BuildTime": "",
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": "",
        "KernelVersion": info.kernel_version,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": "linux",
    });
    json!({
        "Platform": {"Name": format!("wharf {WHARF_VERSION}")},
        "Components": [
            {"Name": "Engine", "Version": ENGINE_VERSION, "Details": details},
            {"Name": "wharf", "Version": WHARF_VERSION, "Details": {"GitCommit": ""}},
        ],
        "Version": ENGINE_VERSION,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture,
        "KernelVersion": info.kernel_version,
        "BuildTime": "",
    })
}

/// Returns the answer of `GET /info` that clients of `version` read.
pub(crate) fn info(info: &SystemInfo, settings: &Settings, version: &ApiVersion) -> Value {
    let mut document = json!({"ID": info.id});
    let parts = [
        counts(info),
        abilities(info, settings, version),
        host(info, settings, version),
        features(info, settings, version),
    ];
    if let Value::Object(keys) = &mut document {
        for part in parts {
            if let Value::Object(more) = part {
                keys.extend(more);
            }
        }
    }
    document
}

fn counts(info: &SystemInfo) -> Value {
    let (running, paused, stopped) = info.containers;
    json!({
        "Containers": running + paused + stopped,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": info.images,
        "Driver": STORAGE_DRIVER,
        "DriverStatus": [
            ["Backing Filesystem", info.backing_file_system],
            ["Supports d_type", "true"],
            ["Using metacopy", "false"],
            ["Native Overlay Diff", "true"],
            ["userxattr", "false"],
        ],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": null,
            "Log": wharf_engine::LOG_DRIVERS,
        },
    })
}

fn abilities(info: &SystemInfo, settings: &Settings, version: &ApiVersion) -> Value {
    let limits = info.limits;
    let mut abilities = json!({
        "MemoryLimit": limits.memory,
        "SwapLimit": limits.swap,
        "CpuCfsPeriod": limits.cpu_cfs,
        "CpuCfsQuota": limits.cpu_cfs,
        "CPUShares": limits.cpu_shares,
        "CPUSet": limits.cpuset,
        "PidsLimit": limits.pids,
        "IPv4Forwarding": limits.ipv4_forwarding,
    });
    if version.is_before(FIRST_WITHOUT_BRIDGE_NETFILTER)
        && let Value::Object(keys) = &mut abilities
    {
        keys.insert("BridgeNfIptables".to_owned(), json!(false));
        keys.insert("BridgeNfIp6tables".to_owned(), json!(false));
    }
    if let Value::Object(keys) = &mut abilities {
        keys.insert("Debug".to_owned(), json!(settings.debug));
        keys.insert("NFd".to_owned(), json!(info.open_files));
        keys.insert("OomKillDisable".to_owned(), json!(limits.oom_kill_disable));
        keys.insert("NGoroutines".to_owned(), json!(0));
        keys.insert("SystemTime".to_owned(), json!(rfc3339_nano(now_ns())));
    }
    abilities
}

fn host(info: &SystemInfo, settings: &Settings, version: &ApiVersion) -> Value {
    let [http_proxy, https_proxy, no_proxy] = &settings.proxies;
    json!({
        "LoggingDriver": settings.log_driver(),
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": info.cgroup_version.to_string(),
        "NEventsListener": info.event_listeners,
        "KernelVersion": info.kernel_version,
        "OperatingSystem": info.operating_system,
        "OSVersion": info.os_version,
        "OSType": "linux",
        "Architecture": info.architecture,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": registries(settings, version),
        "NCPU": info.cpus,
        "MemTotal": info.memory_bytes,
        "GenericResources": null,
        "DockerRootDir": info.root,
        "HttpProxy": without_secret(http_proxy),
        "HttpsProxy": without_secret(https_proxy),
        "NoProxy": no_proxy,
        "Name": info.host_name,
        "Labels": settings.labels,
        "ExperimentalBuild": false,
        "ServerVersion": ENGINE_VERSION,
    })
}

/// Returns a proxy's address with its user and password hidden, as docker shows it.
fn without_secret(proxy: &str) -> String {
    match proxy.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
            None => proxy.to_owned(),
        },
        None => proxy.to_owned(),
    }
}

fn registries(settings: &Settings, version: &ApiVersion) -> Value {
    let mirrors: Vec<String> = settings
        .registry_mirrors
        .iter()
        .map(|mirror| format!("{}/", mirror.trim_end_matches('/')))
        .collect();
    let mut networks = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    let mut indexes = serde_json::Map::new();
    indexes.insert(
        "docker.io".to_owned(),
        json!({"Mirrors": mirrors, "Name": "docker.io", "Official": true, "Secure": true}),
    );
    for entry in &settings.insecure_registries {
        if entry.contains('/') {
            networks.push(entry.clone());
        } else {
            let index = json!({"Mirrors": [], "Name": entry, "Official": false, "Secure": false});
            indexes.insert(entry.clone(), index);
        }
    }
    let mut config = json!({
        "IndexConfigs": indexes,
        "InsecureRegistryCIDRs": networks,
        "Mirrors": crate::wire::none_if_empty(mirrors),
    });
    if version.is_before(FIRST_WITHOUT_NONDISTRIBUTABLE)
        && let Value::Object(keys) = &mut config
    {
        keys.insert("AllowNondistributableArtifactsCIDRs".to_owned(), json!([]));
        keys.insert(
            "AllowNondistributableArtifactsHostnames".to_owned(),
            json!([]),
        );
    }
    config
}

fn features(info: &SystemInfo, settings: &Settings, version: &ApiVersion) -> Value {
    let mut security_options = Vec::new();
    if info.apparmor {
        security_options.push("name=apparmor".to_owned());
    }
    if info.seccomp {
        let profile = settings.seccomp.as_ref().map_or("builtin", |own| &own.name);
        security_options.push(format!("name=seccomp,profile={profile}"));
    }
    if info.cgroup_version == 2 {
        security_options.push("name=cgroupns".to_owned());
    }
    let pools: Vec<Value> = settings
        .network
        .address_pools
        .iter()
        .map(|(base, size)| json!({"Base": base.to_string(), "Size": size}))
        .collect();
    let runtimes: serde_json::Map<String, Value> = info
        .runtimes
        .iter()
        .map(|(name, program)| (name.clone(), json!({"path": program})))
        .collect();
    let mut features = json!({
        "Runtimes": runtimes,
        "DefaultRuntime": info.default_runtime,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": null,
        },
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "wharf",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": security_options,
        "DefaultAddressPools": &pools,
        "FirewallBackend": {"Driver": "nftables"},
        "CDISpecDirs": [],
        "Warnings": if info.warnings.is_empty() { Value::Null } else { json!(info.warnings) },
    });
    if let Value::Object(keys) = &mut features {
        // Told only where they are set, as docker does.
        if pools.is_empty() {
            keys.shift_remove("DefaultAddressPools");
        }
        if version.is_before(FIRST_WITH_FIREWALL) {
            keys.shift_remove("FirewallBackend");
        }
    }
    features
}

/// Answer of `GET /system/df`; parts not asked for are null.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Usage {
    layers_size: u64,
    images: Option<Vec<ImageItem>>,
    containers: Option<Vec<ContainerItem>>,
    volumes: Option<Vec<Volume>>,
    build_cache: Option<Vec<CacheRecord>>,
}

impl Usage {
    /// Makes the answer.
    pub(crate) fn new(usage: &DiskUsage, parts: UsageKinds, version: &ApiVersion) -> Self {
        let now_ns = now_ns();
        Self {
            layers_size: if parts.images { usage.layers_bytes } else { 0 },
            images: parts.images.then(|| {
                usage
                    .images
                    .iter()
                    .map(|image| ImageItem::new(image, version))
                    .collect()
            }),
            containers: parts.containers.then(|| {
                usage
                    .containers
                    .iter()
                    .map(|item| ContainerItem::new(item, now_ns))
                    .collect()
            }),
            volumes: parts
                .volumes
                .then(|| usage.volumes.iter().map(Volume::from).collect()),
            build_cache: parts
                .build_cache
                .then(|| usage.build_cache.iter().map(CacheRecord::from).collect()),
        }
    }
}

/// A record of the build cache.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CacheRecord {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Type")]
    kind: &'static str,
    description: String,
    in_use: bool,
    shared: bool,
    size: u64,
    created_at: String,
    last_used_at: Option<String>,
    usage_count: u64,
}

impl From<&BuildCacheRecord> for CacheRecord {
    fn from(record: &BuildCacheRecord) -> Self {
        let time = |seconds: i64| {
            Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
        };
        Self {
            id: record.id.clone(),
            kind: record.kind,
            description: record.description.clone(),
            in_use: false,
            shared: record.shared,
            size: record.size_bytes,
            created_at: time(record.created_at_s),
            last_used_at: (record.last_used_at_s != 0).then(|| time(record.last_used_at_s)),
            usage_count: record.usage_count,
        }
    }
}

/// Credentials as clients send them (spec engine-api §3).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuthConfig {
    pub(crate) username: String,
    pub(crate) password: String,
    /// `base64(user:password)`, in place of the two.
    pub(crate) auth: String,
    pub(crate) serveraddress: String,
    pub(crate) identitytoken: String,
    pub(crate) registrytoken: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of spec engine-api §6.2 that must exist.
    const KEYS: &str = "ID Containers ContainersRunning ContainersPaused ContainersStopped Images \
        Driver DriverStatus Plugins MemoryLimit SwapLimit CpuCfsPeriod CpuCfsQuota CPUShares CPUSet \
        PidsLimit IPv4Forwarding Debug NFd OomKillDisable NGoroutines SystemTime LoggingDriver \
        CgroupDriver CgroupVersion NEventsListener KernelVersion OperatingSystem OSVersion OSType \
        Architecture IndexServerAddress RegistryConfig NCPU MemTotal GenericResources DockerRootDir \
        HttpProxy HttpsProxy NoProxy Name Labels ExperimentalBuild ServerVersion Runtimes \
        DefaultRuntime Swarm LiveRestoreEnabled Isolation InitBinary ContainerdCommit RuncCommit \
        InitCommit SecurityOptions FirewallBackend CDISpecDirs Warnings";

    #[test]
    fn info_has_every_key_in_order() {
        let value = info(
            &SystemInfo::default(),
            &Settings::default(),
            &ApiVersion::newest(),
        );
        let keys: Vec<&str> = value
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(keys, KEYS.split_whitespace().collect::<Vec<_>>());
        let old = ApiVersion::from_path("1.49").expect("a version");
        assert!(
            info(&SystemInfo::default(), &Settings::default(), &old)
                .get("BridgeNfIptables")
                .is_some()
        );
    }
}
