//! Writing a directory as a tar: a layer in its one canonical form, or any tree for `cp` and `export`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use wharf_safefs::{
    DirectoryEntry, FileType, Metadata, OpenFlags, Root, Timestamp, fd_xattr, fd_xattrs,
};

use crate::apply::LayerSummary;
use crate::error::{LayerError, display};
use crate::place::{clamp, is_overlay_xattr};
use crate::sink::TarSink;
use crate::tar::{BLOCK_BYTES, Entry, Kind, header, padding};
use crate::tree::{as_path, clean, join, split};
use crate::whiteout::{OPAQUE_NAME, WHITEOUT_PREFIX, is_opaque};

/// File capabilities (capabilities(7)), the attribute that docker's layers carry.
const CAPABILITY_XATTR: &[u8] = b"security.capability";

const USER_XATTR_PREFIX: &[u8] = b"user.";

/// Mode of the opaque marker of a layer's top directory, whose own mode no tar tells.
const TOP_MODE: u32 = 0o755;

/// User, group and mode of that marker.
pub(crate) const TOP_OWNER: (u32, u32, u32) = (0, 0, TOP_MODE);

/// Writes a layer directory (overlay form) as the one canonical tar (spec image-store §5.1–5.3).
///
/// A depth-first walk, each directory's names in byte order, directories before what is in them and
/// an opaque marker right after its directory; headers as Go's archive/tar writes them; numeric
/// owners, whole seconds, later names of an inode as hard links, sockets left out;
/// `security.capability` and `user.*` attributes of files and directories, `trusted.*` never.
/// A whiteout is an empty file `.wh.<name>` of mode, owner and time 0 where `<name>` stands in the order
/// (containerd's form). Two zero blocks end it. Same bytes for the same directory on every machine.
///
/// # Errors
/// [`LayerError::Unrepresentable`] for names that would mean something else in a layer, and
/// [`LayerError::Changed`] when a file shrinks or grows while it is read.
pub fn write_tar(dir: &Root, out: &mut dyn Write) -> Result<LayerSummary, LayerError> {
    layer_tar(dir, Some(out))
}

/// Writes or only hashes a layer's tar.
pub(crate) fn layer_tar(
    dir: &Root,
    out: Option<&mut dyn Write>,
) -> Result<LayerSummary, LayerError> {
    let mut writer = Writer::new(TarSink::new(out, true), true);
    writer.directory_content(dir, b"", b"", &[])?;
    writer.summary()
}

/// How an ordinary tree is written.
#[derive(Debug, Clone, Default)]
pub struct PlainTarOptions {
    /// Name of the top entry in the archive, `.` for `./` with names that begin so; `None` writes what is in the
    /// directory without an entry for itself (and a single file under its own name).
    pub name: Option<OsString>,
    /// Paths beneath the written directory that are left out with all below them.
    pub exclude: Vec<PathBuf>,
    /// Leave out what is mounted on directories below: the mount point is written empty.
    pub one_file_system: bool,
}

/// Writes an ordinary (merged) directory or file as a tar, for `export` and `cp`; returns the tar's length.
///
/// `subpath` is resolved within `dir`, its last component not followed. Names and attributes are
/// written as by [`write_tar`], but nothing means a whiteout.
pub fn write_plain_tar(
    dir: &Root,
    subpath: &Path,
    out: &mut dyn Write,
    options: &PlainTarOptions,
) -> Result<u64, LayerError> {
    let mut writer = Writer::new(TarSink::new(Some(out), false), false);
    let metadata = dir.lstat(subpath)?;
    writer.file_system = options.one_file_system.then_some(metadata.dev);
    let exclude: Vec<Vec<u8>> = options
        .exclude
        .iter()
        .filter_map(|path| clean(path.as_os_str().as_bytes()))
        .collect();
    let named = options.name.as_ref().map(|name| match name.as_bytes() {
        b"." => b".".to_vec(),
        name => clean(name).unwrap_or_default(),
    });
    if metadata.is_dir() {
        let top = dir.open_dir_nofollow(subpath)?;
        let name = named.unwrap_or_default();
        if !name.is_empty() {
            let (opened, _) = top.open_and_list("")?;
            writer.directory_entry(&opened, &name, &metadata, false)?;
        }
        writer.directory_content(&top, &name, b"", &exclude)?;
    } else {
        let cleaned = clean(subpath.as_os_str().as_bytes()).unwrap_or_default();
        let (_, own_name) = split(&cleaned);
        let name = named
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| own_name.to_vec());
        let parent = match subpath.parent() {
            Some(parent) => dir.open_dir(parent)?,
            None => dir.try_clone()?,
        };
        let entry = DirectoryEntry {
            name: OsStr::from_bytes(own_name).to_os_string(),
            file_type: metadata.file_type,
            ino: metadata.ino,
        };
        writer.leaf(&parent, &entry, &name)?;
    }
    writer.finish().map(|(_, bytes)| bytes)
}

