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
mod config_file;
mod connection;
mod detach;
mod dispatch;
mod error;
mod exit;
mod host_files;
mod http;
#[doc(hidden)]
pub mod internals;
mod moment;
mod options;
mod output;
mod progress;
mod render;
mod session;
mod signals;
pub mod stdcopy;
mod streams;
mod terminal;

#[cfg(test)]
mod fake_daemon;
#[cfg(test)]
mod flow_tests;

use std::ffi::OsString;
use std::path::Path;

use clap::FromArgMatches;

pub use arguments::{DaemonArgs, command};
pub use connection::DEFAULT_SOCKET;
pub use error::CliError;

use arguments::{Arguments, Command};
use connection::Host;
use error::Result;
use http::Client;
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
    let matches = match arguments::command_for(&args)
        .bin_name(program.clone())
        .try_get_matches_from(&args)
    {
        Ok(matches) => matches,
        Err(error) => return usage_status(&error, &args),
    };
    let parsed = match Arguments::from_arg_matches(&matches) {
        Ok(parsed) => parsed,
        Err(error) => return usage_status(&error, &args),
    };
    let result = match parsed.command {
        Command::Daemon(flags) => return daemon(&flags),
        Command::Completion { shell } => complete(&mut output, shell, &program),
        Command::Man { directory } => write_manual(&directory),
        command => talk(
            output,
            program,
            parsed.host.as_deref(),
            parsed.config,
            command,
        ),
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
fn talk(
    output: Output,
    program: String,
    host: Option<&str>,
    config: Option<std::path::PathBuf>,
    command: Command,
) -> Result<()> {
    let host = Host::resolve(host, |name| std::env::var(name).ok())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::io("cannot start", error))?;
    let client = Client::new(host, Box::new(|line| Output::process().talk(line)));
    let mut session = Session::new(client, output, program, config);
    let result = runtime.block_on(dispatch::run_command(&mut session, command));
    // A thread that waits for input which never comes must not keep the process.
    runtime.shutdown_background();
    result
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

/// Prints clap's answer. Help is no failure; a mistake in the flags of run, create and exec has docker's status 125.
fn usage_status(error: &clap::Error, args: &[OsString]) -> i32 {
    // Nothing can be done about a closed terminal.
    let _ = error.print();
    let is_container_command = args
        .iter()
        .skip(1)
        .take(3)
        .any(|argument| argument == "run" || argument == "create" || argument == "exec");
    match error.kind() {
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => 0,
        clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => 0,
        _ if is_container_command => error::EXIT_ENGINE_FAILURE,
        _ => 1,
    }
}

fn complete(output: &mut Output, shell: clap_complete::Shell, program: &str) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), program, &mut script);
    output.bytes(&script)
}

fn write_manual(directory: &Path) -> Result<()> {
    host_files::create_directories(directory)?;
    clap_mangen::generate_to(command(), directory).map_err(|error| {
        CliError::io(
            format!("cannot write manual pages to {}", directory.display()),
            error,
        )
    })
}
