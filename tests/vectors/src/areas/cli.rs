//! The client: values of flags, tables and templates.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};
use wharf_cli::internals::{
    containers, env, filter, gpus, images, limits, misc, mount, network, port, ports, template,
    text as words, volume,
};

use super::{same_answer, strings, text};
use crate::{Document, Vector, Verdict};

/// The directory that relative paths were resolved against.
const WORKING_DIRECTORY: &str = "/cwd";

fn shown(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(super) fn port_specs(vector: &Vector, _: &Document) -> Verdict {
    let specs = strings(&vector.input["specs"]);
    let found = port::PortMap::parse(specs.iter().map(String::as_str)).map(|ports| {
        let exposed: Vec<&String> = ports.bindings.keys().collect();
        json!({"bindings": ports.to_json(), "exposed": exposed})
    });
    same_answer(found.map_err(shown), &vector.expected)
}

pub(super) fn env_file(vector: &Vector, _: &Document) -> Verdict {
    let variables: BTreeMap<String, String> =
        serde_json::from_value(vector.input["env"].clone()).unwrap();
    let lookup = |name: &str| variables.get(name).cloned();
    let content = text(&vector.input, "content").as_bytes();
    let found = env::parse_file(content, "file", Some(&lookup)).map(|list| json!({"env": list}));
    same_answer(found.map_err(shown), &vector.expected)
}

pub(super) fn options(vector: &Vector, _: &Document) -> Verdict {
    let source = text(&vector.input, "s");
    let found = match text(&vector.input, "fn") {
        "mount" => mount::parse(source, Path::new(WORKING_DIRECTORY)),
        "volume" => volume_value(source),
        "network" => return same_answer(network_value(source), &vector.expected),
        "gpus" => gpus::parse(source).map(|request| json!([request])),
        "extra_host" => misc::extra_host(source).map(Json::from),
        "restart" => misc::restart_policy(source),
        "cpus" => {
            let found = limits::nano_cpus(source).map(|nanos| json!({"nanos": nanos}));
            return same_answer(found.map_err(shown), &vector.expected);
        }
        "sysctl" => misc::sysctl(source).map(|(name, setting)| json!(format!("{name}={setting}"))),
        "throttle_bps" => limits::throttle_bytes(source),
        "weight_device" => limits::device_weight(source),
        "filter" => filter::parse(&[source.to_owned()]).map(Json::Object),
        other => return Err(format!("unknown function {other}")),
    };
    let found = found.map(|value| json!({"value": value})).map_err(shown);
    same_answer(found, &vector.expected)
}

fn volume_value(source: &str) -> Result<Json, wharf_cli::CliError> {
    let spec = volume::VolumeSpec::parse(source)?;
    let mut value = json!({"type": if spec.is_bind { "bind" } else { "volume" }});
    if !spec.source.is_empty() {
        value["source"] = spec.source.into();
    }
    value["target"] = spec.target.into();
    if spec.read_only {
        value["read_only"] = true.into();
    }
    Ok(value)
}

fn network_value(source: &str) -> Result<Json, String> {
    let attachment = network::NetworkAttachment::parse(source).map_err(shown)?;
    let is_long_form = source.contains('=');
    let list = |items: &[String]| {
        if items.is_empty() {
            Json::Null
        } else {
            json!(items)
        }
    };
    Ok(json!({
        "mode": attachment.target,
        "value": {
            "Target": attachment.target,
            "Aliases": if is_long_form { json!(attachment.aliases) } else { Json::Null },
            "DriverOpts": null,
            "Links": list(&attachment.links),
            "IPv4Address": attachment.ipv4,
            "IPv6Address": attachment.ipv6,
            "LinkLocalIPs": list(&attachment.link_local),
            "MacAddress": attachment.mac,
            "GwPriority": attachment.gateway_priority,
        }
    }))
}

pub(super) fn format(vector: &Vector, _: &Document) -> Verdict {
    let input = &vector.input;
    let flag = |key: &str| input[key].as_bool().unwrap_or(false);
    let format = text(input, "format");
    let found = match text(input, "kind") {
        "ps" => {
            let items: Vec<containers::ContainerSummary> =
                serde_json::from_value(input["items"].clone()).unwrap();
            containers::render(
                &items,
                format,
                flag("quiet"),
                flag("size"),
                flag("no_trunc"),
            )
        }
        "images" => {
            let items: Vec<images::ImageSummary> =
                serde_json::from_value(input["items"].clone()).unwrap();
            let how = images::Shown {
                quiet: flag("quiet"),
                digests: flag("digests"),
                no_trunc: flag("no_trunc"),
            };
            images::render(&items, format, how)
        }
        "ports" => {
            let items: Vec<ports::Port> = serde_json::from_value(input["items"].clone()).unwrap();
            return same_answer(
                Ok(json!({"s": ports::displayable(&items)})),
                &vector.expected,
            );
        }
        "ellipsis" => {
            let width = input["width"].as_u64().unwrap_or(0) as usize;
            let found = words::ellipsis(text(input, "s"), width);
            return same_answer(Ok(json!({"s": found})), &vector.expected);
        }
        _ => template::Template::parse(format)
            .and_then(|parsed| {
                let missing = template::Missing::HasNoValue;
                parsed.execute_json(&input["data"], "map[string]interface {}", missing)
            })
            .map_err(wharf_cli::CliError::from),
    };
    same_answer(
        found.map(|out| json!({"out": out})).map_err(shown),
        &vector.expected,
    )
}

/// Takes a multiplexed stream apart as the client does.
pub(super) fn demultiplexed(stream: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    use wharf_cli::internals::stdcopy::{Channel, Demultiplexer};
    let (mut output, mut error_output) = (Vec::new(), Vec::new());
    Demultiplexer::default()
        .push(stream, |channel, bytes| {
            match channel {
                Channel::Stdout => output.extend_from_slice(bytes),
                _ => error_output.extend_from_slice(bytes),
            }
            Ok(())
        })
        .map_err(shown)?;
    Ok((output, error_output))
}