/// Says whether an extended attribute goes into a layer.
pub(crate) fn is_layer_xattr(name: &[u8]) -> bool {
    name == CAPABILITY_XATTR || (name.starts_with(USER_XATTR_PREFIX) && !is_overlay_xattr(name))
}

/// Writes entries into a sink.
pub(crate) struct Writer<'o> {
    pub(crate) sink: TarSink<'o>,
    /// Whether the directory is in overlay form.
    overlay: bool,
    /// Stay on this device.
    file_system: Option<u64>,
    /// First names of inodes with several.
    first_names: HashMap<(u64, u64), Vec<u8>>,
    entry: Entry,
    header: Vec<u8>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether somebody else finds out which names are later ones.
    pub(crate) leaves_links: bool,
    pub(crate) size_bytes: u64,
    pub(crate) entries: u64,
}

/// A directory of the walk: the path beneath the top and its name in the archive.
struct Level {
    directory: Option<Root>,
    path: Vec<u8>,
    name: Vec<u8>,
    entries: std::vec::IntoIter<DirectoryEntry>,
}

/// Directories of a walk that stay open; deeper ones are opened again by path when needed.
pub(crate) const MAX_OPEN_LEVELS: usize = 64;

impl<'o> Writer<'o> {
    pub(crate) fn new(sink: TarSink<'o>, overlay: bool) -> Self {
        Self {
            sink,
            overlay,
            file_system: None,
            first_names: HashMap::new(),
            entry: Entry::default(),
            header: Vec::new(),
            records: Vec::new(),
            leaves_links: false,
            size_bytes: 0,
            entries: 0,
        }
    }

    /// Ends a layer's tar and tells what it is.
    pub(crate) fn summary(self) -> Result<LayerSummary, LayerError> {
        let (size_bytes, entries) = (self.size_bytes, self.entries);
        let (diff_id, tar_bytes) = self.finish()?;
        Ok(LayerSummary {
            diff_id,
            size_bytes,
            entries,
            tar_bytes,
        })
    }

    fn finish(mut self) -> Result<(wharf_image::DiffId, u64), LayerError> {
        self.sink.zeros(2 * BLOCK_BYTES)?;
        self.sink.finish()
    }

    /// Writes all that is beneath `top` + `path`, names in the archive beginning with `name`.
    fn directory_content(
        &mut self,
        top: &Root,
        name: &[u8],
        path: &[u8],
        exclude: &[Vec<u8>],
    ) -> Result<(), LayerError> {
        let (opened, entries) = top.open_and_list(as_path(path))?;
        if self.overlay && is_opaque(&opened)? {
            self.opaque_marker(name, TOP_OWNER)?;
        }
        let mut levels = vec![Level {
            directory: Some(opened),
            path: path.to_vec(),
            name: name.to_vec(),
            entries: entries.into_iter(),
        }];
        while let Some(level) = levels.last_mut() {
            let Some(found) = level.entries.next() else {
                levels.pop();
                continue;
            };
            let found_name = found.name.as_bytes();
            let path = join(&level.path, found_name);
            if exclude.contains(&path) {
                continue;
            }
            let name = join(&level.name, found_name);
            if self.overlay {
                check_name(found_name, &path)?;
            }
            let reopened;
            let directory = match &level.directory {
                Some(directory) => directory,
                None => {
                    reopened = top.open_dir(as_path(&level.path))?;
                    &reopened
                }
            };
            if !found.file_type.is_dir() {
                self.leaf(directory, &found, &name)?;
                continue;
            }
            if let Some((opened, entries)) = self.enter(directory, &found, &name)? {
                let directory = (levels.len() < MAX_OPEN_LEVELS).then_some(opened);
                levels.push(Level {
                    directory,
                    path,
                    name,
                    entries: entries.into_iter(),
                });
            }
        }
        Ok(())
    }

