//! Copying one selected file or tree to a place: directories and links first, contents in parallel, attributes last.

mod attributes;
mod content;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use wharf_image::Digest;
use wharf_safefs::{FileType, Metadata, Timestamp};

use crate::BuildError;
use crate::content::{Reading, batches, in_parallel};
use crate::copy::{Attributes, Copied, Target, make_directory};
use crate::kept::KeptFile;
use crate::select::{Entry, Selected};

/// Copies one selected file or tree to a place.
pub(crate) struct Copier<'a> {
    source: Reading<'a>,
    selected: &'a Selected,
    /// What each entry holds, where that is known.
    digests: &'a [Digest],
    /// Contents that are in memory still, by number of the entry.
    kept: &'a [Option<KeptFile>],
    into: Target<'a>,
    place: &'a Path,
    attributes: &'a Attributes,
    /// Regular files to copy, by number of their entry.
    files: Vec<usize>,
    /// Second names, with the first.
    links: Vec<(PathBuf, PathBuf)>,
    first_names: HashMap<(u64, u64), PathBuf>,
    /// Directories that were made here: nothing is in the way in them.
    fresh: HashSet<PathBuf>,
    /// Something that was no more what it was when its digest was taken.
    changed: Option<PathBuf>,
    /// Directories whose attributes are set last: mode and owner are `None` where they stay.
    directories: BTreeMap<PathBuf, (Option<Metadata>, Timestamp, Timestamp)>,
}

impl<'a> Copier<'a> {
    /// Prepares a copy; `digests` has one for each entry, or none at all.
    pub fn new(
        source: Reading<'a>,
        (selected, digests): (&'a Selected, &'a [Digest]),
        into: Target<'a>,
        place: &'a Path,
        attributes: &'a Attributes,
    ) -> Self {
        Self {
            source,
            selected,
            digests,
            kept: &[],
            into,
            place,
            attributes,
            files: Vec::new(),
            links: Vec::new(),
            first_names: HashMap::new(),
            fresh: HashSet::new(),
            changed: None,
            directories: BTreeMap::new(),
        }
    }

    /// Takes the contents of these entries from memory.
    pub fn with_kept(self, kept: &'a [Option<KeptFile>]) -> Self {
        Self { kept, ..self }
    }

    /// Copies all, and tells in `copied` what is known of it.
    ///
    /// # Errors
    /// What is in the way and must not be replaced; files that cannot be read or written.
    pub fn copy_all(mut self, copied: &mut Copied) -> Result<(), BuildError> {
        for (index, entry) in self.selected.entries.iter().enumerate() {
            let target = self.target(entry);
            match entry.metadata.file_type {
                FileType::Directory => self.directory(entry, target)?,
                FileType::File => self.file(index, entry, target)?,
                FileType::Symlink => self.symlink(entry, &target)?,
                // A socket means nothing without the process behind it.
                FileType::Socket | FileType::Unknown => {}
                FileType::CharDevice | FileType::BlockDevice | FileType::Fifo => {
                    self.node(entry, &target)?
                }
            }
        }
        let batches = batches(&self.selected.entries, &self.files);
        let done = in_parallel(batches.len(), self.files.len(), |number, buffer| {
            let batch = batches.get(number).copied().unwrap_or_default();
            self.copy_batch(batch, buffer)
        })?;
        for done in done.into_iter().flatten() {
            copied.linked_bytes += done.linked_bytes;
            let entry = self.selected.entries.get(done.index);
            let digest = self.digests.get(done.index);
            if let (Some(entry), true) = (entry, done.has_changed) {
                self.changed = Some(self.origin(entry));
            }
            if let (Some(entry), Some(digest), true) = (entry, digest, done.is_as_known) {
                copied.contents.push((self.target(entry), *digest));
            }
        }
        copied.changed = copied.changed.take().or(self.changed.take());
        for (first, later) in &self.links {
            self.into.tree.hard_link(first, later)?;
        }
        for (path, (metadata, atime, mtime)) in self.directories.iter().rev() {
            if let Some(metadata) = metadata {
                self.set_attributes(path, metadata)?;
            }
            self.into.tree.set_times(path, *atime, *mtime)?;
        }
        Ok(())
    }

    fn target(&self, entry: &Entry) -> PathBuf {
        below(self.place, &entry.path)
    }

    fn origin(&self, entry: &Entry) -> PathBuf {
        below(&self.selected.path, &entry.path)
    }

