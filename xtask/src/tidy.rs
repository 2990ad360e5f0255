//! The checks of `cargo xtask tidy`.

mod dependencies;
mod evidence;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rooms by floor, lowest first; a room depends only on rooms of lower floors.
const FLOORS: [&[&str]; 6] = [
    &["safefs", "image", "dockerfile", "units", "template"],
    &["layer", "llb", "store"],
    &["build", "registry", "runtime", "network"],
    &["engine"],
    &["api", "cli"],
    &["wharf"],
];

/// Dependencies within a floor that are meant: the store publishes what the layer room unpacked.
const SAME_FLOOR: [(&str, &str); 1] = [("store", "layer")];

/// Macros that stand for code that is not there.
const STUBS: [&str; 2] = ["todo", "unimplemented"];
/// Longest source file in lines.
const MAX_LINES: usize = 1000;
/// Largest tracked file in bytes; recorded vectors may be larger.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Runs every check and reports all findings at once.
///
/// # Errors
/// The findings, a line each.
pub fn run() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned();
    let mut findings = String::new();
    check_floors(&root, &mut findings)?;
    check_files(&root, &mut findings)?;
    dependencies::check(&root, &mut findings)?;
    evidence::check(&root, &mut findings)?;
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings)
    }
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn check_floors(root: &Path, findings: &mut String) -> Result<(), String> {
    for entry in std::fs::read_dir(root.join("crates")).map_err(|e| e.to_string())? {
        let name = entry.map_err(|e| e.to_string())?.file_name();
        let room = name.to_string_lossy();
        if floor(&room).is_none() {
            note(
                findings,
                format_args!("crates/{room}: on no floor: add it to FLOORS in xtask/src/tidy.rs"),
            );
        }
    }
    for room in FLOORS.iter().copied().flatten() {
        let manifest = read(&root.join("crates").join(room).join("Cargo.toml"))?;
        let dependencies = manifest
            .split("[dev-dependencies]")
            .next()
            .unwrap_or_default();
        for line in dependencies.lines() {
            let Some(other) = line
                .strip_prefix("wharf-")
                .and_then(|rest| rest.split(['.', ' ', '=']).next())
            else {
                continue;
            };
            let allowed = floor(other) < floor(room) || SAME_FLOOR.contains(&(room, other));
            if !allowed {
                note(
                    findings,
                    format_args!(
                        "crates/{room}/Cargo.toml: {room} may not depend on {other}: arrows only point down"
                    ),
                );
            }
        }
    }
    Ok(())
}

fn check_files(root: &Path, findings: &mut String) -> Result<(), String> {
    for path in tracked_files(root)? {
        let shown = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string();
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        if metadata.len() > MAX_FILE_BYTES && !shown.contains("/vectors/") {
            note(
                findings,
                format_args!(
                    "{shown}: {} bytes, at most {MAX_FILE_BYTES} are allowed",
                    metadata.len()
                ),
            );
        }
        if path.extension().is_some_and(|extension| extension == "rs")
            && !shown.starts_with("xtask/")
        {
            check_source(&shown, &read(&path)?, findings);
        }
    }
    Ok(())
}

fn check_source(shown: &str, text: &str, findings: &mut String) {
    let is_test = ["/tests/", "fuzz/", "examples/"]
        .iter()
        .any(|part| shown.contains(part))
        || shown.ends_with("tests.rs");
    let lines = text.lines().count();
    if lines > MAX_LINES {
        note(
            findings,
            format_args!(
                "{shown}: {lines} lines, at most {MAX_LINES} are allowed: is this one concept?"
            ),
        );
    }
    for (number, line) in text.lines().enumerate() {
        if STUBS.iter().any(|name| line.contains(&format!("{name}!("))) {
            note(findings, format_args!("{shown}:{}: a stub", number + 1));
        }
        if line.contains("\"skipped: ") {
            note(
                findings,
                format_args!(
                    "{shown}:{}: a skip is told by a line that starts with SKIP:",
                    number + 1
                ),
            );
        }
        if is_bare_allow(line) && !is_test {
            note(
                findings,
                format_args!("{shown}:{}: allow without a reason", number + 1),
            );
        }
        if line.ends_with([' ', '\t']) {
            note(
                findings,
                format_args!("{shown}:{}: trailing blank", number + 1),
            );
        }
    }
    let is_module = !is_test;
    if is_module && !text.trim_start().starts_with("//!") && !text.trim_start().starts_with("#!") {
        note(
            findings,
            format_args!("{shown}: starts without a module docstring (//!)"),
        );
    }
}

/// Says whether a line silences a lint, wholly on that line, without a reason.
fn is_bare_allow(line: &str) -> bool {
    let line = line.trim_start();
    let is_attribute = line.starts_with("#[allow(") || line.starts_with("#![allow(");
    is_attribute && line.ends_with(")]") && !line.contains("reason =")
}

fn tracked_files(root: &Path) -> Result<Vec<PathBuf>, String> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("cannot run git: {e}"))?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(|name| root.join(name))
        .collect())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

fn note(findings: &mut String, finding: std::fmt::Arguments<'_>) {
    let _a_string_takes_everything = writeln!(findings, "{finding}");
}
