//! The recorded vectors of `tests/vectors`: inputs and what the reference client makes of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::options::{env, filter, gpus, limits, misc, mount, network, port, volume};
use crate::units;

/// Runs all vectors of a file whose input passes `wanted`, and lists the ones that differ.
pub(crate) fn run(
    file: &str,
    wanted: impl Fn(&Json) -> bool,
    mut actual: impl FnMut(&Json) -> Result<Json, String>,
) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(file);
    let content = crate::host_files::read(&path, 64 << 20).unwrap();
    let file: Json = serde_json::from_slice(&content).unwrap();
    let (mut count, mut failures) = (0, Vec::new());
    for vector in file["vectors"].as_array().unwrap() {
        if !wanted(&vector["input"]) {
            continue;
        }
        count += 1;
        let mut expected = vector["expected"].clone();
        // The reference overflows to the least number; here too large a size is an error.
        if expected["n"] == i64::MIN {
            expected = json!({"error": "too large"});
        }
        // How Go would print the duration again is nothing the client needs.
        if expected.get("ns").is_some() {
            expected = json!({"ns": expected["ns"]});
        }
        let expected = &expected;
        match (actual(&vector["input"]), expected.get("error")) {
            (Err(_), Some(_)) => {}
            (Ok(found), None) if found == *expected => {}
            (found, _) => failures.push(format!(
                "{} {}\n  expected {expected}\n  found    {found:?}",
                vector["id"], vector["input"]
            )),
        }
    }
    assert!(count > 0, "no vectors were run");
    assert!(
        failures.is_empty(),
        "{} of {count} differ\n{}",
        failures.len(),
        failures
            .iter()
            .take(12)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
}

fn text<'a>(input: &'a Json, key: &str) -> &'a str {
    input[key].as_str().unwrap_or_default()
}

#[test]
fn units_vectors() {
    run(
        "units.json",
        // The client reads no decimal sizes.
        |input| input["fn"] != "FromHumanSize",
        |input| {
            let number = input["n"].as_f64().unwrap_or(0.0);
            let source = text(input, "s");
            let shown = |text: String| Ok(json!({"s": text}));
            let read = |size: Result<i64, units::UnitError>| {
                size.map(|n| json!({"n": n}))
                    .map_err(|error| error.to_string())
            };
            match text(input, "fn") {
            "HumanSize" => shown(units::human_size(number)),
            "HumanSizeWithPrecision3" => shown(units::human_size_short(number)),
            "BytesSize" => shown(units::bytes_size(number)),
            "HumanDuration" => shown(units::human_duration(number as i64)),
            "RAMInBytes" => read(units::ram_in_bytes(source)),
            "ParseDuration" => units::parse_duration(source)
                .map(|nanoseconds| json!({"ns": nanoseconds}))
                .map_err(|error| error.to_string()),
            "ParseUlimit" => units::parse_ulimit(source)
                .map(|limit| {
                    json!({"name": limit.name, "soft": limit.soft, "hard": limit.hard, "string": limit.to_string()})
                })
                .map_err(|error| error.to_string()),
            other => Err(format!("unknown function {other}")),
        }
        },
    );
}

#[test]
fn port_spec_vectors() {
    run(
        "port-specs.json",
        |_| true,
        |input| {
            let specs: Vec<&str> = input["specs"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(Json::as_str)
                .collect();
            let ports = port::PortMap::parse(specs).map_err(|error| error.to_string())?;
            let exposed: Vec<&String> = ports.bindings.keys().collect();
            Ok(json!({"bindings": ports.to_json(), "exposed": exposed}))
        },
    );
}

#[test]
fn env_file_vectors() {
    run(
        "env-file.json",
        |_| true,
        |input| {
            let variables: BTreeMap<String, String> =
                serde_json::from_value(input["env"].clone()).unwrap();
            let lookup = |name: &str| variables.get(name).cloned();
            let content = text(input, "content").as_bytes();
            match env::parse_file(content, "file", Some(&lookup)) {
                Ok(list) => Ok(json!({"env": list})),
                Err(error) => Err(error.to_string()),
            }
        },
    );
}

#[test]
fn mount_vectors() {
    run(
        "cli-opts.json",
        |input| input["fn"] == "mount",
        |input| {
            mount::parse(text(input, "s"), Path::new("/cwd"))
                .map(|mount| json!({"value": mount}))
                .map_err(|error| error.to_string())
        },
    );
}

#[test]
fn volume_vectors() {
    run(
        "cli-opts.json",
        |input| input["fn"] == "volume",
        |input| {
            let spec =
                volume::VolumeSpec::parse(text(input, "s")).map_err(|error| error.to_string())?;
            let mut value = json!({"type": if spec.is_bind { "bind" } else { "volume" }});
            if !spec.source.is_empty() {
                value["source"] = spec.source.into();
            }
            value["target"] = spec.target.into();
            if spec.read_only {
                value["read_only"] = true.into();
            }
            Ok(json!({"value": value}))
        },
    );
}

#[test]
fn network_vectors() {
    run(
        "cli-opts.json",
        |input| input["fn"] == "network",
        |input| {
            let source = text(input, "s");
            let attachment =
                network::NetworkAttachment::parse(source).map_err(|error| error.to_string())?;
            let long_form = source.contains('=');
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
                    "Aliases": if long_form { json!(attachment.aliases) } else { Json::Null },
                    "DriverOpts": null,
                    "Links": list(&attachment.links),
                    "IPv4Address": attachment.ipv4,
                    "IPv6Address": attachment.ipv6,
                    "LinkLocalIPs": list(&attachment.link_local),
                    "MacAddress": attachment.mac,
                    "GwPriority": attachment.gateway_priority,
                }
            }))
        },
    );
}

