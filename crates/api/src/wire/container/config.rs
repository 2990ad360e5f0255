//! `Config` of a container's inspect answer.

use crate::wire::{is_default, none_if_empty};
use serde::Serialize;
use std::collections::BTreeMap;
use wharf_engine::model::container::Container;
use wharf_image::{Empty, Healthcheck};

/// The merged config, with the keys docker writes even when they are empty.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConfigView {
    hostname: String,
    domainname: String,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    #[serde(skip_serializing_if = "is_default")]
    exposed_ports: BTreeMap<String, Empty>,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Healthcheck>,
    #[serde(skip_serializing_if = "is_default")]
    args_escaped: bool,
    image: String,
    volumes: Option<BTreeMap<String, Empty>>,
    working_dir: String,
    entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_default")]
    network_disabled: bool,
    #[serde(skip_serializing_if = "is_default")]
    mac_address: String,
    on_build: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "is_default")]
    stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    shell: Vec<String>,
}

impl ConfigView {
    /// Makes the view of a container's merged config.
    pub(super) fn new(container: &Container) -> Self {
        let config = &container.config;
        Self {
            hostname: config.hostname.clone(),
            domainname: config.domainname.clone(),
            user: config.user.clone(),
            attach_stdin: config.attach_stdin,
            attach_stdout: config.attach_stdout,
            attach_stderr: config.attach_stderr,
            exposed_ports: config.exposed_ports.clone(),
            tty: config.tty,
            open_stdin: config.open_stdin,
            stdin_once: config.stdin_once,
            env: none_if_empty(config.env.clone()),
            cmd: config.cmd.clone(),
            healthcheck: config.healthcheck.clone(),
            args_escaped: config.args_escaped,
            image: config.image.clone(),
            // Without an image there was nothing to merge, and Go's empty values stay as they were.
            volumes: (!config.volumes.is_empty() || config.image.is_empty())
                .then(|| config.volumes.clone()),
            working_dir: config.working_dir.clone(),
            entrypoint: config.entrypoint.clone(),
            network_disabled: config.network_disabled,
            mac_address: mac_address(container),
            on_build: none_if_empty(config.on_build.clone()),
            labels: (!config.labels.is_empty() || !config.image.is_empty())
                .then(|| config.labels.clone()),
            stop_signal: config.stop_signal.clone(),
            stop_timeout: config.stop_timeout,
            shell: config.shell.clone(),
        }
    }
}

/// Returns the hardware address that was asked for: old clients look for it here, also where it was
/// set on the endpoint.
fn mac_address(container: &Container) -> String {
    let own = &container.config.mac_address;
    if !own.is_empty() {
        return own.clone();
    }
    let main = match container.host_config.network_mode.as_str() {
        "" | "default" => "bridge",
        mode => mode,
    };
    let endpoint = container.networks.get(main);
    endpoint
        .filter(|_| !matches!(main, "host" | "none"))
        .map(|endpoint| endpoint.request.mac_address.clone())
        .unwrap_or_default()
}
