//! RUN, and the command lines of CMD and ENTRYPOINT (spec/llb.md §7.3).

use crate::ast::{Node, Word};
use crate::error::Error;
use crate::instruction::fields::{parse_bool, split_fields};
use crate::instruction::flags::{FlagKind, FlagSpec, Flags};
use crate::instruction::interpret::Problem;
use crate::instruction::mount::MountFlag;
use crate::instruction::{CommandLine, Device, NetworkMode, Run, SecurityMode};

const RUN_FLAGS: &[FlagSpec] = &[
    ("device", FlagKind::List),
    ("mount", FlagKind::List),
    ("network", FlagKind::Text),
    ("security", FlagKind::Text),
];

/// Reads RUN.
pub(super) fn run(node: &Node) -> Result<Run, Problem> {
    let flags = Flags::parse(&node.flags, RUN_FLAGS)?;
    let mounts = each(flags.words("mount"), MountFlag::parse)?;
    let devices = each(flags.words("device"), device)?;
    let network = each(flags.words("network"), network)?;
    let security = each(flags.words("security"), security)?;
    Ok(Run {
        command: command_line(node),
        mounts,
        network: network.first().copied().unwrap_or_default(),
        security: security.first().copied().unwrap_or_default(),
        devices,
        flags_used: flags.used(),
    })
}

/// Returns the command of a node in shell or exec form.
pub(super) fn command_line(node: &Node) -> CommandLine {
    CommandLine {
        arguments: command_arguments(&node.arguments, node.is_json),
        is_shell: !node.is_json,
        heredocs: node.heredocs.clone(),
    }
}

/// Returns exec form's arguments, or shell form's one text.
pub(super) fn command_arguments(words: &[Word], is_json: bool) -> Vec<String> {
    let words = words.iter().map(|word| word.text.clone());
    if is_json || words.len() == 0 {
        return words.collect();
    }
    vec![words.collect::<Vec<_>>().join(" ")]
}

fn each<T>(words: &[Word], read: impl Fn(&str) -> Result<T, Problem>) -> Result<Vec<T>, Problem> {
    let values = words
        .iter()
        .map(|word| read(&word.text).map_err(|problem| problem.at(word.span.clone())));
    Problem::collect(values)
}

fn network(mode: &str) -> Result<NetworkMode, Problem> {
    match mode {
        "default" => Ok(NetworkMode::Default),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        _ => Err(Error::InvalidNetworkMode {
            mode: mode.to_owned(),
        }
        .into()),
    }
}

fn security(mode: &str) -> Result<SecurityMode, Problem> {
    match mode {
        "sandbox" => Ok(SecurityMode::Sandbox),
        "insecure" => Ok(SecurityMode::Insecure),
        _ => Err(Error::InvalidSecurityMode {
            mode: mode.to_owned(),
        }
        .into()),
    }
}

/// Reads `name[,required]`, also as `name=…` and `required=…`.
fn device(text: &str) -> Result<Device, Problem> {
    let mut device = Device {
        name: String::new(),
        is_required: false,
    };
    for (index, field) in split_fields(text)?.iter().enumerate() {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("name", Some(value)) => device.name = value.to_owned(),
            ("required", None) => device.is_required = true,
            ("required", Some(value)) => {
                device.is_required = parse_bool("required", value)?;
            }
            // A device's full name has a `=` of its own: `vendor.com/class=name`.
            _ if index == 0 => device.name.clone_from(field),
            (_, None) => {
                let reason = format!("invalid field '{field}' must be a key=value pair");
                return Err(Error::InvalidOption { reason }.into());
            }
            (key, Some(_)) => {
                let reason = format!("unexpected key '{key}' in '{field}'");
                return Err(Error::InvalidOption { reason }.into());
            }
        }
    }
    if device.name.is_empty() {
        let reason = format!("device name is missing in '{text}'");
        return Err(Error::InvalidOption { reason }.into());
    }
    Ok(device)
}
