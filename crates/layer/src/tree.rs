//! The directories of an unpacking: finding an entry's parent by descriptors, one component at a time.
//!
//! No path of more than one component reaches the kernel, symlinks are followed here and stay
//! beneath the root, and a few directories are kept open because neighbours in an archive share them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use wharf_safefs::{FsError, MAX_SYMLINKS, Root};

use crate::error::LayerError;

/// Directories kept open at once.
const MAX_OPEN_DIRECTORIES: usize = 64;

/// An open directory and its path beneath the root, free of symlinks, without leading slash.
pub(crate) struct Directory {
    pub(crate) root: Root,
    pub(crate) path: Vec<u8>,
}

impl Directory {
    /// Returns the path of a name in this directory.
    pub(crate) fn child(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }
}

/// What stands in the way of an implied directory, or that nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Implied {
    /// A whiteout was there and was replaced.
    pub(crate) over_whiteout: bool,
}

/// Finds directories beneath a root.
pub(crate) struct Tree<'a> {
    root: &'a Root,
    open: HashMap<Vec<u8>, Rc<Directory>>,
    last: Option<(Vec<u8>, Rc<Directory>)>,
    /// Whether a relative symlink that climbs over the root is an error (layers) or stops there (chroot).
    refuse_escape: bool,
    /// Whether character devices 0:0 are whiteouts that an implied directory replaces.
    overlay: bool,
    /// Directories made because an entry below them implied them, since last taken.
    implied: Vec<(Vec<u8>, Implied)>,
}

enum Step {
    Into(Rc<Directory>),
    Symlink(Vec<u8>),
    Missing { whiteout: bool },
}

impl<'a> Tree<'a> {
    /// Starts in overlay form: whiteouts are replaced, symlinks may not escape.
    pub(crate) fn layer(root: &'a Root) -> Self {
        Self::new(root, true)
    }

    /// Starts with the meaning of a chroot.
    pub(crate) fn chroot(root: &'a Root) -> Self {
        Self::new(root, false)
    }

    fn new(root: &'a Root, layer: bool) -> Self {
        Self {
            root,
            open: HashMap::new(),
            last: None,
            refuse_escape: layer,
            overlay: layer,
            implied: Vec::new(),
        }
    }

    /// Returns the directory at a clean path, or `None` where it does not exist.
    pub(crate) fn find(
        &mut self,
        path: &[u8],
        entry: &[u8],
    ) -> Result<Option<Rc<Directory>>, LayerError> {
        self.walk(path, entry, false)
    }

    /// Returns the directory at a clean path and makes what is missing of it, mode 0755.
    pub(crate) fn find_or_make(
        &mut self,
        path: &[u8],
        entry: &[u8],
    ) -> Result<Rc<Directory>, LayerError> {
        if let Some((known, directory)) = &self.last
            && known == path
        {
            return Ok(directory.clone());
        }
        let Some(directory) = self.walk(path, entry, true)? else {
            return Err(LayerError::invalid(
                entry,
                "its parent directory disappeared",
            ));
        };
        self.last = Some((path.to_vec(), directory.clone()));
        Ok(directory)
    }

    /// Returns the implied directories made since the last call.
    pub(crate) fn take_implied(&mut self) -> Vec<(Vec<u8>, Implied)> {
        std::mem::take(&mut self.implied)
    }

    /// Forgets all open directories: something that was a directory or a symlink was removed.
    pub(crate) fn forget(&mut self) {
        self.open.clear();
        self.last = None;
    }

