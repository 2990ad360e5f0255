//! What an upper directory changes against the layers below it, as `docker diff` tells it
//! (spec image-store §5.5).

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use wharf_safefs::{Metadata, Root, Timestamp};

use crate::error::LayerError;
use crate::lower::{Below, Found, is_marked_opaque};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is there and differs, or something in it does (`C`).
    Modified,
    /// It was not there before (`A`).
    Added,
    /// It is gone; what was in it is not listed (`D`).
    Deleted,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The path in the container, absolute.
    pub path: PathBuf,
}

/// Lists what an overlay upper directory changes against its lower layers (topmost first), sorted by
/// path byte-wise.
///
/// A file is the same if mode, owner, device, size, time (with one side's whole seconds counting as
/// equal) and `security.capability` are; of a directory size and time do not count.
///
/// `exclude` names paths (from the top, with or without the first slash) that are passed over with all
/// below them.
pub fn changes(
    upper: &Root,
    lowers: &[Root],
    exclude: &[PathBuf],
) -> Result<Vec<Change>, LayerError> {
    let exclude: HashSet<PathBuf> = exclude
        .iter()
        .map(|path| Path::new("/").join(path))
        .collect();
    let mut found = BTreeMap::new();
    let top = Below::top(lowers)?;
    if is_marked_opaque(upper, "")? {
        note_hidden(upper, Path::new("/"), &top, &mut found)?;
    }
    let mut stack = vec![(PathBuf::from("/"), top)];
    while let Some((path, below)) = stack.pop() {
        let (directory, entries) = upper.open_and_list(&path)?;
        for entry in entries {
            let full = path.join(&entry.name);
            if exclude.contains(&full) {
                continue;
            }
            let lower = below.child(&entry.name)?;
            let metadata = directory.lstat(&entry.name)?;
            if metadata.is_whiteout() {
                if lower.metadata.is_some() {
                    found.insert(full, ChangeKind::Deleted);
                }
                continue;
            }
            match lower.metadata {
                None => {
                    found.insert(full.clone(), ChangeKind::Added);
                }
                Some(old) if differ(&old, &metadata) => {
                    found.insert(full.clone(), ChangeKind::Modified);
                }
                Some(old) => {
                    let name = &entry.name;
                    if old.is_file() && capability_differs(&directory, &below, name, &lower)? {
                        found.insert(full.clone(), ChangeKind::Modified);
                    }
                }
            }
            if metadata.is_dir() {
                let opened = directory.open_dir_nofollow(&entry.name)?;
                if lower.is_dir() && is_marked_opaque(&opened, "")? {
                    note_hidden(&opened, &full, &lower.below, &mut found)?;
                }
                stack.push((full, lower.below));
            }
        }
    }
    Ok(with_parents(found))
}

/// Notes as deleted what an opaque directory hides and has not itself.
fn note_hidden(
    opaque: &Root,
    path: &Path,
    below: &Below,
    found: &mut BTreeMap<PathBuf, ChangeKind>,
) -> Result<(), LayerError> {
    for name in below.names()? {
        if opaque.lstat_optional(&name)?.is_none() {
            found.insert(path.join(name), ChangeKind::Deleted);
        }
    }
    Ok(())
}

/// Adds the directories above every change as modified, but the top.
fn with_parents(found: BTreeMap<PathBuf, ChangeKind>) -> Vec<Change> {
    let mut all = found.clone();
    for path in found.keys() {
        for parent in path.ancestors().skip(1) {
            if parent == Path::new("/") || all.contains_key(parent) {
                break;
            }
            all.insert(parent.to_path_buf(), ChangeKind::Modified);
        }
    }
    let mut changes: Vec<Change> = all
        .into_iter()
        .map(|(path, kind)| Change { kind, path })
        .collect();
    changes.sort_unstable_by(|left, right| left.path.as_os_str().cmp(right.path.as_os_str()));
    changes
}

/// Says whether two files differ by what `stat` tells.
pub(crate) fn differ(old: &Metadata, new: &Metadata) -> bool {
    let same_facts = old.file_type == new.file_type
        && old.mode == new.mode
        && (old.uid, old.gid, old.rdev) == (new.uid, new.gid, new.rdev);
    if !same_facts {
        return true;
    }
    !old.is_dir() && (old.size_bytes != new.size_bytes || !same_time(old.mtime, new.mtime))
}

fn same_time(left: Timestamp, right: Timestamp) -> bool {
    left == right
        || (left.seconds == right.seconds && (left.nanoseconds == 0 || right.nanoseconds == 0))
}

fn capability_differs(
    directory: &Root,
    below: &Below,
    name: &std::ffi::OsStr,
    lower: &Found,
) -> Result<bool, LayerError> {
    const CAPABILITY: &str = "security.capability";
    Ok(directory.xattr(name, CAPABILITY)? != below.xattr(name, lower, CAPABILITY)?)
}
