//! `HostConfig` of the create request (engine-api.md §7.1).

use std::net::IpAddr;

use serde_json::{Map, Value as Json, json};

use crate::commands::container::flags::ContainerFlags;
use crate::commands::container::request::Surroundings;
use crate::commands::container::request::fields::{put_list, put_map, put_parsed, put_text};
use crate::commands::container::request::resources::put_resources;
use crate::error::{CliError, Result};
use crate::options::network::NetworkAttachment;
use crate::options::security::SecurityOptions;
use crate::options::volume::{self, VolumeSpec};
use crate::options::{device, env, gpus, misc, mount, port};

/// Returns the part of the body that tells of the host: resources, mounts, network, policies.
pub(super) fn host_config(
    flags: &ContainerFlags,
    surroundings: &Surroundings<'_>,
    volumes: &[VolumeSpec],
    ports: &port::PortMap,
    networks: &[NetworkAttachment],
) -> Result<Json> {
    let mut host = Map::new();
    put_resources(&mut host, flags)?;
    put_security(&mut host, flags)?;
    put_mounts(&mut host, flags, surroundings, volumes)?;
    host.insert(
        "NetworkMode".into(),
        networks
            .first()
            .map_or("default", |first| &first.target)
            .into(),
    );
    host.insert("PortBindings".into(), ports.to_json());
    host.insert("PublishAllPorts".into(), flags.publish_all.into());
    host.insert("AutoRemove".into(), flags.rm.into());
    let restart = flags.limits.restart.as_deref().unwrap_or("no");
    if flags.rm && restart != "no" && !restart.is_empty() {
        return Err(CliError::usage(
            "conflicting options: cannot specify both --restart and --rm",
        ));
    }
    host.insert("RestartPolicy".into(), misc::restart_policy(restart)?);
    host.insert(
        "LogConfig".into(),
        json!({
            "Type": flags.log_driver.as_deref().unwrap_or_default(),
            "Config": misc::pairs("log-opt", &flags.log_opt)?,
        }),
    );
    let no_address = |value: &&String| value.parse::<IpAddr>().is_err();
    if let Some(value) = flags.dns.iter().find(no_address) {
        let why = format!("IP address is not correctly formatted: {value}");
        return Err(CliError::value("--dns", value, why));
    }
    put_list(&mut host, "Dns", &flags.dns);
    put_list(&mut host, "DnsOptions", &flags.dns_option);
    let domains = flags
        .dns_search
        .iter()
        .map(|value| misc::dns_search(value).map(str::to_owned));
    put_list(
        &mut host,
        "DnsSearch",
        &domains.collect::<Result<Vec<_>>>()?,
    );
    let hosts = flags
        .add_host
        .iter()
        .map(|value| {
            misc::extra_host(value).map_err(|error| CliError::value("--add-host", value, error))
        })
        .collect::<Result<Vec<_>>>()?;
    put_list(&mut host, "ExtraHosts", &hosts);
    if !networks.iter().any(NetworkAttachment::is_user_defined) {
        put_list(&mut host, "Links", &flags.link);
    }
    put_text(&mut host, "ContainerIDFile", flags.cidfile.as_ref());
    put_text(&mut host, "Isolation", flags.isolation.as_ref());
    put_text(&mut host, "Runtime", flags.runtime.as_ref());
    put_map(&mut host, "Annotations", env::to_map(&flags.annotation));
    if flags.init {
        host.insert("Init".into(), true.into());
    }
    if let Some((height, width)) = surroundings.console_size {
        host.insert("ConsoleSize".into(), json!([height, width]));
    }
    Ok(Json::Object(host))
}

fn put_security(host: &mut Map<String, Json>, flags: &ContainerFlags) -> Result<()> {
    let security = SecurityOptions::parse(&flags.security_opt)?;
    put_list(host, "SecurityOpt", &security.options);
    if security.unconfined_paths {
        host.insert("MaskedPaths".into(), json!([]));
        host.insert("ReadonlyPaths".into(), json!([]));
    }
    put_list(host, "CapAdd", &flags.cap_add);
    put_list(host, "CapDrop", &flags.cap_drop);
    put_list(host, "GroupAdd", &flags.group_add);
    host.insert("Privileged".into(), flags.process.privileged.into());
    host.insert("ReadonlyRootfs".into(), flags.read_only.into());
    put_text(host, "IpcMode", flags.ipc.as_ref());
    put_text(host, "PidMode", flags.pid.as_ref());
    put_text(host, "UTSMode", flags.uts.as_ref());
    put_text(host, "UsernsMode", flags.userns.as_ref());
    put_text(host, "CgroupnsMode", flags.cgroupns.as_ref());
    let sysctls = flags
        .sysctl
        .iter()
        .map(|value| {
            let (name, setting) =
                misc::sysctl(value).map_err(|error| CliError::value("--sysctl", value, error))?;
            Ok((name, setting.into()))
        })
        .collect::<Result<Map<_, _>>>()?;
    put_map(host, "Sysctls", sysctls);
    let (cdi, plain): (Vec<_>, Vec<_>) = flags
        .device
        .iter()
        .partition(|value| device::is_cdi_name(value));
    put_parsed(host, ("Devices", "--device"), plain, device::parse)?;
    put_parsed(
        host,
        ("DeviceCgroupRules", "--device-cgroup-rule"),
        &flags.device_cgroup_rule,
        |rule| device::cgroup_rule(rule).map(Json::from),
    )?;
    let mut requests = flags
        .gpus
        .iter()
        .map(|value| gpus::parse(value).map_err(|error| CliError::value("--gpus", value, error)))
        .collect::<Result<Vec<_>>>()?;
    if !cdi.is_empty() {
        requests.push(json!({"Driver": "cdi", "DeviceIDs": cdi}));
    }
    if !requests.is_empty() {
        host.insert("DeviceRequests".into(), requests.into());
    }
    Ok(())
}

fn put_mounts(
    host: &mut Map<String, Json>,
    flags: &ContainerFlags,
    surroundings: &Surroundings<'_>,
    volumes: &[VolumeSpec],
) -> Result<()> {
    let binds: Vec<String> = flags
        .volume
        .iter()
        .zip(volumes)
        .filter(|(_, parsed)| !parsed.source.is_empty())
        .map(|(spec, parsed)| volume::bind_entry(spec, parsed, surroundings.working_directory))
        .collect();
    put_list(host, "Binds", &binds);
    put_parsed(host, ("Mounts", "--mount"), &flags.mount, |value| {
        mount::parse(value, surroundings.working_directory)
    })?;
    put_map(host, "Tmpfs", misc::tmpfs(&flags.tmpfs));
    put_list(host, "VolumesFrom", &flags.volumes_from);
    put_text(host, "VolumeDriver", flags.volume_driver.as_ref());
    put_map(
        host,
        "StorageOpt",
        misc::pairs("storage-opt", &flags.storage_opt)?,
    );
    Ok(())
}
