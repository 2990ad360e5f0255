//! Limits of a container in the spec's form (spec runtime §9).

use super::json_error;
use crate::error::{EngineError, Result};
use crate::model::host_config::Resources;
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};
use wharf_safefs::{FileType, trusted};

/// Turns limits into the spec's resources.
///
/// # Errors
/// A device path that is no device.
pub(crate) fn linux_resources(limits: &Resources) -> Result<LinuxResources> {
    let some = |number: i64| (number != 0).then_some(number);
    let mut memory = json!({});
    set(&mut memory, "limit", some(limits.memory_bytes));
    set(
        &mut memory,
        "reservation",
        some(limits.memory_reservation_bytes),
    );
    // "No limit" is said as well, so that an update lifts one; a host without swap accounting has no
    // file to say it to.
    let swap_limit = crate::host::host().info.swap_limit;
    let swap = some(limits.memory_swap_bytes).filter(|swap| *swap > 0 || swap_limit);
    set(&mut memory, "swap", swap);
    set(
        &mut memory,
        "swappiness",
        limits.memory_swappiness.filter(|value| *value >= 0),
    );
    set(&mut memory, "disableOOMKiller", limits.oom_kill_disable);
    let mut cpu = json!({});
    set(&mut cpu, "shares", some(limits.cpu_shares));
    set(
        &mut cpu,
        "realtimePeriod",
        some(limits.cpu_realtime_period_us),
    );
    set(
        &mut cpu,
        "realtimeRuntime",
        some(limits.cpu_realtime_runtime_us),
    );
    if limits.nano_cpus > 0 {
        cpu["period"] = json!(100_000);
        cpu["quota"] = json!(limits.nano_cpus / 10_000);
    } else {
        set(&mut cpu, "period", some(limits.cpu_period_us));
        set(&mut cpu, "quota", some(limits.cpu_quota_us));
    }
    set(
        &mut cpu,
        "cpus",
        Some(&limits.cpuset_cpus).filter(|text| !text.is_empty()),
    );
    set(
        &mut cpu,
        "mems",
        Some(&limits.cpuset_mems).filter(|text| !text.is_empty()),
    );
    let mut resources = json!({ "memory": memory, "cpu": cpu, "blockIO": block_io(limits)? });
    if let Some(limit) = limits.pids_limit {
        resources["pids"] = json!({ "limit": if limit > 0 { limit } else { -1 } });
    }
    serde_json::from_value(resources).map_err(json_error)
}

fn block_io(limits: &Resources) -> Result<Value> {
    let mut io = json!({});
    if limits.blkio_weight != 0 {
        io["weight"] = json!(limits.blkio_weight);
    }
    let rates = [
        ("throttleReadBpsDevice", &limits.blkio_device_read_bps),
        ("throttleWriteBpsDevice", &limits.blkio_device_write_bps),
        ("throttleReadIOPSDevice", &limits.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", &limits.blkio_device_write_iops),
    ];
    for (key, devices) in rates {
        let mut list = Vec::new();
        for (path, rate) in devices {
            let (major, minor) = device_number(path)?;
            list.push(json!({ "major": major, "minor": minor, "rate": rate }));
        }
        if !list.is_empty() {
            io[key] = Value::Array(list);
        }
    }
    let mut weights = Vec::new();
    for (path, weight) in &limits.blkio_weight_device {
        let (major, minor) = device_number(path)?;
        weights.push(json!({ "major": major, "minor": minor, "weight": weight }));
    }
    if !weights.is_empty() {
        io["weightDevice"] = Value::Array(weights);
    }
    Ok(io)
}

fn set<T: serde::Serialize>(object: &mut Value, key: &str, value: Option<T>) {
    if let Some(value) = value {
        object[key] = json!(value);
    }
}

/// Returns the number of a device, whatever its path is linked to.
fn device_number(path: &str) -> Result<(u32, u32)> {
    let metadata = trusted::metadata(path).map_err(|error| {
        let reason = if error.is_not_found() {
            "no such file or directory".to_owned()
        } else {
            error.to_string()
        };
        EngineError::internal(format!("stat {path}: {reason}"))
    })?;
    match metadata.file_type {
        FileType::CharDevice | FileType::BlockDevice => {
            Ok((metadata.rdev_major(), metadata.rdev_minor()))
        }
        _ => Err(EngineError::invalid(format!("{path} is not a device"))),
    }
}
