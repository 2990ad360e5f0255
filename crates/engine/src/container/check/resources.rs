//! Checking limits: what is out of range is an error, what this kernel cannot limit is discarded with a
//! warning, as docker has it (spec runtime §1.2, §9).

use crate::error::{EngineError, Result};
use crate::model::host_config::Resources;
use std::collections::BTreeSet;

/// Least memory a container can be limited to, in bytes.
pub(crate) const MIN_MEMORY_BYTES: i64 = 6 * 1024 * 1024;
/// CPUs times this is the unit of `NanoCpus`.
const NANO: i64 = 1_000_000_000;
/// Highest number in a list of processors or memory nodes; a huge range must cost nothing
/// (CVE-2018-20699).
const MAX_LIST_NUMBER: u32 = 8192;

type Checked = Result<()>;

fn fail(text: impl Into<String>) -> Checked {
    Err(EngineError::invalid(text))
}

/// Refuses limits of other systems, and what docker refuses before it looks at the rest.
pub(crate) fn check_foreign(resources: &Resources) -> Checked {
    if resources.io_maximum_bandwidth != 0 {
        return fail(
            "invalid option: QoS maximum bandwidth configuration is not supported on linux",
        );
    }
    if resources.io_maximum_iops != 0 {
        return fail("invalid option: QoS maximum IOPs configuration is not supported on linux");
    }
    let (period, runtime) = (
        resources.cpu_realtime_period_us,
        resources.cpu_realtime_runtime_us,
    );
    let supported = crate::host::host().info.limits;
    if (period != 0 || runtime != 0) && !supported.cpu_realtime {
        return fail("kernel does not support CPU real-time scheduler");
    }
    if period != 0 && runtime > period {
        return fail("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    if supported.cpu_shares && resources.cpu_shares < 0 {
        return fail(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            resources.cpu_shares
        ));
    }
    Ok(())
}

/// Checks limits and takes away what cannot be had here; also used by `update`, where a swap limit may
/// come without its memory limit.
///
/// # Errors
/// Docker's texts.
pub(crate) fn check_resources(
    resources: &mut Resources,
    is_update: bool,
    warnings: &mut Vec<String>,
) -> Checked {
    check_memory(resources, is_update, warnings)?;
    check_pids(resources, warnings);
    check_cpu(resources, warnings)?;
    check_cpuset(resources, warnings)?;
    check_block_io(resources, warnings)
}

fn not_supported(what: &str, consequence: &str) -> String {
    format!("Your kernel does not support {what} or the cgroup is not mounted. {consequence}.")
}

