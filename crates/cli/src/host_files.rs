//! The caller's own files: every place where the client opens a path.
//!
//! The client runs with the caller's rights and opens the paths the caller named, so nothing here crosses a
//! boundary of trust; the limits guard against a mistaken path such as `/dev/zero`.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use wharf_safefs::{FsError, trusted};

use crate::error::{CliError, Result};

/// Mode of the log of a daemon that the client starts.
const LOG_MODE: u32 = 0o640;
/// Mode of files that hold credentials.
const PRIVATE_MODE: u32 = 0o600;

fn failed(action: &str, path: &Path) -> impl FnOnce(FsError) -> CliError {
    let action = format!("cannot {action} {}", path.display());
    move |error| CliError::io(action, error.into())
}

/// Returns a file's content, failing when it is larger than `limit_bytes`.
pub(crate) fn read(path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    let action = || format!("cannot read {}", path.display());
    let file = open_as(path, "read")?;
    let mut content = Vec::new();
    file.take(limit_bytes + 1)
        .read_to_end(&mut content)
        .map_err(|error| CliError::io(action(), error))?;
    if content.len() as u64 > limit_bytes {
        return Err(CliError::usage(format!(
            "{} is larger than {limit_bytes} bytes",
            path.display()
        )));
    }
    Ok(content)
}

/// Returns a file's content, or nothing when there is no such file.
pub(crate) fn read_if_present(path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>> {
    match link_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => read(path, limit_bytes).map(Some),
    }
}

/// Tells whether this user may read a file.
#[expect(
    clippy::disallowed_methods,
    reason = "a question about the caller's own rights"
)]
pub(crate) fn is_readable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok()
}

/// Tells whether this user may execute a file.
#[expect(
    clippy::disallowed_methods,
    reason = "a question about the caller's own rights"
)]
pub(crate) fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> Result<File> {
    open_as(path, "open")
}

fn open_as(path: &Path, action: &str) -> Result<File> {
    trusted::open(path).map_err(failed(action, path))
}

/// Creates or truncates a file for writing.
pub(crate) fn create(path: &Path) -> Result<File> {
    create_for(path, path)
}

/// Creates or truncates a file that takes another's place when it is written; a failure names the other.
pub(crate) fn create_for(path: &Path, place: &Path) -> Result<File> {
    trusted::open_with(
        path,
        OpenOptions::new().write(true).create(true).truncate(true),
    )
    .map_err(failed("write", place))
}

/// Creates a file that must not exist yet.
pub(crate) fn create_new(path: &Path) -> Result<File> {
    trusted::open_with(path, OpenOptions::new().write(true).create_new(true))
        .map_err(failed("create", path))
}

/// Opens a log file for appending, readable by its owner and group only.
pub(crate) fn append(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(LOG_MODE);
    Ok(trusted::open_with(path, &options)?)
}

/// Replaces a file's content in one step, readable by its owner only.
pub(crate) fn replace_private(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(directory) = path.parent() {
        create_directories(directory)?;
    }
    trusted::write_atomic(path, content, PRIVATE_MODE, true).map_err(failed("write", path))
}

/// Writes a file's content, for the small results such as `--iidfile`.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    create(path)?
        .write_all(content)
        .map_err(|error| CliError::io(format!("cannot write {}", path.display()), error))
}

/// Removes a file if it is there.
pub(crate) fn remove(path: &Path) {
    let _ = trusted::remove_file(path);
}

/// Gives a file another name, replacing what has it.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    trusted::rename(from, to).map_err(failed("write", to))
}

/// Makes a directory and its parents, with the caller's usual mode.
#[expect(
    clippy::disallowed_methods,
    reason = "the caller's umask decides the mode"
)]
pub(crate) fn create_directories(path: &Path) -> Result<()> {
    fs::create_dir_all(path)
        .map_err(|error| CliError::io(format!("cannot create {}", path.display()), error))
}

/// Returns the names in a directory, sorted; none when there is no such directory.
pub(crate) fn names_in(path: &Path) -> Result<Vec<String>> {
    match trusted::read_dir_sorted(path) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        entries => {
            let names = entries.map_err(failed("read", path))?.into_iter();
            Ok(names
                .map(|entry| entry.name.to_string_lossy().into_owned())
                .collect())
        }
    }
}

/// Removes a directory with all that is in it, if it is there.
pub(crate) fn remove_directory(path: &Path) -> Result<()> {
    trusted::remove_all(path).map_err(failed("remove", path))
}

/// Returns a path's metadata without following a last symbolic link.
#[expect(
    clippy::disallowed_methods,
    reason = "the caller's own path, named by the caller"
)]
pub(crate) fn link_metadata(path: &Path) -> std::io::Result<fs::Metadata> {
    fs::symlink_metadata(path)
}

/// Returns a path's metadata, following symbolic links.
#[expect(
    clippy::disallowed_methods,
    reason = "the caller's own path, named by the caller"
)]
pub(crate) fn metadata(path: &Path) -> std::io::Result<fs::Metadata> {
    fs::metadata(path)
}

/// Returns what a symbolic link points at.
pub(crate) fn read_link(path: &Path) -> std::io::Result<PathBuf> {
    Ok(trusted::read_link(path)?)
}

/// Returns a path with all symbolic links resolved.
pub(crate) fn canonical(path: &Path) -> Result<PathBuf> {
    trusted::canonicalize(path).map_err(failed("find", path))
}

/// Returns a directory's entries, sorted by name.
#[expect(
    clippy::disallowed_methods,
    reason = "the caller's own path, named by the caller"
)]
pub(crate) fn entries(path: &Path) -> Result<Vec<fs::DirEntry>> {
    let fail = |error| CliError::io(format!("cannot read {}", path.display()), error);
    let mut entries = fs::read_dir(path)
        .map_err(fail)?
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(fail)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

/// Returns the caller's working directory.
pub(crate) fn working_directory() -> Result<PathBuf> {
    std::env::current_dir()
        .map_err(|error| CliError::io("cannot find the working directory", error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn reading_stops_at_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(read(&path, 4).is_err());
        assert!(
            read_if_present(&directory.path().join("none"), 1)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn replacing_keeps_the_file_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d/config.json");
        replace_private(&path, b"{}").unwrap();
        assert_eq!(metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
