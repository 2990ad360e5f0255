//! Merging and comparing (spec llb §2.4). Both work on lists of layers where they can.

use std::path::{Path, PathBuf};

use wharf_image::DiffId;
use wharf_llb::{DiffOp, MergeOp, VertexId};
use wharf_safefs::{FileType, Metadata, Root};

use super::Solver;
use super::exec::input_of;
use super::node::Outcome;
use super::run::{Inputs, Made, MadeOutput};
use super::snapshot::{PendingLayer, Snapshot};
use crate::BuildError;
use crate::content::{Reading, Taken};
use crate::copy::{self, Attributes};
use crate::select::{Entry, Selected};

impl Solver<'_> {
    /// Joins the layers of the inputs; no file is copied.
    pub(super) fn merge(
        &self,
        id: VertexId,
        merge: &MergeOp,
    ) -> Result<(Outcome, Vec<Snapshot>), BuildError> {
        let inputs = self.inputs(id);
        let mut joined = Snapshot::default();
        let mut all_cached = true;
        for (position, input) in merge.inputs.iter().enumerate() {
            let snapshot = input_of(&inputs, Some(*input));
            if position > 0 {
                joined.own += snapshot.layers.len();
                joined.created = snapshot.created.or(joined.created);
            }
            joined.layers.extend(snapshot.layers);
            let edge = self.input.graph.vertex(id).inputs.get(*input);
            all_cached &= edge.is_none_or(|edge| self.outcome(edge.vertex) == Outcome::Cached);
        }
        let outcome = if all_cached {
            Outcome::Cached
        } else {
            Outcome::Executed
        };
        Ok((outcome, vec![joined]))
    }

    /// Returns the layers that an input has on top of another one's, where it stands on those.
    pub(super) fn layers_between(
        &self,
        diff: &DiffOp,
        inputs: &Inputs,
    ) -> Result<Option<Snapshot>, BuildError> {
        let (lower, upper) = (input_of(inputs, diff.lower), input_of(inputs, diff.upper));
        let (below, above): (Vec<DiffId>, Vec<DiffId>) = (lower.diff_ids()?, upper.diff_ids()?);
        let Some(rest) = above.strip_prefix(below.as_slice()) else {
            return Ok(None);
        };
        Ok(Some(Snapshot::named(rest, rest.len(), upper.created)))
    }

    /// Makes a layer of what is different between two trees.
    pub(super) fn diff(&self, diff: &DiffOp, inputs: &Inputs) -> Result<Made, BuildError> {
        let (lower, upper) = (input_of(inputs, diff.lower), input_of(inputs, diff.upper));
        let staging = self.store.stage()?;
        let empty = self.store.stage()?;
        let open = |snapshot: &Snapshot| {
            if snapshot.is_empty() {
                Ok(empty.root().try_clone()?)
            } else {
                self.view(snapshot)
            }
        };
        compare(&open(&lower)?, &open(&upper)?, staging.root())?;
        let layer = if staging.root().entries()?.is_empty() {
            None
        } else {
            Some(PendingLayer::new(self.store.place_layer(staging)?))
        };
        Ok(vec![MadeOutput {
            below: Snapshot::default(),
            layer,
        }])
    }
}

/// Writes what `upper` changes against `lower` in overlay form.
fn compare(lower: &Root, upper: &Root, into: &Root) -> Result<(), BuildError> {
    let mut changed: Vec<(PathBuf, Metadata)> = Vec::new();
    let mut removed: Vec<PathBuf> = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let is_dir_below = lower
            .lstat_optional(&path)?
            .is_some_and(|found| found.is_dir());
        let names_below = if is_dir_below {
            lower.read_dir(&path)?
        } else {
            Vec::new()
        };
        let names = upper.read_dir(&path)?;
        for entry in &names {
            let path = path.join(&entry.name);
            let found = upper.lstat(&path)?;
            let before = lower.lstat_optional(&path)?;
            if before.is_none_or(|before| differs(lower, upper, &path, &before, &found)) {
                changed.push((path.clone(), found));
            }
            if found.is_dir() {
                open.push(path);
            }
        }
        let is_gone = |name: &std::ffi::OsStr| !names.iter().any(|entry| entry.name == name);
        let gone = names_below.iter().filter(|entry| is_gone(&entry.name));
        removed.extend(gone.map(|entry| path.join(&entry.name)));
    }
    for path in removed.iter().chain(changed.iter().map(|(path, _)| path)) {
        make_parents(upper, into, path)?;
    }
    changed.sort_by(|(left, _), (right, _)| left.cmp(right));
    for path in removed {
        into.mknod(&path, FileType::CharDevice, 0, (0, 0))?;
    }
    copy_changed(upper, into, changed)
}

/// Says whether a file is another one: by kind, mode, owner, size, time, device and link target.
fn differs(lower: &Root, upper: &Root, path: &Path, before: &Metadata, found: &Metadata) -> bool {
    let key = |file: &Metadata| (file.file_type, file.mode, file.uid, file.gid, file.rdev);
    if key(before) != key(found) {
        return true;
    }
    if found.is_dir() {
        return false;
    }
    if found.is_symlink() {
        return lower.read_link(path).ok() != upper.read_link(path).ok();
    }
    before.size_bytes != found.size_bytes || before.mtime != found.mtime
}

/// Makes the directories above a path as they are in `upper`.
fn make_parents(upper: &Root, into: &Root, path: &Path) -> Result<(), BuildError> {
    let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
    parents.reverse();
    for parent in parents
        .into_iter()
        .filter(|path| !path.as_os_str().is_empty())
    {
        if into.lstat_optional(parent)?.is_none() {
            let found = upper.lstat(parent)?;
            into.mkdir(parent, found.mode)?;
            into.chown(parent, found.uid, found.gid)?;
            into.chmod(parent, found.mode)?;
        }
    }
    Ok(())
}

fn copy_changed(
    upper: &Root,
    into: &Root,
    changed: Vec<(PathBuf, Metadata)>,
) -> Result<(), BuildError> {
    let attributes = Attributes {
        keep_owner: true,
        contents_only: true,
        replaces: true,
        ..Attributes::default()
    };
    // One selection of all of it, so that hard links among the files stay.
    let top = Entry {
        path: PathBuf::new(),
        metadata: upper.metadata()?,
    };
    let files = changed
        .into_iter()
        .map(|(path, metadata)| Entry { path, metadata });
    let all = Selected {
        path: PathBuf::new(),
        name: std::ffi::OsString::new(),
        entries: std::iter::once(top).chain(files).collect(),
    };
    let all = Taken::unhashed(vec![all]);
    copy::copy(Reading::own(upper), &all, into.into(), "/", &attributes)?;
    Ok(())
}
