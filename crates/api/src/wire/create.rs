//! Bodies of create, update and exec calls (spec engine-api §7.1, §7.5).

use super::host_config::{self, RestartPolicy};
use super::network_request::EndpointSettings;
use super::resources::Resources;
use crate::body::read_document;
use crate::respond::Failure;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use wharf_engine::model::request::{CreateContainer, CreateExec};
use wharf_image::{ContainerConfig, Platform};

/// The keys of a create body beside those of the config, which lie at the same level.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateBody {
    host_config: Option<Value>,
    networking_config: NetworkingConfig,
    mac_address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkingConfig {
    endpoints_config: BTreeMap<String, Option<EndpointSettings>>,
}

/// Answers a create call; `Warnings` is never null.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Created {
    pub(crate) id: String,
    pub(crate) warnings: Vec<String>,
}

/// Reads the body of `POST /containers/create`.
///
/// # Errors
/// 400 for a wrong shape or an empty config, 501 for settings the engine has no place for.
pub(crate) fn container(
    body: Value,
    name: Option<String>,
    platform: Option<Platform>,
) -> Result<CreateContainer, Failure> {
    if body.as_object().is_some_and(serde_json::Map::is_empty) || body.is_null() {
        return Err(Failure::bad_request(
            "config cannot be empty in order to create a container",
        ));
    }
    let config: ContainerConfig = read_document(body.clone())?;
    config
        .exposed_ports
        .keys()
        .try_for_each(|port| check_port(port))?;
    let rest: CreateBody = read_document(body)?;
    let host_config = rest
        .host_config
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let networks = rest.networking_config.endpoints_config.into_iter().map(
        |(network, settings)| match settings {
            Some(settings) => Ok((network, settings.into())),
            None => Err(no_settings(&network)),
        },
    );
    Ok(CreateContainer {
        name,
        config,
        host_config: host_config::from_value(host_config)?,
        read_only_top_only: false,
        networks: networks.collect::<Result<_, _>>()?,
        mac_address: rest.mac_address,
        platform,
    })
}

fn no_settings(network: &str) -> Failure {
    let name = match network {
        "default" => "bridge",
        name => name,
    };
    Failure::bad_request(format!(
        "invalid config for network {name}: EndpointsConfig is nil"
    ))
}

/// Checks a port such as `80/tcp`.
pub(super) fn check_port(text: &str) -> Result<(), Failure> {
    wharf_units::Port::parse(text)
        .map(drop)
        .map_err(|error| Failure::bad_request(format!("invalid JSON: {error}")))
}

/// Reads the body of an update call: limits, and the policy when it is given.
///
/// # Errors
/// 400 for a wrong shape, and for what cannot be changed once a container was made.
pub(crate) fn update(
    body: Value,
) -> Result<
    (
        wharf_engine::model::host_config::Resources,
        Option<wharf_engine::model::host_config::RestartPolicy>,
    ),
    Failure,
> {
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Policy {
        restart_policy: Option<RestartPolicy>,
    }
    let resources: Resources = read_document(body.clone())?;
    if let Some(field) = resources.not_updatable() {
        return Err(Failure::bad_request(format!(
            "{field} of a container cannot be updated: make a new container"
        )));
    }
    let policy: Policy = read_document(body)?;
    let policy = policy
        .restart_policy
        .map(wharf_engine::model::host_config::RestartPolicy::from)
        .filter(|policy| !policy.name.is_empty());
    Ok((resources.limits(), policy))
}

/// Body of `POST /containers/{id}/exec`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ExecBody {
    user: String,
    privileged: bool,
    tty: bool,
    console_size: Option<[u16; 2]>,
    attach_stdin: bool,
    attach_stderr: bool,
    attach_stdout: bool,
    detach_keys: String,
    env: Vec<String>,
    working_dir: String,
    cmd: Vec<String>,
}

impl From<ExecBody> for CreateExec {
    fn from(body: ExecBody) -> Self {
        Self {
            user: body.user,
            privileged: body.privileged,
            tty: body.tty,
            attach_stdin: body.attach_stdin,
            attach_stdout: body.attach_stdout,
            attach_stderr: body.attach_stderr,
            detach_keys: Some(body.detach_keys).filter(|keys| !keys.is_empty()),
            env: body.env,
            working_dir: body.working_dir,
            command: body.cmd,
            console_size: body.console_size.map(|[height, width]| (height, width)),
        }
    }
}

/// Body of `POST /exec/{id}/start`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ExecStart {
    pub(crate) detach: bool,
    pub(crate) tty: bool,
    pub(crate) console_size: Option<[u16; 2]>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn config_and_host_config_come_from_one_document() {
        let request = container(
            json!({
                "Image": "busybox", "cmd": "true", "Env": ["A=1"],
                "HostConfig": {"memory": 6_291_456, "NetworkMode": "none"},
                "NetworkingConfig": {"EndpointsConfig": {"n": {"Aliases": ["a"], "Links": []}}},
            }),
            Some("web".into()),
            None,
        )
        .expect("a request");
        assert_eq!(request.config.image, "busybox");
        assert_eq!(
            request.config.cmd.as_deref(),
            Some(&["true".to_owned()][..])
        );
        assert_eq!(request.host_config.resources.memory_bytes, 6_291_456);
        assert_eq!(request.networks["n"].aliases, ["a"]);
        assert!(request.networks["n"].given.links);
        assert!(!request.networks["n"].given.addresses);
    }

    #[test]
    fn networks_without_settings_are_refused() {
        let body =
            json!({"Image": "x", "NetworkingConfig": {"EndpointsConfig": {"default": null}}});
        assert_eq!(
            container(body, None, None).expect_err("null").message(),
            "invalid config for network bridge: EndpointsConfig is nil"
        );
    }

    #[test]
    fn updates_change_what_can_be_changed() {
        let (limits, policy) = update(json!({
            "Memory": 6_291_456, "Devices": null, "BlkioDeviceReadBps": [], "CgroupParent": "",
            "RestartPolicy": {"Name": ""},
        }))
        .expect("limits");
        assert_eq!((limits.memory_bytes, policy), (6_291_456, None));
        for (field, value) in [
            ("CgroupParent", json!("/x")),
            (
                "BlkioWeightDevice",
                json!([{"Path": "/dev/null", "Weight": 100}]),
            ),
            (
                "BlkioDeviceWriteIOps",
                json!([{"Path": "/dev/null", "Rate": 1}]),
            ),
            ("Devices", json!([{"PathOnHost": "/dev/null"}])),
            ("DeviceCgroupRules", json!(["c 1:1 r"])),
            ("DeviceRequests", json!([{"Driver": "cdi"}])),
            ("MemorySwappiness", json!(5)),
            ("OomKillDisable", json!(true)),
            ("Ulimits", json!([{"Name": "nofile", "Soft": 1, "Hard": 1}])),
            ("KernelMemoryTCP", json!(1)),
        ] {
            let failure = update(json!({ field: value })).expect_err(field);
            assert!(
                failure.message().starts_with(field),
                "{}",
                failure.message()
            );
        }
    }

    #[test]
    fn an_empty_config_is_refused() {
        assert_eq!(
            container(json!({}), None, None)
                .expect_err("empty")
                .message(),
            "config cannot be empty in order to create a container"
        );
        assert!(container(json!({"Image": 1}), None, None).is_err());
        assert!(container(json!([]), None, None).is_err());
    }
}
