//! The content digest of files that a step takes in (spec llb §5): names, kinds, modes, owners, data; never times.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wharf_image::{Digest, Hasher};
use wharf_safefs::{Caller, FileType, FsError, Metadata, OpenFlags, Root, fd_xattr, fd_xattrs};

use crate::BuildError;
use crate::kept::{KeptFile, MAX_KEPT_FILE_BYTES};
use crate::listing::Listing;
use crate::select::{Entry, Selected};
use crate::stat_cache::StatCache;

/// Threads that hash or copy files; more do not help one disk.
pub(crate) const MAX_THREADS: usize = 8;
/// Files below this number are not worth a second thread.
const MIN_FILES_PER_THREAD: usize = 32;
/// Files of one directory that a thread takes at once: their directory is opened once, and so many are open together.
const BATCH_FILES: usize = 32;
/// A batch of large files ends after so much.
const BATCH_BYTES: u64 = 4 << 20;
const READ_BUFFER_BYTES: usize = 128 << 10;

/// Where files are read from.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// The files.
    pub root: &'a Root,
    /// With whose rights; none for wharf's own.
    pub caller: Option<&'a Caller>,
    /// What is known of them.
    pub stat_cache: Option<&'a StatCache>,
    /// Whether they are a build context's: of those capabilities are no part. BuildKit sets a received file's owner
    /// behind its attributes, and with that the kernel takes capabilities away.
    pub is_context: bool,
}

impl<'a> Reading<'a> {
    /// Returns a reading of files that wharf itself made.
    pub fn own(root: &'a Root) -> Self {
        Self {
            root,
            caller: None,
            stat_cache: None,
            is_context: false,
        }
    }

    /// Says whether an attribute is part of a file's content: capabilities and the user's own.
    pub fn takes_attribute(&self, name: &OsStr) -> bool {
        let name = name.as_bytes();
        let is_capability = name == b"security.capability";
        (is_capability && !self.is_context)
            || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
    }

    /// Returns the names of the attributes that are copied with a file.
    pub fn attributes(&self, root: &Root, path: &Path) -> Result<Vec<OsString>, BuildError> {
        let mut names = root.xattrs(path)?;
        names.retain(|name| self.takes_attribute(name));
        Ok(names)
    }

    /// Says whether files may change while they are read: those of a directory in its place.
    pub fn may_change(&self) -> bool {
        self.stat_cache.is_some()
    }

    /// Says whether something that was looked at before is different now, as far as its attributes tell.
    pub fn has_changed(&self, known: &Metadata, found: &Metadata) -> bool {
        let state = |file: &Metadata| (file.size_bytes, file.mtime, file.ctime);
        self.may_change() && state(known) != state(found)
    }

    /// Does something with the rights that count here.
    pub fn with_rights<T>(
        &self,
        work: impl FnOnce(&Root) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        let _assumed = self.caller.map(Caller::assume).transpose()?;
        work(self.root)
    }
}

/// Selected files, with what they hold where that is known.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    selected: Vec<Selected>,
    /// One for each entry of each selected file or tree; none where nothing was hashed.
    digests: Vec<Vec<Digest>>,
    /// Contents that were kept when they were hashed; gone once they were copied.
    kept: Mutex<Vec<KeptFiles>>,
}

/// Contents of entries of one file or tree, by their number; where it is empty, none was kept.
pub(crate) type KeptFiles = Vec<Option<KeptFile>>;

impl Taken {
    /// Takes files of which nothing is known.
    pub fn unhashed(selected: Vec<Selected>) -> Self {
        Self {
            selected,
            ..Self::default()
        }
    }

    /// Hands out the contents that were kept, for each file or tree; it has none afterwards.
    pub fn take_kept(&self) -> Vec<KeptFiles> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns each file or tree with the digests of its entries: one for each, or none.
    pub fn each(&self) -> impl Iterator<Item = (&Selected, &[Digest])> {
        let digests = |index: usize| self.digests.get(index).map_or(&[][..], Vec::as_slice);
        self.selected
            .iter()
            .enumerate()
            .map(move |(index, one)| (one, digests(index)))
    }

    /// Returns how many files and trees were named.
    pub fn count(&self) -> usize {
        self.selected.len()
    }
}

/// The digest of a selection, with those of its files.
#[derive(Debug, Clone)]
pub(crate) struct ContentDigest {
    /// Digest of all.
    pub digest: Digest,
    /// What was selected, for telling changes.
    pub listing: Listing,
    /// What was selected, for copying it.
    pub taken: Arc<Taken>,
}