fn check_memory(resources: &mut Resources, is_update: bool, warnings: &mut Vec<String>) -> Checked {
    let host = crate::host::host();
    let supported = host.info.limits;
    if resources.memory_swappiness == Some(-1) {
        resources.memory_swappiness = None;
    }
    if resources.memory_bytes != 0 && resources.memory_bytes < MIN_MEMORY_BYTES {
        return fail("Minimum memory limit allowed is 6MB");
    }
    if resources.memory_bytes > 0 && !host.has_controller("memory") {
        warnings.push(not_supported(
            "memory limit capabilities",
            "Limitation discarded",
        ));
        resources.memory_bytes = 0;
        resources.memory_swap_bytes = -1;
    }
    let (memory, swap) = (resources.memory_bytes, resources.memory_swap_bytes);
    if memory > 0 && swap != -1 && !host.info.swap_limit {
        warnings.push(not_supported(
            "swap limit capabilities",
            "Memory limited without swap",
        ));
        resources.memory_swap_bytes = -1;
    }
    let swap = resources.memory_swap_bytes;
    if memory > 0 && swap > 0 && swap < memory {
        return fail("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if resources.memory_bytes == 0 && swap > 0 && !is_update {
        return fail(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if resources.memory_swappiness.is_some() && !supported.memory_swappiness {
        warnings.push(not_supported(
            "memory swappiness capabilities",
            "Memory swappiness discarded",
        ));
        resources.memory_swappiness = None;
    }
    if let Some(swappiness) = resources.memory_swappiness
        && !(0..=100).contains(&swappiness)
    {
        return fail(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        ));
    }
    check_reservation(resources, warnings)?;
    check_oom_kill(resources, warnings);
    Ok(())
}

fn check_reservation(resources: &mut Resources, warnings: &mut Vec<String>) -> Checked {
    if resources.memory_reservation_bytes > 0 && !crate::host::host().info.limits.memory_reservation
    {
        warnings.push(not_supported(
            "memory soft limit capabilities",
            "Limitation discarded",
        ));
        resources.memory_reservation_bytes = 0;
    }
    let (memory, reservation) = (resources.memory_bytes, resources.memory_reservation_bytes);
    if reservation > 0 && reservation < MIN_MEMORY_BYTES {
        return fail("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && reservation > 0 && memory < reservation {
        return fail(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    Ok(())
}

fn check_oom_kill(resources: &mut Resources, warnings: &mut Vec<String>) {
    if !crate::host::host().info.limits.oom_kill_disable {
        if resources.oom_kill_disable == Some(true) {
            warnings.push(
                "Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned(),
            );
        }
        resources.oom_kill_disable = None;
    }
    if resources.oom_kill_disable == Some(true) && resources.memory_bytes == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
    }
}

fn check_pids(resources: &mut Resources, warnings: &mut Vec<String>) {
    if resources.pids_limit.is_some() && !crate::host::host().info.limits.pids {
        if resources.pids_limit > Some(0) {
            warnings.push(not_supported(
                "PIDs limit capabilities",
                "PIDs limit discarded",
            ));
        }
        resources.pids_limit = None;
    }
}

fn check_cpu(resources: &mut Resources, warnings: &mut Vec<String>) -> Checked {
    let info = &crate::host::host().info;
    if resources.nano_cpus > 0 && resources.cpu_period_us > 0 {
        return fail("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if resources.nano_cpus > 0 && resources.cpu_quota_us > 0 {
        return fail("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if resources.nano_cpus > 0 && !info.limits.cpu_quota {
        return fail(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
    }
    let cpus = i64::try_from(info.cpus).unwrap_or(i64::MAX);
    if resources.nano_cpus < 0 || resources.nano_cpus > cpus.saturating_mul(NANO) {
        return fail(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if resources.cpu_shares > 0 && !info.limits.cpu_shares {
        warnings.push(not_supported("CPU shares", "Shares discarded"));
        resources.cpu_shares = 0;
    }
    if (resources.cpu_period_us != 0 || resources.cpu_quota_us != 0) && !info.limits.cpu_quota {
        warnings.push(
            "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded."
                .to_owned(),
        );
        resources.cpu_period_us = 0;
        resources.cpu_quota_us = 0;
    }
    if resources.cpu_period_us != 0 && !(1_000..=1_000_000).contains(&resources.cpu_period_us) {
        return fail(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if resources.cpu_quota_us > 0 && resources.cpu_quota_us < 1_000 {
        return fail("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if resources.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".to_owned());
        resources.cpu_percent = 0;
    }
    Ok(())
}

fn check_cpuset(resources: &mut Resources, warnings: &mut Vec<String>) -> Checked {
    let info = &crate::host::host().info;
    let asked = !resources.cpuset_cpus.is_empty() || !resources.cpuset_mems.is_empty();
    if asked && !info.limits.cpuset {
        warnings.push(not_supported("cpuset", "Cpuset discarded"));
        resources.cpuset_cpus.clear();
        resources.cpuset_mems.clear();
    }
    let lists = [
        ("cpus", "CPUs", &resources.cpuset_cpus, &info.cpu_list),
        (
            "mems",
            "memory nodes",
            &resources.cpuset_mems,
            &info.memory_node_list,
        ),
    ];
    for (name, what, wanted, available) in lists {
        let invalid = |reason: String| {
            fail(format!(
                "Invalid value {wanted} for cpuset {name}: {reason}"
            ))
        };
        match (numbers(wanted), numbers(available)) {
            (Err(reason), _) => return invalid(reason),
            (Ok(asked), Ok(known)) if !asked.is_subset(&known) => {
                return fail(format!(
                    "Requested {what} are not available - requested {wanted}, available: {available}"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the numbers of a kernel list such as `0-2,4`.
fn numbers(list: &str) -> Result<BTreeSet<u32>, String> {
    let mut found = BTreeSet::new();
    if list.is_empty() {
        return Ok(found);
    }
    let invalid = || format!("invalid format: {list}");
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = digits.then(|| text.parse::<u32>().ok()).flatten();
        let value = value.ok_or_else(invalid)?;
        if value > MAX_LIST_NUMBER {
            return Err(format!(
                "value is out of range, maximum is {MAX_LIST_NUMBER}"
            ));
        }
        Ok(value)
    };
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(invalid());
        }
        found.extend(first..=last);
    }
    Ok(found)
}

fn check_block_io(resources: &mut Resources, warnings: &mut Vec<String>) -> Checked {
    let supported = crate::host::host().info.limits;
    if resources.blkio_weight > 0 && !supported.blkio_weight {
        warnings.push(not_supported("Block I/O weight", "Weight discarded"));
        resources.blkio_weight = 0;
    }
    if resources.blkio_weight > 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return fail("Range of blkio weight is from 10 to 1000");
    }
    if !resources.blkio_weight_device.is_empty() && !supported.blkio_weight_device {
        warnings.push(not_supported(
            "Block I/O weight_device",
            "Weight-device discarded",
        ));
        resources.blkio_weight_device.clear();
    }
    let throttles = [
        (
            &mut resources.blkio_device_read_bps,
            "BPS Block I/O read limit",
            "Block I/O BPS read limit discarded",
        ),
        (
            &mut resources.blkio_device_write_bps,
            "BPS Block I/O write limit",
            "Block I/O BPS write limit discarded",
        ),
        (
            &mut resources.blkio_device_read_iops,
            "IOPS Block read limit",
            "Block I/O IOPS read limit discarded",
        ),
        (
            &mut resources.blkio_device_write_iops,
            "IOPS Block write limit",
            "Block I/O IOPS write limit discarded",
        ),
    ];
    for (devices, what, consequence) in throttles {
        if !devices.is_empty() && !supported.blkio_throttle {
            warnings.push(not_supported(what, consequence));
            devices.clear();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        let set = |list: &[u32]| Ok(list.iter().copied().collect());
        for (text, expected) in [
            ("", set(&[])),
            ("0-2,4", set(&[0, 1, 2, 4])),
            ("x", Err("invalid format: x".to_owned())),
            ("2-1", Err("invalid format: 2-1".to_owned())),
            (
                "0-4294967295",
                Err("value is out of range, maximum is 8192".to_owned()),
            ),
        ] {
            assert_eq!(numbers(text), expected, "{text}");
        }
    }

    #[test]
    fn swap_needs_memory_but_in_an_update() {
        let mut resources = Resources {
            memory_swap_bytes: 100_000_000,
            ..Resources::default()
        };
        let text = check_resources(&mut resources, false, &mut Vec::new()).unwrap_err();
        assert!(text.message().starts_with("You should always set"));
        assert!(check_resources(&mut resources, true, &mut Vec::new()).is_ok());
    }
}
