//! Scenes and tars for the tests of this room.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr
)]

use std::path::PathBuf;

use wharf_safefs::{FileType, Metadata, Root};

/// A directory of its own for one test, removed at the end.
pub struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Makes and opens a directory.
    pub fn root(&self, name: &str) -> Root {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        Root::open(path).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Says whether the test can run; prints that it skipped otherwise.
pub fn is_root_user() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIP: needs root");
    }
    root
}

/// One entry of a tar to be made.
#[derive(Clone)]
pub struct Item {
    pub name: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub content: Vec<u8>,
    pub link: Vec<u8>,
    pub device: (u32, u32),
}

impl Item {
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_000_000,
            content: Vec::new(),
            link: Vec::new(),
            device: (0, 0),
        }
    }

    pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self {
            content: content.as_ref().to_vec(),
            ..Self::new(b'0', name)
        }
    }

    pub fn dir(name: impl AsRef<[u8]>) -> Self {
        Self {
            mode: 0o755,
            ..Self::new(b'5', name)
        }
    }

    pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self {
            link: target.as_ref().to_vec(),
            mode: 0o777,
            ..Self::new(b'2', name)
        }
    }

    pub fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self {
            link: target.as_ref().to_vec(),
            ..Self::new(b'1', name)
        }
    }

    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// Returns the header block, whatever it says.
    pub fn header(&self) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        let name = &mut header.as_old_mut().name;
        let length = self.name.len().min(name.len());
        name[..length].copy_from_slice(&self.name[..length]);
        let link = &mut header.as_old_mut().linkname;
        let length = self.link.len().min(link.len());
        link[..length].copy_from_slice(&self.link[..length]);
        header.set_entry_type(tar::EntryType::new(self.kind));
        header.set_mode(self.mode);
        header.set_uid(self.uid);
        header.set_gid(self.gid);
        header.set_mtime(self.mtime);
        header.set_size(self.content.len() as u64);
        header.set_device_major(self.device.0).unwrap();
        header.set_device_minor(self.device.1).unwrap();
        header.set_cksum();
        // The form of the checksum that Go writes: six digits, NUL, blank.
        let sum = header.cksum().unwrap();
        header
            .as_old_mut()
            .cksum
            .copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }
}

/// Makes a tar with its trailer.
pub fn tar_of(items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in items {
        put_item(&mut bytes, item);
    }
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

/// Appends an entry, with GNU long names where needed.
pub fn put_item(bytes: &mut Vec<u8>, item: &Item) {
    for (text, flag) in [(&item.name, b'L'), (&item.link, b'K')] {
        if text.len() > 100 {
            let long = [text.as_slice(), b"\0"].concat();
            put_block(
                bytes,
                &Item {
                    content: long,
                    ..Item::new(flag, "././@LongLink")
                },
            );
        }
    }
    put_block(bytes, item);
}

fn put_block(bytes: &mut Vec<u8>, item: &Item) {
    bytes.extend_from_slice(item.header().as_bytes());
    bytes.extend_from_slice(&item.content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

/// Appends a PAX header for the entry that follows.
pub fn put_pax(bytes: &mut Vec<u8>, records: &[(&str, &[u8])]) {
    let mut content = Vec::new();
    for (key, value) in records {
        let body = key.len() + value.len() + 3;
        let mut length = body + body.to_string().len();
        length = body + length.to_string().len();
        content.extend_from_slice(format!("{length} {key}=").as_bytes());
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    put_block(
        bytes,
        &Item {
            content,
            ..Item::new(b'x', "pax")
        },
    );
}

/// What a tree holds: per path its attributes, content or target, and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub path: PathBuf,
    pub file_type: FileType,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime_seconds: i64,
    pub rdev: u64,
    pub content: Vec<u8>,
    pub xattrs: Vec<(std::ffi::OsString, Vec<u8>)>,
    /// The first path of the same inode.
    pub same_as: Option<PathBuf>,
}

/// Lists a tree depth-first.
pub fn look(root: &Root) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut inodes = std::collections::HashMap::new();
    look_in(root, PathBuf::new(), &mut seen, &mut inodes);
    seen
}

fn look_in(
    root: &Root,
    path: PathBuf,
    seen: &mut Vec<Seen>,
    inodes: &mut std::collections::HashMap<u64, PathBuf>,
) {
    for entry in root.read_dir(&path).unwrap() {
        let full = path.join(&entry.name);
        let metadata: Metadata = root.lstat(&full).unwrap();
        let same_as = if metadata.nlink > 1 && !metadata.is_dir() && !metadata.is_whiteout() {
            Some(
                inodes
                    .entry(metadata.ino)
                    .or_insert_with(|| full.clone())
                    .clone(),
            )
        } else {
            None
        };
        let content = match metadata.file_type {
            FileType::File => root.read(&full, u64::MAX - 1).unwrap(),
            FileType::Symlink => {
                use std::os::unix::ffi::OsStringExt;
                root.read_link(&full).unwrap().into_os_string().into_vec()
            }
            _ => Vec::new(),
        };
        let names = root.xattrs(&full).unwrap();
        let xattrs = names
            .into_iter()
            .map(|name| {
                let value = root.xattr(&full, &name).unwrap().unwrap();
                (name, value)
            })
            .collect();
        seen.push(Seen {
            path: full.clone(),
            file_type: metadata.file_type,
            mode: metadata.mode,
            owner: (metadata.uid, metadata.gid),
            mtime_seconds: metadata.mtime.seconds,
            rdev: metadata.rdev,
            content,
            xattrs,
            same_as,
        });
        if metadata.is_dir() {
            look_in(root, full, seen, inodes);
        }
    }
}
