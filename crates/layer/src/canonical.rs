//! Recognising, while a tar is read, that it is the one `write_tar` would make of the directory.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::tar::{Entry, Kind, header};
use crate::whiteout::{OPAQUE_NAME, WHITEOUT_PREFIX};
use crate::write::is_layer_xattr;

/// Follows a tar's entries and says at the end whether it was canonical.
pub(crate) struct CanonicalCheck {
    canonical: bool,
    previous: Vec<u8>,
    previous_is_directory: bool,
    /// Paths that are second names; a canonical link names the first.
    links: HashSet<Vec<u8>>,
    header: Vec<u8>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    directory_owner: (u64, u64, u32),
}

impl CanonicalCheck {
    pub(crate) fn new() -> Self {
        Self {
            canonical: true,
            previous: Vec::new(),
            previous_is_directory: true,
            links: HashSet::new(),
            header: Vec::new(),
            records: Vec::new(),
            directory_owner: (0, 0, 0o755),
        }
    }

    /// Notes something that the directory does not keep.
    pub(crate) fn refuse(&mut self) {
        self.canonical = false;
    }

    pub(crate) fn is_canonical(&self) -> bool {
        self.canonical
    }

    /// Compares an entry's raw header, the padding before it included, with what would be written.
    /// `path` is the clean name.
    pub(crate) fn entry(&mut self, entry: &Entry, path: &[u8], raw: &[u8]) {
        if !self.canonical {
            return;
        }
        self.header.clear();
        header::encode(entry, &mut self.header, &mut self.records);
        let padding = raw.len().checked_sub(self.header.len());
        let same = padding.is_some_and(|padding| {
            let (before, header) = raw.split_at(padding);
            before.iter().all(|&byte| byte == 0) && header == self.header
        });
        self.canonical = same
            && entry.sparse.is_none()
            && !path.is_empty()
            && has_canonical_name(entry, path)
            && entry.xattrs.iter().all(|(name, _)| is_layer_xattr(name))
            && (entry.kind == Kind::File
                || entry.kind == Kind::Directory
                || entry.xattrs.is_empty())
            && self.is_in_order(entry, path);
    }

    /// Notes a hard link; its target must be the first name of the file.
    pub(crate) fn link(&mut self, path: &[u8], target: &[u8]) {
        if self.canonical {
            self.canonical = !self.links.contains(target);
            self.links.insert(path.to_vec());
        }
    }

    fn is_in_order(&mut self, entry: &Entry, path: &[u8]) -> bool {
        let (parent, name) = crate::tree::split(path);
        if name == OPAQUE_NAME {
            let (uid, gid, mode) = self.directory_owner;
            let marker = entry.kind == Kind::File
                && entry.size_bytes == 0
                && (entry.uid, entry.gid, entry.mode) == (uid, gid, mode)
                && entry.mtime.seconds == 0;
            let in_place = self.previous_is_directory && self.previous == parent;
            self.previous_is_directory = false;
            return marker && in_place;
        }
        let mut key = path.to_vec();
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            let plain = entry.kind == Kind::File
                && (
                    entry.uid,
                    entry.gid,
                    entry.mode,
                    entry.size_bytes,
                    entry.mtime.seconds,
                ) == (0, 0, 0, 0, 0);
            if !plain {
                return false;
            }
            key = crate::tree::join(parent, hidden);
        }
        let ordered = compare(&self.previous, &key) == Ordering::Less;
        self.previous_is_directory = entry.kind == Kind::Directory;
        if self.previous_is_directory {
            self.directory_owner = (entry.uid, entry.gid, entry.mode & 0o777);
        }
        self.previous = key;
        ordered
    }
}

fn has_canonical_name(entry: &Entry, path: &[u8]) -> bool {
    match entry.name.strip_suffix(b"/") {
        Some(name) => entry.kind == Kind::Directory && name == path,
        None => entry.kind != Kind::Directory && entry.name == path,
    }
}

/// Compares paths as a sorted walk meets them: component by component.
fn compare(left: &[u8], right: &[u8]) -> Ordering {
    left.split(|&byte| byte == b'/')
        .cmp(right.split(|&byte| byte == b'/'))
}
