//! Mistakes in templates that the parser lets pass.

use gotmpl::Value;

use crate::{FormatError, Result};

/// Keys whose objects have free-form keys, so that asking for an absent one is no mistake.
const FREE_FORM: [&str; 18] = [
    "Labels",
    "Annotations",
    "Options",
    "DriverOpts",
    "Sysctls",
    "StorageOpt",
    "Tmpfs",
    "Data",
    "Volumes",
    "ExposedPorts",
    "Ports",
    "PortBindings",
    "Networks",
    "Containers",
    "Runtimes",
    "UsageData",
    "Attributes",
    "Status",
];

/// Fails when blocks and their `{{end}}` do not pair up, which the parser lets pass.
pub(crate) fn check_blocks(source: &str) -> Result<()> {
    let mut depth = 0_usize;
    let mut rest = source;
    while let Some(start) = rest.find("{{") {
        let action = &rest[start + 2..];
        let end = action_length(action);
        let words = action[..end].trim_start_matches('-').trim_start();
        match words
            .split(|c: char| !c.is_ascii_alphabetic())
            .next()
            .unwrap_or_default()
        {
            "if" | "range" | "with" | "block" | "define" => depth += 1,
            "end" => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| FormatError("template: :1: unexpected {{end}}".into()))?;
            }
            _ => {}
        }
        rest = action.get(end + 2..).unwrap_or_default();
    }
    if depth > 0 {
        return Err(FormatError("template: :1: unexpected EOF".into()));
    }
    Ok(())
}

/// Returns where an action's closing braces are, those inside quotes and comments not counting.
fn action_length(action: &str) -> usize {
    if let Some(comment) = action.trim_start_matches(['-', ' ']).strip_prefix("/*") {
        let offset = action.len() - comment.len();
        let end = comment
            .find("*/")
            .map_or(action.len(), |end| offset + end + 2);
        return action[end..]
            .find("}}")
            .map_or(action.len(), |braces| end + braces);
    }
    let (mut quote, mut escaped) = (None, false);
    for (position, byte) in action.bytes().enumerate() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(b'"' | b'\'') if byte == b'\\' => escaped = true,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if matches!(byte, b'"' | b'`' | b'\'') => quote = Some(byte),
            None if action.as_bytes()[position..].starts_with(b"}}") => return position,
            None => {}
        }
    }
    action.len()
}

/// Returns the first name of a path that an object with fixed fields does not have.
pub(crate) fn unknown_field<'a>(data: &Value, path: &[&'a str]) -> Option<&'a str> {
    let mut current = data;
    for (index, name) in path.iter().enumerate() {
        let Value::Map(map) = current else {
            return None;
        };
        match map.get(*name) {
            Some(next) => current = next,
            None if index > 0 && FREE_FORM.contains(&path[index - 1]) => return None,
            // An entry of a free-form map (a network, a runtime) may leave out what is empty.
            None if index > 1 && FREE_FORM.contains(&path[index - 2]) => return None,
            None => return Some(name),
        }
    }
    None
}
