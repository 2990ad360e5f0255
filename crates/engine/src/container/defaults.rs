//! Completing a create request that was checked (spec runtime §1.2, engine-api §7.3).

use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::host_config::{HostConfig, Resources};
use crate::model::request::CreateContainer;
use crate::values;

/// Bytes of `/dev/shm` when nothing is asked for.
pub(crate) const DEFAULT_SHM_BYTES: i64 = 64 * 1024 * 1024;

/// Fills in what the host side of a request leaves open.
///
/// # Errors
/// A container that is to be joined and is not there.
pub(super) fn complete(engine: &Engine, request: &mut CreateContainer) -> Result<()> {
    let host = &mut request.host_config;
    engine.settings().fill_in(host);
    let resources = &mut host.resources;
    if resources.memory_bytes > 0 && resources.memory_swap_bytes == 0 {
        resources.memory_swap_bytes = resources.memory_bytes.saturating_mul(2);
    }
    if resources.oom_kill_disable.is_none() {
        resources.oom_kill_disable = Some(false);
    }
    // Docker keeps "no limit" as no value at all.
    resources.pids_limit = resources.pids_limit.filter(|limit| *limit > 0);
    let network = &mut host.network_mode;
    if network.is_empty() || network == "default" {
        "bridge".clone_into(network);
    }
    complete_modes(engine, host)?;
    if host.shm_size_bytes == 0 {
        host.shm_size_bytes = DEFAULT_SHM_BYTES;
    }
    let settings = engine.settings();
    let runtime = match settings.default_runtime.as_str() {
        "" => "wharf",
        configured => configured,
    };
    for (text, default) in [
        (&mut host.restart_policy.name, "no"),
        (&mut host.runtime, runtime),
    ] {
        if text.is_empty() {
            default.clone_into(text);
        }
    }
    if !host.privileged {
        host.masked_paths
            .get_or_insert_with(wharf_runtime::defaults::masked_paths);
        host.readonly_paths
            .get_or_insert_with(wharf_runtime::defaults::readonly_paths);
    }
    Ok(())
}

/// Fills in namespace modes; joined containers are named by ID from here on, so that a rename does not
/// part them.
fn complete_modes(engine: &Engine, host: &mut HostConfig) -> Result<()> {
    let joins = [
        &mut host.ipc_mode,
        &mut host.pid_mode,
        &mut host.network_mode,
    ];
    for (index, mode) in joins.into_iter().enumerate() {
        let Some(name) = values::joined_container(mode) else {
            continue;
        };
        match engine.containers.find(name) {
            Ok(entry) => *mode = format!("container:{}", entry.snapshot().id),
            // Docker looks for the network's container only at the start.
            Err(_) if index == 2 => {}
            Err(error) => return Err(EngineError::invalid(error.message())),
        }
    }
    if host.ipc_mode.is_empty() {
        "private".clone_into(&mut host.ipc_mode);
    }
    if host.cgroupns_mode.is_empty() {
        let private = crate::host::host().is_cgroup_v2();
        let mode = if private { "private" } else { "host" };
        mode.clone_into(&mut host.cgroupns_mode);
    }
    let shares_processes = host.privileged || host.ipc_mode == "host" || host.pid_mode == "host";
    let is_label = |option: &String| option.split('=').next() == Some("label");
    if shares_processes && !host.security_opt.iter().any(is_label) {
        host.security_opt.push("label=disable".to_owned());
    }
    Ok(())
}

/// Names a container's host: as asked for, as the host where that is shared, else by its ID.
pub(super) fn complete_hostname(id: &str, request: &mut CreateContainer) {
    if request.config.hostname.is_empty() {
        request.config.hostname = if request.host_config.network_mode == "host" {
            crate::host::host().name.clone()
        } else {
            id.get(..12).unwrap_or(id).to_owned()
        };
    }
}

/// Checks changed limits of a container.
///
/// # Errors
/// Docker's texts.
pub(crate) fn check_resources(resources: &mut Resources, warnings: &mut Vec<String>) -> Result<()> {
    super::check::check_resources(resources, true, warnings)?;
    if resources.memory_bytes > 0 && resources.memory_swap_bytes == 0 {
        resources.memory_swap_bytes = resources.memory_bytes.saturating_mul(2);
    }
    Ok(())
}

/// Options whose values docker looks at only when the container starts.
const LOG_OPTIONS_OF_THE_START: [&str; 3] = ["compress", "max-file", "max-size"];

/// Refuses log drivers and options that are not known.
pub(super) fn check_log(host: &HostConfig) -> Result<()> {
    let mut config = host.log_config.clone();
    if matches!(config.driver.as_str(), "json-file" | "local") {
        let checked_later = |key: &String| LOG_OPTIONS_OF_THE_START.contains(&key.as_str());
        config.options.retain(|key, _| !checked_later(key));
    }
    super::log_options::LogOptions::parse(&config).map(drop)
}

/// Refuses what docker knows and this engine cannot honour: nothing is dropped in silence.
pub(super) fn check_storage(host: &HostConfig) -> Result<()> {
    if host.storage_opt.is_empty() {
        return Ok(());
    }
    Err(EngineError::new(
        ErrorKind::Internal,
        "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
    ))
}
