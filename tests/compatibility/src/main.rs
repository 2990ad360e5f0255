//! `wharf-compatibility [--check]` writes `docs/compatibility.md`, or says whether it is stale;
//! `wharf-compatibility record DOCKER FILE` records the commands and flags of a docker client;
//! `wharf-compatibility record-buildx PLUGIN FILE` records the flags of buildx's `build`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command's output"
)]

use std::path::Path;
use std::process::ExitCode;

use wharf_compatibility::{page, page_path, record};
use wharf_safefs::trusted;

/// Largest page.
const MAX_PAGE_BYTES: u64 = 16 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] => page().and_then(|text| write(&page_path(), &text)),
        ["--check"] => check(),
        ["record", docker, file] => {
            record::record(Path::new(docker)).and_then(|text| write(Path::new(file), &text))
        }
        ["record-buildx", plugin, file] => {
            record::record_buildx(Path::new(plugin)).and_then(|text| write(Path::new(file), &text))
        }
        _ => Err(
            "usage: wharf-compatibility [--check | record DOCKER FILE | record-buildx PLUGIN FILE]"
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

fn check() -> Result<(), String> {
    let found = trusted::read_to_string(page_path(), MAX_PAGE_BYTES).map_err(|e| e.to_string())?;
    if found == page()? {
        Ok(())
    } else {
        Err("docs/compatibility.md is stale: run cargo xtask compatibility".to_owned())
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    trusted::write_atomic(path, text.as_bytes(), 0o644, false).map_err(|error| error.to_string())
}
