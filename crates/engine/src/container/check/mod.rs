//! Checking a create request, in docker's order and words: the first mistake in this order is the one
//! that is told (spec runtime §1.2, engine-api §7.3).

mod resources;

pub(crate) use resources::{MIN_MEMORY_BYTES, check_foreign, check_resources};

use super::runtimes::{self, Runtime};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::host_config::HostConfig;
use crate::model::request::CreateContainer;
use crate::mount_syntax;
use crate::values;
use wharf_image::{ContainerConfig, Healthcheck};
use wharf_units::{Port, PortRange};

/// Longest host name, in bytes (`HOST_NAME_MAX`).
const MAX_HOSTNAME_BYTES: usize = 64;
/// Shortest interval of a health check: one millisecond, in nanoseconds.
const MIN_HEALTH_NS: i64 = 1_000_000;

/// Checks a request before anything is looked up; returns warnings.
///
/// # Errors
/// Docker's texts.
pub(crate) fn check_request(engine: &Engine, request: &mut CreateContainer) -> Result<Vec<String>> {
    check_combinations(request)?;
    check_config(&mut request.config)?;
    check_host_config(&request.host_config)?;
    let mut warnings = Vec::new();
    let hostname = &request.config.hostname;
    if hostname.len() > MAX_HOSTNAME_BYTES {
        return Err(EngineError::invalid(format!(
            "hostname {hostname:?} is too long (maximum {MAX_HOSTNAME_BYTES} bytes)"
        )));
    }
    let host = &mut request.host_config;
    check_resources(&mut host.resources, false, &mut warnings)?;
    check_platform(host, &mut warnings)?;
    check_runtime(engine, host)?;
    Ok(warnings)
}

/// Checks what docker looks at while it reads a request: options that exclude each other.
fn check_combinations(request: &CreateContainer) -> Result<()> {
    let (config, host) = (&request.config, &request.host_config);
    check_joined_network(config, host)?;
    let conflict = |text: &str| Err(EngineError::invalid(format!("conflicting options: {text}")));
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    if host.network_mode == "host" && !host.links.is_empty() {
        return conflict(
            "host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    if !is_isolation(&host.isolation) {
        return Err(EngineError::invalid(format!(
            "invalid isolation ({}): linux only supports 'default'",
            host.isolation
        )));
    }
    resources::check_foreign(&host.resources)
}

/// Checks a container that shares another one's network: nothing of the network is its own then.
fn check_joined_network(config: &ContainerConfig, host: &HostConfig) -> Result<()> {
    let Some(name) = values::joined_container(&host.network_mode)
        .or_else(|| (host.network_mode == "container").then_some(""))
    else {
        return Ok(());
    };
    if name.is_empty() {
        return Err(EngineError::invalid(
            "invalid network mode: invalid container format container:<name|id>",
        ));
    }
    let conflicts = [
        (!config.hostname.is_empty(), "hostname and the network mode"),
        (
            !host.links.is_empty(),
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (!host.dns.is_empty(), "dns and the network mode"),
        (
            !host.extra_hosts.is_empty(),
            "custom host-to-IP mapping and the network mode",
        ),
        (
            !host.port_bindings.is_empty() || host.publish_all_ports,
            "port publishing and the container type network mode",
        ),
        (
            !config.exposed_ports.is_empty(),
            "port exposing and the container type network mode",
        ),
    ];
    match conflicts.iter().find(|(conflicts, _)| *conflicts) {
        Some((_, text)) => Err(EngineError::invalid(format!("conflicting options: {text}"))),
        None => Ok(()),
    }
}

fn is_isolation(isolation: &str) -> bool {
    isolation.is_empty() || isolation.eq_ignore_ascii_case("default")
}

fn check_config(config: &mut ContainerConfig) -> Result<()> {
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            return Err(EngineError::invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                config.working_dir
            )));
        }
        config.working_dir = mount_syntax::clean(&config.working_dir);
    }
    if !config.stop_signal.is_empty() {
        wharf_runtime::signals::parse(&config.stop_signal)
            .map_err(|error| EngineError::invalid(error.to_string()))?;
    }
    for variable in &config.env {
        values::check_variable(variable)?;
    }
    match &config.healthcheck {
        Some(check) => check_health(check),
        None => Ok(()),
    }
}

