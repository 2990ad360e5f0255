//! Plugins of docker's client: programs named `docker-NAME` that are commands of their own.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use crate::config_file::ConfigFile;
use crate::error::{CliError, Result};
use crate::host_files;
use crate::session::Session;
use crate::usage;

/// Directories where packages put plugins.
const DIRECTORIES: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];
/// Tells a plugin which program called it.
const ORIGINAL_COMMAND: &str = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND";
/// What every plugin's program is called, before its name.
const PREFIX: &str = "docker-";
/// Asks a plugin what it is.
const METADATA: &str = "docker-cli-plugin-metadata";

/// Becomes the plugin that a command's name means, with the whole command line.
pub async fn run_command(session: &mut Session, arguments: Vec<OsString>) -> Result<()> {
    let name = arguments
        .first()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let directory = session.config_directory().to_owned();
    let Some(program) = find(session.config()?, &directory, &name) else {
        return Err(CliError::Plain(usage::unknown_command(
            &session.program,
            &name,
            &known_commands(),
        )));
    };
    become_plugin(session, &program, std::env::args_os().skip(1)).await
}

/// Returns the program of the plugin that the configuration puts in a command's place.
pub fn alias_of(session: &mut Session, command: &str) -> Result<Option<PathBuf>> {
    let directory = session.config_directory().to_owned();
    let config = session.config()?;
    let Some(name) = config.alias(command).map(str::to_owned) else {
        return Ok(None);
    };
    match find(config, &directory, &name) {
        Some(program) => Ok(Some(program)),
        None => Err(CliError::usage(format!(
            "the configuration's alias {command} names the plugin {name:?}, which is not installed"
        ))),
    }
}

/// Becomes the plugin that stands for `builder`: the word `builder` becomes the plugin's name.
pub async fn become_builder(session: &mut Session, program: &Path) -> Result<()> {
    let name = program
        .file_name()
        .and_then(|name| name.to_str()?.strip_prefix(PREFIX))
        .unwrap_or_default()
        .to_owned();
    let mut is_replaced = false;
    let arguments: Vec<OsString> = std::env::args_os()
        .skip(1)
        .map(|argument| {
            if argument == "builder" && !is_replaced {
                is_replaced = true;
                return OsString::from(&name);
            }
            argument
        })
        .collect();
    become_plugin(session, program, arguments.into_iter()).await
}

/// Becomes a plugin's program; only a failure returns.
pub async fn become_plugin(
    session: &mut Session,
    program: &Path,
    arguments: impl Iterator<Item = OsString>,
) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments);
    let original = std::env::args_os().next().unwrap_or_else(|| "wharf".into());
    command.env(ORIGINAL_COMMAND, original);
    let host = session.client.host();
    let is_ours = std::env::var_os("WHARF_HOST").is_some_and(|host| !host.is_empty());
    if host.is_local() && (!host.is_explicit || is_ours) {
        // Left alone, a plugin would look for docker's own daemon.
        command.env("DOCKER_HOST", host.url());
        // A daemon that cannot be started is the plugin's to complain about: it may not need one.
        let _ = session.client.ping().await;
    }
    let error = command.exec();
    Err(CliError::io(
        format!("cannot run {}", program.display()),
        error,
    ))
}

/// Returns the program of a plugin; None when there is none of that name.
pub fn find(config: &ConfigFile, config_directory: &Path, name: &str) -> Option<PathBuf> {
    let is_plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !is_plain {
        return None;
    }
    directories(config, config_directory)
        .into_iter()
        .map(|directory| directory.join(format!("{PREFIX}{name}")))
        .find(|path| is_executable(path))
}

/// Returns the names of all plugins, without asking them anything.
pub fn names(config: &ConfigFile, config_directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for directory in directories(config, config_directory) {
        for file in host_files::names_in(&directory).unwrap_or_default() {
            let name = file.strip_prefix(PREFIX).map(str::to_owned);
            names.extend(name.filter(|_| is_executable(&directory.join(&file))));
        }
    }
    names.sort();
    names.dedup();
    names
}

/// Returns what all plugins say of themselves, with their names and paths, as `info` lists them.
pub fn describe_all(config: &ConfigFile, config_directory: &Path) -> Vec<Json> {
    let mut found: Vec<(String, Json)> = Vec::new();
    for directory in directories(config, config_directory) {
        // A directory that cannot be read has no plugins for this user.
        for file in host_files::names_in(&directory).unwrap_or_default() {
            let Some(name) = file.strip_prefix(PREFIX) else {
                continue;
            };
            let path = directory.join(&file);
            if found.iter().any(|(known, _)| known == name) || !is_executable(&path) {
                continue;
            }
            if let Some(mut metadata) = metadata(&path) {
                metadata["Name"] = name.into();
                metadata["Path"] = path.display().to_string().into();
                found.push((name.to_owned(), metadata));
            }
        }
    }
    found.sort_by(|left, right| left.0.cmp(&right.0));
    found.into_iter().map(|(_, metadata)| metadata).collect()
}

fn metadata(program: &Path) -> Option<Json> {
    let output = Command::new(program)
        .arg(OsStr::new(METADATA))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let metadata: Json = serde_json::from_slice(&output.stdout).ok()?;
    metadata["SchemaVersion"].is_string().then_some(metadata)
}

fn directories(config: &ConfigFile, config_directory: &Path) -> Vec<PathBuf> {
    let mut directories = config.plugin_directories();
    directories.push(config_directory.join("cli-plugins"));
    directories.extend(DIRECTORIES.iter().map(PathBuf::from));
    directories
}

fn is_executable(path: &Path) -> bool {
    host_files::metadata(path).is_ok_and(|metadata| metadata.is_file())
        && host_files::is_executable(path)
}

fn known_commands() -> Vec<String> {
    crate::command()
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect()
}
