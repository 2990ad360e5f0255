//! What a selection of files held, kept so that a later miss can be explained file by file.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wharf_image::Digest;
use wharf_safefs::{FileType, Metadata, trusted};
use wharf_store::{BuildPart, Store};

use crate::BuildError;

/// Most files of a listing that are kept.
const MAX_KEPT_FILES: usize = 1_000_000;
/// Most bytes of a kept listing.
const MAX_LISTING_BYTES: u64 = 256 << 20;
const FILE_MODE: u32 = 0o600;
/// Bytes of a content digest that are kept: enough to tell contents apart.
const SHORT_DIGEST_BYTES: usize = 8;

/// Selected files in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Listing {
    /// One line a file: kind, mode, content, path.
    lines: Vec<u8>,
    /// How many files.
    pub count: usize,
}

/// How one file differs from the same path earlier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path.
    pub path: String,
    /// What is different: `added`, `removed`, `content`, `mode 0644 → 0755`, `file → directory`.
    pub what: String,
}

/// How two listings differ.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListingChange {
    /// Files in the newer one.
    pub files: usize,
    /// How many differ.
    pub changed: usize,
    /// The first of them by path.
    pub examples: Vec<FileChange>,
}

/// Changed files that are told.
const MAX_EXAMPLES: usize = 20;

impl Listing {
    /// Adds a file.
    pub fn add(&mut self, path: &Path, metadata: &Metadata, content: &Digest) {
        self.count += 1;
        if self.count > MAX_KEPT_FILES {
            return;
        }
        let kind = kind_letter(metadata.file_type);
        self.lines
            .extend_from_slice(format!("{kind} {:o} ", metadata.mode).as_bytes());
        let short = content.as_bytes().get(..SHORT_DIGEST_BYTES);
        self.lines
            .extend_from_slice(hex::encode(short.unwrap_or_default()).as_bytes());
        self.lines.push(b' ');
        self.lines.extend_from_slice(path.as_os_str().as_bytes());
        self.lines.push(0);
    }

    /// Keeps the listing under its digest, unless that is there; returns its name.
    pub fn keep(&self, store: &Store) -> Result<String, BuildError> {
        let name = Digest::of(&self.lines).hex();
        let path = store.build_dir(BuildPart::Listings).join(&name);
        if !trusted::exists(&path)? {
            trusted::write_atomic(&path, &self.lines, FILE_MODE, false)?;
        }
        Ok(name)
    }

    /// Returns a kept listing; none where it was removed.
    pub fn kept(store: &Store, name: &str) -> Option<Self> {
        if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let path = store.build_dir(BuildPart::Listings).join(name);
        let lines = trusted::read_limited(path, MAX_LISTING_BYTES).ok()?;
        let count = lines.iter().filter(|byte| **byte == 0).count();
        Some(Self { lines, count })
    }

    /// Returns how the files differ from an earlier listing.
    pub fn changes_since(&self, earlier: &Self) -> ListingChange {
        let (old, new) = (earlier.by_path(), self.by_path());
        let mut changes: BTreeMap<&[u8], String> = BTreeMap::new();
        for (path, file) in &new {
            match old.get(path) {
                None => drop(changes.insert(path, "added".to_owned())),
                Some(before) if before != file => {
                    changes.insert(path, difference(before, file));
                }
                Some(_) => {}
            }
        }
        for path in old.keys().filter(|path| !new.contains_key(*path)) {
            changes.insert(path, "removed".to_owned());
        }
        let example = |(path, what): (&&[u8], &String)| FileChange {
            path: String::from_utf8_lossy(path).into_owned(),
            what: what.clone(),
        };
        ListingChange {
            files: self.count,
            changed: changes.len(),
            examples: changes.iter().take(MAX_EXAMPLES).map(example).collect(),
        }
    }

    fn by_path(&self) -> BTreeMap<&[u8], File<'_>> {
        let lines = self.lines.split(|byte| *byte == 0);
        lines.filter_map(parse_line).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct File<'a> {
    kind: &'a [u8],
    mode: &'a [u8],
    content: &'a [u8],
}

fn parse_line(line: &[u8]) -> Option<(&[u8], File<'_>)> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let file = File {
        kind: fields.next()?,
        mode: fields.next()?,
        content: fields.next()?,
    };
    Some((fields.next()?, file))
}

fn difference(old: &File<'_>, new: &File<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if old.kind != new.kind {
        return format!("{} → {}", kind_name(old.kind), kind_name(new.kind));
    }
    let mode = format!("mode {:0>4} → {:0>4}", text(old.mode), text(new.mode));
    match (old.content == new.content, old.mode == new.mode) {
        (false, true) => "content".to_owned(),
        (true, false) => mode,
        _ => format!("content, {mode}"),
    }
}

fn kind_letter(kind: FileType) -> char {
    match kind {
        FileType::File => 'f',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        _ => 'x',
    }
}

fn kind_name(letter: &[u8]) -> &'static str {
    match letter {
        b"f" => "file",
        b"d" => "directory",
        b"l" => "symlink",
        _ => "special file",
    }
}

#[cfg(test)]
mod tests {
    use super::Listing;
    use std::path::Path;
    use wharf_image::Digest;
    use wharf_safefs::Root;

    #[test]
    fn changes_are_told_by_path() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        root.create_file("f", 0o644).unwrap();
        root.mkdir("d", 0o755).unwrap();
        let (mut file, directory) = (root.lstat("f").unwrap(), root.lstat("d").unwrap());
        let mut old = Listing::default();
        old.add(Path::new("src/a.c"), &file, &Digest::of("1"));
        old.add(Path::new("run.sh"), &file, &Digest::of("2"));
        old.add(Path::new("gone"), &file, &Digest::of("3"));
        old.add(Path::new("turned"), &file, &Digest::of("4"));
        let mut new = Listing::default();
        new.add(Path::new("turned"), &directory, &Digest::of(""));
        new.add(Path::new("src/a.c"), &file, &Digest::of("x"));
        file.mode = 0o755;
        new.add(Path::new("run.sh"), &file, &Digest::of("2"));
        new.add(Path::new("new one"), &file, &Digest::of("5"));
        let changes = new.changes_since(&old);
        let told: Vec<String> = changes
            .examples
            .iter()
            .map(|change| format!("{} ({})", change.path, change.what))
            .collect();
        assert_eq!((changes.files, changes.changed), (4, 5));
        assert_eq!(
            told,
            [
                "gone (removed)",
                "new one (added)",
                "run.sh (mode 0644 → 0755)",
                "src/a.c (content)",
                "turned (file → directory)"
            ]
        );
        assert_eq!(new.changes_since(&new).changed, 0);
    }
}
