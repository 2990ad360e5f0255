//! Copying one selected file or tree to a place: directories and links first, contents in parallel, attributes last.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};
use wharf_image::Digest;
use wharf_safefs::{
    FileType, FsError, Metadata, OpenFlags, Root, Timestamp, copy_file_data, fd_xattr, fd_xattrs,
    set_fd_xattr,
};

use crate::BuildError;
use crate::content::{Reading, batches, in_parallel};
use crate::copy::{Attributes, Copied, Target, make_directory};
use crate::kept::KeptFile;
use crate::reuse::Wanted;
use crate::select::{Entry, Selected};

/// Files up to this size go through a buffer; sharing blocks pays for larger ones.
const SMALL_FILE_BYTES: u64 = 16 << 10;

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

/// One file that is in its place.
struct Done {
    index: usize,
    /// Whether it still was what it was when its digest was taken.
    is_as_known: bool,
    /// Whether it changed meanwhile, where that can be.
    has_changed: bool,
    linked_bytes: u64,
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

    /// Puts files of one directory in their places.
    fn copy_batch(&self, batch: &[usize], buffer: &mut Vec<u8>) -> Result<Vec<Done>, BuildError> {
        let entries = batch
            .iter()
            .filter_map(|index| Some((*index, self.selected.entries.get(*index)?)));
        let entries: Vec<(usize, &Entry)> = entries.collect();
        let Some((_, first)) = entries.first() else {
            return Ok(Vec::new());
        };
        let above = |path: PathBuf| path.parent().unwrap_or(Path::new("")).to_path_buf();
        let target_directory = above(self.target(first));
        let to = self.into.tree.open_dir(&target_directory)?;
        let mut done = self.link_batch(&entries, &target_directory, &to)?;
        let is_linked = |index: usize| done.iter().any(|done: &Done| done.index == index);
        let to_write: Vec<(usize, &Entry)> = entries
            .iter()
            .filter(|(index, _)| !is_linked(*index))
            .copied()
            .collect();
        for (index, entry) in &to_write {
            if let Some(content) = self.kept(*index) {
                self.write_file(entry, content, &to)?;
                done.push(Done {
                    index: *index,
                    is_as_known: true,
                    has_changed: false,
                    linked_bytes: 0,
                });
            }
        }
        let rest: Vec<(usize, &Entry)> = to_write
            .iter()
            .filter(|(index, _)| self.kept(*index).is_none())
            .copied()
            .collect();
        let opened = self.open_batch(&above(self.origin(first)), &rest)?;
        for ((index, entry), (mut from, found)) in rest.into_iter().zip(opened) {
            let target = self.target(entry);
            self.copy_file(entry, (&mut from, &found), (&to, &target), buffer)?;
            let after = if self.source.may_change() {
                metadata_now(&from, &target)?
            } else {
                found
            };
            done.push(Done {
                index,
                is_as_known: after.is_unchanged_since(&entry.metadata),
                has_changed: self.source.has_changed(&entry.metadata, &after),
                linked_bytes: 0,
            });
        }
        Ok(done)
    }

    /// Takes over those files that the earlier layer has just so.
    fn link_batch(
        &self,
        entries: &[(usize, &Entry)],
        directory: &Path,
        to: &Root,
    ) -> Result<Vec<Done>, BuildError> {
        let Some(base) = self.into.base else {
            return Ok(Vec::new());
        };
        let Some(from) = base.directory(directory) else {
            return Ok(Vec::new());
        };
        let mut done = Vec::new();
        for (index, entry) in entries {
            let Some(digest) = self.digests.get(*index) else {
                continue;
            };
            let metadata = &entry.metadata;
            let wanted = Wanted {
                digest: *digest,
                size_bytes: metadata.size_bytes,
                mode: self.attributes.mode_of(metadata),
                owner: self.attributes.owner_of(metadata),
                mtime: self.attributes.times_of(metadata).1,
            };
            let target = self.target(entry);
            if let Some(linked_bytes) = base.link((&from, &target), &wanted, to)? {
                done.push(Done {
                    index: *index,
                    is_as_known: true,
                    has_changed: false,
                    linked_bytes,
                });
            }
        }
        Ok(done)
    }

