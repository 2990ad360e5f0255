//! `HostConfig` (spec engine-api §7.1): every key docker 28 knows, in its order.

use super::mount::Mount;
use super::resources::Resources;
use super::{is_default, none_if_empty};
use crate::respond::Failure;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use wharf_engine::model::host_config as model;
use wharf_image::string_or_list;

/// The keys of `HostConfig` but for [`Resources`], which lie among them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HostConfig {
    binds: Option<Vec<String>>,
    #[serde(rename = "ContainerIDFile")]
    container_id_file: String,
    log_config: LogConfig,
    network_mode: String,
    port_bindings: Option<BTreeMap<String, Option<Vec<PortBinding>>>>,
    restart_policy: RestartPolicy,
    auto_remove: bool,
    volume_driver: String,
    volumes_from: Option<Vec<String>>,
    #[serde(deserialize_with = "console_size")]
    console_size: [u16; 2],
    #[serde(skip_serializing_if = "is_default")]
    annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "string_or_list")]
    cap_add: Option<Vec<String>>,
    #[serde(deserialize_with = "string_or_list")]
    cap_drop: Option<Vec<String>>,
    cgroupns_mode: String,
    dns: Option<Vec<String>>,
    dns_options: Option<Vec<String>>,
    dns_search: Option<Vec<String>>,
    extra_hosts: Option<Vec<String>>,
    group_add: Option<Vec<String>>,
    ipc_mode: String,
    cgroup: String,
    links: Option<Vec<String>>,
    oom_score_adj: i32,
    pid_mode: String,
    privileged: bool,
    publish_all_ports: bool,
    readonly_rootfs: bool,
    security_opt: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_default")]
    storage_opt: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    tmpfs: BTreeMap<String, String>,
    #[serde(rename = "UTSMode")]
    uts_mode: String,
    userns_mode: String,
    shm_size: i64,
    #[serde(skip_serializing_if = "is_default")]
    sysctls: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    runtime: String,
    isolation: String,
    #[serde(skip_serializing_if = "is_default")]
    mounts: Option<Vec<Mount>>,
    masked_paths: Option<Vec<String>>,
    readonly_paths: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<bool>,
}

/// How output is logged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogConfig {
    #[serde(rename = "Type")]
    driver: String,
    #[serde(rename = "Config")]
    options: BTreeMap<String, String>,
}

/// The host side of a published port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PortBinding {
    pub(crate) host_ip: String,
    pub(crate) host_port: String,
}

/// When a container is started again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RestartPolicy {
    name: String,
    maximum_retry_count: i64,
}

impl From<RestartPolicy> for model::RestartPolicy {
    fn from(policy: RestartPolicy) -> Self {
        Self {
            name: policy.name,
            maximum_retry_count: policy.maximum_retry_count,
        }
    }
}

/// The last key before the resources, as docker's struct embeds them there.
const KEY_BEFORE_RESOURCES: &str = "Isolation";

/// Writes a container's `HostConfig` with all keys in docker's order.
pub(crate) fn to_value(host: &model::HostConfig) -> Value {
    let object = |value: Result<Value, serde_json::Error>| match value {
        Ok(Value::Object(object)) => object,
        // Both are plain structs of data with text keys.
        _ => Map::new(),
    };
    let mut resources = Some(object(serde_json::to_value(Resources::of(host))));
    let mut keys = Map::new();
    for (key, value) in object(serde_json::to_value(HostConfig::from(host))) {
        let is_place = key == KEY_BEFORE_RESOURCES;
        keys.insert(key, value);
        if let Some(resources) = resources.take_if(|_| is_place) {
            keys.extend(resources);
        }
    }
    for key in &host.given_empty {
        if let Some(value) = keys.get_mut(key).filter(|value| value.is_null()) {
            *value = Value::Array(Vec::new());
        }
    }
    Value::Object(keys)
}

/// Writes a container's `HostConfig` with its links as docker shows them.
pub(crate) fn to_value_with_links(host: &model::HostConfig, links: Vec<String>) -> Value {
    let mut value = to_value(host);
    value["Links"] = none_if_empty(links).map_or(Value::Null, Value::from);
    value
}