    /// Writes a directory's entry and returns what is in it; nothing where it has gone or is another file system.
    fn enter(
        &mut self,
        parent: &Root,
        found: &DirectoryEntry,
        name: &[u8],
    ) -> Result<Option<(Root, Vec<DirectoryEntry>)>, LayerError> {
        let (opened, entries) = match parent.open_and_list(&found.name) {
            // A live tree may change while it is walked.
            Err(error) if error.is_not_found() && !self.overlay => return Ok(None),
            result => result?,
        };
        let metadata = opened.metadata()?;
        let opaque = self.overlay && is_opaque(&opened)?;
        self.directory_entry(&opened, name, &metadata, opaque)?;
        let is_foreign = self
            .file_system
            .is_some_and(|device| device != metadata.dev);
        Ok((!is_foreign).then_some((opened, entries)))
    }

    pub(crate) fn directory_entry(
        &mut self,
        opened: &Root,
        name: &[u8],
        metadata: &Metadata,
        opaque: bool,
    ) -> Result<(), LayerError> {
        self.start(name, Kind::Directory, metadata);
        self.entry.name.push(b'/');
        self.take_xattrs(opened)?;
        self.put_header()?;
        if opaque {
            self.opaque_marker(name, (metadata.uid, metadata.gid, metadata.mode & 0o777))?;
        }
        Ok(())
    }

    pub(crate) fn opaque_marker(
        &mut self,
        directory: &[u8],
        (uid, gid, mode): (u32, u32, u32),
    ) -> Result<(), LayerError> {
        self.entry = Entry {
            name: join(directory, OPAQUE_NAME),
            mode,
            uid: uid.into(),
            gid: gid.into(),
            ..Entry::default()
        };
        self.put_header()
    }

    /// Writes what is not a directory.
    pub(crate) fn leaf(
        &mut self,
        directory: &Root,
        found: &DirectoryEntry,
        name: &[u8],
    ) -> Result<(), LayerError> {
        if found.file_type.is_file() {
            return self.regular(directory, found, name);
        }
        let metadata = match directory.lstat(&found.name) {
            Err(error) if error.is_not_found() && !self.overlay => return Ok(()),
            result => result?,
        };
        if self.overlay && metadata.is_whiteout() {
            let (parent, hidden) = split(name);
            let hidden = [WHITEOUT_PREFIX, hidden].concat();
            self.entry = Entry {
                name: join(parent, &hidden),
                ..Entry::default()
            };
            return self.put_header();
        }
        let kind = match metadata.file_type {
            FileType::Symlink => Kind::Symlink,
            FileType::CharDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            FileType::File => return self.regular(directory, found, name),
            // Sockets mean nothing without the process that listens.
            FileType::Socket | FileType::Directory | FileType::Unknown => return Ok(()),
        };
        self.start(name, kind, &metadata);
        if self.is_later_name(&metadata, name) {
            return self.put_header();
        }
        if kind == Kind::Symlink {
            let target = directory.read_link(&found.name)?;
            self.entry
                .link
                .extend_from_slice(target.as_os_str().as_bytes());
        }
        self.put_header()
    }

    fn regular(
        &mut self,
        directory: &Root,
        found: &DirectoryEntry,
        name: &[u8],
    ) -> Result<(), LayerError> {
        let opened = directory.open_regular_nofollow(&found.name, OpenFlags::RDONLY);
        let (file, metadata) = match opened {
            Err(error) if error.is_not_found() && !self.overlay => return Ok(()),
            result => result?,
        };
        self.opened(file, metadata, name)
    }

    /// Writes an open regular file.
    pub(crate) fn opened(
        &mut self,
        mut file: File,
        metadata: Metadata,
        name: &[u8],
    ) -> Result<(), LayerError> {
        self.start(name, Kind::File, &metadata);
        if self.is_later_name(&metadata, name) {
            return self.put_header();
        }
        self.entry.size_bytes = metadata.size_bytes;
        self.size_bytes += metadata.size_bytes;
        self.take_xattrs(&file)?;
        self.put_header()?;
        self.put_content(&mut file, name, metadata.size_bytes)
    }

