//! The content digest of selected files: what a COPY depends on (spec llb §5; times never count).

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use wharf_image::{Digest, Hasher};
use wharf_safefs::{FileType, FsError, OpenFlags, Root};

use crate::BuildError;
use crate::select::{Entry, Selected};

/// Threads that hash or copy files; more do not help one disk.
pub(crate) const MAX_THREADS: usize = 8;
/// Files below this number are not worth a second thread.
const MIN_FILES_PER_THREAD: usize = 32;
const READ_BUFFER_BYTES: usize = 128 << 10;

/// Files of a listing that are kept to explain a later miss.
const MAX_EXPLAINED_FILES: usize = 2_000;

/// The digest of a selection, with those of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContentDigest {
    /// Digest of all.
    pub digest: Digest,
    /// Path and digest of each file, as far as they are kept.
    pub files: Vec<(String, Digest)>,
}

/// Says whether an attribute is part of a file's content: capabilities and the user's own.
pub(crate) fn is_copied_attribute(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Computes the digest of what would be copied: names, kinds, modes, owners (where they are kept), sizes,
/// link targets, attributes and content.
pub(crate) fn content_digest(
    root: &Root,
    selected: &[Selected],
    keeps_owner: bool,
) -> Result<ContentDigest, BuildError> {
    let mut all = Hasher::new();
    let mut files = Vec::new();
    for one in selected {
        let contents = hash_files(root, one)?;
        all.update(one.name.as_bytes());
        all.update(b"\0");
        for (entry, content) in one.entries.iter().zip(contents) {
            let digest = entry_digest(root, one, entry, content, keeps_owner)?;
            all.update(entry.path.as_os_str().as_bytes());
            all.update(b"\0");
            all.update(digest.as_bytes());
            if files.len() < MAX_EXPLAINED_FILES {
                files.push((one.path.join(&entry.path).display().to_string(), digest));
            }
        }
    }
    Ok(ContentDigest {
        digest: all.finish(),
        files,
    })
}

fn entry_digest(
    root: &Root,
    selected: &Selected,
    entry: &Entry,
    content: Option<Digest>,
    keeps_owner: bool,
) -> Result<Digest, BuildError> {
    let metadata = &entry.metadata;
    let path = selected.path.join(&entry.path);
    let mut hasher = Hasher::new();
    let (uid, gid) = if keeps_owner {
        (metadata.uid, metadata.gid)
    } else {
        (0, 0)
    };
    // The mode of a symlink is always 0777.
    let mode = if metadata.is_symlink() {
        0o777
    } else {
        metadata.mode
    };
    let kind = format!(
        "{:?} {mode:o} {uid}:{gid} {}\0",
        metadata.file_type, metadata.rdev
    );
    hasher.update(kind.as_bytes());
    if metadata.is_symlink() {
        hasher.update(root.read_link(&path)?.as_os_str().as_bytes());
    }
    if let Some(content) = content {
        hasher.update(format!("{}\0", metadata.size_bytes).as_bytes());
        hasher.update(content.as_bytes());
    }
    if matches!(metadata.file_type, FileType::File | FileType::Directory) {
        for name in copied_attributes(root, &path)? {
            let value = root.xattr(&path, &name)?.unwrap_or_default();
            hasher.update(format!("\0{} ", value.len()).as_bytes());
            hasher.update(name.as_bytes());
            hasher.update(b"\0");
            hasher.update(&value);
        }
    }
    Ok(hasher.finish())
}

/// Returns the names of the attributes that are copied with a file.
pub(crate) fn copied_attributes(root: &Root, path: &Path) -> Result<Vec<OsString>, BuildError> {
    let mut names = root.xattrs(path)?;
    names.retain(|name| is_copied_attribute(name));
    Ok(names)
}

/// Hashes the regular files of a selection, several at a time; the answer has their order.
fn hash_files(root: &Root, selected: &Selected) -> Result<Vec<Option<Digest>>, BuildError> {
    let mut digests: Vec<Option<Digest>> = vec![None; selected.entries.len()];
    let regular: Vec<usize> = (0..selected.entries.len())
        .filter(|index| {
            selected
                .entries
                .get(*index)
                .is_some_and(|entry| entry.metadata.is_file())
        })
        .collect();
    let found = in_parallel(regular.len(), |position, buffer| {
        let index = regular.get(position).copied().unwrap_or_default();
        let path = selected
            .entries
            .get(index)
            .map(|entry| selected.path.join(&entry.path))
            .unwrap_or_default();
        Ok((index, hash_file(root, &path, buffer)?))
    })?;
    for (index, digest) in found {
        if let Some(slot) = digests.get_mut(index) {
            *slot = Some(digest);
        }
    }
    Ok(digests)
}

fn hash_file(root: &Root, path: &PathBuf, buffer: &mut Vec<u8>) -> Result<Digest, BuildError> {
    buffer.resize(READ_BUFFER_BYTES, 0);
    let mut file = root.open_file_nofollow(path, OpenFlags::RDONLY)?;
    let mut hasher = Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FsError::io("read", path, error).into()),
        }
    }
}

/// Does `count` pieces of work on as many threads as are worth it; the results are in no order.
///
/// # Errors
/// The first error; the rest of the work is then left undone.
pub(crate) fn in_parallel<T: Send>(
    count: usize,
    work: impl Fn(usize, &mut Vec<u8>) -> Result<T, BuildError> + Sync,
) -> Result<Vec<T>, BuildError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors
        .min(MAX_THREADS)
        .min(count / MIN_FILES_PER_THREAD + 1);
    let next = AtomicUsize::new(0);
    let run = || -> Result<Vec<T>, BuildError> {
        let mut buffer = Vec::new();
        let mut results = Vec::new();
        loop {
            let position = next.fetch_add(1, Ordering::Relaxed);
            if position >= count {
                return Ok(results);
            }
            match work(position, &mut buffer) {
                Ok(result) => results.push(result),
                Err(error) => {
                    next.store(count, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    if threads <= 1 {
        return run();
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let mut all = Vec::with_capacity(count);
        for worker in workers {
            match worker.join() {
                Ok(results) => all.extend(results?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}
