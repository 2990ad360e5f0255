//! Namespaces and kernel parameters of a container (spec runtime §2.3, §2.7).

use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::container::{Container, Status};
use crate::values;
use serde_json::{Value, json};
use std::sync::Arc;

/// Returns a container under the host name of the one whose network it shares; None where it shares none.
///
/// # Errors
/// The other container is not there or does not run.
pub(super) fn joined_host_name(
    engine: &Engine,
    container: &Container,
) -> Result<Option<Container>> {
    let Some(id) = values::joined_container(&container.host_config.network_mode) else {
        return Ok(None);
    };
    let other = joined_network(engine, container, id)?;
    let mut container = container.clone();
    container.config.hostname.clone_from(&other.config.hostname);
    container
        .config
        .domainname
        .clone_from(&other.config.domainname);
    Ok(Some(container))
}

/// Finds the container whose network is shared.
///
/// # Errors
/// Docker's texts when it is not there or does not run.
pub(crate) fn joined_network(
    engine: &Engine,
    container: &Container,
    name: &str,
) -> Result<Arc<Container>> {
    let other = engine.container(name).map_err(|error| {
        EngineError::internal(format!(
            "joining network namespace of container: {}",
            error.message()
        ))
    })?;
    if other.id == container.id {
        return Err(EngineError::internal(
            "joining network namespace of container: cannot join own network namespace",
        ));
    }
    refuse_restarting(&other)?;
    if !other.is_running() {
        return Err(EngineError::conflict(format!(
            "cannot join network namespace of a non running container: container {} is {}",
            other.name,
            other.state.status.as_str()
        )));
    }
    Ok(other)
}

/// Lists the namespaces to make or join.
///
/// # Errors
/// A container that is to be joined does not run, or does not share.
pub(super) fn namespaces(engine: &Engine, container: &Container) -> Result<Value> {
    let host = &container.host_config;
    let mut list = vec![json!({ "type": "mount" })];
    if container.config.network_disabled {
        list.push(json!({ "type": "network" }));
    } else if let Some(id) = values::joined_container(&host.network_mode) {
        let other = joined_network(engine, container, id)?;
        list.push(joined("network", "net", &other));
    } else if host.network_mode != "host" {
        list.push(json!({ "type": "network" }));
    }
    match values::joined_container(&host.pid_mode) {
        Some(id) => {
            let other = process_owner(engine, id, "PID")?;
            list.push(joined("pid", "pid", &other));
        }
        None if host.pid_mode != "host" => list.push(json!({ "type": "pid" })),
        None => {}
    }
    match values::joined_container(&host.ipc_mode) {
        Some(id) => {
            let other = process_owner(engine, id, "IPC")?;
            if !matches!(other.host_config.ipc_mode.as_str(), "shareable" | "host")
                && values::joined_container(&other.host_config.ipc_mode).is_none()
            {
                return Err(EngineError::invalid(format!(
                    "failed to join IPC namespace: container {id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                )));
            }
            list.push(joined("ipc", "ipc", &other));
        }
        None if host.ipc_mode != "host" => list.push(json!({ "type": "ipc" })),
        None => {}
    }
    if host.uts_mode != "host" {
        list.push(json!({ "type": "uts" }));
    }
    if host.cgroupns_mode == "private" {
        list.push(json!({ "type": "cgroup" }));
    }
    Ok(Value::Array(list))
}

fn joined(kind: &str, file: &str, other: &Container) -> Value {
    json!({ "type": kind, "path": format!("/proc/{}/ns/{file}", other.state.pid) })
}

fn process_owner(engine: &Engine, id: &str, what: &str) -> Result<Arc<Container>> {
    let wrap = |error: &EngineError| {
        EngineError::new(
            error.kind(),
            format!("failed to join {what} namespace: {}", error.message()),
        )
    };
    let other = engine.container(id).map_err(|error| wrap(&error))?;
    running(&other).map_err(|error| wrap(&error))?;
    Ok(other)
}

fn running(other: &Container) -> Result<()> {
    refuse_restarting(other)?;
    if other.is_running() {
        return Ok(());
    }
    Err(EngineError::internal(format!(
        "container {} is not running",
        other.id
    )))
}

fn refuse_restarting(other: &Container) -> Result<()> {
    if other.state.status == Status::Restarting {
        return Err(EngineError::new(
            ErrorKind::Conflict,
            format!(
                "Container {} is restarting, wait until the container is running",
                other.id
            ),
        ));
    }
    Ok(())
}

/// Returns the kernel parameters: docker's own where the network is the container's, the user's over them.
pub(super) fn sysctls(container: &Container) -> Value {
    let host = &container.host_config;
    let mut map = serde_json::Map::new();
    if values::has_own_network(&host.network_mode) {
        for (key, value) in wharf_runtime::defaults::sysctls() {
            map.insert(key, json!(value));
        }
    }
    for (key, value) in &host.sysctls {
        map.insert(key.clone(), json!(value));
    }
    Value::Object(map)
}

/// Returns the IPC namespace's owner directory for `/dev/shm`, where it is shared with a container.
pub(super) fn shared_memory_owner(
    engine: &Engine,
    container: &Container,
) -> Result<Option<Arc<Container>>> {
    match values::joined_container(&container.host_config.ipc_mode) {
        Some(id) => process_owner(engine, id, "IPC").map(Some),
        None => Ok(None),
    }
}