    fn put_content(
        &mut self,
        file: &mut File,
        name: &[u8],
        size_bytes: u64,
    ) -> Result<(), LayerError> {
        let mut left = size_bytes;
        while left > 0 {
            match self.sink.write_with(left, |buffer| file.read(buffer))? {
                Ok(0) if self.overlay => {
                    let found = size_bytes - left;
                    return Err(LayerError::Changed {
                        path: display(name),
                        expected: size_bytes,
                        found,
                    });
                }
                // A live tree: the header is out, so the promised length is filled up.
                Ok(0) => {
                    while left > 0 {
                        let count = left.min(BLOCK_BYTES as u64);
                        self.sink.zeros(count as usize)?;
                        left -= count;
                    }
                }
                Ok(count) => left -= count as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let source = wharf_safefs::FsError::io("read", as_path(name), error);
                    return Err(LayerError::Files(source));
                }
            }
        }
        self.sink.zeros(padding(size_bytes))
    }

    /// Fills the entry with what all kinds have.
    fn start(&mut self, name: &[u8], kind: Kind, metadata: &Metadata) {
        let entry = &mut self.entry;
        entry.name.clear();
        entry.name.extend_from_slice(name);
        entry.link.clear();
        entry.xattrs.clear();
        entry.kind = kind;
        entry.mode = metadata.mode;
        entry.uid = metadata.uid.into();
        entry.gid = metadata.gid.into();
        entry.size_bytes = 0;
        entry.mtime = Timestamp::from_seconds(clamp(metadata.mtime).seconds);
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        (entry.major, entry.minor) = if is_device {
            (metadata.rdev_major(), metadata.rdev_minor())
        } else {
            (0, 0)
        };
    }

    /// Turns the entry into a hard link where its inode was written before under another name.
    fn is_later_name(&mut self, metadata: &Metadata, name: &[u8]) -> bool {
        if metadata.nlink < 2 || self.leaves_links {
            return false;
        }
        let inode = (metadata.dev, metadata.ino);
        let Some(first) = self.first_names.get(&inode) else {
            self.first_names.insert(inode, name.to_vec());
            return false;
        };
        self.entry.kind = Kind::HardLink;
        self.entry.link.extend_from_slice(first);
        (self.entry.major, self.entry.minor) = (0, 0);
        true
    }

    /// Writes the entry of a name whose inode was written before; says whether it was.
    pub(crate) fn later_name(
        &mut self,
        metadata: &Metadata,
        name: &[u8],
    ) -> Result<bool, LayerError> {
        self.start(name, Kind::File, metadata);
        let is_later = self.is_later_name(metadata, name);
        if is_later {
            self.put_header()?;
        }
        Ok(is_later)
    }

    fn take_xattrs(&mut self, fd: impl std::os::fd::AsFd) -> Result<(), LayerError> {
        for attribute in fd_xattrs(&fd)? {
            let name = attribute.as_bytes();
            if !is_layer_xattr(name) {
                continue;
            }
            if name.contains(&b'=') {
                return Err(LayerError::Unrepresentable {
                    path: display(&self.entry.name),
                    reason: "the name of one of its extended attributes contains \"=\"",
                });
            }
            if let Some(mut value) = fd_xattr(&fd, &attribute)? {
                if name == CAPABILITY_XATTR {
                    downgrade_capability(&mut value);
                }
                self.entry.xattrs.push((name.to_vec(), value));
            }
        }
        Ok(())
    }

    fn put_header(&mut self) -> Result<(), LayerError> {
        self.entries += 1;
        self.header.clear();
        header::encode(&self.entry, &mut self.header, &mut self.records);
        self.sink.write(&self.header)
    }
}

/// Refuses names that mean something else in a layer.
pub(crate) fn check_name(name: &[u8], path: &[u8]) -> Result<(), LayerError> {
    if !name.starts_with(WHITEOUT_PREFIX) {
        return Ok(());
    }
    Err(LayerError::Unrepresentable {
        path: display(path),
        reason: "names beginning with \".wh.\" mean deleted files; rename or remove it",
    })
}

/// Turns file capabilities of revision 3, which name the root user of a namespace, into revision 2,
/// which every namespace takes (capabilities(7), "File capability versioning").
fn downgrade_capability(value: &mut Vec<u8>) {
    const REVISION_2_BYTES: usize = 20;
    const REVISION_3_BYTES: usize = 24;
    const REVISION_BYTE: usize = 3;
    if value.len() == REVISION_3_BYTES && value.get(REVISION_BYTE) == Some(&3) {
        value.truncate(REVISION_2_BYTES);
        if let Some(revision) = value.get_mut(REVISION_BYTE) {
            *revision = 2;
        }
    }
}
