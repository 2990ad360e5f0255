//! The command line client: docker's commands, flags, tables and exit statuses, over the Engine API on a unix socket.
//!
//! [`main`] is the whole client; the daemon it may be asked to be comes from the caller as a [`DaemonLauncher`].

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::disallowed_methods,
        reason = "a test fails by panicking"
    )
)]

mod archive;
mod arguments;
mod commands;
mod completion;
mod config_file;
mod connection;
mod context;
mod daemon_arguments;
mod detach;
mod dispatch;
mod error;
mod exit;
mod host_files;
mod http;
#[doc(hidden)]
pub mod internals;
mod manual;
mod moment;
mod options;
mod output;
mod progress;
mod render;
mod session;
mod signals;
mod ssh;
pub mod stdcopy;
mod streams;
mod terminal;
mod tls;
mod usage;

#[cfg(test)]
mod fake_daemon;
#[cfg(test)]
mod flow_tests;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use clap::FromArgMatches;

pub use arguments::command;
pub use connection::DEFAULT_SOCKET;
pub use daemon_arguments::DaemonArgs;
pub use error::CliError;
pub use units::{Ulimit, UnitError, parse_ulimit, ram_in_bytes};

use arguments::{Arguments, Command};
use config_file::ConfigFile;
use connection::Host;
use context::GlobalFlags;
use error::Result;
use http::{Client, ClientOptions};
use output::Output;
use session::Session;

pub(crate) use wharf_units as units;

/// Runs the daemon in this process and returns its exit status.
pub type DaemonLauncher = fn(&DaemonArgs) -> i32;

/// Runs the client with a whole command line, its first argument being the program's name, and returns the exit status.
#[must_use]
pub fn main(args: Vec<OsString>, daemon: DaemonLauncher) -> i32 {
    let mut output = Output::process();
    let program = program_name(args.first());
    let is_directory = host_files::metadata(Path::new("context")).is_ok_and(|it| it.is_dir());
    let args = commands::build::rewritten(args, is_directory);
    let definition = usage::with_usages(arguments::command_for(&args), &program);
    let matches = match definition
        .bin_name(program.clone())
        .try_get_matches_from(&args)
    {
        Ok(matches) => matches,
        Err(error) => return usage::answer(&error, &program, &args),
    };
    let parsed = match Arguments::from_arg_matches(&matches) {
        Ok(parsed) => parsed,
        Err(error) => return usage::answer(&error, &program, &args),
    };
    let result = match parsed.command {
        Command::Daemon(ref flags) => return daemon(&with_global_flags(flags.clone(), &parsed)),
        Command::Completion { shell } => output.bytes(&completion::script(shell, &program)),
        Command::Complete(words) => completion::complete(&mut output, &words.arguments, true),
        Command::CompleteNames(words) => completion::complete(&mut output, &words.arguments, false),
        Command::Man { directory } => manual::write(&directory),
        _ => talk(output, program, parsed),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            if let Some(report) = error.report() {
                Output::process().talk(&report);
            }
            error.exit_status()
        }
    }
}

/// Runs a command on a runtime of its own, which exists only when there is something to talk about.
fn talk(output: Output, program: String, parsed: Arguments) -> Result<()> {
    let is_debugging = check_log_level(&parsed)?;
    let is_quiet = matches!(
        parsed.log_level.as_deref(),
        Some("warn" | "error" | "fatal")
    );
    let variable = |name: &str| std::env::var(name).ok();
    let config_directory = parsed
        .config
        .clone()
        .unwrap_or_else(ConfigFile::usual_directory);
    let flags = global_flags(&parsed);
    let mut config = None;
    let chosen = context::choose(&flags, &variable, &mut || {
        let read = ConfigFile::load_from(config_directory.join("config.json"))?;
        let context = context::configured(&read);
        config = Some(read);
        Ok(context)
    })?;
    // A command about contexts must not fail for a context that is no more.
    let host = match chosen.resolve(&flags, &config_directory, &variable) {
        Err(_) if matches!(parsed.command, Command::Context(_)) => Host {
            context: chosen.context.clone(),
            ..Host::usual()
        },
        resolved => resolved?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::io("cannot start", error))?;
    let options = ClientOptions {
        version: fixed_version(variable("DOCKER_API_VERSION")),
        headers: config
            .as_ref()
            .map(ConfigFile::http_headers)
            .unwrap_or_default(),
        trace: is_debugging.then(|| talker(false)),
    };
    let client = Client::new(host, options, talker(is_quiet));
    let mut session = Session::new(client, output, program, config_directory);
    let result = runtime.block_on(dispatch::run_command(&mut session, parsed.command));
    // A thread that waits for input which never comes must not keep the process.
    runtime.shutdown_background();
    result
}

fn talker(is_quiet: bool) -> http::Talk {
    Arc::new(move |line| {
        if !is_quiet {
            Output::process().talk(line);
        }
    })
}

/// Returns the version of the API that `DOCKER_API_VERSION` asks for.
fn fixed_version(given: Option<String>) -> Option<String> {
    given
        .map(|version| version.trim_start_matches('v').to_owned())
        .filter(|version| !version.is_empty())
}

/// Checks `--log-level` and returns whether requests are told about.
fn check_log_level(parsed: &Arguments) -> Result<bool> {
    match parsed.log_level.as_deref() {
        None => Ok(parsed.debug),
        Some("debug" | "trace") => Ok(true),
        Some("info" | "warn" | "warning" | "error" | "fatal" | "panic") => Ok(parsed.debug),
        Some(other) => Err(CliError::Plain(format!(
            "Unable to parse logging level: {other}"
        ))),
    }
}

fn global_flags(parsed: &Arguments) -> GlobalFlags {
    GlobalFlags {
        host: parsed.host.clone(),
        context: parsed.context.clone(),
        tls: parsed.tls,
        tls_verify: parsed.tls_verify,
        tls_ca: parsed.tls_ca.clone(),
        tls_certificate: parsed.tls_certificate.clone(),
        tls_key: parsed.tls_key.clone(),
    }
}

/// The flags before the word `daemon` count for the daemon, too.
fn with_global_flags(mut flags: DaemonArgs, parsed: &Arguments) -> DaemonArgs {
    flags.hosts.extend(parsed.host.clone());
    flags.debug |= parsed.debug;
    flags.log_level = flags.log_level.or_else(|| parsed.log_level.clone());
    flags.tls = flags.tls.or(parsed.tls.then_some(true));
    flags.tls_verify |= parsed.tls_verify;
    flags.tls_ca = flags.tls_ca.or_else(|| parsed.tls_ca.clone());
    flags.tls_certificate = flags
        .tls_certificate
        .or_else(|| parsed.tls_certificate.clone());
    flags.tls_key = flags.tls_key.or_else(|| parsed.tls_key.clone());
    flags
}

/// Returns the name messages use: `docker` when called by that name.
fn program_name(first: Option<&OsString>) -> String {
    let name = first.map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name == "docker") {
        "docker".to_owned()
    } else {
        "wharf".to_owned()
    }
}
