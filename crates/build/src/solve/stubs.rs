//! Mount points that a step leaves behind: empty files and directories that are no part of its result (spec llb §2.1).

use std::path::{Path, PathBuf};

use wharf_safefs::Root;

use crate::BuildError;

/// Files and directories that every container gets from outside.
const STANDARD: [&str; 8] = [
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "dev",
    "proc",
    "sys",
    "run",
    "etc",
];

/// Returns the mount points, and directories above them, that the layers (topmost first) do not have: deepest first.
pub(super) fn missing(lowers: &[Root], destinations: &[&str]) -> Result<Vec<PathBuf>, BuildError> {
    let mut found = Vec::new();
    for destination in destinations {
        let path = Path::new(destination.trim_start_matches('/'));
        for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
            if !is_below(lowers, part)? && !found.contains(&part.to_path_buf()) {
                found.push(part.to_path_buf());
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    Ok(found)
}

/// Returns which of the mount points lie in a step's changes, empty: they go.
pub(super) fn left_behind(
    upper: &Root,
    lowers: &[Root],
    points: &[PathBuf],
) -> Result<Vec<PathBuf>, BuildError> {
    let mut gone: Vec<PathBuf> = Vec::new();
    let mut all = points.to_vec();
    for path in STANDARD {
        let path = PathBuf::from(path);
        // A step makes /etc and /run for what is mounted in them only if they are not there.
        let is_parent = matches!(path.to_str(), Some("etc" | "run"));
        let is_wanted = !is_parent
            || points
                .iter()
                .chain(&gone)
                .any(|point| point.starts_with(&path));
        if is_wanted && !all.contains(&path) && !is_below(lowers, &path)? {
            all.push(path);
        }
    }
    all.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for path in all {
        let Some(found) = upper.lstat_optional(&path)? else {
            continue;
        };
        let is_empty = if found.is_dir() {
            let entries = upper.read_dir(&path)?;
            entries
                .iter()
                .all(|entry| gone.contains(&path.join(&entry.name)))
        } else {
            found.is_file() && found.size_bytes == 0
        };
        if is_empty {
            gone.push(path);
        }
    }
    Ok(gone)
}

fn is_below(lowers: &[Root], path: &Path) -> Result<bool, BuildError> {
    for lower in lowers {
        if let Some(found) = lower.lstat_optional(path)? {
            return Ok(!found.is_whiteout());
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::{left_behind, missing};
    use std::path::PathBuf;
    use wharf_safefs::Root;

    #[test]
    fn empty_mount_points_go_and_used_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        for path in [
            "lower/var",
            "upper/var/cache/a/b",
            "upper/srv/.ssh",
            "upper/proc",
            "upper/own",
        ] {
            root.mkdir_all(path, 0o755, None).unwrap();
        }
        root.create_file("upper/srv/.ssh/kept", 0o600).unwrap();
        let lowers = [root.open_dir("lower").unwrap()];
        let upper = root.open_dir("upper").unwrap();
        let points = missing(&lowers, &["/srv/.ssh/sock", "/var/cache/a/b"]).unwrap();
        let gone = left_behind(&upper, &lowers, &points).unwrap();
        let expected = ["var/cache/a/b", "var/cache/a", "var/cache", "proc"];
        assert_eq!(gone, expected.map(PathBuf::from));
    }
}