    fn directory(&mut self, entry: &Entry, target: PathBuf) -> Result<(), BuildError> {
        let metadata = entry.metadata;
        let is_top = entry.path.as_os_str().is_empty();
        match self.in_the_way(&target)? {
            Some(found) if !found.is_dir() && !self.attributes.replaces => {
                return Err(BuildError::instruction(format!(
                    "cannot copy to non-directory: /{}",
                    target.display()
                )));
            }
            // What holds the content of a source is the destination's own directory: it has the source's time only.
            found
                if is_top
                    && (self.attributes.contents_only || found.is_some_and(|top| top.is_dir())) =>
            {
                if found.is_some_and(|found| !found.is_dir()) {
                    self.into.tree.remove_file(&target)?;
                }
                if found.is_none_or(|found| !found.is_dir()) {
                    make_directory(self.into.tree, &target, self.attributes)?;
                    self.fresh.insert(target.clone());
                }
                let (atime, mtime) = self.attributes.times_of(&metadata);
                self.directories.insert(target, (None, atime, mtime));
            }
            found => {
                if found.is_some_and(|found| !found.is_dir()) {
                    self.into.tree.remove_file(&target)?;
                }
                if found.is_none_or(|found| !found.is_dir()) {
                    self.into.tree.mkdir(&target, 0o700)?;
                    self.copy_attributes(&self.origin(entry), &target)?;
                    self.fresh.insert(target.clone());
                }
                let (atime, mtime) = self.attributes.times_of(&metadata);
                self.directories
                    .insert(target, (Some(metadata), atime, mtime));
            }
        }
        Ok(())
    }

    fn file(&mut self, index: usize, entry: &Entry, target: PathBuf) -> Result<(), BuildError> {
        self.make_room(&target)?;
        if entry.metadata.nlink > 1 {
            let inode = (entry.metadata.dev, entry.metadata.ino);
            if let Some(first) = self.first_names.get(&inode) {
                self.links.push((first.clone(), target));
                return Ok(());
            }
            self.first_names.insert(inode, target);
        }
        self.files.push(index);
        Ok(())
    }

    fn symlink(&mut self, entry: &Entry, target: &Path) -> Result<(), BuildError> {
        self.make_room(target)?;
        let link_target = self.link_target(entry)?;
        let (metadata, tree) = (&entry.metadata, self.into.tree);
        tree.symlink(link_target, target)?;
        let (uid, gid) = self.attributes.owner_of(metadata);
        tree.chown(target, uid, gid)?;
        let (atime, mtime) = self.attributes.times_of(metadata);
        Ok(tree.set_times(target, atime, mtime)?)
    }

    fn link_target(&mut self, entry: &Entry) -> Result<PathBuf, BuildError> {
        let origin = self.origin(entry);
        let (target, found) = self.source.with_rights(|root| {
            let target = root.read_link(&origin)?;
            let may_change = self.source.may_change();
            let found = may_change.then(|| root.lstat(&origin)).transpose()?;
            Ok((target, found))
        })?;
        if found.is_some_and(|found| self.source.has_changed(&entry.metadata, &found)) {
            self.changed = Some(origin);
        }
        Ok(target)
    }

    fn node(&self, entry: &Entry, target: &Path) -> Result<(), BuildError> {
        self.make_room(target)?;
        let (metadata, tree) = (&entry.metadata, self.into.tree);
        let device = (metadata.rdev_major(), metadata.rdev_minor());
        tree.mknod(target, metadata.file_type, metadata.mode, device)?;
        self.set_attributes(target, metadata)?;
        let (atime, mtime) = self.attributes.times_of(metadata);
        Ok(tree.set_times(target, atime, mtime)?)
    }

    /// Returns what is in the place of something.
    fn in_the_way(&self, target: &Path) -> Result<Option<Metadata>, BuildError> {
        let parent = target.parent().unwrap_or(Path::new(""));
        if self.fresh.contains(parent) {
            return Ok(None);
        }
        Ok(self.into.tree.lstat_optional(target)?)
    }

    /// Removes a file or symlink that is in the way.
    fn make_room(&self, target: &Path) -> Result<(), BuildError> {
        match self.in_the_way(target)? {
            None => Ok(()),
            Some(found) if found.is_dir() && self.attributes.replaces => {
                Ok(self.into.tree.remove_all(target)?)
            }
            Some(found) if found.is_dir() => Err(BuildError::instruction(format!(
                "cannot copy to directory: /{}",
                target.display()
            ))),
            Some(_) => Ok(self.into.tree.remove_file(target)?),
        }
    }
}

fn below(top: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() {
        top.to_path_buf()
    } else {
        top.join(path)
    }
}
