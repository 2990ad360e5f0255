//! Dependencies: pinned in one place, used, and justified in `docs/dependencies.md`.

use std::collections::BTreeSet;
use std::path::Path;

use super::{note, read};

/// Where each dependency has its line.
const PAGE: &str = "docs/dependencies.md";

/// Fails on a dependency that a crate pins by itself, that nothing uses, or that the page does not name.
pub(super) fn check(root: &Path, findings: &mut String) -> Result<(), String> {
    let manifest = read(&root.join("Cargo.toml"))?;
    let pinned = names_below(&manifest, "[workspace.dependencies]");
    let page = read(&root.join(PAGE))?;
    let named: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split('|').next())
        .flat_map(|cell| cell.split(','))
        .map(|name| name.split('(').next().unwrap_or(name).trim())
        .collect();
    let mut used = BTreeSet::new();
    for path in super::tracked_files(root)? {
        let is_outside = ["fuzz", "examples"]
            .iter()
            .any(|part| path.starts_with(root.join(part)));
        if path.file_name().is_none_or(|name| name != "Cargo.toml") || is_outside {
            continue;
        }
        let shown = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string();
        if shown == "Cargo.toml" {
            continue;
        }
        let sources = sources_beside(root, &path)?;
        for section in [
            "[dependencies]",
            "[dev-dependencies]",
            "[build-dependencies]",
        ] {
            for (name, line) in lines_below(&read(&path)?, section) {
                if !line.contains("workspace = true") {
                    note(
                        findings,
                        format_args!("{shown}: {name} is not pinned in the workspace"),
                    );
                }
                // What comes in through a path attribute is told so beside it.
                let is_named = line.ends_with("# unnamed here");
                if !is_named && !sources.contains(&name.replace('-', "_")) {
                    note(findings, format_args!("{shown}: {name} is not used"));
                }
                used.insert(name);
            }
        }
    }
    for name in pinned {
        if !used.contains(&name) {
            note(
                findings,
                format_args!("Cargo.toml: {name} is pinned and nothing uses it"),
            );
        }
        if !name.starts_with("wharf-") && !named.contains(name.as_str()) {
            note(
                findings,
                format_args!("{PAGE}: no line says why {name} is here"),
            );
        }
    }
    Ok(())
}

/// Returns the text of all Rust files below a manifest's directory.
fn sources_beside(root: &Path, manifest: &Path) -> Result<String, String> {
    let directory = manifest.parent().unwrap_or(root);
    let mut text = String::new();
    for path in super::tracked_files(root)? {
        let is_source = path.extension().is_some_and(|found| found == "rs");
        if is_source && path.starts_with(directory) && path.is_file() {
            text.push_str(&read(&path)?);
        }
    }
    Ok(text)
}

fn names_below(manifest: &str, section: &str) -> Vec<String> {
    lines_below(manifest, section)
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

/// Returns the entries of a section: the name and the whole line.
fn lines_below(manifest: &str, section: &str) -> Vec<(String, String)> {
    let lines = manifest.lines().skip_while(|line| *line != section).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| {
            let name: &str = line.split([' ', '.', '=']).next()?;
            let is_entry = line.starts_with(|first: char| first.is_ascii_alphabetic());
            is_entry.then(|| (name.to_owned(), line.to_owned()))
        })
        .collect()
}