/// Returns docker's spelling of the keys that were given without anything in them.
fn given_empty(given: &Value) -> BTreeSet<String> {
    let is_empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(keys) => keys.is_empty(),
        _ => false,
    };
    let given = given.as_object().into_iter().flatten();
    let empty: Vec<&String> = given
        .filter(|(_, value)| is_empty(value))
        .map(|(key, _)| key)
        .collect();
    let unset = to_value(&model::HostConfig::default());
    let keys = unset.as_object().into_iter().flatten();
    keys.filter(|(key, value)| {
        value.is_null() && empty.iter().any(|given| given.eq_ignore_ascii_case(key))
    })
    .map(|(key, _)| key.clone())
    .collect()
}

/// Reads the `HostConfig` of a create request.
///
/// # Errors
/// 400 for a wrong shape, 501 for a limit that there is no place for.
pub(crate) fn from_value(value: Value) -> Result<model::HostConfig, Failure> {
    let resources: Resources = crate::body::read_document(value.clone())?;
    if resources.kernel_memory_tcp > 0 {
        return Err(Failure::not_implemented(
            "KernelMemoryTCP is not supported: leave the limit away",
        ));
    }
    let given_empty = given_empty(&value);
    let host: HostConfig = crate::body::read_document(value)?;
    host.check_addresses()?;
    let mut host = host.into_model(&resources);
    host.given_empty = given_empty;
    Ok(host)
}

impl HostConfig {
    fn check_addresses(&self) -> Result<(), Failure> {
        let ports = self.port_bindings.iter().flat_map(BTreeMap::keys);
        ports
            .into_iter()
            .try_for_each(|port| super::create::check_port(port))?;
        let published = self.port_bindings.iter().flat_map(BTreeMap::values);
        let published = published
            .flatten()
            .flatten()
            .map(|binding| &binding.host_ip);
        let servers = self.dns.iter().flatten();
        servers
            .chain(published)
            .try_for_each(|text| super::address::check(text))
    }

    fn into_model(self, resources: &Resources) -> model::HostConfig {
        let mounts = self
            .mounts
            .unwrap_or_default()
            .into_iter()
            .map(Mount::into_model);
        model::HostConfig {
            binds: self.binds.unwrap_or_default(),
            mounts: mounts.collect(),
            tmpfs: self.tmpfs,
            volumes_from: self.volumes_from.unwrap_or_default(),
            volume_driver: self.volume_driver,
            network_mode: self.network_mode,
            port_bindings: port_bindings(self.port_bindings.unwrap_or_default()),
            publish_all_ports: self.publish_all_ports,
            restart_policy: self.restart_policy.into(),
            auto_remove: self.auto_remove,
            privileged: self.privileged,
            readonly_rootfs: self.readonly_rootfs,
            init: self.init,
            cap_add: self.cap_add.unwrap_or_default(),
            cap_drop: self.cap_drop.unwrap_or_default(),
            security_opt: self.security_opt.unwrap_or_default(),
            devices: resources.device_mappings(),
            device_cgroup_rules: resources.device_cgroup_rules.clone().unwrap_or_default(),
            device_requests: resources.device_requests(),
            dns: self.dns.unwrap_or_default(),
            dns_options: self.dns_options.unwrap_or_default(),
            dns_search: self.dns_search.unwrap_or_default(),
            extra_hosts: self.extra_hosts.unwrap_or_default(),
            group_add: self.group_add.unwrap_or_default(),
            ipc_mode: self.ipc_mode,
            pid_mode: self.pid_mode,
            uts_mode: self.uts_mode,
            userns_mode: self.userns_mode,
            cgroupns_mode: self.cgroupns_mode,
            links: self.links.unwrap_or_default(),
            oom_score_adj: self.oom_score_adj,
            storage_opt: self.storage_opt,
            shm_size_bytes: self.shm_size,
            sysctls: self.sysctls,
            runtime: self.runtime,
            ulimits: resources.ulimits(),
            resources: resources.limits(),
            log_config: model::LogConfig {
                driver: self.log_config.driver,
                options: self.log_config.options,
            },
            masked_paths: self.masked_paths,
            readonly_paths: self.readonly_paths,
            annotations: self.annotations,
            console_size: match self.console_size {
                [0, 0] => None,
                [height, width] => Some((height, width)),
            },
            container_id_file: self.container_id_file,
            isolation: self.isolation,
            cgroup: self.cgroup,
            given_empty: BTreeSet::new(),
        }
    }
}

