//! Limits of a container's resources.

use serde_json::{Map, Value as Json, json};

use crate::commands::container::flags::ContainerFlags;
use crate::commands::container::request::fields::{put_parsed, put_text};
use crate::error::{CliError, Result};
use crate::options::limits;
use crate::units;

/// Adds the limits of a container's resources.
pub(super) fn put_resources(host: &mut Map<String, Json>, flags: &ContainerFlags) -> Result<()> {
    put_numbers(host, flags);
    put_sizes(host, flags)?;
    if flags.oom_kill_disable {
        host.insert("OomKillDisable".into(), true.into());
    }
    put_text(host, "CpusetCpus", flags.cpuset_cpus.as_ref());
    put_text(host, "CpusetMems", flags.cpuset_mems.as_ref());
    put_text(host, "CgroupParent", flags.cgroup_parent.as_ref());
    put_device_limits(host, flags)?;
    put_parsed(host, "Ulimits", &flags.ulimit, |text| {
        let limit = units::parse_ulimit(text).map_err(|error| {
            CliError::usage(format!(
                "invalid argument {text:?} for \"--ulimit\" flag: {error}"
            ))
        })?;
        Ok(json!({"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard}))
    })
}

fn put_numbers(host: &mut Map<String, Json>, flags: &ContainerFlags) {
    let numbers = [
        ("CpuShares", flags.cpu_shares),
        ("CpuPeriod", flags.cpu_period),
        ("CpuQuota", flags.cpu_quota),
        ("CpuRealtimePeriod", flags.cpu_rt_period),
        ("CpuRealtimeRuntime", flags.cpu_rt_runtime),
        (
            "MemorySwappiness",
            flags.memory_swappiness.filter(|percent| *percent != -1),
        ),
        ("PidsLimit", flags.pids_limit),
        ("OomScoreAdj", flags.oom_score_adj),
        ("BlkioWeight", flags.blkio_weight.map(i64::from)),
    ];
    for (key, number) in numbers {
        if let Some(number) = number {
            host.insert(key.into(), number.into());
        }
    }
}

/// Adds what is said as a share of a CPU or with a unit.
fn put_sizes(host: &mut Map<String, Json>, flags: &ContainerFlags) -> Result<()> {
    if let Some(cpus) = &flags.cpus {
        host.insert("NanoCpus".into(), limits::nano_cpus(cpus)?.into());
    }
    let sizes = [
        ("Memory", "memory", &flags.memory),
        (
            "MemoryReservation",
            "memory-reservation",
            &flags.memory_reservation,
        ),
        ("ShmSize", "shm-size", &flags.shm_size),
    ];
    for (key, flag, size) in sizes {
        if let Some(size) = size {
            host.insert(key.into(), limits::memory(flag, size)?.into());
        }
    }
    if let Some(size) = &flags.memory_swap {
        host.insert("MemorySwap".into(), limits::memory_swap(size)?.into());
    }
    Ok(())
}

/// Adds what is said of single block devices.
fn put_device_limits(host: &mut Map<String, Json>, flags: &ContainerFlags) -> Result<()> {
    put_parsed(
        host,
        "BlkioWeightDevice",
        &flags.blkio_weight_device,
        limits::device_weight,
    )?;
    put_parsed(
        host,
        "BlkioDeviceReadBps",
        &flags.device_read_bps,
        limits::throttle_bytes,
    )?;
    put_parsed(
        host,
        "BlkioDeviceWriteBps",
        &flags.device_write_bps,
        limits::throttle_bytes,
    )?;
    put_parsed(
        host,
        "BlkioDeviceReadIOps",
        &flags.device_read_iops,
        limits::throttle_operations,
    )?;
    put_parsed(
        host,
        "BlkioDeviceWriteIOps",
        &flags.device_write_iops,
        limits::throttle_operations,
    )
}
