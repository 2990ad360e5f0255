//! Credential helpers: programs that keep credentials (docker-credential-helpers' protocol).

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use crate::config_file::Credentials;
use crate::error::{CliError, Result};

/// User name by which a credential helper marks an identity token.
pub(super) const TOKEN_USER: &str = "<token>";

/// Returns what a helper has for a registry.
pub(super) fn ask_helper(helper: &str, registry: &str) -> Result<Option<Credentials>> {
    let answer = match run_helper(helper, "get", registry) {
        Ok(answer) => answer,
        Err(CliError::Stream { message, .. }) if message.contains("credentials not found") => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let json: Json = serde_json::from_str(&answer).map_err(|error| unreadable(helper, &error))?;
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    Ok(Some(if text("Username") == TOKEN_USER {
        Credentials {
            identity_token: text("Secret"),
            ..Credentials::default()
        }
    } else {
        Credentials {
            username: text("Username"),
            password: text("Secret"),
            ..Credentials::default()
        }
    }))
}

/// Returns the registries that a helper has something for.
pub(super) fn list_helper(helper: &str) -> Result<Vec<String>> {
    let answer = run_helper(helper, "list", "")?;
    let users: BTreeMap<String, Json> =
        serde_json::from_str(&answer).map_err(|error| unreadable(helper, &error))?;
    Ok(users.into_keys().collect())
}

fn unreadable(helper: &str, error: &serde_json::Error) -> CliError {
    CliError::usage(format!(
        "docker-credential-{helper} answered something unreadable: {error}"
    ))
}

/// Runs `docker-credential-<helper> <verb>` (docker-credential-helpers' protocol: input and output are pipes).
pub(super) fn run_helper(helper: &str, verb: &str, input: &str) -> Result<String> {
    let program = format!("docker-credential-{helper}");
    let fail = |error: std::io::Error| CliError::io(format!("cannot run {program}"), error);
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(fail)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says why in its answer.
        let _ = stdin.write_all(input.as_bytes());
    }
    let finished = child.wait_with_output().map_err(fail)?;
    let text = String::from_utf8_lossy(&finished.stdout).trim().to_owned();
    if finished.status.success() {
        Ok(text)
    } else {
        Err(CliError::Stream {
            code: None,
            message: format!("error: {program} {verb}: {text}"),
        })
    }
}
