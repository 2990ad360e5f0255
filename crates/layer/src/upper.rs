//! Turning the upper directory of a container or build step into a layer directory.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use wharf_safefs::{DirectoryEntry, FileType, Metadata, Root};

use crate::apply::LayerSummary;
use crate::changes::differ;
use crate::error::{LayerError, display};
use crate::lower::{Below, Found, is_marked_opaque, layer_xattrs};
use crate::place::is_overlay_xattr;
use crate::summarize::{Copying, Latch, copy_and_summarize};
use crate::whiteout::{OPAQUE_USER_XATTR, OPAQUE_XATTR};

/// Attributes by which overlayfs says that a file's content or a directory's lower part lies elsewhere; such
/// an upper directory cannot be taken out of its stack.
const ELSEWHERE_XATTRS: [&[u8]; 4] = [
    b"trusted.overlay.redirect",
    b"trusted.overlay.metacopy",
    b"user.overlay.redirect",
    b"user.overlay.metacopy",
];

/// Copies an upper directory to a new layer directory (commit) and returns what the layer is, as
/// [`summarize`](crate::summarize) does: overlay form kept, overlayfs' own
/// attributes but the opaque mark dropped, `exclude` paths (with all below them) left out, and
/// directories that are unchanged against the lowers (topmost first) and hold nothing changed left out,
/// as well as whiteouts and opaque marks that hide nothing. Blocks of larger files are shared where the file
/// system can.
///
/// `copied` is called when the upper directory may change again; the layer may still be hashed then.
///
/// # Errors
/// [`LayerError::Unrepresentable`] for directories renamed with overlayfs' `redirect_dir` and files
/// copied up without content (`metacopy`): mount with both off; and for what no layer can hold.
pub fn copy_upper(
    upper: &Root,
    lowers: &[Root],
    into: &Root,
    exclude: &[PathBuf],
    copied: impl FnOnce() + Send + Sync + 'static,
) -> Result<LayerSummary, LayerError> {
    let latch = Latch::new(copied);
    let plan = Plan::make(upper, lowers, exclude, Look::AtDirectories)?;
    let leave_out = plan.drop.into_iter().collect();
    let not_opaque = plan.not_opaque.into_iter().collect();
    let copying = Copying::new(into, &leave_out, &not_opaque);
    copy_and_summarize(upper, &copying, plan.names, latch)
}

/// Strips in place what must not stay in an upper directory that becomes a layer by rename (build RUN
/// steps): the same things [`copy_upper`] leaves out.
pub fn clean_upper(upper: &Root, lowers: &[Root], exclude: &[PathBuf]) -> Result<(), LayerError> {
    let plan = Plan::make(upper, lowers, exclude, Look::AtAll)?;
    for path in &plan.drop {
        let parent = path.parent().unwrap_or(Path::new(""));
        let directory = upper.open_dir(parent)?;
        let before = directory.metadata()?;
        let name = path.file_name().unwrap_or(OsStr::new("."));
        directory.remove_all(name)?;
        directory.set_times("", before.atime, before.mtime)?;
    }
    for (path, attribute) in &plan.strip {
        upper.remove_xattr(path, attribute)?;
    }
    for path in &plan.not_opaque {
        for attribute in [OPAQUE_XATTR, OPAQUE_USER_XATTR] {
            upper.remove_xattr(path, attribute)?;
        }
    }
    Ok(())
}

/// Whose attributes a plan is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    AtAll,
    /// Whoever copies looks at the attributes of files itself.
    AtDirectories,
}

/// What has to go from an upper directory.
#[derive(Default)]
struct Plan {
    /// How many names there are.
    names: usize,
    /// Paths removed with all below them, children before parents.
    drop: Vec<PathBuf>,
    /// Directories whose opaque mark hides nothing.
    not_opaque: Vec<PathBuf>,
    /// overlayfs' own attributes of what stays.
    strip: Vec<(PathBuf, OsString)>,
}

/// A directory being looked through.
struct Frame {
    path: PathBuf,
    directory: Root,
    entries: std::vec::IntoIter<DirectoryEntry>,
    below: Below,
    /// Whether it stays even if nothing in it does.
    changed: bool,
    kept: bool,
}

