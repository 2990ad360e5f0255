//! Limits as the control files take them (spec runtime §9).

use oci_spec::runtime::{LinuxBlockIo, LinuxResources, LinuxThrottleDevice};

use crate::error::{Result, RuntimeError};

/// One write to a control file.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// The controller (version 1: which hierarchy).
    pub controller: &'static str,
    /// The file.
    pub file: String,
    /// What is written.
    pub value: String,
}

/// The least and most CPU shares (version 1, kernel `sched.h`).
const CPU_SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// The longest CPU or memory node list, in bytes (CVE-2018-20699: a huge range must cost nothing).
const MAX_LIST_BYTES: usize = 8192;

struct Settings(Vec<Setting>);

impl Settings {
    fn set(&mut self, controller: &'static str, file: &str, value: impl ToString) {
        self.0.push(Setting {
            controller,
            file: file.to_owned(),
            value: value.to_string(),
        });
    }

    fn maybe(&mut self, controller: &'static str, file: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.set(controller, file, value);
        }
    }
}

/// Returns the writes for version 1.
pub fn v1(resources: &LinuxResources) -> Result<Vec<Setting>> {
    let mut settings = Settings(Vec::new());
    refuse(resources)?;
    if let Some(memory) = resources.memory() {
        let limited = |value: Option<i64>| value.filter(|value| *value != 0);
        settings.maybe("memory", "memory.limit_in_bytes", limited(memory.limit()));
        settings.maybe(
            "memory",
            "memory.memsw.limit_in_bytes",
            limited(memory.swap()),
        );
        let reservation = limited(memory.reservation());
        settings.maybe("memory", "memory.soft_limit_in_bytes", reservation);
        settings.maybe("memory", "memory.swappiness", memory.swappiness());
        if memory.disable_oom_killer() == Some(true) {
            settings.set("memory", "memory.oom_control", 1);
        }
    }
    if let Some(cpu) = resources.cpu() {
        let shares = cpu.shares().filter(|shares| *shares != 0);
        check_shares(shares)?;
        settings.maybe("cpu", "cpu.shares", shares);
        let period = cpu.period().filter(|period| *period != 0);
        settings.maybe("cpu", "cpu.cfs_period_us", period);
        let quota = cpu.quota().filter(|quota| *quota != 0);
        settings.maybe("cpu", "cpu.cfs_quota_us", quota);
        settings.maybe("cpu", "cpu.rt_period_us", cpu.realtime_period());
        settings.maybe("cpu", "cpu.rt_runtime_us", cpu.realtime_runtime());
        settings.maybe("cpuset", "cpuset.cpus", list(cpu.cpus().as_deref())?);
        settings.maybe("cpuset", "cpuset.mems", list(cpu.mems().as_deref())?);
    }
    if let Some(pids) = resources.pids() {
        settings.set("pids", "pids.max", or_max(pids.limit()));
    }
    if let Some(block) = resources.block_io() {
        let weight = block.weight().filter(|weight| *weight != 0);
        settings.maybe("blkio", "blkio.weight", weight);
        for device in block.weight_device().iter().flatten() {
            if let Some(weight) = device.weight() {
                let value = format!("{}:{} {weight}", device.major(), device.minor());
                settings.set("blkio", "blkio.weight_device", value);
            }
        }
        for (name, devices) in throttles(block) {
            for device in devices {
                let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
                settings.set("blkio", &format!("blkio.throttle.{name}"), value);
            }
        }
    }
    Ok(settings.0)
}

/// Returns the writes for version 2.
pub fn v2(resources: &LinuxResources) -> Result<Vec<Setting>> {
    let mut settings = Settings(Vec::new());
    refuse(resources)?;
    if let Some(memory) = resources.memory() {
        let limit = memory.limit().filter(|limit| *limit != 0);
        settings.maybe("memory", "memory.max", limit.map(or_max));
        let reservation = memory.reservation().filter(|value| *value != 0);
        settings.maybe("memory", "memory.low", reservation.map(or_max));
        match (memory.swap(), limit) {
            (None | Some(0), _) => {}
            (Some(swap), _) if swap < 0 => settings.set("memory", "memory.swap.max", "max"),
            // The request counts memory and swap together, the file swap alone.
            (Some(total), Some(limit)) if limit > 0 => {
                let swap = total.saturating_sub(limit).max(0);
                settings.set("memory", "memory.swap.max", swap);
            }
            (Some(total), _) => settings.set("memory", "memory.swap.max", total),
        }
    }
    if let Some(cpu) = resources.cpu() {
        let shares = cpu.shares().filter(|shares| *shares != 0);
        settings.maybe("cpu", "cpu.weight", shares.map(weight_of_shares));
        let quota = cpu.quota().filter(|quota| *quota != 0);
        let period = cpu.period().filter(|period| *period != 0);
        if quota.is_some() || period.is_some() {
            let quota = quota.map_or_else(|| "max".to_owned(), or_max);
            let value = match period {
                Some(period) => format!("{quota} {period}"),
                None => quota,
            };
            settings.set("cpu", "cpu.max", value);
        }
        settings.maybe("cpuset", "cpuset.cpus", list(cpu.cpus().as_deref())?);
        settings.maybe("cpuset", "cpuset.mems", list(cpu.mems().as_deref())?);
    }
    if let Some(pids) = resources.pids() {
        settings.set("pids", "pids.max", or_max(pids.limit()));
    }
    if let Some(block) = resources.block_io() {
        if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
            let weight = 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
            settings.set("io", "io.weight", weight);
        }
        for device in block.weight_device().iter().flatten() {
            if let Some(weight) = device.weight() {
                let weight = 1 + u64::from(weight.saturating_sub(10)) * 9999 / 990;
                let value = format!("{}:{} {weight}", device.major(), device.minor());
                settings.set("io", "io.weight", value);
            }
        }
        let names = ["rbps", "wbps", "riops", "wiops"];
        for (name, (_, devices)) in names.into_iter().zip(throttles(block)) {
            for device in devices {
                let (major, minor) = (device.major(), device.minor());
                let value = format!("{major}:{minor} {name}={}", device.rate());
                settings.set("io", "io.max", value);
            }
        }
    }
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains('/') || !file.contains('.') {
            return Err(RuntimeError::invalid(
                "unified",
                format!("{file:?} is no control file"),
            ));
        }
        settings.set("unified", file, value);
    }
    Ok(settings.0)
}

