//! Checks of the tree that the compiler does not make.
//!
//! `cargo xtask tidy` fails on a dependency that points up the house, on files that are too long, on
//! stubs, on files that are too large and on evidence that is not there. `cargo xtask vectors DIR` runs every recorded vector file below DIR
//! (`--verbose` shows each failure in full). `cargo xtask compatibility` writes docs/compatibility.md.

#![allow(clippy::disallowed_methods, reason = "reads the project's own files")]

mod tidy;

use std::process::{Command, ExitCode};

#[expect(clippy::print_stderr, reason = "a command's talk")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["tidy"] => tidy::run(),
        ["vectors", directories @ ..] if !directories.is_empty() => {
            // Some areas are answered by the daemon.
            cargo(&["build", "--quiet", "--package", "wharf"])
                .and_then(|()| run_package("wharf-vectors", directories))
        }
        ["compatibility", arguments @ ..] => run_package("wharf-compatibility", arguments),
        _ => Err(
            "usage: cargo xtask tidy | compatibility [--check] | vectors [--verbose] DIR…"
                .to_owned(),
        ),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Builds and runs a program of the workspace: what needs the rooms is no part of this small one.
fn run_package(package: &str, arguments: &[&str]) -> Result<(), String> {
    let command = ["run", "--quiet", "--package", package, "--"];
    cargo(&[&command, arguments].concat())
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(arguments)
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo {}: {status}", arguments.join(" ")))
    }
}
