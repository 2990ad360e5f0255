//! The binary: picks the role and wires the rooms; no logic of its own.

mod daemon;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // Before anything starts a thread: a shim is single-threaded all its life.
    if args.len() == 2 && args[1] == wharf_runtime::SHIM_ARGUMENT {
        return exit_code(wharf_runtime::shim_main(std::iter::empty()));
    }
    exit_code(wharf_cli::main(args, daemon::run))
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
