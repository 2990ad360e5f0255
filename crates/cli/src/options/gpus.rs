//! `--gpus all`, `--gpus 2`, `--gpus device=0,capabilities=…`.

use serde_json::{Map, Value as Json, json};

use crate::error::{CliError, Result};
use crate::options::csv;

/// Returns the `HostConfig.DeviceRequests` entry of one `--gpus` value.
pub fn parse(value: &str) -> Result<Json> {
    let (mut driver, mut count, mut devices) = (String::new(), None, Json::Null);
    let (mut capabilities, mut options) = (Vec::<String>::new(), Map::new());
    for field in csv::fields(value)? {
        let (key, value) = field.split_once('=').unwrap_or(("count", field.as_str()));
        match key {
            "driver" => driver = value.to_owned(),
            "count" => count = Some(parse_count(value)?),
            "device" => devices = json!(value.split(',').collect::<Vec<_>>()),
            "capabilities" => capabilities = value.split(',').map(str::to_owned).collect(),
            "options" => {
                for pair in csv::fields(value)? {
                    let (name, option) = pair.split_once('=').unwrap_or((pair.as_str(), ""));
                    options.insert(name.to_owned(), option.into());
                }
            }
            other => {
                return Err(CliError::usage(format!(
                    "unexpected key '{other}' in '{field}'"
                )));
            }
        }
    }
    capabilities.push("gpu".into());
    // Naming devices asks for just those; naming neither devices nor a count asks for one.
    let count = count.unwrap_or(if devices.is_null() { 1 } else { 0 });
    Ok(json!({
        "Driver": driver,
        "Count": count,
        "DeviceIDs": devices,
        "Capabilities": [capabilities],
        "Options": options,
    }))
}

fn parse_count(text: &str) -> Result<i64> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse().map_err(|_| {
        CliError::usage(format!(
            "invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"
        ))
    })
}
