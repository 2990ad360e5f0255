//! From the flags of `run` and `create` to the body of `POST /containers/create` (engine-api.md §7.1).

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::commands::container::flags::ContainerFlags;
use crate::error::{CliError, Result};
use crate::options::network::NetworkAttachment;
use crate::options::security::SecurityOptions;
use crate::options::volume::{self, VolumeSpec};
use crate::options::{device, env, gpus, limits, misc, mount, port};
use crate::units;

/// Which streams of the container the client will attach to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Streams {
    /// Returns the streams of a container that nobody attaches to.
    pub const NONE: Self = Self {
        stdin: false,
        stdout: false,
        stderr: false,
    };

    /// Reads the `--attach` values; without any, all output and, with `-i`, the input.
    pub fn parse(values: &[String], interactive: bool) -> Result<Self> {
        if values.is_empty() {
            return Ok(Self {
                stdin: interactive,
                stdout: true,
                stderr: true,
            });
        }
        let mut streams = Self::NONE;
        for value in values {
            match value.to_lowercase().as_str() {
                "stdin" => streams.stdin = true,
                "stdout" => streams.stdout = true,
                "stderr" => streams.stderr = true,
                _ => {
                    return Err(CliError::usage(format!(
                        "invalid --attach {value:?}: valid streams are STDIN, STDOUT and STDERR"
                    )));
                }
            }
        }
        Ok(streams)
    }
}

/// What a request is made from, beside the flags.
pub struct Surroundings<'a> {
    /// Directory that relative paths start from.
    pub working_directory: &'a Path,
    /// The caller's environment.
    pub variable: env::Lookup<'a>,
    /// Proxy variables that the configuration wants in every container.
    pub proxies: &'a [(String, String)],
    /// Height and width of the terminal.
    pub console_size: Option<(u16, u16)>,
}

/// Returns the body of the create request.
pub fn body(
    flags: &ContainerFlags,
    streams: Streams,
    surroundings: &Surroundings<'_>,
) -> Result<Json> {
    let volumes = flags
        .volume
        .iter()
        .map(|spec| VolumeSpec::parse(spec))
        .collect::<Result<Vec<_>>>()?;
    let ports = port::PortMap::parse(flags.publish.iter().map(String::as_str))?;
    let networks = networks(flags)?;
    let mut body = config(flags, streams, surroundings, &volumes, &ports)?;
    body.insert(
        "HostConfig".into(),
        host_config(flags, surroundings, &volumes, &ports, &networks)?,
    );
    let endpoints: Map<String, Json> = networks
        .iter()
        .filter(|network| networks.len() > 1 || network.is_user_defined() || has_settings(network))
        .map(|network| (network.target.clone(), network.to_json()))
        .collect();
    if !endpoints.is_empty() {
        body.insert(
            "NetworkingConfig".into(),
            json!({"EndpointsConfig": endpoints}),
        );
    }
    Ok(Json::Object(body))
}

fn has_settings(network: &NetworkAttachment) -> bool {
    network
        .to_json()
        .as_object()
        .is_some_and(|settings| !settings.is_empty())
}

fn config(
    flags: &ContainerFlags,
    streams: Streams,
    surroundings: &Surroundings<'_>,
    volumes: &[VolumeSpec],
    ports: &port::PortMap,
) -> Result<Map<String, Json>> {
    let mut config = Map::new();
    config.insert("Image".into(), flags.image().into());
    put_text(&mut config, "Hostname", flags.hostname.as_ref());
    put_text(&mut config, "Domainname", flags.domainname.as_ref());
    put_text(&mut config, "User", flags.user.as_ref());
    put_text(&mut config, "WorkingDir", flags.workdir.as_ref());
    put_text(&mut config, "StopSignal", flags.stop_signal.as_ref());
    put_text(&mut config, "MacAddress", flags.mac_address.as_ref());
    config.insert("AttachStdin".into(), streams.stdin.into());
    config.insert("AttachStdout".into(), streams.stdout.into());
    config.insert("AttachStderr".into(), streams.stderr.into());
    config.insert("Tty".into(), flags.tty.into());
    config.insert("OpenStdin".into(), flags.interactive.into());
    config.insert(
        "StdinOnce".into(),
        (flags.interactive && streams.stdin).into(),
    );
    config.insert("Env".into(), json!(environment(flags, surroundings)?));
    config.insert(
        "Cmd".into(),
        if flags.command().is_empty() {
            Json::Null
        } else {
            json!(flags.command())
        },
    );
    if let Some(entrypoint) = &flags.entrypoint {
        // An empty entrypoint resets the image's: the API wants a list of one empty string.
        config.insert("Entrypoint".into(), json!([entrypoint]));
    }
    let labels = env::to_map(&env::labels(&flags.label_file, &flags.label)?);
    config.insert("Labels".into(), Json::Object(labels));
    if let Some(seconds) = flags.stop_timeout {
        config.insert("StopTimeout".into(), seconds.into());
    }
    let mut exposed: Vec<String> = ports.bindings.keys().cloned().collect();
    for value in &flags.expose {
        exposed.extend(port::expose(value)?);
    }
    put_set(&mut config, "ExposedPorts", exposed);
    let anonymous = volumes.iter().filter(|volume| volume.source.is_empty());
    put_set(
        &mut config,
        "Volumes",
        anonymous.map(|volume| volume.target.clone()).collect(),
    );
    if let Some(healthcheck) = healthcheck(flags)? {
        config.insert("Healthcheck".into(), healthcheck);
    }
    Ok(config)
}

