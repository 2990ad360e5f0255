//! Putting selected files in their place (spec llb §2.3: destination, attributes, what is in the way).

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};
use wharf_layer::{ExtractOptions, decompress, extract};
use wharf_safefs::{
    FileType, FsError, Metadata, OpenFlags, Root, Timestamp, copy_file_data, fd_xattrs,
    set_fd_xattr,
};

use crate::BuildError;
use crate::chmod::ModeChange;
use crate::content::{Reading, copied_attributes, in_parallel, is_copied_attribute};
use crate::select::{Entry, Selected};

/// Mode of directories that a destination needs.
const PARENT_MODE: u32 = 0o755;
/// Length of a tar header, and where its checksum lies (POSIX ustar).
const TAR_BLOCK_BYTES: usize = 512;
const TAR_CHECKSUM: std::ops::Range<usize> = 148..156;

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
    fn owner_of(&self, metadata: &Metadata) -> (u32, u32) {
        match self.owner {
            Some(owner) => owner,
            None if self.keep_owner => (metadata.uid, metadata.gid),
            None => (0, 0),
        }
    }

    fn times_of(&self, metadata: &Metadata) -> (Timestamp, Timestamp) {
        match self.timestamp {
            Some(time) => (time, time),
            None => (metadata.atime, metadata.mtime),
        }
    }

    fn mode_of(&self, metadata: &Metadata) -> u32 {
        match &self.mode {
            Some(change) => change.apply(metadata.mode, metadata.is_dir()),
            None => metadata.mode,
        }
    }
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
        .unwrap_or(PARENT_MODE);
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
/// A directory in the place of a file or the other way round, and several files for one place.
pub(crate) fn copy(
    source: Reading<'_>,
    selected: &[Selected],
    tree: &Root,
    destination: &str,
    attributes: &Attributes,
) -> Result<(), BuildError> {
    let target = tree.resolve(destination)?;
    for one in selected {
        if one.is_dir() {
            let is_there = tree.lstat_optional(&target)?.is_some();
            let place = if !attributes.contents_only && (is_there || destination.ends_with('/')) {
                target.join(&one.name)
            } else {
                target.clone()
            };
            copy_directory(source, one, tree, &place, attributes)?;
            continue;
        }
        if attributes.unpack && unpack(source, one, tree, &target, attributes)? {
            continue;
        }
        let is_dir = tree
            .lstat_optional(&target)?
            .is_some_and(|found| found.is_dir());
        let (parent, place) = if is_dir || destination.ends_with('/') {
            (target.clone(), target.join(&one.name))
        } else if selected.len() > 1 {
            return Err(BuildError::instruction(
                "When using COPY with more than one source file, the destination must be a directory and end with a /",
            ));
        } else {
            (
                target.parent().unwrap_or(Path::new("")).to_path_buf(),
                target.clone(),
            )
        };
        make_directory(tree, &parent, attributes)?;
        Copier::new(source, one, tree, &place, attributes).copy_all()?;
    }
    Ok(())
}

/// Merges the content of a directory into the target.
fn copy_directory(
    source: Reading<'_>,
    one: &Selected,
    tree: &Root,
    target: &Path,
    attributes: &Attributes,
) -> Result<(), BuildError> {
    let parent = target.parent().unwrap_or(Path::new(""));
    make_directory(tree, parent, attributes)?;
    Copier::new(source, one, tree, target, attributes).copy_all()
}

/// Copies one selected file or tree to a place.
struct Copier<'a> {
    source: Reading<'a>,
    selected: &'a Selected,
    tree: &'a Root,
    place: &'a Path,
    attributes: &'a Attributes,
    /// Regular files to copy, by number of their entry.
    files: Vec<usize>,
    /// Second names, with the first.
    links: Vec<(PathBuf, PathBuf)>,
    first_names: HashMap<(u64, u64), PathBuf>,
    /// Directories whose attributes are set last: mode and owner are `None` where they stay.
    directories: BTreeMap<PathBuf, (Option<Metadata>, Timestamp, Timestamp)>,
}

impl<'a> Copier<'a> {
    fn new(
        source: Reading<'a>,
        selected: &'a Selected,
        tree: &'a Root,
        place: &'a Path,
        attributes: &'a Attributes,
    ) -> Self {
        Self {
            source,
            selected,
            tree,
            place,
            attributes,
            files: Vec::new(),
            links: Vec::new(),
            first_names: HashMap::new(),
            directories: BTreeMap::new(),
        }
    }

