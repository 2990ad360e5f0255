//! Files whose paths wharf itself chose: data root, state directory, configuration.
//!
//! Symlinks are followed as the host resolves them. Nothing here may be given a path that came
//! from an image, an archive or a client; those go through [`Root`].

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::root::{metadata_of, read_limited as read_open_limited};
use crate::{DirectoryEntry, DiskUsage, FsError, Metadata, Result, Root};

const TEMPORARY_NAME_BYTES: usize = 8;

/// Reads a whole file, however large.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    read_limited_to(path.as_ref(), u64::MAX - 1)
}

/// Reads a whole file of at most `limit_bytes`; a longer one is [`FsError::TooLarge`].
pub fn read_limited(path: impl AsRef<Path>, limit_bytes: u64) -> Result<Vec<u8>> {
    read_limited_to(path.as_ref(), limit_bytes)
}

/// Reads a whole UTF-8 file of at most `limit_bytes`.
pub fn read_to_string(path: impl AsRef<Path>, limit_bytes: u64) -> Result<String> {
    let path = path.as_ref();
    String::from_utf8(read_limited_to(path, limit_bytes)?).map_err(|error| {
        FsError::io(
            "read",
            path,
            std::io::Error::new(std::io::ErrorKind::InvalidData, error),
        )
    })
}

fn read_limited_to(path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    read_open_limited(open(path)?, path, limit_bytes)
}

/// Opens a file for reading.
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    File::open(path).map_err(|error| FsError::io("open", path, error))
}

/// Opens a file with options of the caller's.
pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<File> {
    let path = path.as_ref();
    options
        .open(path)
        .map_err(|error| FsError::io("open", path, error))
}

/// Creates or truncates a file with exactly `mode`, for reading and writing.
pub fn create(path: impl AsRef<Path>, mode: u32) -> Result<File> {
    let path = path.as_ref();
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode);
    let file = open_with(path, &options)?;
    chmod_file(&file, path, mode)?;
    Ok(file)
}

/// Creates a file that must not exist, with exactly `mode`, for reading and writing.
pub fn create_new(path: impl AsRef<Path>, mode: u32) -> Result<File> {
    let path = path.as_ref();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(mode);
    let file = open_with(path, &options)?;
    chmod_file(&file, path, mode)?;
    Ok(file)
}

/// Replaces a file in one step: written beside it under another name, then renamed over it.
///
/// With `sync` the content is on disk before the name points at it, and the directory after.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8], mode: u32, sync: bool) -> Result<()> {
    let path = path.as_ref();
    let temporary = temporary_beside(path)?;
    let result = write_and_rename(&temporary, path, bytes, mode, sync);
    if result.is_err() {
        // The first error is the one that tells; a leftover is swept at the next start.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_and_rename(
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
    mode: u32,
    sync: bool,
) -> Result<()> {
    let mut file = create_new(temporary, mode)?;
    file.write_all(bytes)
        .map_err(|error| FsError::io("write", temporary, error))?;
    if sync {
        file.sync_all()
            .map_err(|error| FsError::io("sync", temporary, error))?;
    }
    rename(temporary, path)?;
    if sync {
        sync_directory(path.parent().unwrap_or(Path::new("/")))?;
    }
    Ok(())
}

fn temporary_beside(path: &Path) -> Result<PathBuf> {
    let mut random = [0_u8; TEMPORARY_NAME_BYTES];
    getrandom::fill(&mut random).map_err(|error| {
        FsError::io(
            "name a temporary file beside",
            path,
            std::io::Error::other(error),
        )
    })?;
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or(OsStr::new("file")));
    name.push(format!(".{:016x}.tmp", u64::from_ne_bytes(random)));
    Ok(path.with_file_name(name))
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    open(path)?
        .sync_all()
        .map_err(|error| FsError::io("sync", path, error))
}

/// Makes all that was written to the file system of `fd` durable (`syncfs(2)`).
/// An `O_PATH` descriptor will not do.
pub fn syncfs(fd: impl AsFd) -> Result<()> {
    rustix::fs::syncfs(fd)
        .map_err(|errno| FsError::io("sync the file system of", "descriptor", errno))
}

/// Makes all that was written to the file system holding `path` durable.
pub fn syncfs_path(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    rustix::fs::syncfs(open(path)?)
        .map_err(|errno| FsError::io("sync the file system of", path, errno))
}

/// Creates a directory and all that are missing above it, each with exactly `mode`.
pub fn create_dir_all(path: impl AsRef<Path>, mode: u32) -> Result<()> {
    let path = path.as_ref();
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir_all(parent, mode)?;
    }
    match create_dir(path, mode) {
        Err(error) if error.is_already_exists() && path.is_dir() => Ok(()),
        result => result,
    }
}

/// Creates one directory with exactly `mode`.
pub fn create_dir(path: impl AsRef<Path>, mode: u32) -> Result<()> {
    let path = path.as_ref();
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(|error| FsError::io("create directory", path, error))
}

/// Changes the mode of a file or directory.
pub fn chmod(path: impl AsRef<Path>, mode: u32) -> Result<()> {
    let path = path.as_ref();
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| FsError::io("change mode of", path, error))
}

/// Changes owner and group; nothing where `None`.
pub fn chown(path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let path = path.as_ref();
    std::os::unix::fs::chown(path, uid, gid)
        .map_err(|error| FsError::io("change owner of", path, error))
}