fn environment(flags: &ContainerFlags, surroundings: &Surroundings<'_>) -> Result<Vec<String>> {
    let mut environment = env::environment(&flags.env_file, &flags.env, surroundings.variable)?;
    for (name, value) in surroundings.proxies {
        for name in [name.clone(), name.to_lowercase()] {
            let prefix = format!("{name}=");
            if !environment
                .iter()
                .any(|entry| entry.starts_with(&prefix) || *entry == name)
            {
                environment.push(format!("{prefix}{value}"));
            }
        }
    }
    Ok(environment)
}

fn healthcheck(flags: &ContainerFlags) -> Result<Option<Json>> {
    let mut check = Map::new();
    let durations = [
        ("Interval", "health-interval", &flags.health_interval),
        ("Timeout", "health-timeout", &flags.health_timeout),
        (
            "StartPeriod",
            "health-start-period",
            &flags.health_start_period,
        ),
        (
            "StartInterval",
            "health-start-interval",
            &flags.health_start_interval,
        ),
    ];
    for (key, flag, value) in durations {
        if let Some(value) = value {
            check.insert(key.into(), misc::duration(flag, value)?.into());
        }
    }
    if let Some(retries) = flags.health_retries {
        if retries < 0 {
            return Err(CliError::usage("--health-retries cannot be negative"));
        }
        check.insert("Retries".into(), retries.into());
    }
    if let Some(command) = flags
        .health_cmd
        .as_ref()
        .filter(|command| !command.is_empty())
    {
        check.insert("Test".into(), json!(["CMD-SHELL", command]));
    }
    if flags.no_healthcheck {
        if !check.is_empty() {
            return Err(CliError::usage(
                "--no-healthcheck conflicts with --health-* options",
            ));
        }
        return Ok(Some(json!({"Test": ["NONE"]})));
    }
    Ok((!check.is_empty()).then_some(Json::Object(check)))
}