    fn copy_all(mut self) -> Result<(), BuildError> {
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
        in_parallel(self.files.len(), |position, _| {
            let index = self.files.get(position).copied().unwrap_or_default();
            self.selected
                .entries
                .get(index)
                .map_or(Ok(()), |entry| self.content(entry))
        })?;
        for (first, later) in &self.links {
            self.tree.hard_link(first, later)?;
        }
        for (path, (metadata, atime, mtime)) in self.directories.iter().rev() {
            if let Some(metadata) = metadata {
                self.set_attributes(path, metadata)?;
            }
            self.tree.set_times(path, *atime, *mtime)?;
        }
        Ok(())
    }

    fn target(&self, entry: &Entry) -> PathBuf {
        if entry.path.as_os_str().is_empty() {
            self.place.to_path_buf()
        } else {
            self.place.join(&entry.path)
        }
    }

    fn origin(&self, entry: &Entry) -> PathBuf {
        if entry.path.as_os_str().is_empty() {
            self.selected.path.clone()
        } else {
            self.selected.path.join(&entry.path)
        }
    }

    fn directory(&mut self, entry: &Entry, target: PathBuf) -> Result<(), BuildError> {
        let metadata = entry.metadata;
        let is_top = entry.path.as_os_str().is_empty();
        match self.tree.lstat_optional(&target)? {
            Some(found) if !found.is_dir() && !self.attributes.replaces => {
                return Err(BuildError::instruction(format!(
                    "cannot copy to non-directory: /{}",
                    target.display()
                )));
            }
            Some(found) if is_top && found.is_dir() => {
                self.directories
                    .insert(target, (None, found.atime, found.mtime));
            }
            found => {
                if found.is_some_and(|found| !found.is_dir()) {
                    self.tree.remove_file(&target)?;
                }
                if found.is_none_or(|found| !found.is_dir()) {
                    self.tree.mkdir(&target, 0o700)?;
                    self.copy_attributes(&self.origin(entry), &target)?;
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

    fn symlink(&self, entry: &Entry, target: &Path) -> Result<(), BuildError> {
        self.make_room(target)?;
        let metadata = &entry.metadata;
        self.tree.symlink(self.link_target(entry)?, target)?;
        let (uid, gid) = self.attributes.owner_of(metadata);
        self.tree.chown(target, uid, gid)?;
        let (atime, mtime) = self.attributes.times_of(metadata);
        Ok(self.tree.set_times(target, atime, mtime)?)
    }

    fn link_target(&self, entry: &Entry) -> Result<PathBuf, BuildError> {
        let origin = self.origin(entry);
        self.source.with_rights(|root| Ok(root.read_link(&origin)?))
    }

    fn node(&self, entry: &Entry, target: &Path) -> Result<(), BuildError> {
        self.make_room(target)?;
        let metadata = &entry.metadata;
        let device = (metadata.rdev_major(), metadata.rdev_minor());
        self.tree
            .mknod(target, metadata.file_type, metadata.mode, device)?;
        self.set_attributes(target, metadata)?;
        let (atime, mtime) = self.attributes.times_of(metadata);
        Ok(self.tree.set_times(target, atime, mtime)?)
    }

    /// Removes a file or symlink that is in the way.
    fn make_room(&self, target: &Path) -> Result<(), BuildError> {
        match self.tree.lstat_optional(target)? {
            None => Ok(()),
            Some(found) if found.is_dir() && self.attributes.replaces => {
                Ok(self.tree.remove_all(target)?)
            }
            Some(found) if found.is_dir() => Err(BuildError::instruction(format!(
                "cannot copy to directory: /{}",
                target.display()
            ))),
            Some(_) => Ok(self.tree.remove_file(target)?),
        }
    }

    fn content(&self, entry: &Entry) -> Result<(), BuildError> {
        let target = self.target(entry);
        let origin = self.origin(entry);
        let mut from = self
            .source
            .with_rights(|root| Ok(root.open_file_nofollow(&origin, OpenFlags::RDONLY)?))?;
        let mut to = self.tree.create_new_raw(&target, 0o600)?;
        copy_file_data(&mut from, &mut to, &target, true)?;
        let failed = |errno| FsError::io("set attributes of", &target, errno);
        let (uid, gid) = self.attributes.owner_of(&entry.metadata);
        if (uid, gid) != (0, 0) {
            rustix::fs::fchown(&to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(failed)?;
        }
        for name in fd_xattrs(&from)?
            .iter()
            .filter(|name| is_copied_attribute(name))
        {
            if let Some(value) = wharf_safefs::fd_xattr(&from, name)? {
                set_fd_xattr(&to, name, &value)?;
            }
        }
        let mode = self.attributes.mode_of(&entry.metadata);
        rustix::fs::fchmod(&to, Mode::from_raw_mode(mode)).map_err(failed)?;
        let (atime, mtime) = self.attributes.times_of(&entry.metadata);
        let times = Timestamps {
            last_access: timespec(atime),
            last_modification: timespec(mtime),
        };
        Ok(rustix::fs::futimens(to.as_fd(), &times).map_err(failed)?)
    }

    fn set_attributes(&self, path: &Path, metadata: &Metadata) -> Result<(), BuildError> {
        let (uid, gid) = self.attributes.owner_of(metadata);
        self.tree.chown(path, uid, gid)?;
        Ok(self.tree.chmod(path, self.attributes.mode_of(metadata))?)
    }

    fn copy_attributes(&self, from: &Path, to: &Path) -> Result<(), BuildError> {
        let attributes = self.source.with_rights(|root| {
            let mut found = Vec::new();
            for name in copied_attributes(root, from)? {
                let value = root.xattr(from, &name)?.unwrap_or_default();
                found.push((name, value));
            }
            Ok(found)
        })?;
        for (name, value) in attributes {
            self.tree.set_xattr(to, &name, &value)?;
        }
        Ok(())
    }
}

/// Unpacks an archive below the target; says whether the file was one.
fn unpack(
    source: Reading<'_>,
    one: &Selected,
    tree: &Root,
    target: &Path,
    attributes: &Attributes,
) -> Result<bool, BuildError> {
    let is_file = one
        .entries
        .first()
        .is_some_and(|entry| entry.metadata.is_file());
    if !is_file || !is_archive(source, &one.path)? {
        return Ok(false);
    }
    if attributes.mode.is_some() {
        return Err(BuildError::instruction(
            "ADD --chmod of an archive that is unpacked is not supported yet",
        ));
    }
    make_directory(tree, target, attributes)?;
    let file =
        source.with_rights(|root| Ok(root.open_file_nofollow(&one.path, OpenFlags::RDONLY)?))?;
    let (_, tar) = decompress(BufReader::new(file))?;
    let options = ExtractOptions {
        owner: attributes.owner,
        best_effort_xattrs: true,
        ..ExtractOptions::default()
    };
    extract(tar, tree, target, &options)?;
    Ok(true)
}

/// Says whether a file is a tar of any compression: its first block has a right checksum.
fn is_archive(source: Reading<'_>, path: &Path) -> Result<bool, BuildError> {
    let mut file =
        source.with_rights(|root| Ok(root.open_file_nofollow(path, OpenFlags::RDONLY)?))?;
    let failed = |error| FsError::io("read", path, error);
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut block = [0_u8; TAR_BLOCK_BYTES];
    let Ok((_, mut plain)) = decompress(BufReader::new(file)) else {
        return Ok(false);
    };
    // What cannot be decompressed is no archive.
    Ok(plain.read_exact(&mut block).is_ok() && has_tar_checksum(&block))
}

fn has_tar_checksum(block: &[u8; TAR_BLOCK_BYTES]) -> bool {
    let field = block.get(TAR_CHECKSUM).unwrap_or_default();
    let text: String = field.iter().map(|byte| char::from(*byte)).collect();
    let Ok(expected) = u64::from_str_radix(text.trim_matches(['\0', ' ']), 8) else {
        return false;
    };
    let byte_value = |(position, byte): (usize, &u8)| {
        if TAR_CHECKSUM.contains(&position) {
            u64::from(b' ')
        } else {
            u64::from(*byte)
        }
    };
    expected == block.iter().enumerate().map(byte_value).sum::<u64>()
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    }
}
