//! Making one object of an archive in an open directory, with its attributes in the order that keeps them:
//! create, owner, extended attributes, mode, times (spec image-store §5.4).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};
use wharf_safefs::{FileType, FsError, Metadata, Root, Timestamp};

use crate::error::LayerError;
use crate::tar::reader::TarReader;
use crate::tar::{Entry, Kind};

/// The last second that is kept: Go's archive code takes later ones, and those before 1970, as 0.
pub(crate) const MAX_MTIME_SECONDS: i64 = 9_223_372_036;

/// Attribute names that mean something to overlayfs and never come from or go into an archive.
const OVERLAY_XATTR_PREFIXES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

const NO_ID: u64 = u32::MAX as u64;

/// How attributes are set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placing {
    /// Instead of the owner the archive names.
    pub(crate) owner: Option<(u32, u32)>,
    /// Take attributes that cannot be set as if they were not there.
    pub(crate) best_effort_xattrs: bool,
    /// The owner a new file has anyway, when that is certain.
    pub(crate) natural_owner: Option<(u32, u32)>,
    /// The mode bits that a creating call drops.
    pub(crate) umask: u32,
}

/// What an entry says about attributes, checked and brought into range.
#[derive(Debug, Clone)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Placing {
    /// Returns the attributes an entry's object gets.
    pub(crate) fn attributes(&self, entry: &Entry) -> Result<Attributes, LayerError> {
        let (uid, gid) = match self.owner {
            Some(owner) => owner,
            None => (
                id(entry, entry.uid, "user")?,
                id(entry, entry.gid, "group")?,
            ),
        };
        let xattrs = entry
            .xattrs
            .iter()
            .filter(|(name, _)| !is_overlay_xattr(name))
            .cloned()
            .collect();
        Ok(Attributes {
            mode: entry.mode,
            uid,
            gid,
            mtime: clamp(entry.mtime),
            xattrs,
        })
    }

    /// Sets all attributes of an object that is no open file.
    pub(crate) fn set(
        &self,
        directory: &Root,
        name: &Path,
        attributes: &Attributes,
        is_symlink: bool,
    ) -> Result<(), FsError> {
        directory.chown(name, attributes.uid, attributes.gid)?;
        for (attribute, value) in &attributes.xattrs {
            let result = directory.set_xattr(name, OsStr::from_bytes(attribute), value);
            self.forgive_xattr(result)?;
        }
        if !is_symlink {
            directory.chmod(name, attributes.mode)?;
        }
        directory.set_times(name, attributes.mtime, attributes.mtime)
    }

    /// Sets all attributes of a file that was created with `created_mode`.
    pub(crate) fn set_on_file(
        &self,
        file: &File,
        name: &Path,
        attributes: &Attributes,
        created_mode: u32,
    ) -> Result<(), FsError> {
        let owner = (attributes.uid, attributes.gid);
        let mut mode_is_set = created_mode & self.umask == 0 && attributes.mode == created_mode;
        if self.natural_owner != Some(owner) {
            let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
            rustix::fs::fchown(file, Some(uid), Some(gid))
                .map_err(|errno| FsError::io("change owner of", name, errno))?;
            // Giving a file away clears its setuid and setgid bits (chown(2)).
            mode_is_set &= attributes.mode & 0o6000 == 0;
        }
        for (attribute, value) in &attributes.xattrs {
            self.forgive_xattr(wharf_safefs::set_fd_xattr(
                file,
                OsStr::from_bytes(attribute),
                value,
            ))?;
        }
        if !mode_is_set {
            rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode))
                .map_err(|errno| FsError::io("change mode of", name, errno))?;
        }
        let time = Timespec {
            tv_sec: attributes.mtime.seconds,
            tv_nsec: attributes.mtime.nanoseconds.into(),
        };
        rustix::fs::futimens(
            file,
            &Timestamps {
                last_access: time,
                last_modification: time,
            },
        )
        .map_err(|errno| FsError::io("set times of", name, errno))
    }

    fn forgive_xattr(&self, result: Result<(), FsError>) -> Result<(), FsError> {
        match result {
            Err(error) if self.best_effort_xattrs && is_xattr_refusal(&error) => Ok(()),
            result => result,
        }
    }
}

