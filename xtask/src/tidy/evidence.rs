//! The page of evidence: every test and program that it names is there.

use std::path::{Path, PathBuf};

use super::{note, read};

/// What the project promises, and what shows it.
const PAGE: &str = "docs/evidence.md";

/// Fails on a name in the tables that is neither a test (`FILE::TEST`), nor a check of the virtual machine, nor a file, and
/// on a promise that nothing shows.
pub(super) fn check(root: &Path, findings: &mut String) -> Result<(), String> {
    let files = super::tracked_files(root)?;
    for (number, line) in read(&root.join(PAGE))?.lines().enumerate() {
        let Some((_, cell)) = line
            .strip_prefix("| ")
            .and_then(|row| row.trim_end_matches(" |").rsplit_once(" | "))
        else {
            continue;
        };
        if cell == "---" || cell == "shown by" {
            continue;
        }
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            note(
                findings,
                format_args!("{PAGE}:{}: nothing shows it", number + 1),
            );
        }
        for name in names {
            if !is_there(root, &files, name)? {
                note(
                    findings,
                    format_args!("{PAGE}:{}: there is no {name}", number + 1),
                );
            }
        }
    }
    Ok(())
}

fn is_there(root: &Path, files: &[PathBuf], name: &str) -> Result<bool, String> {
    let Some((file, test)) = name.split_once("::") else {
        return Ok(files.contains(&root.join(name)));
    };
    // A function of Rust, one that a macro makes of a line, or one of a shell.
    let forms = [
        format!("fn {test}("),
        format!("{test} \""),
        format!("{test}() {{"),
    ];
    for path in files {
        let is_named = path.ends_with(file) || path.with_extension("").ends_with(file);
        if is_named && path.is_file() {
            let text = read(path)?;
            if forms.iter().any(|form| text.contains(form)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
