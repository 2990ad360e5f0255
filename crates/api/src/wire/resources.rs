//! Limits of the control group, in `HostConfig` and in update calls (spec engine-api §7.1).

use super::none_if_empty;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wharf_engine::model::host_config as model;

/// The keys docker calls `Resources`, in its order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Resources {
    pub(crate) cpu_shares: i64,
    pub(crate) memory: i64,
    pub(crate) nano_cpus: i64,
    pub(crate) cgroup_parent: String,
    pub(crate) blkio_weight: u16,
    pub(crate) blkio_weight_device: Option<Vec<WeightDevice>>,
    pub(crate) blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    pub(crate) blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub(crate) blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub(crate) blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    pub(crate) cpu_period: i64,
    pub(crate) cpu_quota: i64,
    pub(crate) cpu_realtime_period: i64,
    pub(crate) cpu_realtime_runtime: i64,
    pub(crate) cpuset_cpus: String,
    pub(crate) cpuset_mems: String,
    pub(crate) devices: Option<Vec<DeviceMapping>>,
    pub(crate) device_cgroup_rules: Option<Vec<String>>,
    pub(crate) device_requests: Option<Vec<DeviceRequest>>,
    pub(crate) memory_reservation: i64,
    pub(crate) memory_swap: i64,
    pub(crate) memory_swappiness: Option<i64>,
    pub(crate) oom_kill_disable: Option<bool>,
    pub(crate) pids_limit: Option<i64>,
    pub(crate) ulimits: Option<Vec<Ulimit>>,
    /// A limit of version 1 that docker still takes; there is no place for it here.
    #[serde(rename = "KernelMemoryTCP", skip_serializing)]
    pub(crate) kernel_memory_tcp: i64,
    /// Windows only, as are the three that follow.
    pub(crate) cpu_count: i64,
    pub(crate) cpu_percent: i64,
    #[serde(rename = "IOMaximumIOps")]
    pub(crate) io_maximum_iops: u64,
    #[serde(rename = "IOMaximumBandwidth")]
    pub(crate) io_maximum_bandwidth: u64,
}

/// Weight of block I/O of one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct WeightDevice {
    path: String,
    weight: u16,
}

/// Limit of block I/O of one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ThrottleDevice {
    path: String,
    rate: u64,
}

/// A host device made available.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DeviceMapping {
    path_on_host: String,
    path_in_container: String,
    cgroup_permissions: String,
}

/// Devices asked for by driver.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DeviceRequest {
    driver: String,
    count: i64,
    #[serde(rename = "DeviceIDs")]
    device_ids: Option<Vec<String>>,
    capabilities: Option<Vec<Vec<String>>>,
    options: Option<BTreeMap<String, String>>,
}

/// Limit of one resource of processes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Ulimit {
    name: String,
    hard: i64,
    soft: i64,
}

impl Resources {
    /// Returns the limits as the engine knows them.
    pub(crate) fn limits(&self) -> model::Resources {
        model::Resources {
            cpu_shares: self.cpu_shares,
            memory_bytes: self.memory,
            nano_cpus: self.nano_cpus,
            cgroup_parent: self.cgroup_parent.clone(),
            blkio_weight: self.blkio_weight,
            blkio_weight_device: self
                .blkio_weight_device
                .iter()
                .flatten()
                .map(|device| (device.path.clone(), device.weight))
                .collect(),
            blkio_device_read_bps: rates(&self.blkio_device_read_bps),
            blkio_device_write_bps: rates(&self.blkio_device_write_bps),
            blkio_device_read_iops: rates(&self.blkio_device_read_iops),
            blkio_device_write_iops: rates(&self.blkio_device_write_iops),
            cpu_period_us: self.cpu_period,
            cpu_quota_us: self.cpu_quota,
            cpu_realtime_period_us: self.cpu_realtime_period,
            cpu_realtime_runtime_us: self.cpu_realtime_runtime,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            memory_reservation_bytes: self.memory_reservation,
            memory_swap_bytes: self.memory_swap,
            memory_swappiness: self.memory_swappiness,
            oom_kill_disable: self.oom_kill_disable,
            pids_limit: self.pids_limit,
            cpu_percent: self.cpu_percent,
            io_maximum_iops: self.io_maximum_iops,
            io_maximum_bandwidth: self.io_maximum_bandwidth,
        }
    }