/// Makes a symlink or node; files, directories and hard links are made by the caller.
pub(crate) fn make_node(directory: &Root, name: &Path, entry: &Entry) -> Result<(), FsError> {
    let device = (entry.major, entry.minor);
    match entry.kind {
        Kind::Symlink => directory.symlink(Path::new(OsStr::from_bytes(&entry.link)), name),
        Kind::CharDevice => directory.mknod(name, FileType::CharDevice, entry.mode, device),
        Kind::BlockDevice => directory.mknod(name, FileType::BlockDevice, entry.mode, device),
        Kind::Fifo => directory.fifo(name, entry.mode),
        Kind::File | Kind::Directory | Kind::HardLink => Err(FsError::InvalidPath {
            path: name.to_path_buf(),
            reason: "it is no symlink, device or pipe",
        }),
    }
}

/// Writes the present entry's content into a new file; holes of a sparse file stay holes.
/// `take` sees every piece with its offset in the file.
pub(crate) fn write_content(
    reader: &mut TarReader<'_, '_>,
    entry: &Entry,
    file: &mut File,
    name: &Path,
    mut take: impl FnMut(&[u8]),
) -> Result<(), LayerError> {
    let failed = |error| LayerError::entry(&entry.name, FsError::io("write", name, error));
    let Some(regions) = &entry.sparse else {
        return copy_content(reader, file, u64::MAX, &mut take, failed);
    };
    for region in regions {
        file.seek(SeekFrom::Start(region.offset)).map_err(failed)?;
        copy_content(reader, file, region.length, &mut take, failed)?;
    }
    file.set_len(entry.size_bytes).map_err(failed)
}

fn copy_content(
    reader: &mut TarReader<'_, '_>,
    file: &mut File,
    length: u64,
    take: &mut impl FnMut(&[u8]),
    failed: impl Fn(std::io::Error) -> LayerError,
) -> Result<(), LayerError> {
    let mut left = length.min(reader.remaining());
    while left > 0 {
        let piece = reader.content(left)?;
        let count = piece.len();
        file.write_all(piece).map_err(&failed)?;
        take(piece);
        reader.consume(count);
        left -= count as u64;
    }
    Ok(())
}

/// Returns an attribute's time within what is kept; outside it is the epoch (spec image-store §5.4).
pub(crate) fn clamp(time: Timestamp) -> Timestamp {
    if (0..=MAX_MTIME_SECONDS).contains(&time.seconds) {
        time
    } else {
        Timestamp::default()
    }
}

/// Says whether an attribute belongs to overlayfs itself.
pub(crate) fn is_overlay_xattr(name: &[u8]) -> bool {
    OVERLAY_XATTR_PREFIXES
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Returns the process's umask, from the kernel's status page, since asking any other way changes it.
/// All bits where it cannot be read, so that modes are then always set.
pub(crate) fn umask() -> u32 {
    let status = Root::open("/proc/self").and_then(|root| root.read_to_string("status", 64 << 10));
    let status = status.unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    value
        .and_then(|value| u32::from_str_radix(value.trim(), 8).ok())
        .unwrap_or(0o7777)
}

/// Says whether an existing file has the attributes an entry states.
pub(crate) fn matches(found: &Metadata, attributes: &Attributes) -> bool {
    found.mode == attributes.mode
        && (found.uid, found.gid) == (attributes.uid, attributes.gid)
        && found.mtime == attributes.mtime
        && attributes.xattrs.is_empty()
}

fn id(entry: &Entry, value: u64, what: &str) -> Result<u32, LayerError> {
    u32::try_from(value)
        .ok()
        .filter(|_| value != NO_ID)
        .ok_or_else(|| {
            LayerError::invalid(
                &entry.name,
                format!("{what} id {value} does not exist on linux"),
            )
        })
}

fn is_xattr_refusal(error: &FsError) -> bool {
    use rustix::io::Errno;
    [Errno::OPNOTSUPP, Errno::PERM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
