//! Entries of a context, and which of them are listed.

use crate::units::human_size;

/// Entries that are listed.
const MAX_LISTED: usize = 10;

/// A file or directory that would be sent.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) files: u64,
    pub(super) is_directory: bool,
    pub(super) children: Vec<Entry>,
}

/// Returns the largest entries; none lies within another.
///
/// A directory stands for what is in it, but one that owes most of its size to one entry gives way to its entries.
pub(super) fn largest(root: &Entry) -> Vec<&Entry> {
    let mut open: Vec<&Entry> = root.children.iter().collect();
    let mut listed = Vec::new();
    while let Some(entry) = open.pop() {
        let most = entry.children.iter().map(|child| child.bytes).max();
        if most.is_some_and(|most| most > 0 && most >= entry.bytes / 2) {
            open.extend(&entry.children);
        } else {
            listed.push(entry);
        }
    }
    listed.sort_by(|left, right| (right.bytes, &left.path).cmp(&(left.bytes, &right.path)));
    listed.truncate(MAX_LISTED);
    listed
}

impl Entry {
    /// Returns the entry's line: size, files, path.
    pub(super) fn row(&self) -> [String; 3] {
        let slash = if self.is_directory { "/" } else { "" };
        [
            human_size(self.bytes as f64),
            self.files.to_string(),
            format!("{}{slash}", self.path),
        ]
    }
}