    /// Returns the name of a field that is set and that an update cannot change; docker drops it in silence.
    pub(crate) fn not_updatable(&self) -> Option<&'static str> {
        fn some<T>(list: &Option<Vec<T>>) -> bool {
            list.as_ref().is_some_and(|list| !list.is_empty())
        }
        let fields = [
            ("CgroupParent", !self.cgroup_parent.is_empty()),
            ("BlkioWeightDevice", some(&self.blkio_weight_device)),
            ("BlkioDeviceReadBps", some(&self.blkio_device_read_bps)),
            ("BlkioDeviceWriteBps", some(&self.blkio_device_write_bps)),
            ("BlkioDeviceReadIOps", some(&self.blkio_device_read_iops)),
            ("BlkioDeviceWriteIOps", some(&self.blkio_device_write_iops)),
            ("Devices", some(&self.devices)),
            ("DeviceCgroupRules", some(&self.device_cgroup_rules)),
            ("DeviceRequests", some(&self.device_requests)),
            ("MemorySwappiness", self.memory_swappiness.is_some()),
            ("OomKillDisable", self.oom_kill_disable == Some(true)),
            ("Ulimits", some(&self.ulimits)),
            ("KernelMemoryTCP", self.kernel_memory_tcp != 0),
            ("CpuCount", self.cpu_count != 0),
            ("CpuPercent", self.cpu_percent != 0),
        ];
        fields
            .iter()
            .find_map(|(name, is_set)| is_set.then_some(*name))
    }

    /// Returns the device mappings as the engine knows them.
    pub(crate) fn device_mappings(&self) -> Vec<model::DeviceMapping> {
        let convert = |device: &DeviceMapping| model::DeviceMapping {
            path_on_host: device.path_on_host.clone(),
            path_in_container: device.path_in_container.clone(),
            cgroup_permissions: device.cgroup_permissions.clone(),
        };
        self.devices.iter().flatten().map(convert).collect()
    }

    /// Returns the device requests as the engine knows them.
    pub(crate) fn device_requests(&self) -> Vec<model::DeviceRequest> {
        let convert = |request: &DeviceRequest| model::DeviceRequest {
            driver: request.driver.clone(),
            count: request.count,
            device_ids: request.device_ids.clone().unwrap_or_default(),
            capabilities: request.capabilities.clone().unwrap_or_default(),
            options: request.options.clone().unwrap_or_default(),
        };
        self.device_requests.iter().flatten().map(convert).collect()
    }

    /// Returns the ulimits as the engine knows them.
    pub(crate) fn ulimits(&self) -> Vec<model::Ulimit> {
        self.ulimits
            .iter()
            .flatten()
            .map(model::Ulimit::from)
            .collect()
    }

    /// Returns the wire form of a container's limits and devices.
    pub(crate) fn of(host: &model::HostConfig) -> Self {
        let limits = &host.resources;
        let devices = limits
            .blkio_weight_device
            .iter()
            .map(|(path, weight)| WeightDevice {
                path: path.clone(),
                weight: *weight,
            });
        Self {
            cpu_shares: limits.cpu_shares,
            memory: limits.memory_bytes,
            nano_cpus: limits.nano_cpus,
            cgroup_parent: limits.cgroup_parent.clone(),
            blkio_weight: limits.blkio_weight,
            blkio_weight_device: none_if_empty(devices.collect()),
            blkio_device_read_bps: throttles(&limits.blkio_device_read_bps),
            blkio_device_write_bps: throttles(&limits.blkio_device_write_bps),
            blkio_device_read_iops: throttles(&limits.blkio_device_read_iops),
            blkio_device_write_iops: throttles(&limits.blkio_device_write_iops),
            cpu_period: limits.cpu_period_us,
            cpu_quota: limits.cpu_quota_us,
            cpu_realtime_period: limits.cpu_realtime_period_us,
            cpu_realtime_runtime: limits.cpu_realtime_runtime_us,
            cpuset_cpus: limits.cpuset_cpus.clone(),
            cpuset_mems: limits.cpuset_mems.clone(),
            devices: none_if_empty(host.devices.iter().map(DeviceMapping::from).collect()),
            device_cgroup_rules: none_if_empty(host.device_cgroup_rules.clone()),
            device_requests: none_if_empty(
                host.device_requests
                    .iter()
                    .map(DeviceRequest::from)
                    .collect(),
            ),
            memory_reservation: limits.memory_reservation_bytes,
            memory_swap: limits.memory_swap_bytes,
            memory_swappiness: limits.memory_swappiness,
            oom_kill_disable: limits.oom_kill_disable,
            pids_limit: limits.pids_limit,
            ulimits: none_if_empty(host.ulimits.iter().map(Ulimit::from).collect()),
            ..Self::default()
        }
    }
}

fn rates(devices: &Option<Vec<ThrottleDevice>>) -> Vec<(String, u64)> {
    devices
        .iter()
        .flatten()
        .map(|device| (device.path.clone(), device.rate))
        .collect()
}

fn throttles(rates: &[(String, u64)]) -> Option<Vec<ThrottleDevice>> {
    let convert = |(path, rate): &(String, u64)| ThrottleDevice {
        path: path.clone(),
        rate: *rate,
    };
    none_if_empty(rates.iter().map(convert).collect())
}

impl From<&model::DeviceMapping> for DeviceMapping {
    fn from(device: &model::DeviceMapping) -> Self {
        Self {
            path_on_host: device.path_on_host.clone(),
            path_in_container: device.path_in_container.clone(),
            cgroup_permissions: device.cgroup_permissions.clone(),
        }
    }
}

impl From<&model::DeviceRequest> for DeviceRequest {
    fn from(request: &model::DeviceRequest) -> Self {
        Self {
            driver: request.driver.clone(),
            count: request.count,
            device_ids: none_if_empty(request.device_ids.clone()),
            capabilities: none_if_empty(request.capabilities.clone()),
            options: (!request.options.is_empty()).then(|| request.options.clone()),
        }
    }
}

impl From<&model::Ulimit> for Ulimit {
    fn from(limit: &model::Ulimit) -> Self {
        Self {
            name: limit.name.clone(),
            hard: limit.hard,
            soft: limit.soft,
        }
    }
}

impl From<&Ulimit> for model::Ulimit {
    fn from(limit: &Ulimit) -> Self {
        Self {
            name: limit.name.clone(),
            hard: limit.hard,
            soft: limit.soft,
        }
    }
}
