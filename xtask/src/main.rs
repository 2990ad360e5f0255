//! Checks of the tree that the compiler does not make.
//!
//! `cargo xtask tidy` fails on a dependency that points up the house, on files that are too long, on
//! stubs and on files that are too large.

mod tidy;

use std::process::ExitCode;

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
        _ => Err("usage: cargo xtask tidy".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
