//! From the flags of `run` and `create` to the body of `POST /containers/create` (engine-api.md §7.1).

mod fields;
mod host_config;
mod resources;

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::commands::container::flags::ContainerFlags;
use crate::commands::container::request::fields::{put_set, put_text};
use crate::commands::container::request::host_config::host_config;
use crate::error::{CliError, Result};
use crate::options::network::NetworkAttachment;
use crate::options::volume::VolumeSpec;
use crate::options::{env, misc, port};

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
    put_text(&mut config, "User", flags.process.user.as_ref());
    put_text(&mut config, "WorkingDir", flags.process.workdir.as_ref());
    put_text(&mut config, "StopSignal", flags.stop_signal.as_ref());
    put_text(&mut config, "MacAddress", flags.mac_address.as_ref());
    config.insert("AttachStdin".into(), streams.stdin.into());
    config.insert("AttachStdout".into(), streams.stdout.into());
    config.insert("AttachStderr".into(), streams.stderr.into());
    config.insert("Tty".into(), flags.process.tty.into());
    config.insert("OpenStdin".into(), flags.process.interactive.into());
    config.insert(
        "StdinOnce".into(),
        (flags.process.interactive && streams.stdin).into(),
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
    let mut environment = flags.process.environment(surroundings.variable)?;
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

/// Says whether a network is given more than its name.
fn has_settings(network: &NetworkAttachment) -> bool {
    network
        .to_json()
        .as_object()
        .is_some_and(|settings| !settings.is_empty())
}