/// Removes a name with all below it, however deep or hostile its content. Absence is no error.
pub fn remove_all(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let Some(name) = path.file_name() else {
        return Err(FsError::InvalidPath {
            path: path.to_path_buf(),
            reason: "it names no entry of a directory",
        });
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match Root::open(parent) {
        Ok(root) => root.remove_all(name),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a name that is not a directory.
pub fn remove_file(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    fs::remove_file(path).map_err(|error| FsError::io("remove", path, error))
}

/// Removes an empty directory.
pub fn remove_dir(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    fs::remove_dir(path).map_err(|error| FsError::io("remove directory", path, error))
}

/// Renames, replacing what is at `to` as `rename(2)` does.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let from = from.as_ref();
    fs::rename(from, to).map_err(|error| FsError::io("rename", from, error))
}

/// Gives the file at `existing` a second name.
pub fn hard_link(existing: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    fs::hard_link(existing, path).map_err(|error| FsError::io("create hard link", path, error))
}

/// Creates a symlink at `path` that holds `target`.
pub fn symlink(target: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    std::os::unix::fs::symlink(target, path)
        .map_err(|error| FsError::io("create symlink", path, error))
}

/// Returns a symlink's target.
pub fn read_link(path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = path.as_ref();
    fs::read_link(path).map_err(|error| FsError::io("read link", path, error))
}

/// Returns the path with symlinks and `..` resolved as the host sees it.
pub fn canonicalize(path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = path.as_ref();
    fs::canonicalize(path).map_err(|error| FsError::io("resolve", path, error))
}

/// Says whether a path leads to something; errors other than absence are passed on.
pub fn exists(path: impl AsRef<Path>) -> Result<bool> {
    let path = path.as_ref();
    fs::exists(path).map_err(|error| FsError::io("look for", path, error))
}

/// Returns the attributes of a file, following symlinks.
pub fn metadata(path: impl AsRef<Path>) -> Result<Metadata> {
    let path = path.as_ref();
    rustix::fs::stat(path)
        .map(Metadata::from)
        .map_err(|errno| FsError::io("stat", path, errno))
}

/// Returns the attributes of a file, of a symlink itself where it is one.
pub fn symlink_metadata(path: impl AsRef<Path>) -> Result<Metadata> {
    let path = path.as_ref();
    rustix::fs::lstat(path)
        .map(Metadata::from)
        .map_err(|errno| FsError::io("stat", path, errno))
}

/// Returns the attributes of an open file; `path` is for the error.
pub fn file_metadata(fd: impl AsFd, path: impl AsRef<Path>) -> Result<Metadata> {
    metadata_of(fd, path.as_ref())
}

/// Lists a directory, sorted by name byte-wise.
pub fn read_dir_sorted(path: impl AsRef<Path>) -> Result<Vec<DirectoryEntry>> {
    Root::open(path)?.entries()
}

/// Returns what a tree takes on disk, the top included; a file with several names counts once and symlinks
/// are not followed.
pub fn disk_usage(path: impl AsRef<Path>) -> Result<DiskUsage> {
    let path = path.as_ref();
    let mut usage = DiskUsage::default();
    let mut seen = HashSet::new();
    let top = symlink_metadata(path)?;
    count(&mut usage, &mut seen, &top);
    if top.is_dir() {
        root_usage(&Root::open(path)?, &mut usage, &mut seen)?;
    }
    Ok(usage)
}

/// A file, not a directory, that has several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedFile {
    /// Names that were found.
    pub names: u64,
    /// All names that it has.
    pub nlink: u64,
    /// Space taken on disk, in bytes.
    pub disk_bytes: u64,
}

/// Returns the files of a tree that have several names, there or elsewhere, by device and inode.
pub fn files_with_names(path: impl AsRef<Path>) -> Result<HashMap<(u64, u64), NamedFile>> {
    let mut found: HashMap<(u64, u64), NamedFile> = HashMap::new();
    visit(&Root::open(path)?, &mut |metadata| {
        if metadata.nlink < 2 || metadata.is_dir() {
            return;
        }
        let file = found
            .entry((metadata.dev, metadata.ino))
            .or_insert(NamedFile {
                names: 0,
                nlink: metadata.nlink,
                disk_bytes: metadata.blocks * 512,
            });
        file.names += 1;
    })?;
    Ok(found)
}

fn root_usage(root: &Root, usage: &mut DiskUsage, seen: &mut HashSet<(u64, u64)>) -> Result<()> {
    visit(root, &mut |metadata| count(usage, seen, metadata))
}

/// Shows the attributes of all that is beneath a directory.
fn visit(root: &Root, see: &mut dyn FnMut(&Metadata)) -> Result<()> {
    let mut stack = vec![PathBuf::new()];
    while let Some(path) = stack.pop() {
        let (directory, entries) = match root.open_and_list(&path) {
            // Containers write while we count; what is gone takes no space.
            Err(error) if error.is_not_found() => continue,
            result => result?,
        };
        for entry in entries {
            let metadata = match directory.lstat(&entry.name) {
                Err(error) if error.is_not_found() => continue,
                result => result?,
            };
            see(&metadata);
            if metadata.is_dir() {
                stack.push(path.join(&entry.name));
            }
        }
    }
    Ok(())
}

fn count(usage: &mut DiskUsage, seen: &mut HashSet<(u64, u64)>, metadata: &Metadata) {
    if metadata.nlink > 1 && !metadata.is_dir() && !seen.insert((metadata.dev, metadata.ino)) {
        return;
    }
    usage.inodes += 1;
    usage.disk_bytes += metadata.blocks * 512;
    if metadata.is_file() || metadata.is_symlink() {
        usage.apparent_bytes += metadata.size_bytes;
    }
}

fn chmod_file(file: &File, path: &Path, mode: u32) -> Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(|error| FsError::io("change mode of", path, error))
}