/// A port without bindings is published on a free port of every address, as recorded of docker.
fn port_bindings(
    ports: BTreeMap<String, Option<Vec<PortBinding>>>,
) -> BTreeMap<String, Vec<model::PortBinding>> {
    let convert = |binding: PortBinding| model::PortBinding {
        host_ip: binding.host_ip,
        host_port: binding.host_port,
    };
    ports
        .into_iter()
        .map(|(port, bindings)| {
            let bindings: Vec<_> = bindings.into_iter().flatten().map(convert).collect();
            if bindings.is_empty() {
                return (port, vec![model::PortBinding::default()]);
            }
            (port, bindings)
        })
        .collect()
}

impl From<&model::HostConfig> for HostConfig {
    fn from(host: &model::HostConfig) -> Self {
        let list = |values: &Vec<String>| none_if_empty(values.clone());
        let (height, width) = host.console_size.unwrap_or_default();
        Self {
            binds: list(&host.binds),
            container_id_file: host.container_id_file.clone(),
            log_config: LogConfig {
                driver: host.log_config.driver.clone(),
                options: host.log_config.options.clone(),
            },
            network_mode: host.network_mode.clone(),
            port_bindings: Some(ports_of(&host.port_bindings)),
            restart_policy: RestartPolicy {
                name: host.restart_policy.name.clone(),
                maximum_retry_count: host.restart_policy.maximum_retry_count,
            },
            auto_remove: host.auto_remove,
            volume_driver: host.volume_driver.clone(),
            volumes_from: list(&host.volumes_from),
            console_size: [height, width],
            annotations: host.annotations.clone(),
            cap_add: list(&host.cap_add),
            cap_drop: list(&host.cap_drop),
            cgroupns_mode: host.cgroupns_mode.clone(),
            dns: list(&host.dns),
            dns_options: list(&host.dns_options),
            dns_search: list(&host.dns_search),
            extra_hosts: list(&host.extra_hosts),
            group_add: list(&host.group_add),
            ipc_mode: host.ipc_mode.clone(),
            cgroup: host.cgroup.clone(),
            links: list(&host.links),
            oom_score_adj: host.oom_score_adj,
            pid_mode: host.pid_mode.clone(),
            privileged: host.privileged,
            publish_all_ports: host.publish_all_ports,
            readonly_rootfs: host.readonly_rootfs,
            security_opt: list(&host.security_opt),
            storage_opt: host.storage_opt.clone(),
            tmpfs: host.tmpfs.clone(),
            uts_mode: host.uts_mode.clone(),
            userns_mode: host.userns_mode.clone(),
            shm_size: host.shm_size_bytes,
            sysctls: host.sysctls.clone(),
            runtime: host.runtime.clone(),
            isolation: host.isolation.clone(),
            mounts: none_if_empty(host.mounts.iter().map(Mount::from).collect()),
            masked_paths: host.masked_paths.clone(),
            readonly_paths: host.readonly_paths.clone(),
            init: host.init,
        }
    }
}

/// Reads a size of any length as Go reads into two numbers: what is missing is 0, what is more is dropped.
fn console_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u16; 2], D::Error> {
    let given = Vec::<u64>::deserialize(deserializer)?;
    let side = |index: usize| {
        let side = given.get(index).copied().unwrap_or_default();
        u16::try_from(side).unwrap_or(u16::MAX)
    };
    Ok([side(0), side(1)])
}

