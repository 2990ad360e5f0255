//! The control group of a build; each step's is below it.

use std::path::{Path, PathBuf};
use wharf_safefs::trusted;

/// Where groups below others than the engine's own are written down, beneath the run directory.
const DIRECTORY: &str = "build-groups";
/// Most bytes of such a note: one path.
const MAX_NOTE_BYTES: u64 = 4096;

/// A build's control group, removed with it. One that lies below a parent that the user named is written down while
/// the build runs: of a build that was killed nobody else knows it.
pub(super) struct BuildGroup {
    path: String,
    note: Option<PathBuf>,
}

impl BuildGroup {
    /// Returns the group of a build, which is made with the first step; an empty parent means the engine's own.
    pub(super) fn new(run_dir: &Path, instance: &str, parent: &str, build: &str) -> Self {
        let parent = parent.trim_matches('/');
        let name = format!("build-{build}");
        if parent.is_empty() {
            return Self {
                path: format!("/{instance}/{name}"),
                note: None,
            };
        }
        let path = format!("/{parent}/{name}");
        let directory = run_dir.join(DIRECTORY);
        let note = directory.join(&name);
        // A build goes on without: then only one that is killed leaves its group.
        let _unknown_later = trusted::create_dir_all(&directory, 0o700)
            .and_then(|()| trusted::write_atomic(&note, path.as_bytes(), 0o600, false));
        Self {
            path,
            note: Some(note),
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for BuildGroup {
    fn drop(&mut self) {
        // What cannot be removed now is swept at the next start.
        let is_removed = wharf_runtime::remove_cgroup(&self.path).is_ok();
        if let Some(note) = self.note.as_ref().filter(|_| is_removed) {
            let _read_again_at_the_next_start = trusted::remove_file(note);
        }
    }
}

/// Removes the groups of builds that were killed, after their steps' processes.
pub(crate) fn sweep(run_dir: &Path) {
    let directory = run_dir.join(DIRECTORY);
    for entry in trusted::read_dir_sorted(&directory).unwrap_or_default() {
        let note = directory.join(&entry.name);
        let Ok(path) = trusted::read_to_string(&note, MAX_NOTE_BYTES) else {
            continue;
        };
        // A note that is still being written has no group yet.
        let is_whole = path.rsplit('/').next().map(Path::new) == Some(Path::new(&entry.name));
        if !is_whole || wharf_runtime::remove_cgroup(&path).is_ok() {
            let _read_again_at_the_next_start = trusted::remove_file(&note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_named_parents_are_written_down_while_they_are_there() {
        let directory = tempfile::tempdir().unwrap();
        let notes = directory.path().join(DIRECTORY);
        let own = BuildGroup::new(directory.path(), "wharf-test", "/", "1");
        assert_eq!(own.path(), "/wharf-test/build-1");
        assert!(!trusted::exists(&notes).unwrap());
        let other = BuildGroup::new(directory.path(), "wharf-test", "/no-such/group/", "2");
        let note = notes.join("build-2");
        let text = trusted::read_to_string(&note, MAX_NOTE_BYTES).unwrap();
        assert_eq!(
            (text.as_str(), other.path()),
            ("/no-such/group/build-2", text.as_str())
        );
        drop(other);
        assert!(!trusted::exists(&note).unwrap());
        // As a killed build leaves them, the second while it was written.
        for (name, text) in [("build-3", "/no-such/group/build-3"), ("build-4", "/no-su")] {
            trusted::write_atomic(notes.join(name), text.as_bytes(), 0o600, false).unwrap();
        }
        sweep(directory.path());
        assert_eq!(trusted::read_dir_sorted(&notes).unwrap().len(), 0);
    }
}
