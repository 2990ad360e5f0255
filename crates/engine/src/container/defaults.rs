//! Completing and checking a create request (spec runtime §1.2, engine-api §7.3).

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::host_config::{HostConfig, Resources};
use crate::model::request::CreateContainer;
use crate::values;

/// Least memory a container can be limited to, in bytes.
const MIN_MEMORY_BYTES: i64 = 6 * 1024 * 1024;
/// Bytes of `/dev/shm` when nothing is asked for.
pub(crate) const DEFAULT_SHM_BYTES: i64 = 64 * 1024 * 1024;

/// Fills in what a request leaves open and refuses what cannot be done; returns warnings.
pub(crate) fn complete_and_check(
    engine: &Engine,
    id: &str,
    request: &mut CreateContainer,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let host = &mut request.host_config;
    complete(engine, id, host, &mut request.config)?;
    check_resources(&mut host.resources, &mut warnings)?;
    check_modes(host)?;
    check_texts(request)?;
    let host = &request.host_config;
    crate::network::check_endpoints(engine, host, request)?;
    check_options(host)?;
    if host.network_mode == "host" && (host.publish_all_ports || !host.port_bindings.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(warnings)
}

fn complete(
    engine: &Engine,
    id: &str,
    host: &mut HostConfig,
    config: &mut wharf_image::ContainerConfig,
) -> Result<()> {
    engine.settings().fill_in(host);
    if host.network_mode.is_empty() || host.network_mode == "default" {
        host.network_mode = if config.network_disabled {
            "none".into()
        } else {
            "bridge".into()
        };
    }
    for (mode, what) in [
        (&mut host.network_mode, "network"),
        (&mut host.ipc_mode, "ipc"),
        (&mut host.pid_mode, "pid"),
    ] {
        if let Some(name) = mode.strip_prefix("container:") {
            if name.is_empty() {
                return Err(EngineError::invalid(format!(
                    "invalid {what} mode: no container specified"
                )));
            }
            *mode = format!("container:{}", engine.containers.find(name)?.snapshot().id);
        }
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "private".into();
    }
    if host.cgroupns_mode.is_empty() {
        let private = crate::host::host().is_cgroup_v2() && !host.privileged;
        host.cgroupns_mode = if private {
            "private".into()
        } else {
            "host".into()
        };
    }
    if host.shm_size_bytes == 0 {
        host.shm_size_bytes = DEFAULT_SHM_BYTES;
    }
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".into();
    }
    if host.runtime.is_empty() {
        host.runtime = "wharf".into();
    }
    let host_names = host.network_mode == "host" || host.uts_mode == "host";
    if config.hostname.is_empty() && !host.network_mode.starts_with("container:") {
        config.hostname = if host_names {
            crate::host::host().name.clone()
        } else {
            id.get(..12).unwrap_or(id).to_owned()
        };
    } else if config.hostname.len() > 64 {
        return Err(EngineError::invalid(format!(
            "invalid hostname {:?}: at most 64 characters are allowed",
            config.hostname
        )));
    }
    Ok(())
}

