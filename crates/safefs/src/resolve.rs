//! The canonical path of something beneath a root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use crate::{FsError, Result, Root};

/// Most symlinks followed in one resolution (as docker's own scoped resolution allows).
pub const MAX_SYMLINKS: usize = 255;

impl Root {
    /// Returns the path without symlinks and `..` that `path` means beneath this root, relative to it.
    ///
    /// Components that do not exist are kept as they are. The answer can be out of date when
    /// someone renames meanwhile, so it is for showing and comparing; opening it goes through the
    /// root again and stays beneath it.
    ///
    /// # Errors
    /// More than [`MAX_SYMLINKS`] symlinks.
    pub fn resolve(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        crate::path::check(path)?;
        let mut pending: VecDeque<OsString> = VecDeque::new();
        push_components(&mut pending, path);
        let mut resolved = PathBuf::new();
        let mut symlinks = 0;
        while let Some(component) = pending.pop_front() {
            if component == ".." {
                resolved.pop();
                continue;
            }
            resolved.push(&component);
            let is_symlink = self
                .lstat_optional(&resolved)?
                .is_some_and(|found| found.is_symlink());
            if !is_symlink {
                continue;
            }
            symlinks += 1;
            if symlinks > MAX_SYMLINKS {
                return Err(FsError::io("resolve", path, Errno::LOOP));
            }
            let target = self.read_link(&resolved)?;
            if target.is_absolute() {
                resolved.clear();
            } else {
                resolved.pop();
            }
            push_components(&mut pending, &target);
        }
        Ok(resolved)
    }
}

fn push_components(pending: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => pending.push_front(name.to_os_string()),
            Component::ParentDir => pending.push_front(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}
