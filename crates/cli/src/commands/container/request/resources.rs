//! Limits of a container's resources.

use serde_json::{Map, Value as Json, json};

use crate::commands::container::flags::ContainerFlags;
use crate::commands::container::request::fields::{put_parsed, put_text};
use crate::error::{CliError, Result};
use crate::options::limits;
use crate::units;

/// Adds the limits of a container's resources.
pub(super) fn put_resources(host: &mut Map<String, Json>, flags: &ContainerFlags) -> Result<()> {
    flags.limits.put(host)?;
    let numbers = [
        (
            "MemorySwappiness",
            flags.memory_swappiness.filter(|percent| *percent != -1),
        ),
        ("OomScoreAdj", flags.oom_score_adj),
    ];
    for (key, number) in numbers {
        if let Some(number) = number {
            host.insert(key.into(), number.into());
        }
    }
    if let Some(size) = &flags.shm_size {
        let bytes = limits::memory("shm-size", size)?;
        host.insert("ShmSize".into(), bytes.into());
    }
    if flags.oom_kill_disable {
        host.insert("OomKillDisable".into(), true.into());
    }
    put_text(host, "CgroupParent", flags.cgroup_parent.as_ref());
    put_device_limits(host, flags)?;
    put_parsed(host, ("Ulimits", "--ulimit"), &flags.ulimit, |text| {
        let limit =
            units::parse_ulimit(text).map_err(|error| CliError::usage(error.to_string()))?;
        Ok(json!({"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard}))
    })
}

/// Adds what is said of single block devices.
fn put_device_limits(host: &mut Map<String, Json>, flags: &ContainerFlags) -> Result<()> {
    put_parsed(
        host,
        ("BlkioWeightDevice", "--blkio-weight-device"),
        &flags.blkio_weight_device,
        limits::device_weight,
    )?;
    put_parsed(
        host,
        ("BlkioDeviceReadBps", "--device-read-bps"),
        &flags.device_read_bps,
        limits::throttle_bytes,
    )?;
    put_parsed(
        host,
        ("BlkioDeviceWriteBps", "--device-write-bps"),
        &flags.device_write_bps,
        limits::throttle_bytes,
    )?;
    put_parsed(
        host,
        ("BlkioDeviceReadIOps", "--device-read-iops"),
        &flags.device_read_iops,
        limits::throttle_operations,
    )?;
    put_parsed(
        host,
        ("BlkioDeviceWriteIOps", "--device-write-iops"),
        &flags.device_write_iops,
        limits::throttle_operations,
    )
}
