//! Devices of a container: nodes to make and rules of the device control group (spec runtime §2.6).

use crate::container::devices::{self, HostDevice};
use crate::error::{EngineError, Result};
use crate::model::container::Container;
use crate::model::host_config::{DeviceMapping, DeviceRequest};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use wharf_runtime::defaults;

/// Returns the device nodes to make and the rules.
///
/// # Errors
/// A path that is no device, a malformed rule, a device driver that is not there.
pub(super) fn devices(container: &Container) -> Result<(Vec<Value>, Vec<Value>)> {
    let host = &container.host_config;
    let mut nodes = Vec::new();
    let mut rules = Vec::new();
    if host.privileged {
        nodes.extend(
            devices::host_devices()
                .iter()
                .map(|device| node(&device.path, device)),
        );
        rules.push(json!({ "allow": true, "access": "rwm" }));
    } else {
        rules.extend(defaults::device_rules().iter().map(|rule| json!(rule)));
    }
    for mapping in &host.devices {
        for (path, device) in mapped(mapping)? {
            // A privileged container has the host's own nodes already.
            if host.privileged && path == device.path {
                continue;
            }
            nodes.push(node(&path, &device));
            if !host.privileged {
                rules.push(json!({
                    "allow": true, "type": device.kind, "major": device.major, "minor": device.minor,
                    "access": permissions(mapping)?,
                }));
            }
        }
    }
    if !host.privileged {
        for rule in &host.device_cgroup_rules {
            rules.push(parse_rule(rule)?);
        }
    }
    match host.device_requests.first() {
        Some(request) => Err(no_driver(request)),
        None => Ok((nodes, rules)),
    }
}

/// Says that nothing hands out devices by driver here.
fn no_driver(request: &DeviceRequest) -> EngineError {
    let asks_for_gpu = |set: &Vec<String>| set.iter().any(|name| name == "gpu");
    if request.driver.is_empty() && request.capabilities.iter().any(asks_for_gpu) {
        return EngineError::internal(
            "failed to discover GPU vendor from CDI: no known GPU vendor found",
        );
    }
    let sets: Vec<String> = request
        .capabilities
        .iter()
        .map(|set| format!("[{}]", set.join(" ")))
        .collect();
    EngineError::internal(format!(
        "could not select device driver {:?} with capabilities: [{}]",
        request.driver,
        sets.join(" ")
    ))
}

/// Returns the places in the container of a mapping's devices.
fn mapped(mapping: &DeviceMapping) -> Result<Vec<(PathBuf, HostDevice)>> {
    let inside = if mapping.path_in_container.is_empty() {
        &mapping.path_on_host
    } else {
        &mapping.path_in_container
    };
    permissions(mapping)?;
    let found = devices::devices_at(Path::new(&mapping.path_on_host))?;
    let place = |device: HostDevice| {
        let rest = device
            .path
            .strip_prefix(&mapping.path_on_host)
            .unwrap_or(Path::new(""));
        let path = if rest.as_os_str().is_empty() {
            PathBuf::from(inside)
        } else {
            Path::new(inside).join(rest)
        };
        (path, device)
    };
    Ok(found.into_iter().map(place).collect())
}

fn permissions(mapping: &DeviceMapping) -> Result<&str> {
    let access = match mapping.cgroup_permissions.as_str() {
        "" => "rwm",
        access => access,
    };
    if access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm')) {
        return Ok(access);
    }
    Err(EngineError::invalid(format!(
        "invalid device mode: {access}"
    )))
}

fn node(path: &Path, device: &HostDevice) -> Value {
    json!({
        "path": path, "type": device.kind, "major": device.major, "minor": device.minor,
        "fileMode": device.mode & 0o7777, "uid": device.uid, "gid": device.gid,
    })
}

/// Parses rules such as `c 42:* rmw`.
fn parse_rule(rule: &str) -> Result<Value> {
    let invalid = || EngineError::internal(format!("invalid device cgroup rule format: '{rule}'"));
    let words: Vec<&str> = rule.split(' ').collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = words.as_slice() else {
        return Err(invalid());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |text: &str| match text {
        "*" => Ok(-1),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse::<i64>().map_err(|_| invalid())
        }
        _ => Err(invalid()),
    };
    let is_access =
        matches!(access.len(), 1..=3) && access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
    if !is_access {
        return Err(invalid());
    }
    Ok(
        json!({ "allow": true, "type": kind, "major": number(major)?, "minor": number(minor)?, "access": access }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let rule = parse_rule("c 42:* rmw").unwrap();
        assert_eq!(
            rule,
            json!({ "allow": true, "type": "c", "major": 42, "minor": -1, "access": "rmw" })
        );
        for bad in [
            "bad",
            "c 1:3",
            "d 1:3 r",
            "c 1 r",
            "c 1:x r",
            "c 1:3 rwmr",
            "c 1:3 x",
            "c  1:3 r",
        ] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn drivers_are_named() {
        let request = DeviceRequest {
            driver: "nvidia".into(),
            capabilities: vec![vec!["gpu".into(), "compute".into()]],
            ..DeviceRequest::default()
        };
        assert_eq!(
            no_driver(&request).message(),
            "could not select device driver \"nvidia\" with capabilities: [[gpu compute]]"
        );
    }
}
