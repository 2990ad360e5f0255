//! The grammar of single values in a create request: links, extra hosts, variables, modes, restart policies.
//!
//! Pure; each function takes the text as the API carries it and answers with docker's own words (spec engine-api §7).

use std::net::IpAddr;

use crate::error::{EngineError, Result};
use crate::model::host_config::RestartPolicy;

pub use crate::identity::is_valid_name as is_valid_container_name;

/// Stands for the host's address in an extra host.
pub const HOST_GATEWAY: &str = "host-gateway";
/// Splits a link `name[:alias]`; the form `/name:/container/alias` of old inspect answers has the alias behind its
/// last slash.
///
/// # Errors
/// An empty text, or one with more than two parts.
pub fn parse_link(text: &str) -> Result<(&str, &str)> {
    if text.is_empty() {
        return Err(EngineError::invalid("empty string specified for links"));
    }
    let Some((name, alias)) = text.split_once(':') else {
        return Ok((text, text));
    };
    if alias.contains(':') {
        return Err(EngineError::invalid(format!(
            "bad format for links: {text}"
        )));
    }
    Ok((name.trim_start_matches('/'), alias))
}

/// Splits an extra host `name:address` into its name and address; [`HOST_GATEWAY`] is no address yet.
///
/// # Errors
/// docker's texts for another shape and for what is no address.
pub fn parse_extra_host(text: &str) -> Result<(&str, &str)> {
    let (name, address) = text
        .split_once(':')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| EngineError::invalid(format!("bad format for add-host: {text:?}")))?;
    if address == HOST_GATEWAY || is_address(address) {
        return Ok((name, address));
    }
    Err(EngineError::invalid(format!(
        "invalid IP address in add-host: {address:?}"
    )))
}

/// Says whether a text is an IP address; IPv6 ones may name their interface (RFC 4007 §11).
fn is_address(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "any"));
    let is_v6 = address.contains(':');
    address.parse::<IpAddr>().is_ok() && !zone.is_empty() && (is_v6 || !text.contains('%'))
}

/// Checks a variable `NAME[=VALUE]`.
///
/// # Errors
/// An empty name.
pub fn check_variable(text: &str) -> Result<()> {
    if text.is_empty() || text.starts_with('=') {
        return Err(EngineError::invalid(format!(
            "invalid environment variable: {text}"
        )));
    }
    Ok(())
}

/// Checks a label of the daemon, `KEY=VALUE`.
///
/// # Errors
/// A text without `=`.
pub fn check_daemon_label(text: &str) -> Result<()> {
    if text.contains('=') {
        return Ok(());
    }
    Err(EngineError::invalid(format!(
        "bad attribute format: {text}"
    )))
}

/// Checks when a container is started again.
///
/// # Errors
/// docker's texts for an unknown name and for a count that does not fit it.
pub fn check_restart_policy(policy: &RestartPolicy) -> Result<()> {
    let invalid = |text: &str| {
        Err(EngineError::invalid(format!(
            "invalid restart policy: {text}"
        )))
    };
    match policy.name.as_str() {
        "" => Ok(()),
        "no" | "always" | "unless-stopped" => match policy.maximum_retry_count {
            0 => Ok(()),
            1.. => invalid("maximum retry count can only be used with 'on-failure'"),
            _ => invalid(
                "maximum retry count can only be used with 'on-failure' and cannot be negative",
            ),
        },
        "on-failure" if policy.maximum_retry_count < 0 => {
            invalid("maximum retry count cannot be negative")
        }
        "on-failure" => Ok(()),
        other => invalid(&format!(
            "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

/// Returns the container that a mode `container:NAME` joins; the name may be empty.
#[must_use]
pub fn joined_container(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:")
}

/// Says whether a text is a mode of the IPC namespace.
#[must_use]
pub fn is_ipc_mode(mode: &str) -> bool {
    matches!(mode, "" | "none" | "private" | "shareable" | "host")
        || joined_container(mode).is_some()
}

/// Says whether a text is a mode of the PID namespace.
#[must_use]
pub fn is_pid_mode(mode: &str) -> bool {
    matches!(mode, "" | "host") || joined_container(mode).is_some_and(|name| !name.is_empty())
}

/// Says whether a text is a mode of the UTS namespace, or of the user namespace: both know only the host's.
#[must_use]
pub fn is_host_or_own_mode(mode: &str) -> bool {
    matches!(mode, "" | "host")
}

/// Says whether a text is a mode of the cgroup namespace.
#[must_use]
pub fn is_cgroup_namespace_mode(mode: &str) -> bool {
    matches!(mode, "" | "private" | "host")
}

/// Says whether a network mode names a network that users make.
#[must_use]
pub fn is_user_defined_network(mode: &str) -> bool {
    !matches!(mode, "default" | "bridge" | "host" | "none") && joined_container(mode).is_none()
}

/// Says whether a container of this network mode has a network namespace of its own.
#[must_use]
pub fn has_own_network(mode: &str) -> bool {
    mode != "host" && joined_container(mode).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_name_an_interface() {
        for (text, valid) in [
            ("1.2.3.4", true),
            ("::1", true),
            ("fe80::1%eth0", true),
            ("1.2.3.4%eth0", false),
            ("::1%", false),
        ] {
            assert_eq!(is_address(text), valid, "{text}");
        }
    }
}