/// Checks limits; also used by `update`.
pub(crate) fn check_resources(resources: &mut Resources, warnings: &mut Vec<String>) -> Result<()> {
    let fail = |text: &str| Err(EngineError::invalid(text));
    let kernel = crate::host::host();
    if resources.memory_bytes != 0 && resources.memory_bytes < MIN_MEMORY_BYTES {
        return fail("Minimum memory limit allowed is 6MB");
    }
    if resources.memory_bytes > 0 && !kernel.has_controller("memory") {
        warnings.push("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.".into());
        resources.memory_bytes = 0;
        resources.memory_swap_bytes = 0;
    }
    if resources.memory_swap_bytes > 0 && resources.memory_bytes == 0 {
        return fail(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if resources.memory_swap_bytes > 0 && resources.memory_swap_bytes < resources.memory_bytes {
        return fail("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if resources.memory_bytes > 0 && resources.memory_bytes < resources.memory_reservation_bytes {
        return fail(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    if resources.memory_bytes > 0 && resources.memory_swap_bytes == 0 {
        resources.memory_swap_bytes = resources.memory_bytes.saturating_mul(2);
    }
    if resources.memory_bytes > 0 && !kernel.info.swap_limit && resources.memory_swap_bytes != -1 {
        warnings.push("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.".into());
        resources.memory_swap_bytes = -1;
    }
    if resources
        .memory_swappiness
        .is_some_and(|value| !(-1..=100).contains(&value))
    {
        return fail(&format!(
            "Invalid value: {}, valid memory swappiness range is 0-100",
            resources.memory_swappiness.unwrap_or_default()
        ));
    }
    check_cpu(resources)?;
    if resources.pids_limit.is_some_and(|limit| limit > 0) && !kernel.has_controller("pids") {
        warnings.push("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.".into());
        resources.pids_limit = None;
    }
    if resources.blkio_weight != 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return fail("Range of blkio weight is from 10 to 1000");
    }
    Ok(())
}

fn check_cpu(resources: &Resources) -> Result<()> {
    let cpus = crate::host::host().info.cpus;
    if resources.nano_cpus > 0 && resources.cpu_period_us > 0 {
        return Err(EngineError::invalid(
            "Conflicting options: Nano CPUs and CPU Period cannot both be set.",
        ));
    }
    if resources.nano_cpus > 0 && resources.cpu_quota_us > 0 {
        return Err(EngineError::invalid(
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set.",
        ));
    }
    let most = i64::try_from(cpus)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000_000);
    if resources.nano_cpus < 0 || resources.nano_cpus > most {
        return Err(EngineError::invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    if resources.cpu_period_us != 0 && !(1_000..=1_000_000).contains(&resources.cpu_period_us) {
        return Err(EngineError::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if resources.cpu_quota_us > 0 && resources.cpu_quota_us < 1_000 {
        return Err(EngineError::invalid(
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        ));
    }
    if !is_cpu_list(&resources.cpuset_cpus) {
        return Err(EngineError::invalid(format!(
            "invalid cpuset {:?}: expected a list such as 0-2,4",
            resources.cpuset_cpus
        )));
    }
    if let Some(wanted) = highest(&resources.cpuset_cpus).filter(|wanted| *wanted >= cpus) {
        let _ = wanted;
        return Err(EngineError::invalid(format!(
            "Requested CPUs are not available - requested {}, available: 0-{}",
            resources.cpuset_cpus,
            cpus.saturating_sub(1)
        )));
    }
    Ok(())
}

/// Tells whether `text` is a kernel CPU list; huge numbers cost nothing (CVE-2018-20699).
fn is_cpu_list(text: &str) -> bool {
    let is_number = |part: &str| {
        !part.is_empty() && part.len() <= 10 && part.bytes().all(|b| b.is_ascii_digit())
    };
    text.is_empty()
        || text.split(',').all(|part| match part.split_once('-') {
            Some((from, to)) => is_number(from) && is_number(to),
            None => is_number(part),
        })
}

fn highest(cpus: &str) -> Option<usize> {
    cpus.split([',', '-'])
        .filter_map(|part| part.parse().ok())
        .max()
}

/// Checks the values that have a grammar of their own.
fn check_texts(request: &CreateContainer) -> Result<()> {
    for variable in &request.config.env {
        values::check_variable(variable)?;
    }
    for line in &request.host_config.extra_hosts {
        values::parse_extra_host(line)?;
    }
    Ok(())
}

fn check_modes(host: &HostConfig) -> Result<()> {
    let ipc = host.ipc_mode.as_str();
    if !values::is_ipc_mode(ipc) {
        return Err(EngineError::invalid(format!("invalid IPC mode: {ipc}")));
    }
    let pid = host.pid_mode.as_str();
    if !values::is_pid_mode(pid) {
        return Err(EngineError::invalid(format!("invalid PID mode: {pid}")));
    }
    if !values::is_host_or_own_mode(&host.uts_mode) {
        return Err(EngineError::invalid(format!(
            "invalid UTS mode: {}",
            host.uts_mode
        )));
    }
    if !values::is_host_or_own_mode(&host.userns_mode) {
        return Err(EngineError::invalid(format!(
            "invalid user namespace mode: {}: expected host or nothing",
            host.userns_mode
        )));
    }
    if !values::is_cgroup_namespace_mode(&host.cgroupns_mode) {
        return Err(EngineError::invalid(format!(
            "invalid cgroup namespace mode: {}",
            host.cgroupns_mode
        )));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(EngineError::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    Ok(())
}

/// Refuses what docker knows and this engine cannot honour: nothing is dropped in silence.
fn check_options(host: &HostConfig) -> Result<()> {
    let policy = &host.restart_policy;
    values::check_restart_policy(policy)?;
    if host.auto_remove && policy.name != "no" {
        return Err(EngineError::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    if !matches!(host.log_config.driver.as_str(), "json-file" | "none") {
        return Err(EngineError::invalid(format!(
            "logger: no log driver named '{}' is registered",
            host.log_config.driver
        )));
    }
    super::log_options::LogOptions::parse(&host.log_config)?;
    if let Some(request) = host.device_requests.first() {
        return Err(EngineError::invalid(format!(
            "could not select device driver {:?} with capabilities: {:?}",
            request.driver, request.capabilities
        )));
    }
    if !matches!(
        host.runtime.as_str(),
        "wharf" | "runc" | "io.containerd.runc.v2"
    ) {
        return Err(EngineError::invalid(format!(
            "unknown or invalid runtime name: {}",
            host.runtime
        )));
    }
    if !host.storage_opt.is_empty() {
        return Err(EngineError::invalid(
            "--storage-opt is not supported: the data root has no quotas",
        ));
    }
    let resources = &host.resources;
    if resources.cpu_realtime_period_us != 0 || resources.cpu_realtime_runtime_us != 0 {
        return Err(EngineError::invalid(
            "real-time CPU limits are not supported: leave --cpu-rt-period and --cpu-rt-runtime away",
        ));
    }
    Ok(())
}
