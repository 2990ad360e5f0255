//! What new containers and processes may be on a socket with a policy.

use super::{Policy, refused};
use crate::respond::Failure;
use std::collections::BTreeMap;
use wharf_engine::Engine;
use wharf_engine::model::host_config::HostConfig;
use wharf_engine::model::request::{CreateContainer, CreateExec};

impl Policy {
    /// Decides about a new container, and gives it the policy's label.
    ///
    /// # Errors
    /// 403 with what of the host, or of which other container, it asks for.
    pub(crate) fn admit_container(
        &self,
        engine: &Engine,
        request: &mut CreateContainer,
    ) -> Result<(), Failure> {
        if !self.host_access
            && let Some(what) = host_use(&request.host_config)
        {
            return Err(refused(&format!(
                "{what} is not allowed on this socket: its containers may not use the host"
            )));
        }
        for name in other_containers(&request.host_config) {
            self.admit_named_container(engine, name)?;
        }
        for name in networks(&request.host_config, &request.networks) {
            let is_shown = || {
                let found = engine.network(name);
                found.is_ok_and(|found| self.shows(&found.network.labels))
            };
            if self.label.is_some() && !is_shown() {
                return Err(refused(&format!(
                    "network {name} is not one of this socket's: create it on this socket first"
                )));
            }
        }
        for name in named_volumes(&request.host_config) {
            let is_shown = engine
                .volume(name)
                .is_ok_and(|volume| self.shows(&volume.labels));
            if self.label.is_some() && !is_shown {
                return Err(refused(&format!(
                    "volume {name} is not one of this socket's: create it on this socket first"
                )));
            }
        }
        self.mark(&mut request.config.labels);
        Ok(())
    }

    /// Decides about a new volume, and gives it the policy's label.
    ///
    /// # Errors
    /// 403 for options that could name a place of the host, where that is out of bounds.
    pub(crate) fn admit_volume(
        &self,
        options: &BTreeMap<String, String>,
        labels: &mut BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        // With `bind` among its options even a tmpfs is a place of the host.
        let words = options.get("o").map(String::as_str).unwrap_or_default();
        let is_bind = words
            .split(',')
            .any(|word| matches!(word, "bind" | "rbind"));
        let is_tmpfs = !is_bind && options.get("type").is_some_and(|kind| kind == "tmpfs");
        if !self.host_access && !options.is_empty() && !is_tmpfs {
            return Err(refused(
                "volume options are not allowed on this socket: they may name a place of the host",
            ));
        }
        self.mark(labels);
        Ok(())
    }

    /// Decides about a new network, and gives it the policy's label.
    ///
    /// # Errors
    /// 403 for a driver that puts containers on the host's own networks, where that is out of bounds.
    pub(crate) fn admit_network(
        &self,
        driver: &str,
        labels: &mut BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        if !self.host_access && !matches!(driver, "" | "default" | "bridge") {
            return Err(refused(&format!(
                "network driver {driver} is not allowed on this socket: it reaches the host's networks"
            )));
        }
        self.mark(labels);
        Ok(())
    }

    /// Decides about a container that a call names beside its path.
    ///
    /// # Errors
    /// 403 for one that is hidden or missing.
    pub(crate) fn admit_named_container(&self, engine: &Engine, name: &str) -> Result<(), Failure> {
        let is_shown = || {
            engine
                .container(name)
                .is_ok_and(|container| self.shows(&container.config.labels))
        };
        if self.label.is_some() && !is_shown() {
            return Err(refused(&format!(
                "container {name} is not one of this socket's"
            )));
        }
        Ok(())
    }

    /// Decides about a further process.
    ///
    /// # Errors
    /// 403 for a privileged one where the host is out of bounds.
    pub(crate) fn admit_exec(&self, request: &CreateExec) -> Result<(), Failure> {
        if request.privileged && !self.host_access {
            return Err(refused("a privileged exec is not allowed on this socket"));
        }
        Ok(())
    }
}

/// Returns the first thing by which a container would get at its host; None when there is none.
fn host_use(host: &HostConfig) -> Option<String> {
    let modes = [
        ("the host's network", &host.network_mode),
        ("the host's process namespace", &host.pid_mode),
        ("the host's IPC namespace", &host.ipc_mode),
        ("the host's UTS namespace", &host.uts_mode),
        ("the host's user namespace", &host.userns_mode),
        ("the host's cgroup namespace", &host.cgroupns_mode),
    ];
    if let Some((what, _)) = modes.iter().find(|(_, mode)| mode.as_str() == "host") {
        return Some((*what).to_owned());
    }
    let asked = [
        ("privileged mode", host.privileged),
        ("adding capabilities", !host.cap_add.is_empty()),
        ("a device", !host.devices.is_empty()),
        ("a device rule", !host.device_cgroup_rules.is_empty()),
        ("a device request", !host.device_requests.is_empty()),
        ("a cgroup parent", !host.resources.cgroup_parent.is_empty()),
        ("showing masked paths", host.masked_paths.is_some()),
        ("writing read-only paths", host.readonly_paths.is_some()),
        ("a lower OOM score", host.oom_score_adj < 0),
    ];
    if let Some((what, _)) = asked.iter().find(|(_, is_asked)| *is_asked) {
        return Some((*what).to_owned());
    }
    if let Some(option) = host
        .security_opt
        .iter()
        .find(|option| !option.starts_with("no-new-privileges"))
    {
        return Some(format!("security option {option}"));
    }
    host_path(host).map(|path| format!("mounting {path}"))
}