    /// Opens files of one directory, with the rights that count for them.
    fn open_batch(
        &self,
        directory: &Path,
        entries: &[(usize, &Entry)],
    ) -> Result<Vec<(File, Metadata)>, BuildError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.source.with_rights(|root| {
            let from = root.open_dir(directory)?;
            let open = |(_, entry): &(usize, &Entry)| {
                let origin = self.origin(entry);
                let opened = from.open_regular_nofollow(last(&origin), OpenFlags::RDONLY);
                Ok(opened.map_err(|error| error.at(&origin))?)
            };
            entries.iter().map(open).collect()
        })
    }

    fn kept(&self, index: usize) -> Option<&[u8]> {
        Some(self.kept.get(index)?.as_ref()?.bytes())
    }

    /// Writes a file without attributes of its own, whose content is in memory.
    fn write_file(&self, entry: &Entry, content: &[u8], to: &Root) -> Result<(), BuildError> {
        let target = self.target(entry);
        let mut file = to.create_new_raw(last(&target), 0o600)?;
        file.write_all(content)
            .map_err(|error| FsError::io("write", &target, error))?;
        self.set_owner(entry, &file, &target)?;
        self.finish_file(entry, &file, &target)
    }

    fn copy_file(
        &self,
        entry: &Entry,
        (from, found): (&mut File, &Metadata),
        (directory, target): (&Root, &Path),
        buffer: &mut Vec<u8>,
    ) -> Result<(), BuildError> {
        let mut to = directory.create_new_raw(last(target), 0o600)?;
        if found.size_bytes <= SMALL_FILE_BYTES {
            copy_small(from, &mut to, target, buffer)?;
        } else {
            copy_file_data(from, &mut to, target, true)?;
        }
        // An owner that changes takes capabilities away.
        self.set_owner(entry, &to, target)?;
        for name in fd_xattrs(&*from)?
            .iter()
            .filter(|name| self.source.takes_attribute(name))
        {
            if let Some(value) = fd_xattr(&*from, name)? {
                set_fd_xattr(&to, name, &value)?;
            }
        }
        self.finish_file(entry, &to, target)
    }

    fn set_owner(&self, entry: &Entry, to: &File, target: &Path) -> Result<(), BuildError> {
        let (uid, gid) = self.attributes.owner_of(&entry.metadata);
        if (uid, gid) == (0, 0) {
            return Ok(());
        }
        let failed = |errno| FsError::io("set attributes of", target, errno);
        rustix::fs::fchown(to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(failed)?;
        Ok(())
    }

    /// Gives a file its mode and times.
    fn finish_file(&self, entry: &Entry, to: &File, target: &Path) -> Result<(), BuildError> {
        let failed = |errno| FsError::io("set attributes of", target, errno);
        let mode = self.attributes.mode_of(&entry.metadata);
        rustix::fs::fchmod(to, Mode::from_raw_mode(mode)).map_err(failed)?;
        let (atime, mtime) = self.attributes.times_of(&entry.metadata);
        let times = Timestamps {
            last_access: timespec(atime),
            last_modification: timespec(mtime),
        };
        Ok(rustix::fs::futimens(to.as_fd(), &times).map_err(failed)?)
    }

    fn set_attributes(&self, path: &Path, metadata: &Metadata) -> Result<(), BuildError> {
        let (uid, gid) = self.attributes.owner_of(metadata);
        self.into.tree.chown(path, uid, gid)?;
        let mode = self.attributes.mode_of(metadata);
        Ok(self.into.tree.chmod(path, mode)?)
    }

    fn copy_attributes(&self, from: &Path, to: &Path) -> Result<(), BuildError> {
        let attributes = self.source.with_rights(|root| {
            let mut found = Vec::new();
            for name in self.source.attributes(root, from)? {
                let value = root.xattr(from, &name)?.unwrap_or_default();
                found.push((name, value));
            }
            Ok(found)
        })?;
        for (name, value) in attributes {
            self.into.tree.set_xattr(to, &name, &value)?;
        }
        Ok(())
    }
}

fn below(top: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() {
        top.to_path_buf()
    } else {
        top.join(path)
    }
}

fn last(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn metadata_now(file: &File, path: &Path) -> Result<Metadata, BuildError> {
    let found = rustix::fs::fstat(file).map_err(|errno| FsError::io("look at", path, errno))?;
    Ok(found.into())
}

/// Copies a small file's content through a buffer.
fn copy_small(
    from: &mut File,
    to: &mut File,
    path: &Path,
    buffer: &mut Vec<u8>,
) -> Result<(), BuildError> {
    let failed = |error| FsError::io("copy", path, error);
    buffer.resize(buffer.len().max(SMALL_FILE_BYTES as usize + 1), 0);
    loop {
        match from.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(buffer.get(..count).unwrap_or_default())
                    .map_err(failed)?;
                // It ends where less came than there was room for: a regular file gives all it has.
                if count < buffer.len() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error).into()),
        }
    }
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    }
}
