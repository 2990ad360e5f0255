//! Calling `git`, confined to what it is to do.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::checkout::Checkout;
use crate::BuildError;

/// Protocols that git may use: nothing that runs a program or reads files of this machine.
const PROTOCOLS: &str = "git:http:https:ssh";
/// Bytes of what git says that are shown.
const SHOWN_BYTES: usize = 2_000;

/// Runs `git` for a checkout, in a directory where one is given.
///
/// # Errors
/// What git says where it fails, and that it is not installed.
pub(super) fn git(
    directory: Option<&Path>,
    checkout: &Checkout,
    arguments: &[&str],
) -> Result<Output, BuildError> {
    let mut command = Command::new("git");
    command
        .args([
            "-c",
            "protocol.ext.allow=never",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(arguments)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
        .env("GIT_SSH_COMMAND", ssh_command(checkout))
        .stdin(Stdio::null());
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    if let Some(agent) = &checkout.agent {
        command.env("SSH_AUTH_SOCK", agent);
    }
    if let Some(header) = &checkout.authorization {
        // By the environment: the command line is everybody's to read.
        command
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env("GIT_CONFIG_VALUE_0", format!("Authorization: {header}"));
    }
    let output = command.output().map_err(|error| {
        let message = if error.kind() == std::io::ErrorKind::NotFound {
            format!(
                "cannot bring in {}: the program git is not installed",
                checkout.url
            )
        } else {
            format!("cannot run git: {error}")
        };
        BuildError::Source { message }
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let told = output.stderr.get(..SHOWN_BYTES).unwrap_or(&output.stderr);
    Err(BuildError::Source {
        message: format!(
            "git {} of {} failed: {}",
            arguments.first().unwrap_or(&""),
            checkout.url,
            String::from_utf8_lossy(told).trim()
        ),
    })
}

/// Returns how git calls SSH: servers have to be known where the request says which are.
fn ssh_command(checkout: &Checkout) -> String {
    let hosts = match &checkout.known_hosts {
        None => "-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/dev/null".to_owned(),
        Some(file) => format!(
            "-o StrictHostKeyChecking=yes -o UserKnownHostsFile='{}'",
            file.display()
        ),
    };
    format!("ssh -F /dev/null -o BatchMode=yes {hosts}")
}