impl Plan {
    fn make(
        upper: &Root,
        lowers: &[Root],
        exclude: &[PathBuf],
        look: Look,
    ) -> Result<Self, LayerError> {
        let exclude: HashSet<PathBuf> = exclude
            .iter()
            .map(|path| path.strip_prefix("/").unwrap_or(path).to_path_buf())
            .collect();
        let mut plan = Self::default();
        plan.note_xattrs(upper, OsStr::new(""), Path::new(""))?;
        let (directory, entries) = upper.open_and_list("")?;
        let mut frames = vec![Frame {
            path: PathBuf::new(),
            directory,
            entries: entries.into_iter(),
            below: Below::top(lowers)?,
            changed: true,
            kept: true,
        }];
        while let Some(frame) = frames.last_mut() {
            let Some(entry) = frame.entries.next() else {
                plan.leave(&mut frames);
                continue;
            };
            let path = frame.path.join(&entry.name);
            if exclude.contains(&path) {
                plan.drop.push(path);
                continue;
            }
            plan.names += 1;
            if !matches!(entry.file_type, FileType::Directory | FileType::CharDevice) {
                if look == Look::AtAll {
                    plan.note_xattrs(&frame.directory, &entry.name, &path)?;
                }
                frame.kept = true;
                continue;
            }
            let metadata = frame.directory.lstat(&entry.name)?;
            let lower = frame.below.child(&entry.name)?;
            if metadata.is_whiteout() {
                if lower.metadata.is_none() {
                    plan.drop.push(path);
                } else {
                    frame.kept = true;
                }
                continue;
            }
            plan.note_xattrs(&frame.directory, &entry.name, &path)?;
            if !metadata.is_dir() {
                frame.kept = true;
                continue;
            }
            let next = plan.enter(frame, &entry, path, &metadata, lower)?;
            frames.push(next);
        }
        Ok(plan)
    }

    fn enter(
        &mut self,
        frame: &Frame,
        entry: &DirectoryEntry,
        path: PathBuf,
        metadata: &Metadata,
        lower: Found,
    ) -> Result<Frame, LayerError> {
        let (directory, entries) = frame.directory.open_and_list(&entry.name)?;
        let marked = is_marked_opaque(&directory, "")?;
        let opaque = marked && lower.is_dir();
        if marked && !opaque {
            self.not_opaque.push(path.clone());
        }
        let changed = opaque
            || lower.metadata.is_none_or(|old| differ(&old, metadata))
            || frame.below.layer_xattrs(&entry.name, &lower)?
                != layer_xattrs(&frame.directory, &entry.name)?;
        Ok(Frame {
            path,
            directory,
            entries: entries.into_iter(),
            below: lower.below,
            changed,
            kept: false,
        })
    }

    /// Ends a directory: it goes where it is unchanged and nothing in it stays.
    fn leave(&mut self, frames: &mut Vec<Frame>) {
        let Some(done) = frames.pop() else { return };
        if done.changed || done.kept {
            if let Some(parent) = frames.last_mut() {
                parent.kept = true;
            }
            return;
        }
        self.not_opaque.retain(|path| *path != done.path);
        self.strip.retain(|(path, _)| *path != done.path);
        self.drop.push(done.path);
    }

    fn note_xattrs(
        &mut self,
        directory: &Root,
        name: &OsStr,
        path: &Path,
    ) -> Result<(), LayerError> {
        for attribute in directory.xattrs(name)? {
            check_is_whole(&attribute, path.as_os_str().as_bytes())?;
            if is_dropped_xattr(&attribute) {
                self.strip.push((path.to_path_buf(), attribute));
            }
        }
        Ok(())
    }
}

/// Refuses an attribute that says that part of a file lies elsewhere.
pub(crate) fn check_is_whole(attribute: &OsStr, path: &[u8]) -> Result<(), LayerError> {
    if !ELSEWHERE_XATTRS.contains(&attribute.as_bytes()) {
        return Ok(());
    }
    Err(LayerError::Unrepresentable {
        path: display(path),
        reason: "overlayfs keeps part of it in a lower layer (redirect_dir or metacopy)",
    })
}

/// Says whether an attribute is overlayfs' own bookkeeping and not the opaque mark.
pub(crate) fn is_dropped_xattr(attribute: &OsStr) -> bool {
    is_overlay_xattr(attribute.as_bytes()) && !is_opaque_mark(attribute)
}

/// Says whether an attribute marks an opaque directory.
pub(crate) fn is_opaque_mark(attribute: &OsStr) -> bool {
    attribute == OPAQUE_XATTR || attribute == OPAQUE_USER_XATTR
}