#[test]
fn small_option_vectors() {
    let value = |result: crate::error::Result<Json>| {
        result
            .map(|value| json!({"value": value}))
            .map_err(|error| error.to_string())
    };
    run(
        "cli-opts.json",
        |input| !matches!(text(input, "fn"), "mount" | "volume" | "network"),
        |input| {
            let source = text(input, "s");
            match text(input, "fn") {
                "gpus" => value(gpus::parse(source).map(|request| json!([request]))),
                "extra_host" => value(misc::extra_host(source).map(Json::from)),
                "restart" => value(misc::restart_policy(source)),
                "cpus" => limits::nano_cpus(source)
                    .map(|nanos| json!({"nanos": nanos}))
                    .map_err(|error| error.to_string()),
                "sysctl" => value(
                    misc::sysctl(source).map(|(name, setting)| json!(format!("{name}={setting}"))),
                ),
                "throttle_bps" => value(limits::throttle_bytes(source)),
                "weight_device" => value(limits::device_weight(source)),
                "filter" => value(filter::parse(&[source.to_owned()]).map(Json::Object)),
                other => Err(format!("unknown function {other}")),
            }
        },
    );
}

#[test]
fn stdcopy_vectors() {
    use crate::stdcopy::{Channel, Demultiplexer};
    use base64::prelude::{BASE64_STANDARD, Engine};

    run(
        "stdcopy.json",
        |_| true,
        |input| {
            let stream = BASE64_STANDARD.decode(text(input, "stream_b64")).unwrap();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            Demultiplexer::default()
                .push(&stream, |channel, bytes| {
                    if channel == Channel::Stdout {
                        out.extend_from_slice(bytes)
                    } else {
                        err.extend_from_slice(bytes)
                    }
                    Ok(())
                })
                .map_err(|error| error.to_string())?;
            Ok(json!({
                "stdout_b64": BASE64_STANDARD.encode(&out),
                "stderr_b64": BASE64_STANDARD.encode(&err),
                "written": out.len() + err.len(),
            }))
        },
    );
}

#[test]
fn format_vectors() {
    use crate::commands::container::list::{self, ContainerSummary};
    use crate::commands::image::list::{self as images, ImageSummary, Shown};
    use crate::render::ports::{self, Port};
    use crate::render::template::{Missing, Template};
    use crate::render::text::ellipsis;

    run(
        "cli-format.json",
        |_| true,
        |input| {
            let flag = |key: &str| input[key].as_bool().unwrap_or(false);
            let format = text(input, "format");
            let shown = |result: crate::error::Result<String>| {
                result
                    .map(|out| json!({"out": out}))
                    .map_err(|error| error.to_string())
            };
            match text(input, "kind") {
                "ps" => {
                    let items: Vec<ContainerSummary> =
                        serde_json::from_value(input["items"].clone()).unwrap();
                    shown(list::render(
                        &items,
                        format,
                        flag("quiet"),
                        flag("size"),
                        flag("no_trunc"),
                    ))
                }
                "images" => {
                    let items: Vec<ImageSummary> =
                        serde_json::from_value(input["items"].clone()).unwrap();
                    let how = Shown {
                        quiet: flag("quiet"),
                        digests: flag("digests"),
                        no_trunc: flag("no_trunc"),
                    };
                    shown(images::render(&items, format, how))
                }
                "ports" => {
                    let items: Vec<Port> = serde_json::from_value(input["items"].clone()).unwrap();
                    Ok(json!({"s": ports::displayable(&items)}))
                }
                "ellipsis" => {
                    let width = input["width"].as_u64().unwrap_or(0) as usize;
                    Ok(json!({"s": ellipsis(text(input, "s"), width)}))
                }
                _ => shown(Template::parse(format).and_then(|template| {
                    template.execute_json(
                        &input["data"],
                        "map[string]interface {}",
                        Missing::HasNoValue,
                    )
                })),
            }
        },
    );
}
