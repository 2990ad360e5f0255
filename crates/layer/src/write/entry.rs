//! Entries of all kinds: header and content.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;

use wharf_safefs::{DirectoryEntry, FileType, Metadata, OpenFlags, Root, Timestamp};

use crate::error::{LayerError, display};
use crate::place::clamp;
use crate::tar::{BLOCK_BYTES, Entry, Kind, header, padding};
use crate::tree::{as_path, join, split};
use crate::whiteout::{OPAQUE_NAME, WHITEOUT_PREFIX};

use super::Writer;

impl Writer<'_> {
    /// Writes a directory's entry and, where it hides what is below, its marker.
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

    /// Writes the entry that says that a directory hides all that is below.
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

    /// Writes a regular file with these attributes and this content.
    pub(crate) fn content(
        &mut self,
        metadata: &Metadata,
        xattrs: &[(OsString, Vec<u8>)],
        name: &[u8],
        content: &[u8],
    ) -> Result<(), LayerError> {
        let size_bytes = content.len() as u64;
        self.start(name, Kind::File, metadata);
        self.entry.size_bytes = size_bytes;
        self.size_bytes += size_bytes;
        for (attribute, value) in xattrs {
            self.take_xattr(attribute.as_bytes(), value.clone())?;
        }
        self.put_header()?;
        self.sink.write(content)?;
        self.sink.zeros(padding(size_bytes))
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
