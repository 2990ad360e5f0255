//! COPY straight into the directory that becomes the layer: without overlayfs between, and with a second name for
//! what an earlier layer of the same step has already.
//!
//! Overlayfs is needed only where something has to hide what lies below: a file in the place of a directory, or the
//! other way round. All else is known from looking at the layers below: directories that are there already are made
//! again as overlayfs would copy them up, and files cover those below by their name.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use wharf_layer::clean_upper;
use wharf_llb::{CopyAction, FileActionKind, FileInput, FileOp, VertexId};
use wharf_safefs::{Metadata, Root};
use wharf_store::Linked;

use super::exec::input_of;
use super::file::{attributes, warn_of_owner};
use super::run::{Inputs, Made, MadeOutput, StepOutput};
use super::snapshot::{PendingLayer, Snapshot};
use super::{Solver, explain};
use crate::BuildError;
use crate::content::Taken;
use crate::copy::{self, Attributes, Target};
use crate::reuse::{self, Base};

/// Attributes by which overlayfs keeps its own books.
const OVERLAY_PREFIXES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Directories of the layers below that the copy goes into, parents first.
type Existing = BTreeMap<PathBuf, Metadata>;

impl Solver<'_> {
    /// Executes a file operation that is nothing but one copy; nothing where that takes overlayfs.
    pub(super) fn copy_directly(
        &self,
        id: VertexId,
        file: &FileOp,
        inputs: &Inputs,
        output: &StepOutput<'_, '_>,
    ) -> Result<Option<Made>, BuildError> {
        let [action] = file.actions.as_slice() else {
            return Ok(None);
        };
        let (FileActionKind::Copy(copy), FileInput::Input(source), Some(0)) =
            (&action.kind, action.secondary, action.output)
        else {
            return Ok(None);
        };
        let below = match action.input {
            FileInput::Input(input) => input_of(inputs, Some(input)),
            FileInput::Scratch => Snapshot::default(),
            FileInput::Action(_) => return Ok(None),
        };
        let staging = self.store.stage()?;
        let view = if below.is_empty() {
            staging.root().try_clone()?
        } else {
            self.view(&below)?
        };
        let opened = self.open_input(id, (source, 0), copy, inputs)?;
        let attributes = attributes(copy, opened.keeps_owner(), &view)?;
        let Some((existing, destination)) = plan(&view, copy, &opened.taken, &attributes)? else {
            return Ok(None);
        };
        warn_of_owner(&view, copy.owner.as_ref(), output)?;
        copy_up(&view, staging.root(), &existing)?;
        let base = self.base(id)?;
        let into = Target {
            tree: staging.root(),
            base: base.as_ref(),
        };
        let copied = copy::copy(
            opened.reading(),
            &opened.taken,
            into,
            &destination,
            &attributes,
        )?;
        self.note_change(id, copied.changed);
        if has_empty(staging.root(), &existing)? {
            clean_upper(staging.root(), &below.lowers(self.store)?, &[])?;
        }
        if staging.root().entries()?.is_empty() {
            let layer = None;
            return Ok(Some(vec![MadeOutput { below, layer }]));
        }
        if !copied.has_unpacked
            && let Some(list) = reuse::list(&copied.contents)
        {
            staging.keep_contents(&list)?;
        }
        let linked = base.filter(|_| copied.linked_bytes > 0).map(|base| Linked {
            diff_id: base.diff_id,
            disk_bytes: copied.linked_bytes,
        });
        let placed = self.store.place_layer(staging)?;
        let layer = Some(PendingLayer::new(placed).with_files_of(linked));
        Ok(Some(vec![MadeOutput { below, layer }]))
    }

    /// Returns the layer that the step last made.
    fn base(&self, id: VertexId) -> Result<Option<Base>, BuildError> {
        if !self.may_hit(id) {
            return Ok(None);
        }
        match explain::earlier_layer(self.store, self.input.labels.get(&id)) {
            Some(diff_id) => Base::open(self.store, &self.lease, diff_id),
            None => Ok(None),
        }
    }
}