/// Refuses shares that the kernel would silently replace by the nearest it takes.
fn check_shares(shares: Option<u64>) -> Result<()> {
    let (least, most) = CPU_SHARES.into_inner();
    let text = match shares {
        Some(shares) if shares < least => format!("the minimum allowed cpu-shares is {least}"),
        Some(shares) if shares > most => format!("the maximum allowed cpu-shares is {most}"),
        _ => return Ok(()),
    };
    Err(RuntimeError::refused(format!(
        "unable to start container process: error during container init: error setting cgroup config for procHooks process: {text}"
    )))
}

fn refuse(resources: &LinuxResources) -> Result<()> {
    let asked = [
        (
            resources
                .hugepage_limits()
                .as_ref()
                .is_some_and(|l| !l.is_empty()),
            "a huge page limit",
        ),
        (
            resources.rdma().as_ref().is_some_and(|l| !l.is_empty()),
            "an RDMA limit",
        ),
    ];
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(RuntimeError::Unsupported {
            what: (*what).to_owned(),
        }),
        None => Ok(()),
    }
}

fn throttles(block: &LinuxBlockIo) -> [(&'static str, &[LinuxThrottleDevice]); 4] {
    [
        (
            "read_bps_device",
            block
                .throttle_read_bps_device()
                .as_deref()
                .unwrap_or_default(),
        ),
        (
            "write_bps_device",
            block
                .throttle_write_bps_device()
                .as_deref()
                .unwrap_or_default(),
        ),
        (
            "read_iops_device",
            block
                .throttle_read_iops_device()
                .as_deref()
                .unwrap_or_default(),
        ),
        (
            "write_iops_device",
            block
                .throttle_write_iops_device()
                .as_deref()
                .unwrap_or_default(),
        ),
    ]
}

/// Returns a limit as text; zero and below mean none.
fn or_max(limit: i64) -> String {
    if limit <= 0 {
        "max".to_owned()
    } else {
        limit.to_string()
    }
}

/// Converts version 1 shares (2 to 262144) to a version 2 weight (1 to 10000) on the curve that
/// maps 1024 to 100: 10^((l² + 125 l) / 612 − 7/34), l the binary logarithm of the shares.
fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let logarithm = (shares as f64).log2();
    let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

fn list(list: Option<&str>) -> Result<Option<&str>> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b',' | b'-');
    if list.len() > MAX_LIST_BYTES || !list.bytes().all(plain) {
        let reason = format!("{:?} is no list like 0-2,4", list.get(..64).unwrap_or(list));
        return Err(RuntimeError::invalid("cpuset", reason));
    }
    Ok(Some(list))
}

/// Returns the number after a key in a file of `key number` lines.
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    fn lines(settings: Vec<Setting>) -> Vec<String> {
        settings
            .into_iter()
            .map(|setting| format!("{}={}", setting.file, setting.value))
            .collect()
    }

    const EXAMPLE: &str = r#"{
        "memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432},
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1"},
        "pids": {"limit": 0},
        "blockIO": {"weight": 500,
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1048576}]}
    }"#;

    #[test]
    fn version_1() {
        let expected = [
            "memory.limit_in_bytes=67108864",
            "memory.memsw.limit_in_bytes=134217728",
            "memory.soft_limit_in_bytes=33554432",
            "cpu.shares=1024",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=50000",
            "cpuset.cpus=0-1",
            "pids.max=max",
            "blkio.weight=500",
            "blkio.throttle.read_bps_device=8:0 1048576",
        ];
        assert_eq!(lines(v1(&resources(EXAMPLE)).unwrap()), expected);
    }

    #[test]
    fn version_2() {
        let expected = [
            "memory.max=67108864",
            "memory.low=33554432",
            "memory.swap.max=67108864",
            "cpu.weight=100",
            "cpu.max=50000 100000",
            "cpuset.cpus=0-1",
            "pids.max=max",
            "io.weight=4950",
            "io.max=8:0 rbps=1048576",
        ];
        assert_eq!(lines(v2(&resources(EXAMPLE)).unwrap()), expected);
    }

    #[test]
    fn bad_lists_and_files_are_refused() {
        let huge = format!(
            r#"{{"cpu": {{"cpus": "{}"}}}}"#,
            "1,".repeat(MAX_LIST_BYTES)
        );
        assert!(v1(&resources(&huge)).is_err());
        assert!(v1(&resources(r#"{"cpu": {"cpus": "0;rm"}}"#)).is_err());
        assert!(v2(&resources(r#"{"unified": {"../x.y": "1"}}"#)).is_err());
    }

    #[test]
    fn shares_map_to_weights() {
        for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight);
        }
    }

    #[test]
    fn keyed_numbers() {
        assert_eq!(
            keyed("oom_kill_disable 0\noom_kill 3\n", "oom_kill"),
            Some(3)
        );
        assert_eq!(keyed("oom_kill x\n", "oom_kill"), None);
    }
}