fn host_config(
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
    let restart = flags.restart.as_deref().unwrap_or("no");
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
        .map(|value| misc::extra_host(value))
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

fn put_resources(host: &mut Map<String, Json>, flags: &ContainerFlags) -> Result<()> {
    let numbers = [
        ("CpuShares", flags.cpu_shares),
        ("CpuPeriod", flags.cpu_period),
        ("CpuQuota", flags.cpu_quota),
        ("CpuRealtimePeriod", flags.cpu_rt_period),
        ("CpuRealtimeRuntime", flags.cpu_rt_runtime),
        (
            "MemorySwappiness",
            flags.memory_swappiness.filter(|percent| *percent != -1),
        ),
        ("PidsLimit", flags.pids_limit),
        ("OomScoreAdj", flags.oom_score_adj),
        ("BlkioWeight", flags.blkio_weight.map(i64::from)),
    ];
    for (key, number) in numbers {
        if let Some(number) = number {
            host.insert(key.into(), number.into());
        }
    }
    if let Some(cpus) = &flags.cpus {
        host.insert("NanoCpus".into(), limits::nano_cpus(cpus)?.into());
    }
    let sizes = [
        ("Memory", "memory", &flags.memory),
        (
            "MemoryReservation",
            "memory-reservation",
            &flags.memory_reservation,
        ),
        ("ShmSize", "shm-size", &flags.shm_size),
    ];
    for (key, flag, size) in sizes {
        if let Some(size) = size {
            host.insert(key.into(), limits::memory(flag, size)?.into());
        }
    }
    if let Some(size) = &flags.memory_swap {
        host.insert("MemorySwap".into(), limits::memory_swap(size)?.into());
    }
    if flags.oom_kill_disable {
        host.insert("OomKillDisable".into(), true.into());
    }
    put_text(host, "CpusetCpus", flags.cpuset_cpus.as_ref());
    put_text(host, "CpusetMems", flags.cpuset_mems.as_ref());
    put_text(host, "CgroupParent", flags.cgroup_parent.as_ref());
    put_parsed(
        host,
        "BlkioWeightDevice",
        &flags.blkio_weight_device,
        limits::device_weight,
    )?;
    put_parsed(
        host,
        "BlkioDeviceReadBps",
        &flags.device_read_bps,
        limits::throttle_bytes,
    )?;
    put_parsed(
        host,
        "BlkioDeviceWriteBps",
        &flags.device_write_bps,
        limits::throttle_bytes,
    )?;
    put_parsed(
        host,
        "BlkioDeviceReadIOps",
        &flags.device_read_iops,
        limits::throttle_operations,
    )?;
    put_parsed(
        host,
        "BlkioDeviceWriteIOps",
        &flags.device_write_iops,
        limits::throttle_operations,
    )?;
    put_parsed(host, "Ulimits", &flags.ulimit, |text| {
        let limit = units::parse_ulimit(text).map_err(|error| {
            CliError::usage(format!(
                "invalid argument {text:?} for \"--ulimit\" flag: {error}"
            ))
        })?;
        Ok(json!({"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard}))
    })
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
    host.insert("Privileged".into(), flags.privileged.into());
    host.insert("ReadonlyRootfs".into(), flags.read_only.into());
    put_text(host, "IpcMode", flags.ipc.as_ref());
    put_text(host, "PidMode", flags.pid.as_ref());
    put_text(host, "UTSMode", flags.uts.as_ref());
    put_text(host, "UsernsMode", flags.userns.as_ref());
    put_text(host, "CgroupnsMode", flags.cgroupns.as_ref());
    let sysctls = flags
        .sysctl
        .iter()
        .map(|value| misc::sysctl(value).map(|(name, setting)| (name, setting.into())))
        .collect::<Result<Map<_, _>>>()?;
    put_map(host, "Sysctls", sysctls);
    let (cdi, plain): (Vec<_>, Vec<_>) = flags
        .device
        .iter()
        .partition(|value| device::is_cdi_name(value));
    put_parsed(host, "Devices", plain, device::parse)?;
    put_parsed(
        host,
        "DeviceCgroupRules",
        &flags.device_cgroup_rule,
        |rule| device::cgroup_rule(rule).map(Json::from),
    )?;
    let mut requests = flags
        .gpus
        .iter()
        .map(|value| gpus::parse(value))
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
    put_parsed(host, "Mounts", &flags.mount, |value| {
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

/// Returns the networks; the flags about "the" network apply to the first one.
fn networks(flags: &ContainerFlags) -> Result<Vec<NetworkAttachment>> {
    let mut networks = flags
        .network
        .iter()
        .map(|value| NetworkAttachment::parse(value))
        .collect::<Result<Vec<_>>>()?;
    let has_flags = !flags.network_alias.is_empty()
        || !flags.link_local_ip.is_empty()
        || [&flags.ip, &flags.ip6, &flags.mac_address]
            .iter()
            .any(|flag| flag.is_some());
    if networks.is_empty() && has_flags {
        networks.push(NetworkAttachment {
            target: "default".into(),
            ..NetworkAttachment::default()
        });
    }
    if let Some(first) = networks.first_mut() {
        first.aliases.extend(flags.network_alias.iter().cloned());
        first.link_local.extend(flags.link_local_ip.iter().cloned());
        for (field, flag) in [
            (&mut first.ipv4, &flags.ip),
            (&mut first.ipv6, &flags.ip6),
            (&mut first.mac, &flags.mac_address),
        ] {
            if let Some(value) = flag {
                if !field.is_empty() {
                    return Err(CliError::usage(format!(
                        "conflicting options: {value} is given both in --network and in a flag of its own"
                    )));
                }
                value.clone_into(field);
            }
        }
        if first.is_user_defined() {
            first.links.extend(flags.link.iter().cloned());
        }
    }
    for (index, network) in networks.iter().enumerate() {
        if networks[..index]
            .iter()
            .any(|earlier| earlier.target == network.target)
        {
            return Err(CliError::usage(format!(
                "network {:?} is specified multiple times",
                network.target
            )));
        }
    }
    Ok(networks)
}

fn put_text(object: &mut Map<String, Json>, key: &str, text: Option<&String>) {
    if let Some(text) = text {
        object.insert(key.into(), text.as_str().into());
    }
}

fn put_list(object: &mut Map<String, Json>, key: &str, list: &[String]) {
    if !list.is_empty() {
        object.insert(key.into(), json!(list));
    }
}

fn put_map(object: &mut Map<String, Json>, key: &str, map: Map<String, Json>) {
    if !map.is_empty() {
        object.insert(key.into(), Json::Object(map));
    }
}

fn put_set(object: &mut Map<String, Json>, key: &str, names: Vec<String>) {
    put_map(
        object,
        key,
        names.into_iter().map(|name| (name, json!({}))).collect(),
    );
}

fn put_parsed<'a>(
    object: &mut Map<String, Json>,
    key: &str,
    values: impl IntoIterator<Item = &'a String>,
    parse: impl Fn(&str) -> Result<Json>,
) -> Result<()> {
    let parsed = values
        .into_iter()
        .map(|value| parse(value))
        .collect::<Result<Vec<_>>>()?;
    if !parsed.is_empty() {
        object.insert(key.into(), parsed.into());
    }
    Ok(())
}
