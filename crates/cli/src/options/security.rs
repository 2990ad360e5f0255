//! `--security-opt`.

use std::path::Path;

use crate::error::{CliError, Result};
use crate::host_files;

/// Largest accepted seccomp profile, in bytes.
pub const SECCOMP_PROFILE_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// What the `--security-opt` values ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// `HostConfig.SecurityOpt`.
    pub options: Vec<String>,
    /// `systempaths=unconfined`: no path under /proc and /sys is masked or read-only.
    pub unconfined_paths: bool,
}

impl SecurityOptions {
    /// Reads all values; a seccomp profile's file is read here and its content sent.
    pub fn parse(values: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for value in values {
            if value == "systempaths=unconfined" {
                parsed.unconfined_paths = true;
                continue;
            }
            parsed.options.push(option(value)?);
        }
        Ok(parsed)
    }
}

fn option(value: &str) -> Result<String> {
    let Some((key, setting)) = value.split_once('=').or_else(|| value.split_once(':')) else {
        if value == "no-new-privileges" {
            return Ok(value.to_owned());
        }
        return Err(CliError::usage(format!(
            "invalid --security-opt: {value:?}"
        )));
    };
    if key != "seccomp" || matches!(setting, "unconfined" | "builtin") {
        return Ok(value.to_owned());
    }
    let profile =
        host_files::read(Path::new(setting), SECCOMP_PROFILE_LIMIT_BYTES).map_err(|error| {
            CliError::usage(format!(
                "opening seccomp profile ({setting}) failed: {error}"
            ))
        })?;
    let parsed: serde_json::Value = serde_json::from_slice(&profile).map_err(|error| {
        CliError::usage(format!(
            "compacting json for seccomp profile ({setting}) failed: {error}"
        ))
    })?;
    Ok(format!("seccomp={parsed}"))
}
