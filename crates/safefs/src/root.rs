//! A directory that paths are resolved beneath: opening, reading, looking.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

pub use rustix::fs::OFlags as OpenFlags;

use crate::path::{self, Parent};
use crate::{FileType, FsError, Metadata, Result};

/// Most entries one directory listing returns.
pub const MAX_DIRECTORY_ENTRIES: usize = 16 << 20;

/// How often a resolution is repeated that a concurrent rename disturbed (`openat2(2)`, EAGAIN).
const MAX_RESOLVE_RETRIES: usize = 128;

const LIST_BUFFER_BYTES: usize = 32 << 10;

/// A directory opened `O_PATH`; every path given to it is resolved beneath it as if chrooted.
///
/// Works on any directory descriptor, also `/proc/<pid>/root` and detached mounts. Paths may be
/// absolute (taken from the root), hold `..` (clamped at the root) and need not be UTF-8.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryEntry {
    /// The name, one component.
    pub name: OsString,
    /// The kind of file, not following symlinks.
    pub file_type: FileType,
    /// The inode number as the directory tells it.
    pub ino: u64,
}

impl Root {
    /// Opens a directory that wharf itself chose; symlinks in `path` are followed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        path::check(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| FsError::io("open directory", path, errno))?;
        Ok(Self { fd })
    }

    /// Takes an open directory as a root.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Gives up the root for its descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Returns a second descriptor of the same directory.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self
            .fd
            .try_clone()
            .map_err(|error| FsError::io("duplicate descriptor of", "/", error))?;
        Ok(Self { fd })
    }

    /// Opens a regular file, following a symlink in the last place within the root.
    ///
    /// # Errors
    /// [`FsError::WrongType`] for anything but a regular file, so that no pipe blocks and no device acts.
    pub fn open_file(&self, path: impl AsRef<Path>, flags: OpenFlags) -> Result<File> {
        let path = path.as_ref();
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.resolve_open("open", path, flags, Mode::empty())?);
        require_regular(&file, path)?;
        Ok(file)
    }

    /// Opens a regular file like [`Root::open_file`], refusing a symlink in the last place.
    pub fn open_file_nofollow(&self, path: impl AsRef<Path>, flags: OpenFlags) -> Result<File> {
        let path = path.as_ref();
        let file = File::from(self.open_last("open", path, flags, Mode::empty())?);
        require_regular(&file, path)?;
        Ok(file)
    }

    /// Opens a regular file like [`Root::open_file_nofollow`] and returns its attributes, too.
    pub fn open_regular_nofollow(
        &self,
        path: impl AsRef<Path>,
        flags: OpenFlags,
    ) -> Result<(File, Metadata)> {
        let path = path.as_ref();
        let file = File::from(self.open_last("open", path, flags, Mode::empty())?);
        let metadata = require_regular(&file, path)?;
        Ok((file, metadata))
    }

    /// Creates or truncates a regular file with exactly `mode` (the umask does not count) for reading and writing.
    /// A symlink in the last place is an error.
    pub fn create_file(&self, path: impl AsRef<Path>, mode: u32) -> Result<File> {
        let path = path.as_ref();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW;
        let file = File::from(self.open_last("create", path, flags, Mode::from_raw_mode(mode))?);
        require_regular(&file, path)?;
        rustix::fs::ftruncate(&file, 0).map_err(|errno| FsError::io("truncate", path, errno))?;
        set_file_mode(&file, path, mode)?;
        Ok(file)
    }

    /// Creates a regular file that must not exist, with exactly `mode`, for reading and writing.
    pub fn create_new(&self, path: impl AsRef<Path>, mode: u32) -> Result<File> {
        let path = path.as_ref();
        let file = self.create_new_raw(path, mode)?;
        set_file_mode(&file, path, mode)?;
        Ok(file)
    }

    /// Creates a regular file that must not exist; its mode is `mode` less the umask, for callers
    /// that set the mode later anyway.
    pub fn create_new_raw(&self, path: impl AsRef<Path>, mode: u32) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let fd = self.open_last("create", path.as_ref(), flags, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }

    /// Opens a directory as a root of its own, following symlinks within this root.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = self.resolve_open("open directory", path.as_ref(), flags, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Opens a directory as a root of its own; a symlink in the last place is an error.
    pub fn open_dir_nofollow(&self, path: impl AsRef<Path>) -> Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = self.open_last("open directory", path.as_ref(), flags, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Opens anything `O_PATH`, following symlinks within the root (for mounts and descriptors handed on).
    pub fn open_path(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        self.resolve_open("open", path.as_ref(), OFlags::PATH, Mode::empty())
    }

    /// Opens anything `O_PATH`; a symlink in the last place is opened itself.
    pub fn open_path_nofollow(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        self.open_last("open", path.as_ref(), OFlags::PATH, Mode::empty())
    }

    /// Returns the attributes of a file, following symlinks within the root.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        let path = path.as_ref();
        let fd = self.open_path(path)?;
        metadata_of(&fd, path)
    }

    /// Returns the attributes of a file, of a symlink itself where it is one.
    pub fn lstat(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::statat(parent.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
            .map(Metadata::from)
            .map_err(|errno| FsError::io("stat", path, errno))
    }

    /// Returns the attributes of a symlink or file, or nothing where the name (or a directory above it) does not exist.
    pub fn lstat_optional(&self, path: impl AsRef<Path>) -> Result<Option<Metadata>> {
        match self.lstat(path) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says whether a path leads to something, following symlinks; errors other than absence are passed on.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        match self.open_path(path) {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the attributes of the root directory itself.
    pub fn metadata(&self) -> Result<Metadata> {
        metadata_of(&self.fd, Path::new("/"))
    }

    /// Reads a whole regular file of at most `limit_bytes`.
    ///
    /// # Errors
    /// [`FsError::TooLarge`] for a longer file, whatever size the file system claims for it.
    pub fn read(&self, path: impl AsRef<Path>, limit_bytes: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let file = self.open_file(path, OFlags::RDONLY)?;
        read_limited(file, path, limit_bytes)
    }

    /// Reads a whole UTF-8 file of at most `limit_bytes`.
    pub fn read_to_string(&self, path: impl AsRef<Path>, limit_bytes: u64) -> Result<String> {
        let path = path.as_ref();
        let bytes = self.read(path, limit_bytes)?;
        String::from_utf8(bytes).map_err(|error| {
            FsError::io(
                "read",
                path,
                std::io::Error::new(std::io::ErrorKind::InvalidData, error),
            )
        })
    }

    /// Returns a symlink's target, verbatim.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::readlinkat(parent.as_fd(), name, Vec::new())
            .map(|target| PathBuf::from(OsString::from_vec(target.into_bytes())))
            .map_err(|errno| FsError::io("read link", path, errno))
    }

    /// Lists a directory, sorted by name byte-wise, without `.` and `..`; follows symlinks within the root.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<Vec<DirectoryEntry>> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = self.resolve_open("list", path, flags, Mode::empty())?;
        list(&fd, path)
    }

    /// Lists this directory itself like [`Root::read_dir`].
    pub fn entries(&self) -> Result<Vec<DirectoryEntry>> {
        self.read_dir("")
    }

    /// Opens a directory and lists it in one go; a symlink in the last place is an error.
    pub fn open_and_list(&self, path: impl AsRef<Path>) -> Result<(Root, Vec<DirectoryEntry>)> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = self.open_last("list", path, flags, Mode::empty())?;
        let entries = list(&fd, path)?;
        Ok((Self { fd }, entries))
    }

    /// Opens the directory part of a path within the root and returns it with the last name.
    pub(crate) fn parent<'a, 'p>(&'a self, path: &'p Path) -> Result<(Parent<'a>, &'p OsStr)> {
        path::check(path)?;
        let (parent, name) = path::split(path);
        if path::is_root(parent) {
            return Ok((Parent::Root(self.fd.as_fd()), name));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = self.resolve_open("open directory", parent, flags, Mode::empty())?;
        Ok((Parent::Opened(fd), name))
    }

    pub(crate) fn open_last(
        &self,
        operation: &'static str,
        path: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd> {
        let (parent, name) = self.parent(path)?;
        // One name, no link followed: plain openat cannot leave the directory.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
        let flags = if flags.contains(OFlags::PATH) {
            flags
        } else {
            flags | OFlags::NONBLOCK
        };
        rustix::fs::openat(parent.as_fd(), name, flags, mode)
            .map_err(|errno| FsError::io(operation, path, errno))
    }

    fn resolve_open(
        &self,
        operation: &'static str,
        path: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd> {
        path::check(path)?;
        let at = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..MAX_RESOLVE_RETRIES {
            match rustix::fs::openat2(&self.fd, at, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result.map_err(|errno| FsError::io(operation, path, errno)),
            }
        }
        Err(FsError::io(operation, path, Errno::AGAIN))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads a whole stream of at most `limit_bytes`; `path` is for the error.
pub(crate) fn read_limited(file: File, path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    let size = metadata_of(&file, path)?.size_bytes.min(limit_bytes);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
    file.take(limit_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| FsError::io("read", path, error))?;
    if bytes.len() as u64 > limit_bytes {
        return Err(FsError::TooLarge {
            path: path.to_path_buf(),
            limit: limit_bytes,
            unit: "bytes",
        });
    }
    Ok(bytes)
}

/// Returns the attributes of an open file; `path` is for the error.
pub(crate) fn metadata_of(fd: impl AsFd, path: &Path) -> Result<Metadata> {
    rustix::fs::fstat(fd)
        .map(Metadata::from)
        .map_err(|errno| FsError::io("stat", path, errno))
}

fn require_regular(file: &File, path: &Path) -> Result<Metadata> {
    let metadata = metadata_of(file, path)?;
    if metadata.is_file() {
        return Ok(metadata);
    }
    Err(FsError::WrongType {
        path: path.to_path_buf(),
        expected: "regular file",
    })
}

fn set_file_mode(file: &File, path: &Path, mode: u32) -> Result<()> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))
        .map_err(|errno| FsError::io("change mode of", path, errno))
}

fn is_absent(error: &FsError) -> bool {
    error.is_not_found() || error.raw_os_error() == Some(Errno::NOTDIR.raw_os_error())
}

fn list(fd: &OwnedFd, path: &Path) -> Result<Vec<DirectoryEntry>> {
    let mut entries = Vec::new();
    let mut buffer = [MaybeUninit::<u8>::uninit(); LIST_BUFFER_BYTES];
    let mut reader = RawDir::new(fd, &mut buffer);
    while let Some(entry) = reader.next() {
        let entry = entry.map_err(|errno| FsError::io("list", path, errno))?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if entries.len() >= MAX_DIRECTORY_ENTRIES {
            let limit = MAX_DIRECTORY_ENTRIES as u64;
            return Err(FsError::TooLarge {
                path: path.to_path_buf(),
                limit,
                unit: "entries",
            });
        }
        let name = OsStr::from_bytes(name).to_os_string();
        let file_type = FileType::from(entry.file_type());
        entries.push(DirectoryEntry {
            name,
            file_type,
            ino: entry.ino(),
        });
    }
    for entry in entries
        .iter_mut()
        .filter(|entry| entry.file_type == FileType::Unknown)
    {
        // Some file systems do not tell the type in a listing.
        if let Ok(stat) = rustix::fs::statat(fd, entry.name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)
        {
            entry.file_type = Metadata::from(stat).file_type;
        }
    }
    entries.sort_unstable_by(|left, right| left.name.as_bytes().cmp(right.name.as_bytes()));
    Ok(entries)
}