/// Returns the ports with their bindings.
fn ports_of(
    ports: &BTreeMap<String, Vec<model::PortBinding>>,
) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    let convert = |binding: &model::PortBinding| PortBinding {
        host_ip: binding.host_ip.clone(),
        host_port: binding.host_port.clone(),
    };
    let ports = ports.iter().map(|(port, bindings)| {
        let bindings = bindings.iter().map(convert).collect();
        (port.clone(), Some(bindings))
    });
    ports.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The keys docker 28 prints for a container created with nothing set, in its order.
    const KEYS: &str = "Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy \
        AutoRemove VolumeDriver VolumesFrom ConsoleSize CapAdd CapDrop CgroupnsMode Dns DnsOptions \
        DnsSearch ExtraHosts GroupAdd IpcMode Cgroup Links OomScoreAdj PidMode Privileged \
        PublishAllPorts ReadonlyRootfs SecurityOpt UTSMode UsernsMode ShmSize Isolation CpuShares \
        Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps \
        BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota \
        CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems Devices DeviceCgroupRules \
        DeviceRequests MemoryReservation MemorySwap MemorySwappiness OomKillDisable PidsLimit \
        Ulimits CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth MaskedPaths ReadonlyPaths";

    #[test]
    fn keys_are_dockers_in_dockers_order() {
        let value = to_value(&model::HostConfig::default());
        let keys: Vec<&str> = value
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(keys, KEYS.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn what_was_asked_for_comes_back() {
        let asked = json!({
            "Binds": ["/tmp:/mnt:ro,rslave"], "CapAdd": ["SYS_ADMIN"], "Memory": 67_108_864,
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rw"}],
            "DeviceRequests": [{"Driver": "", "Count": -1, "DeviceIDs": null, "Capabilities": [["gpu"]], "Options": null}],
            "Ulimits": [{"Name": "nofile", "Hard": 200, "Soft": 100}],
            "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "18080"}], "81/tcp": [{"HostIp": "", "HostPort": ""}]},
            "BlkioDeviceReadBps": [{"Path": "/dev/vda", "Rate": 1_048_576}],
            "Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/m",
                        "BindOptions": {"Propagation": "rshared", "NonRecursive": true}},
                       {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 448}}],
            "Tmpfs": {"/t": "size=1m"}, "Sysctls": {"kernel.msgmax": "1000"}, "Init": true,
            "ConsoleSize": [10, 20], "Dns": [], "ExtraHosts": [], "MaskedPaths": [], "ReadonlyPaths": null, "PidsLimit": 5,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10k"}},
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
        });
        let host = from_value(asked.clone()).expect("a host config");
        let answered = to_value(&host);
        for (key, value) in asked.as_object().expect("an object") {
            assert_eq!(&answered[key], value, "{key}");
        }
    }

    #[test]
    fn odd_forms_are_read_as_go_reads_them() {
        let host = |asked: Value| to_value(&from_value(asked).expect("a host config"));
        let read = host(
            json!({"capadd": "ALL", "dns": [], "ConsoleSize": [7], "PortBindings": {"80/tcp": null}}),
        );
        assert_eq!(read["CapAdd"], json!(["ALL"]));
        assert_eq!(read["Dns"], json!([]));
        assert_eq!(read["DnsSearch"], Value::Null);
        assert_eq!(read["ConsoleSize"], json!([7, 0]));
        let binding = json!({"HostIp": "", "HostPort": ""});
        assert_eq!(read["PortBindings"], json!({"80/tcp": [binding]}));
        assert_eq!(host(json!({}))["PortBindings"], json!({}));
        let large = host(json!({"ConsoleSize": [70_000, 1, 2]}));
        assert_eq!(large["ConsoleSize"], json!([u16::MAX, 1]));
    }

    #[test]
    fn links_are_shown_in_their_place() {
        let value = to_value_with_links(&model::HostConfig::default(), vec!["/a:/b/a".to_owned()]);
        assert_eq!(value["Links"], json!(["/a:/b/a"]));
        let keys = value.as_object().expect("an object").keys();
        assert_eq!(
            keys.map(String::as_str).collect::<Vec<_>>(),
            KEYS.split_whitespace().collect::<Vec<_>>()
        );
    }
}