/// Computes the digest of what would be copied: names, kinds, modes, owners (where they are kept), sizes,
/// link targets, attributes and content.
pub(crate) fn content_digest(
    reading: Reading<'_>,
    selected: Vec<Selected>,
    keeps_owner: bool,
) -> Result<ContentDigest, BuildError> {
    let mut all = Hasher::new();
    let mut listing = Listing::default();
    let (mut digests, mut kept) = (Vec::new(), Vec::new());
    for one in &selected {
        let (contents, kept_files) = hash_entries(reading, one)?;
        kept.push(kept_files);
        all.update(one.name.as_bytes());
        all.update(b"\0");
        for (entry, content) in one.entries.iter().zip(&contents) {
            let digest = entry_digest(&entry.metadata, content, keeps_owner);
            all.update(entry.path.as_os_str().as_bytes());
            all.update(b"\0");
            all.update(digest.as_bytes());
            let path = if entry.path.as_os_str().is_empty() {
                one.path.clone()
            } else {
                one.path.join(&entry.path)
            };
            listing.add(&path, &entry.metadata, content);
        }
        digests.push(contents);
    }
    Ok(ContentDigest {
        digest: all.finish(),
        listing,
        taken: Arc::new(Taken {
            selected,
            digests,
            kept: Mutex::new(kept),
        }),
    })
}

fn entry_digest(metadata: &Metadata, content: &Digest, keeps_owner: bool) -> Digest {
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
    hasher.update(content.as_bytes());
    hasher.finish()
}

/// Hashes what each entry holds, several at a time; the answer has their order.
fn hash_entries(
    reading: Reading<'_>,
    selected: &Selected,
) -> Result<(Vec<Digest>, KeptFiles), BuildError> {
    let mut digests: Vec<Option<Digest>> = selected
        .entries
        .iter()
        .map(|entry| known(reading, entry))
        .collect();
    let unknown: Vec<usize> = (0..digests.len())
        .filter(|index| digests.get(*index).is_some_and(Option::is_none))
        .collect();
    let batches = batches(&selected.entries, &unknown);
    let found = in_parallel(batches.len(), unknown.len(), |number, buffer| {
        let batch = batches.get(number).copied().unwrap_or_default();
        reading.with_rights(|root| hash_batch(reading, root, selected, batch, buffer))
    })?;
    let mut kept = KeptFiles::new();
    for hashed in found.into_iter().flatten() {
        if let Some(slot) = digests.get_mut(hashed.index) {
            *slot = Some(hashed.digest);
        }
        if hashed.kept.is_some() {
            kept.resize_with(selected.entries.len(), || None);
            if let Some(slot) = kept.get_mut(hashed.index) {
                *slot = hashed.kept;
            }
        }
    }
    Ok((digests.into_iter().flatten().collect(), kept))
}

/// Returns what an entry holds where that needs no reading.
fn known(reading: Reading<'_>, entry: &Entry) -> Option<Digest> {
    match entry.metadata.file_type {
        FileType::File | FileType::Directory | FileType::Symlink => {
            reading.stat_cache?.get(&entry.metadata)
        }
        _ => Some(Digest::of("")),
    }
}

/// An entry that was read.
struct Hashed {
    index: usize,
    digest: Digest,
    kept: Option<KeptFile>,
}

/// Hashes entries of one directory.
fn hash_batch(
    reading: Reading<'_>,
    root: &Root,
    selected: &Selected,
    batch: &[usize],
    buffer: &mut Vec<u8>,
) -> Result<Vec<Hashed>, BuildError> {
    let mut directory: Option<Root> = None;
    let mut found = Vec::with_capacity(batch.len());
    for index in batch {
        let Some(entry) = selected.entries.get(*index) else {
            continue;
        };
        let path = if entry.path.as_os_str().is_empty() {
            selected.path.clone()
        } else {
            selected.path.join(&entry.path)
        };
        let (digest, kept) = match (&mut directory, path.file_name()) {
            (Some(directory), Some(name)) => {
                hash_entry((reading, directory), Path::new(name), &path, entry, buffer)
            }
            (none, Some(name)) => {
                let above = path.parent().unwrap_or(Path::new(""));
                let directory = none.insert(root.open_dir(above)?);
                hash_entry((reading, directory), Path::new(name), &path, entry, buffer)
            }
            // The tree's own top.
            (_, None) => hash_entry((reading, root), &path, &path, entry, buffer),
        }?;
        if let Some(cache) = reading.stat_cache {
            cache.put(&entry.metadata, digest);
        }
        found.push(Hashed {
            index: *index,
            digest,
            kept,
        });
    }
    Ok(found)
}