/// Returns the directories below that the copy goes into, and its destination without symlinks; nothing where
/// something below is in the way.
fn plan(
    view: &Root,
    copy: &CopyAction,
    taken: &Taken,
    attributes: &Attributes,
) -> Result<Option<(Existing, String)>, BuildError> {
    let has_files = taken.each().any(|(one, _)| !one.is_dir());
    if attributes.replaces || attributes.unpack && has_files {
        return Ok(None);
    }
    let target = view.resolve(&copy.destination)?;
    let mut existing = Existing::new();
    if !take_ancestors(view, &target, &mut existing)? {
        return Ok(None);
    }
    let found = view.lstat_optional(&target)?;
    if found.is_some_and(|found| !found.is_dir())
        && (taken.count() > 1 || !has_files || copy.destination.ends_with('/'))
    {
        return Ok(None);
    }
    for (one, _) in taken.each() {
        let place = if one.is_dir() {
            let is_below =
                !attributes.contents_only && (found.is_some() || copy.destination.ends_with('/'));
            if is_below {
                target.join(&one.name)
            } else {
                target.clone()
            }
        } else if found.is_some_and(|found| found.is_dir()) || copy.destination.ends_with('/') {
            target.join(&one.name)
        } else {
            target.clone()
        };
        for entry in &one.entries {
            let path = if entry.path.as_os_str().is_empty() {
                place.clone()
            } else {
                place.join(&entry.path)
            };
            let above = path.parent().unwrap_or(Path::new(""));
            let is_new = !path.as_os_str().is_empty()
                && !above.as_os_str().is_empty()
                && !existing.contains_key(above);
            if is_new {
                continue;
            }
            match view.lstat_optional(&path)? {
                Some(found) if found.is_dir() != entry.metadata.is_dir() => return Ok(None),
                Some(found) if found.is_dir() => drop(existing.insert(path, found)),
                _ => {}
            }
        }
    }
    let Some(text) = target.to_str() else {
        return Ok(None);
    };
    let slash = if copy.destination.ends_with('/') {
        "/"
    } else {
        ""
    };
    Ok(Some((existing, format!("/{text}{slash}"))))
}

/// Takes the directories that are there on the way to a path, itself included; says whether nothing is in the way.
fn take_ancestors(view: &Root, target: &Path, existing: &mut Existing) -> Result<bool, BuildError> {
    let mut path = PathBuf::new();
    for component in target.components() {
        path.push(component);
        match view.lstat_optional(&path)? {
            None => return Ok(true),
            Some(found) if found.is_dir() => drop(existing.insert(path.clone(), found)),
            Some(_) => return Ok(path == target),
        }
    }
    Ok(true)
}

/// Makes directories with all attributes that they have below.
fn copy_up(view: &Root, upper: &Root, existing: &Existing) -> Result<(), BuildError> {
    for (path, metadata) in existing {
        if path.as_os_str().is_empty() {
            continue;
        }
        upper.mkdir(path, 0o700)?;
        upper.chown(path, metadata.uid, metadata.gid)?;
        for name in view.xattrs(path)? {
            if !is_overlay_attribute(&name)
                && let Some(value) = view.xattr(path, &name)?
            {
                upper.set_xattr(path, &name, &value)?;
            }
        }
        upper.chmod(path, metadata.mode)?;
    }
    for (path, metadata) in existing.iter().rev() {
        upper.set_times(path, metadata.atime, metadata.mtime)?;
    }
    Ok(())
}

fn is_overlay_attribute(name: &OsStr) -> bool {
    let name = name.as_bytes();
    OVERLAY_PREFIXES
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Says whether nothing came into one of the directories.
fn has_empty(upper: &Root, existing: &Existing) -> Result<bool, BuildError> {
    for path in existing.keys() {
        if upper.read_dir(path)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