/// Returns the first path of the host that would be mounted.
fn host_path(host: &HostConfig) -> Option<&str> {
    let bind = host
        .binds
        .iter()
        .filter_map(|bind| bind.split_once(':'))
        .map(|(source, _)| source)
        .find(|source| source.starts_with(['/', '.', '~']));
    bind.or_else(|| {
        let reaches_host = |mount: &&wharf_engine::model::host_config::MountRequest| {
            let is_bind = matches!(mount.kind.as_str(), "bind" | "npipe" | "cluster");
            let by_driver = mount.volume.as_ref().is_some_and(|volume| {
                !volume.driver_options.is_empty() || !matches!(volume.driver.as_str(), "" | "local")
            });
            is_bind || by_driver
        };
        host.mounts
            .iter()
            .find(reaches_host)
            .map(|mount| mount.source.as_str())
    })
}

/// Returns the names of the containers whose namespaces or mounts are asked for.
fn other_containers(host: &HostConfig) -> impl Iterator<Item = &str> {
    let modes = [&host.network_mode, &host.ipc_mode, &host.pid_mode];
    let by_mode = modes
        .into_iter()
        .filter_map(|mode| mode.strip_prefix("container:"));
    let before_colon = |text: &String| text.split(':').next().map(str::len);
    let by_list = host
        .volumes_from
        .iter()
        .chain(&host.links)
        .filter_map(move |entry| entry.get(..before_colon(entry)?));
    by_mode.chain(by_list)
}

/// Returns the names of the networks of users that are asked for.
fn networks<'a, T>(
    host: &'a HostConfig,
    endpoints: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = &'a str> {
    let built_in = ["", "default", "bridge", "host", "none"];
    let modes = std::iter::once(host.network_mode.as_str());
    modes
        .chain(endpoints.keys().map(String::as_str))
        .filter(move |name| !built_in.contains(name) && !name.starts_with("container:"))
}

/// Returns the names of the volumes that would be mounted.
fn named_volumes(host: &HostConfig) -> impl Iterator<Item = &str> {
    let by_bind = host
        .binds
        .iter()
        .filter_map(|bind| bind.split_once(':'))
        .map(|(source, _)| source)
        .filter(|source| !source.starts_with(['/', '.', '~']));
    let by_mount = host
        .mounts
        .iter()
        .filter(|mount| mount.kind == "volume" && !mount.source.is_empty())
        .map(|mount| mount.source.as_str());
    by_bind.chain(by_mount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_engine::model::host_config::{DeviceMapping, MountRequest, VolumeOptions};

    #[test]
    fn every_way_to_the_host_is_seen() {
        type Change = fn(&mut HostConfig);
        let ways: [Change; 16] = [
            |host| host.privileged = true,
            |host| host.network_mode = "host".into(),
            |host| host.pid_mode = "host".into(),
            |host| host.ipc_mode = "host".into(),
            |host| host.uts_mode = "host".into(),
            |host| host.userns_mode = "host".into(),
            |host| host.cgroupns_mode = "host".into(),
            |host| host.cap_add.push("SYS_ADMIN".into()),
            |host| host.devices.push(DeviceMapping::default()),
            |host| host.device_cgroup_rules.push("a *:* rwm".into()),
            |host| host.security_opt.push("seccomp=unconfined".into()),
            |host| host.resources.cgroup_parent = "/".into(),
            |host| host.masked_paths = Some(Vec::new()),
            |host| host.binds.push("/:/host".into()),
            |host| {
                host.mounts.push(MountRequest {
                    kind: "bind".into(),
                    source: "/".into(),
                    ..MountRequest::default()
                });
            },
            |host| {
                host.mounts.push(MountRequest {
                    kind: "volume".into(),
                    volume: Some(VolumeOptions {
                        driver_options: [("device".to_owned(), "/".to_owned())].into(),
                        ..VolumeOptions::default()
                    }),
                    ..MountRequest::default()
                });
            },
        ];
        assert_eq!(host_use(&HostConfig::default()), None);
        for (index, change) in ways.iter().enumerate() {
            let mut host = HostConfig::default();
            change(&mut host);
            assert!(host_use(&host).is_some(), "way {index}");
        }
        let mut harmless = HostConfig {
            binds: vec!["data:/data".into()],
            security_opt: vec!["no-new-privileges".into()],
            ..HostConfig::default()
        };
        harmless.volumes_from.push("other:ro".into());
        assert_eq!(host_use(&harmless), None);
        assert_eq!(other_containers(&harmless).collect::<Vec<_>>(), ["other"]);
        assert_eq!(named_volumes(&harmless).collect::<Vec<_>>(), ["data"]);
    }
}
