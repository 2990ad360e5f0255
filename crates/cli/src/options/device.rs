//! `--device HOST[:CONTAINER][:PERMISSIONS]`.

use serde_json::{Value as Json, json};

use crate::error::{CliError, Result};

/// Returns the `HostConfig.Devices` entry of one `--device` value.
pub fn parse(value: &str) -> Result<Json> {
    let parts: Vec<&str> = value.split(':').collect();
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, permissions] if are_permissions(permissions) => (*host, *host, *permissions),
        [host, container] => (*host, *container, "rwm"),
        [host, container, permissions] => (*host, *container, *permissions),
        _ => {
            return Err(CliError::usage(format!(
                "invalid device specification: {value}"
            )));
        }
    };
    if !host.starts_with('/') || !container.starts_with('/') {
        return Err(CliError::usage(format!(
            "bad format for path: {value}: both paths must be absolute"
        )));
    }
    if !are_permissions(permissions) {
        return Err(CliError::usage(format!(
            "bad mode specified: {permissions}"
        )));
    }
    Ok(json!({
        "PathOnHost": host,
        "PathInContainer": container,
        "CgroupPermissions": permissions,
    }))
}

/// Returns whether a `--device` value names a device by the Container Device Interface: `vendor/class=name`.
#[must_use]
pub fn is_cdi_name(value: &str) -> bool {
    !value.starts_with('/')
        && value
            .split_once('=')
            .is_some_and(|(kind, name)| kind.contains('/') && !name.is_empty())
}

/// Returns a checked `--device-cgroup-rule` value: `TYPE MAJOR:MINOR PERMISSIONS`.
pub fn cgroup_rule(value: &str) -> Result<String> {
    let wrong = || CliError::usage(format!("invalid device cgroup format '{value}'"));
    let [kind, numbers, permissions] = value.split(' ').collect::<Vec<_>>()[..] else {
        return Err(wrong());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let is_number =
        |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    if !matches!(kind, "a" | "b" | "c")
        || !is_number(major)
        || !is_number(minor)
        || !are_permissions(permissions)
    {
        return Err(wrong());
    }
    Ok(value.to_owned())
}

fn are_permissions(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 3
        && text.chars().enumerate().all(|(index, character)| {
            "rwm".contains(character) && !text[..index].contains(character)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_their_permissions() {
        let cases = [
            ("/dev/fuse", Some(("/dev/fuse", "rwm"))),
            ("/dev/a:/dev/b", Some(("/dev/b", "rwm"))),
            ("/dev/a:r", Some(("/dev/a", "r"))),
            ("/dev/a:/dev/b:rw", Some(("/dev/b", "rw"))),
            ("/dev/a:/dev/b:x", None),
            ("/dev/a:/dev/b:rr", None),
            ("dev", None),
        ];
        for (value, expected) in cases {
            let parsed = parse(value).ok();
            let found = parsed.as_ref().map(|device| {
                (
                    device["PathInContainer"].as_str().unwrap(),
                    device["CgroupPermissions"].as_str().unwrap(),
                )
            });
            assert_eq!(found, expected, "{value}");
        }
        assert!(cgroup_rule("c 1:3 mr").is_ok());
        assert!(cgroup_rule("c 1:3").is_err());
        assert!(is_cdi_name("vendor.com/gpu=all"));
    }
}
