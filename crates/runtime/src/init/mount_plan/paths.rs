//! Paths of the host and of the container, as the kernel takes them.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Result, RuntimeError};

/// Turns a path into a C string, refusing NUL bytes and paths longer than the kernel takes.
pub fn path_string(what: &'static str, path: &Path) -> Result<CString> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= libc::PATH_MAX as usize {
        let reason = format!("a path of {} bytes", bytes.len());
        return Err(RuntimeError::invalid(what, reason));
    }
    CString::new(bytes).map_err(|_| RuntimeError::invalid(what, format!("{path:?} holds a NUL")))
}

/// Turns container paths into ones relative to the root.
pub(super) fn inside_paths(what: &'static str, paths: Option<&[String]>) -> Result<Vec<CString>> {
    paths
        .unwrap_or_default()
        .iter()
        .map(|path| inside_path(what, Path::new(path)))
        .collect()
}

/// Turns a container path into one relative to its root, without `.` and `..`.
pub(super) fn inside_path(what: &'static str, path: &Path) -> Result<CString> {
    if path.as_os_str().is_empty() {
        return Err(RuntimeError::invalid(what, "empty path"));
    }
    let cleaned = clean(path);
    if cleaned.as_os_str().is_empty() {
        return Ok(CString::from(c"."));
    }
    path_string(what, &cleaned)
}

/// Resolves `.` and `..` by text, as the OCI form's absolute destinations are meant.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}
