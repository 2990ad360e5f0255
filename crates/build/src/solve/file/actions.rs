//! Actions that need no other files: directories, files, links, removals.

use std::io::Write;
use std::path::{Path, PathBuf};

use wharf_image::Glob;
use wharf_llb::{MkdirAction, MkfileAction, RmAction, SymlinkAction};
use wharf_safefs::{FsError, Root, Timestamp};

use super::owner::find_owner;
use crate::BuildError;
use crate::chmod::ModeChange;
use crate::copy::{self, Attributes};

const NANOSECONDS: i64 = 1_000_000_000;

/// Makes a directory, and those above it where that is asked for.
pub(super) fn mkdir(tree: &Root, directory: &MkdirAction) -> Result<(), BuildError> {
    let path = Path::new(&directory.path);
    let owner = find_owner(tree, directory.owner.as_ref())?;
    let missing: Vec<PathBuf> = missing_directories(tree, path)?;
    if missing.len() > 1 && !directory.make_parents {
        return Err(BuildError::instruction(format!(
            "cannot make the directory {}: the one above it does not exist",
            directory.path
        )));
    }
    let attributes = Attributes {
        owner,
        mode: Some(ModeChange::Octal(directory.mode & 0o777)),
        ..Attributes::default()
    };
    copy::make_directory(tree, path, &attributes)?;
    if let Some(time) = directory.timestamp_ns.map(timestamp) {
        for path in missing {
            tree.set_times(&path, time, time)?;
        }
    }
    Ok(())
}

/// Makes a file with its content.
pub(super) fn mkfile(tree: &Root, file: &MkfileAction) -> Result<(), BuildError> {
    let owner = find_owner(tree, file.owner.as_ref())?;
    let path = tree.resolve(&file.path)?;
    let mut made = tree.create_file(&path, file.mode & 0o777)?;
    made.write_all(&file.data)
        .map_err(|error| FsError::io("write", &path, error))?;
    drop(made);
    if let Some((uid, gid)) = owner {
        tree.chown(&path, uid, gid)?;
    }
    if let Some(time) = file.timestamp_ns.map(timestamp) {
        tree.set_times(&path, time, time)?;
    }
    Ok(())
}

/// Makes a symbolic link.
pub(super) fn symlink(tree: &Root, link: &SymlinkAction) -> Result<(), BuildError> {
    let owner = find_owner(tree, link.owner.as_ref())?;
    tree.symlink(&link.target, &link.path)?;
    if let Some((uid, gid)) = owner {
        tree.chown(&link.path, uid, gid)?;
    }
    if let Some(time) = link.timestamp_ns.map(timestamp) {
        tree.set_times(&link.path, time, time)?;
    }
    Ok(())
}

/// Removes what a path or pattern names.
pub(super) fn rm(tree: &Root, remove: &RmAction) -> Result<(), BuildError> {
    let path = remove.path.trim_matches('/');
    let paths = if remove.allow_wildcard && Glob::is_pattern(path) {
        matching(tree, path)?
    } else {
        let path = Path::new(path);
        let parent = tree.resolve(path.parent().unwrap_or(Path::new("")))?;
        let place = parent.join(path.file_name().unwrap_or_default());
        tree.lstat_optional(&place)?
            .map(|_| place)
            .into_iter()
            .collect()
    };
    if paths.is_empty() && !remove.allow_not_found {
        return Err(BuildError::instruction(format!(
            "cannot remove {}: it does not exist",
            remove.path
        )));
    }
    for path in paths {
        if path.as_os_str().is_empty() {
            return Err(BuildError::instruction("cannot remove the root directory"));
        }
        tree.remove_all(&path)?;
    }
    Ok(())
}

/// Returns which directories of a path are not there, deepest first.
fn missing_directories(tree: &Root, path: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let mut missing = Vec::new();
    for part in path.ancestors() {
        let is_top = part.as_os_str().is_empty() || part == Path::new("/");
        if is_top || tree.exists(part)? {
            break;
        }
        missing.push(part.to_path_buf());
    }
    Ok(missing)
}

/// Returns the paths that match a pattern, component by component.
fn matching(tree: &Root, pattern: &str) -> Result<Vec<PathBuf>, BuildError> {
    let mut paths = vec![PathBuf::new()];
    for component in pattern.split('/') {
        let compiled = Glob::parse(component).ok_or_else(|| {
            BuildError::instruction(format!("syntax error in pattern {pattern:?}"))
        })?;
        let mut next = Vec::new();
        for path in paths {
            if !tree.stat(&path).is_ok_and(|found| found.is_dir()) {
                continue;
            }
            let entries = tree.read_dir(&path)?.into_iter();
            let names = entries.filter(|entry| compiled.matches(&entry.name.to_string_lossy()));
            next.extend(names.map(|entry| path.join(entry.name)));
        }
        paths = next;
    }
    Ok(paths)
}

/// Returns a time of nanoseconds since 1970.
pub(super) fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp {
        seconds: nanoseconds.div_euclid(NANOSECONDS),
        nanoseconds: u32::try_from(nanoseconds.rem_euclid(NANOSECONDS)).unwrap_or(0),
    }
}
