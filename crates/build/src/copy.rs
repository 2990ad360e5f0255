//! Putting selected files in their place (spec llb §2.3: destination, attributes, what is in the way).

use std::path::{Path, PathBuf};

use wharf_image::Digest;
use wharf_safefs::{Metadata, Root, Timestamp};

use crate::BuildError;
use crate::chmod::ModeChange;
use crate::content::{Reading, Taken};
use crate::copier::Copier;
use crate::reuse::Base;
use crate::select::Selected;
use crate::unpack::unpack;

/// Mode of directories that a destination needs.
const PARENT_MODE: u32 = 0o755;
/// What of a numeric mode they get.
const PERMISSIONS: u32 = 0o777;

/// What copied files get instead of what their sources have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    /// Owner (user, group) of all.
    pub owner: Option<(u32, u32)>,
    /// Whether files keep their owner where `owner` says nothing; else they belong to root.
    pub keep_owner: bool,
    /// Mode of all.
    pub mode: Option<ModeChange>,
    /// Whether archives are unpacked.
    pub unpack: bool,
    /// Whether a directory means what is in it, not itself.
    pub contents_only: bool,
    /// Whether what is in the way is removed, whatever it is.
    pub replaces: bool,
    /// Time of all that is copied or made, instead of the source's.
    pub timestamp: Option<Timestamp>,
}

impl Attributes {
    /// Returns the owner that a copied file gets.
    pub fn owner_of(&self, metadata: &Metadata) -> (u32, u32) {
        match self.owner {
            Some(owner) => owner,
            None if self.keep_owner => (metadata.uid, metadata.gid),
            None => (0, 0),
        }
    }

    /// Returns the times (access, modification) that a copied file gets.
    pub fn times_of(&self, metadata: &Metadata) -> (Timestamp, Timestamp) {
        match self.timestamp {
            Some(time) => (time, time),
            None => (metadata.atime, metadata.mtime),
        }
    }

    /// Returns the mode that a copied file gets.
    pub fn mode_of(&self, metadata: &Metadata) -> u32 {
        match &self.mode {
            Some(change) => change.apply(metadata.mode, metadata.is_dir()),
            None => metadata.mode,
        }
    }
}

/// Where copies go.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// The tree.
    pub tree: &'a Root,
    /// An earlier layer whose files may be taken over; only where `tree` is a directory that is written once.
    pub base: Option<&'a Base>,
}

impl<'a> From<&'a Root> for Target<'a> {
    fn from(tree: &'a Root) -> Self {
        Self { tree, base: None }
    }
}

/// What was copied.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    /// What is known of the content of files, by their path in the tree.
    pub contents: Vec<(PathBuf, Digest)>,
    /// Bytes on disk of the files that were taken over from an earlier layer.
    pub linked_bytes: u64,
    /// Whether an archive was unpacked: then `contents` does not tell what lies in the tree.
    pub has_unpacked: bool,
    /// A file of a directory in its place that was no more what it was when its digest was taken.
    pub changed: Option<PathBuf>,
}

/// Makes a directory and all above it that are missing, with the attributes of a copy.
pub(crate) fn make_directory(
    tree: &Root,
    path: &Path,
    attributes: &Attributes,
) -> Result<(), BuildError> {
    let mode = attributes
        .mode
        .as_ref()
        .and_then(ModeChange::fixed)
        .map_or(PARENT_MODE, |mode| mode & PERMISSIONS);
    tree.mkdir_all(path, mode, attributes.owner)
        .map_err(|error| {
            if error.raw_os_error() == Some(rustix::io::Errno::NOTDIR.raw_os_error()) {
                return BuildError::instruction(format!(
                    "cannot copy to non-directory: /{}",
                    path.display()
                ));
            }
            error.into()
        })
}

/// Copies what one source means to a destination: absolute, a directory where it ends in `/`.
///
/// # Errors
/// A directory in the place of a file or the other way round.
pub(crate) fn copy(
    source: Reading<'_>,
    taken: &Taken,
    into: Target<'_>,
    destination: &str,
    attributes: &Attributes,
) -> Result<Copied, BuildError> {
    let tree = into.tree;
    let target = tree.resolve(destination)?;
    let mut copied = Copied::default();
    let mut kept = taken.take_kept().into_iter();
    for (one, digests) in taken.each() {
        let kept = kept.next().unwrap_or_default();
        if !one.is_dir() && attributes.unpack && unpack(source, one, tree, &target, attributes)? {
            copied.has_unpacked = true;
            note_change(source, one, &mut copied)?;
            continue;
        }
        let (parent, place) = place_of(one, tree, &target, destination, attributes)?;
        make_directory(tree, &parent, attributes)?;
        let copier = Copier::new(source, (one, digests), into, &place, attributes);
        copier.with_kept(&kept).copy_all(&mut copied)?;
    }
    Ok(copied)
}

/// Notes whether an archive is another one by now.
fn note_change(source: Reading<'_>, one: &Selected, copied: &mut Copied) -> Result<(), BuildError> {
    let known = one.entries.first().map(|entry| entry.metadata);
    let found = source.with_rights(|root| Ok(root.lstat_optional(&one.path)?))?;
    let is_other = match (known, found) {
        (Some(known), Some(found)) => source.has_changed(&known, &found),
        _ => source.may_change(),
    };
    if is_other {
        copied.changed = Some(one.path.clone());
    }
    Ok(())
}

/// Returns the place of a source, and the directory that it needs.
fn place_of(
    one: &Selected,
    tree: &Root,
    target: &Path,
    destination: &str,
    attributes: &Attributes,
) -> Result<(PathBuf, PathBuf), BuildError> {
    let above = |path: &Path| path.parent().unwrap_or(Path::new("")).to_path_buf();
    let found = tree.lstat_optional(target)?;
    if one.is_dir() {
        let goes_below =
            !attributes.contents_only && (found.is_some() || destination.ends_with('/'));
        let place = if goes_below {
            target.join(&one.name)
        } else {
            target.to_path_buf()
        };
        return Ok((above(&place), place));
    }
    let is_dir = found.is_some_and(|found| found.is_dir());
    if is_dir || destination.ends_with('/') {
        return Ok((target.to_path_buf(), target.join(&one.name)));
    }
    // Several files for one place: the last one is left, as with BuildKit.
    Ok((above(target), target.to_path_buf()))
}
