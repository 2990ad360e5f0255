//! Small flag values: restart policy, extra hosts, sysctls, tmpfs, health, detach keys.

use std::net::IpAddr;

use serde_json::{Map, Value as Json, json};

use crate::error::{CliError, Result};
use crate::units;

/// Longest domain of a DNS search list (RFC 1035 §2.3.4).
const MAX_DOMAIN_BYTES: usize = 255;
/// Longest label of a domain (RFC 1035 §2.3.4).
const MAX_DOMAIN_LABEL_BYTES: usize = 63;

/// Reads a truth value as Go does.
pub fn go_boolean(text: &str) -> std::result::Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}

/// Returns the `HostConfig.RestartPolicy` of a `--restart` value: `NAME[:COUNT]`; the daemon checks the name.
pub fn restart_policy(value: &str) -> Result<Json> {
    let (name, count) = value.split_once(':').unwrap_or((value, ""));
    if name.is_empty() && value.contains(':') {
        return Err(CliError::usage(
            "invalid restart policy format: no policy provided before colon",
        ));
    }
    let count: i64 = match count {
        "" => 0,
        digits => digits.parse().map_err(|_| {
            CliError::usage("invalid restart policy format: maximum retry count must be an integer")
        })?,
    };
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

/// Returns the `HostConfig.ExtraHosts` entry of an `--add-host` value: `HOST:IP`, `HOST=IP`, IPv6 in brackets or not.
pub fn extra_host(value: &str) -> Result<String> {
    let wrong = || CliError::usage(format!("bad format for add-host: {value:?}"));
    let (host, address) = value
        .split_once('=')
        .or_else(|| value.split_once(':'))
        .ok_or_else(wrong)?;
    if host.is_empty() {
        return Err(wrong());
    }
    if address == "host-gateway" {
        return Ok(format!("{host}:{address}"));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    if bare.parse::<IpAddr>().is_err() {
        return Err(CliError::usage(format!(
            "invalid IP address in add-host: {address:?}"
        )));
    }
    Ok(format!("{host}:{bare}"))
}

/// Returns a domain of the DNS search list without its last dot; `.` stands for no search at all.
pub fn dns_search(text: &str) -> Result<&str> {
    let trimmed = text.trim();
    if trimmed == "." {
        return Ok(trimmed);
    }
    let domain = trimmed.strip_suffix('.').unwrap_or(trimmed);
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.len() <= MAX_DOMAIN_LABEL_BYTES
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if domain.len() < MAX_DOMAIN_BYTES && domain.split('.').all(is_label) {
        return Ok(domain);
    }
    Err(CliError::usage(format!("{text} is not a valid domain")))
}

/// Sysctls of namespaces that a container has for itself.
const SYSCTLS: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.domainname",
];

/// Returns the checked pair of a `--sysctl` value.
pub fn sysctl(value: &str) -> Result<(String, String)> {
    let (name, setting) = value
        .split_once('=')
        .ok_or_else(|| CliError::usage(format!("sysctl '{value}' is not allowed")))?;
    let allowed =
        SYSCTLS.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
    if !allowed {
        return Err(CliError::usage(format!("sysctl '{value}' is not allowed")));
    }
    Ok((name.to_owned(), setting.to_owned()))
}

/// Returns the `HostConfig.Tmpfs` object of all `--tmpfs` values: `PATH[:OPTIONS]`.
#[must_use]
pub fn tmpfs(values: &[String]) -> Map<String, Json> {
    values
        .iter()
        .map(|value| {
            let (path, options) = value.split_once(':').unwrap_or((value, ""));
            (path.to_owned(), options.into())
        })
        .collect()
}

/// Returns a list flag's pairs as an object; a pair without `=` is an error naming the flag.
pub fn pairs(flag: &str, values: &[String]) -> Result<Map<String, Json>> {
    values
        .iter()
        .map(|value| {
            value
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .map(|(key, value)| (key.to_owned(), value.into()))
                .ok_or_else(|| {
                    CliError::usage(format!(
                        "invalid value {value:?} for --{flag}: expected key=value"
                    ))
                })
        })
        .collect()
}

/// Returns the nanoseconds of a flag's duration; negative ones are refused.
pub fn duration(flag: &str, value: &str) -> Result<i64> {
    let nanoseconds = units::parse_duration(value).map_err(|error| {
        CliError::usage(format!(
            "invalid argument {value:?} for \"--{flag}\" flag: {error}"
        ))
    })?;
    if nanoseconds < 0 {
        return Err(CliError::usage(format!("--{flag} cannot be negative")));
    }
    Ok(nanoseconds)
}

/// Fails when a `--detach-keys` value is not in the notation of engine-api.md §2.2.
pub fn check_detach_keys(value: &str) -> Result<()> {
    let is_key = |key: &str| {
        let mut characters = key.chars();
        match (characters.next(), characters.next()) {
            (Some(_), None) => true,
            _ => key.strip_prefix("ctrl-").is_some_and(|rest| {
                rest.len() == 1
                    && rest
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || "@[\\]^_".contains(c))
            }),
        }
    };
    match value.split(',').find(|key| !is_key(key)) {
        None => Ok(()),
        Some(key) => Err(CliError::usage(format!(
            "unknown character in --detach-keys: '{key}'"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_have_limits() {
        let label = "a".repeat(MAX_DOMAIN_LABEL_BYTES);
        assert!(dns_search(&label).is_ok());
        assert!(dns_search(&format!("{label}a")).is_err());
        let longest = [label.as_str(); 4].join(".");
        assert!(dns_search(&longest).is_err());
        assert!(dns_search(&longest[..MAX_DOMAIN_BYTES - 1]).is_ok());
        assert_eq!(dns_search(".").unwrap(), ".");
    }

    #[test]
    fn detach_keys() {
        for good in ["ctrl-p,ctrl-q", "a", "ctrl-@", "a,b,ctrl-_"] {
            assert!(check_detach_keys(good).is_ok(), "{good}");
        }
        for bad in ["", "ctrl-P", "ctrl-", "ab", "a,,b"] {
            assert!(check_detach_keys(bad).is_err(), "{bad}");
        }
    }
}