fn check_health(check: &Healthcheck) -> Result<()> {
    let too_short = |what: &str, value: i64| {
        if value == 0 || value >= MIN_HEALTH_NS {
            return Ok(());
        }
        Err(EngineError::invalid(format!(
            "{what} in Healthcheck cannot be less than 1ms"
        )))
    };
    too_short("Interval", check.interval)?;
    too_short("Timeout", check.timeout)?;
    if check.retries < 0 {
        return Err(EngineError::invalid(
            "Retries in Healthcheck cannot be negative",
        ));
    }
    too_short("StartPeriod", check.start_period)?;
    too_short("StartInterval", check.start_interval)
}

fn check_host_config(host: &HostConfig) -> Result<()> {
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err(EngineError::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    for mount in &host.mounts {
        mount_syntax::check_mount(mount, &super::mounts::exists_on_host)?;
        check_read_only_options(mount)?;
    }
    for line in &host.extra_hosts {
        values::parse_extra_host(line)?;
    }
    check_port_bindings(host)?;
    let mut policy = host.restart_policy.clone();
    if policy.name.is_empty() {
        // A new container's policy is `no` then, which has no count either.
        "no".clone_into(&mut policy.name);
    }
    values::check_restart_policy(&policy)?;
    for (what, names) in [("CapAdd", &host.cap_add), ("CapDrop", &host.cap_drop)] {
        wharf_runtime::capabilities::normalize(names)
            .map_err(|error| EngineError::invalid(format!("invalid {what}: {error}")))?;
    }
    if host.annotations.contains_key("") {
        return Err(EngineError::invalid(
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ));
    }
    Ok(())
}

/// Checks that the kinds of read-only do not contradict each other.
fn check_read_only_options(mount: &crate::model::host_config::MountRequest) -> Result<()> {
    let Some(options) = &mount.bind else {
        return Ok(());
    };
    let (top_only, force) = (
        options.read_only_non_recursive,
        options.read_only_force_recursive,
    );
    let conflict = match (mount.read_only, top_only, force) {
        (false, true, _) => "!ReadOnly && BindOptions.ReadOnlyNonRecursive",
        (false, _, true) => "!ReadOnly && BindOptions.ReadOnlyForceRecursive",
        (_, true, true) => "ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive",
        _ => return Ok(()),
    };
    Err(EngineError::invalid(format!(
        "mount options conflict: {conflict}"
    )))
}

fn check_port_bindings(host: &HostConfig) -> Result<()> {
    let invalid =
        |text: &str| EngineError::invalid(format!("invalid port specification: {text:?}"));
    for (port, bindings) in &host.port_bindings {
        let parsed = Port::parse(port).map_err(|_| invalid(port))?;
        if parsed.number == 0 {
            return Err(invalid(port));
        }
        for binding in bindings {
            if !binding.host_port.is_empty() {
                PortRange::parse(&binding.host_port).map_err(|_| invalid(&binding.host_port))?;
            }
        }
    }
    Ok(())
}

/// Looks for the runtime, and for the init that containers of a program need.
fn check_runtime(engine: &Engine, host: &HostConfig) -> Result<()> {
    let settings = engine.settings();
    let asks_for_init = host.init.unwrap_or(settings.init);
    match runtimes::find(&settings, &host.runtime)? {
        Runtime::BuiltIn => {}
        Runtime::External(_) if asks_for_init => drop(runtimes::find_init(&settings)?),
        Runtime::External(_) => {}
    }
    Ok(())
}

fn check_platform(host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    let invalid = |text: String| Err(EngineError::invalid(text));
    if !values::is_ipc_mode(&host.ipc_mode) {
        return invalid(format!("invalid IPC mode: {}", host.ipc_mode));
    }
    if !values::is_pid_mode(&host.pid_mode) {
        return invalid(format!("invalid PID mode: {}", host.pid_mode));
    }
    if host.shm_size_bytes < 0 {
        return invalid("SHM size can not be less than 0".to_owned());
    }
    if !values::is_host_or_own_mode(&host.uts_mode) {
        return invalid(format!("invalid UTS mode: {}", host.uts_mode));
    }
    // Containers are never given a user namespace, so both words mean what they get anyway.
    if !matches!(host.userns_mode.as_str(), "" | "host" | "keep") {
        return invalid(format!(
            "invalid user namespace mode: {}: expected host, keep or nothing",
            host.userns_mode
        ));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    if host.network_mode == "host" && !host.port_bindings.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    for target in host.tmpfs.keys() {
        mount_syntax::tmpfs::check_tmpfs_target(target)?;
    }
    if !values::is_cgroup_namespace_mode(&host.cgroupns_mode) {
        return invalid(format!(
            "invalid cgroup namespace mode: {}",
            host.cgroupns_mode
        ));
    }
    Ok(())
}