    fn walk(
        &mut self,
        path: &[u8],
        entry: &[u8],
        make: bool,
    ) -> Result<Option<Rc<Directory>>, LayerError> {
        let (mut directory, rest) = self.nearest(path, entry)?;
        let mut pending: VecDeque<Vec<u8>> = components(rest).map(<[u8]>::to_vec).collect();
        let mut symlinks = 0;
        while let Some(name) = pending.pop_front() {
            if name == b".." {
                directory = self.above(&directory, entry)?;
                continue;
            }
            match self.step(&directory, &name, entry)? {
                Step::Into(next) => directory = next,
                Step::Missing { .. } if !make => return Ok(None),
                Step::Missing { whiteout } => {
                    directory = self.make(&directory, &name, whiteout, entry)?
                }
                Step::Symlink(target) => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(LayerError::invalid(
                            entry,
                            "too many levels of symbolic links",
                        ));
                    }
                    if target.first() == Some(&b'/') {
                        directory = self.top(entry)?;
                    }
                    for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
                        pending.push_front(component.to_vec());
                    }
                }
            }
        }
        Ok(Some(directory))
    }

    /// Returns the deepest open directory on the way to `path` and what is left of the path.
    fn nearest<'p>(
        &mut self,
        path: &'p [u8],
        entry: &[u8],
    ) -> Result<(Rc<Directory>, &'p [u8]), LayerError> {
        let mut end = path.len();
        loop {
            let (start, rest) = path.split_at(end);
            if let Some(directory) = self.open.get(start) {
                return Ok((directory.clone(), rest));
            }
            match start.iter().rposition(|&byte| byte == b'/') {
                Some(slash) => end = slash,
                None => return Ok((self.top(entry)?, path)),
            }
        }
    }

    fn top(&mut self, entry: &[u8]) -> Result<Rc<Directory>, LayerError> {
        if let Some(top) = self.open.get(&b""[..]) {
            return Ok(top.clone());
        }
        let root = self
            .root
            .try_clone()
            .map_err(|error| LayerError::entry(entry, error))?;
        Ok(self.keep(Directory {
            root,
            path: Vec::new(),
        }))
    }

    fn above(&mut self, directory: &Directory, entry: &[u8]) -> Result<Rc<Directory>, LayerError> {
        if directory.path.is_empty() {
            if self.refuse_escape {
                return Err(LayerError::invalid(
                    entry,
                    "a symlink on its path leads out of the layer",
                ));
            }
            return self.top(entry);
        }
        let (parent, _) = split(&directory.path);
        if let Some(found) = self.open.get(parent) {
            return Ok(found.clone());
        }
        let root = self
            .root
            .open_dir(as_path(parent))
            .map_err(|error| LayerError::entry(entry, error))?;
        Ok(self.keep(Directory {
            root,
            path: parent.to_vec(),
        }))
    }

    fn step(
        &mut self,
        directory: &Rc<Directory>,
        name: &[u8],
        entry: &[u8],
    ) -> Result<Step, LayerError> {
        let path = directory.child(name);
        if let Some(found) = self.open.get(&path) {
            return Ok(Step::Into(found.clone()));
        }
        let failed = |error: FsError| LayerError::entry(entry, error);
        let name = as_path(name);
        match directory.root.open_dir_nofollow(name) {
            Ok(root) => return Ok(Step::Into(self.keep(Directory { root, path }))),
            Err(error) if error.is_not_found() => return Ok(Step::Missing { whiteout: false }),
            Err(_) => {}
        }
        let found = directory.root.lstat(name).map_err(failed)?;
        if found.is_symlink() {
            let target = directory.root.read_link(name).map_err(failed)?;
            return Ok(Step::Symlink(target.as_os_str().as_bytes().to_vec()));
        }
        if self.overlay && found.is_whiteout() {
            return Ok(Step::Missing { whiteout: true });
        }
        let shown = crate::error::display(&path);
        Err(LayerError::invalid(
            entry,
            format!("{shown:?} on its path is not a directory"),
        ))
    }

    fn make(
        &mut self,
        directory: &Rc<Directory>,
        name: &[u8],
        over_whiteout: bool,
        entry: &[u8],
    ) -> Result<Rc<Directory>, LayerError> {
        let failed = |error: FsError| LayerError::entry(entry, error);
        let path = directory.child(name);
        let name = as_path(name);
        if over_whiteout {
            directory.root.remove_file(name).map_err(failed)?;
        }
        directory.root.mkdir(name, 0o755).map_err(failed)?;
        let root = directory.root.open_dir_nofollow(name).map_err(failed)?;
        self.implied.push((path.clone(), Implied { over_whiteout }));
        Ok(self.keep(Directory { root, path }))
    }

    fn keep(&mut self, directory: Directory) -> Rc<Directory> {
        if self.open.len() >= MAX_OPEN_DIRECTORIES {
            self.open.clear();
        }
        let directory = Rc::new(directory);
        self.open.insert(directory.path.clone(), directory.clone());
        directory
    }
}

/// Cleans a name lexically: no leading slash, `.`, `..` or doubled slashes; empty means the root.
/// `None` where `..` climbs above the root.
pub(crate) fn clean(name: &[u8]) -> Option<Vec<u8>> {
    let mut cleaned: Vec<u8> = Vec::with_capacity(name.len());
    for component in components(name) {
        if component == b".." {
            if cleaned.is_empty() {
                return None;
            }
            let slash = cleaned.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            cleaned.truncate(slash);
            continue;
        }
        if !cleaned.is_empty() {
            cleaned.push(b'/');
        }
        cleaned.extend_from_slice(component);
    }
    Some(cleaned)
}

/// Returns the components of a path but `.` and empty ones.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
        .filter(|component| !component.is_empty() && *component != b".")
}

/// Splits a clean path into parent and last name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (
            path.get(..slash).unwrap_or_default(),
            path.get(slash + 1..).unwrap_or_default(),
        ),
        None => (b"", path),
    }
}

/// Joins a clean path and a name.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(path.len() + name.len() + 1);
    joined.extend_from_slice(path);
    if !path.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

/// Removes what a map says about a path and all below it.
pub(crate) fn remove_tree<V>(map: &mut BTreeMap<Vec<u8>, V>, path: &[u8]) {
    map.remove(path);
    let below = [path, b"/"].concat();
    while let Some(known) = map
        .range(below.clone()..)
        .map(|(known, _)| known)
        .next()
        .cloned()
    {
        if !known.starts_with(&below) {
            return;
        }
        map.remove(&known);
    }
}

/// Returns bytes as a path.
pub(crate) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_names() {
        for (name, expected) in [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("/a/./b", Some("a/b")),
            ("a/../b", Some("b")),
            ("a/b/../../c", Some("c")),
            (".", Some("")),
            ("/", Some("")),
            ("a/..", Some("")),
            ("..", None),
            ("a/../../b", None),
            ("/../b", None),
        ] {
            assert_eq!(
                clean(name.as_bytes()).as_deref(),
                expected.map(str::as_bytes),
                "{name}"
            );
        }
    }
}