/// Hashes data, link target and attributes of one entry: `name` in `directory`, `path` for errors.
fn hash_entry(
    (reading, directory): (Reading<'_>, &Root),
    name: &Path,
    path: &Path,
    entry: &Entry,
    buffer: &mut Vec<u8>,
) -> Result<(Digest, Option<KeptFile>), BuildError> {
    let mut hasher = Hasher::new();
    let mut kept = None;
    match entry.metadata.file_type {
        FileType::Symlink => {
            let target = directory.read_link(name).map_err(|error| error.at(path))?;
            hasher.update(target.as_os_str().as_bytes());
        }
        FileType::File => {
            let opened = directory.open_regular_nofollow(name, OpenFlags::RDONLY);
            let (mut file, found) = opened.map_err(|error| error.at(path))?;
            let (bytes, content) = hash_file(&mut file, &found, path, &mut hasher, buffer)?;
            hasher.update(format!("\0{bytes}").as_bytes());
            let mut names = fd_xattrs(&file)?;
            names.retain(|name| reading.takes_attribute(name));
            for name in &names {
                let value = fd_xattr(&file, name)?.unwrap_or_default();
                hash_attribute(&mut hasher, name, &value);
            }
            // What else is copied with a file is what it had when it was looked for.
            let is_plain = names.is_empty() && found.is_unchanged_since(&entry.metadata);
            if is_plain && found.size_bytes <= MAX_KEPT_FILE_BYTES {
                kept = content.and_then(KeptFile::new);
            }
        }
        FileType::Directory => {
            for attribute in reading.attributes(directory, name)? {
                let value = directory.xattr(name, &attribute)?.unwrap_or_default();
                hash_attribute(&mut hasher, &attribute, &value);
            }
        }
        _ => {}
    }
    Ok((hasher.finish(), kept))
}

fn hash_attribute(hasher: &mut Hasher, name: &OsStr, value: &[u8]) {
    hasher.update(format!("\0{} ", value.len()).as_bytes());
    hasher.update(name.as_bytes());
    hasher.update(b"\0");
    hasher.update(value);
}

/// Hashes a file's content; returns its length and, where one read gave all of it, the content.
fn hash_file<'b>(
    file: &mut File,
    found: &Metadata,
    path: &Path,
    hasher: &mut Hasher,
    buffer: &'b mut Vec<u8>,
) -> Result<(u64, Option<&'b [u8]>), BuildError> {
    buffer.resize(READ_BUFFER_BYTES, 0);
    let mut total = 0;
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok((total, None)),
            Ok(count) => {
                total += count as u64;
                hasher.update(buffer.get(..count).unwrap_or_default());
                // A regular file gives all it has: this was its end.
                if count < buffer.len() && total == found.size_bytes {
                    let content = buffer.get(..count);
                    return Ok((total, content.filter(|_| count as u64 == total)));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FsError::io("read", path, error).into()),
        }
    }
}

/// Splits entries, given by their numbers, into runs that lie in one directory each and are not too much for one
/// thread.
pub(crate) fn batches<'n>(entries: &[Entry], numbers: &'n [usize]) -> Vec<&'n [usize]> {
    let mut found = Vec::new();
    let (mut start, mut bytes, mut parent) = (0, 0_u64, None);
    for (position, number) in numbers.iter().enumerate() {
        let entry = entries.get(*number);
        let above = entry.and_then(|entry| entry.path.parent());
        let is_full = position - start >= BATCH_FILES || bytes >= BATCH_BYTES;
        if position > start && (is_full || above != parent) {
            found.extend(numbers.get(start..position));
            (start, bytes) = (position, 0);
        }
        parent = above;
        bytes += entry.map_or(0, |entry| entry.metadata.size_bytes);
    }
    found.extend(numbers.get(start..).filter(|rest| !rest.is_empty()));
    found
}

/// Does `count` pieces of work, which are about `files` files, on as many threads as are worth it; the results are
/// in no order.
///
/// # Errors
/// The first error; the rest of the work is then left undone.
pub(crate) fn in_parallel<T: Send>(
    count: usize,
    files: usize,
    work: impl Fn(usize, &mut Vec<u8>) -> Result<T, BuildError> + Sync,
) -> Result<Vec<T>, BuildError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors
        .min(MAX_THREADS)
        .min(files / MIN_FILES_PER_THREAD + 1);
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
