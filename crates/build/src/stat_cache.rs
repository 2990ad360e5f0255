//! Digests of files that did not change since they were last read, found by their attributes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use wharf_image::Digest;
use wharf_safefs::{Metadata, Timestamp, trusted};
use wharf_store::{BuildPart, Store};

use crate::BuildError;

/// Starts every file of this form; another one is not read.
const MAGIC: &[u8; 8] = b"wharfst1";
/// Bytes of one entry: device, inode, size, mtime and ctime (seconds and nanoseconds each), digest.
const ENTRY_BYTES: usize = 8 + 8 + 8 + 12 + 12 + 32;
/// Most bytes of one cache.
const MAX_FILE_BYTES: u64 = 512 << 20;
/// Entries of files that no build saw are dropped once there are this many times more than seen ones.
const KEPT_RATIO: usize = 3;
/// Entries that are kept in any case.
const ALWAYS_KEPT: usize = 10_000;
/// A file that changed this shortly before it was read may change again without its time changing: the
/// kernel's clock for files ticks every 1–10 ms, some file systems count in whole seconds.
const TICK_NS: i128 = 20_000_000;
const COARSE_TICK_NS: i128 = 2_000_000_000;
const MODE: u32 = 0o600;

/// The cache of one build context.
pub(crate) struct StatCache {
    path: PathBuf,
    known: HashMap<(u64, u64), Known>,
    fresh: Mutex<Vec<((u64, u64), Known)>>,
    seen: Mutex<Vec<(u64, u64)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    size_bytes: u64,
    mtime: Timestamp,
    ctime: Timestamp,
    digest: Digest,
}

impl Known {
    fn of(metadata: &Metadata, digest: Digest) -> Self {
        Self {
            size_bytes: metadata.size_bytes,
            mtime: metadata.mtime,
            ctime: metadata.ctime,
            digest,
        }
    }
}

impl StatCache {
    /// Reads the cache of the directory with these attributes; one that cannot be read is empty. Each user has one of
    /// their own: a file that is in it was open to them when it had these attributes.
    pub fn open(store: &Store, directory: &Metadata, uid: u32) -> Self {
        let name = format!("{:x}-{:x}-{uid}", directory.dev, directory.ino);
        let path = store.build_dir(BuildPart::Stat).join(name);
        let bytes = trusted::read_limited(&path, MAX_FILE_BYTES).unwrap_or_default();
        Self {
            path,
            known: parse(&bytes),
            fresh: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// Returns the digest of a file that has the attributes it had when it was last read.
    pub fn get(&self, metadata: &Metadata) -> Option<Digest> {
        let inode = (metadata.dev, metadata.ino);
        let known = self.known.get(&inode)?;
        (*known == Known::of(metadata, known.digest)).then(|| {
            lock(&self.seen).push(inode);
            known.digest
        })
    }

    /// Remembers the digest of a file that was read after `metadata` was taken and had the same attributes after.
    pub fn put(&self, metadata: &Metadata, digest: Digest) {
        let tick = if metadata.mtime.nanoseconds == 0 && metadata.ctime.nanoseconds == 0 {
            COARSE_TICK_NS
        } else {
            TICK_NS
        };
        if nanoseconds(Timestamp::now()) - nanoseconds(metadata.ctime) > tick {
            let inode = (metadata.dev, metadata.ino);
            lock(&self.fresh).push((inode, Known::of(metadata, digest)));
        }
    }

    /// Writes what is new.
    ///
    /// # Errors
    /// A disk that does not take it.
    pub fn save(&mut self) -> Result<(), BuildError> {
        let fresh = std::mem::take(&mut *lock(&self.fresh));
        if fresh.is_empty() {
            return Ok(());
        }
        let mut seen = std::mem::take(&mut *lock(&self.seen));
        seen.extend(fresh.iter().map(|(inode, _)| *inode));
        self.known.extend(fresh);
        if self.known.len() > ALWAYS_KEPT.max(seen.len().saturating_mul(KEPT_RATIO)) {
            let seen: std::collections::HashSet<_> = seen.into_iter().collect();
            self.known.retain(|inode, _| seen.contains(inode));
        }
        Ok(trusted::write_atomic(
            &self.path,
            &to_bytes(&self.known),
            MODE,
            false,
        )?)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn nanoseconds(time: Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

fn to_bytes(known: &HashMap<(u64, u64), Known>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAGIC.len() + known.len() * ENTRY_BYTES);
    bytes.extend_from_slice(MAGIC);
    for ((dev, ino), known) in known {
        for number in [*dev, *ino, known.size_bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for time in [known.mtime, known.ctime] {
            bytes.extend_from_slice(&time.seconds.to_le_bytes());
            bytes.extend_from_slice(&time.nanoseconds.to_le_bytes());
        }
        bytes.extend_from_slice(known.digest.as_bytes());
    }
    bytes
}

fn parse(bytes: &[u8]) -> HashMap<(u64, u64), Known> {
    let Some(entries) = bytes.strip_prefix(MAGIC) else {
        return HashMap::new();
    };
    entries
        .chunks_exact(ENTRY_BYTES)
        .filter_map(parse_entry)
        .collect()
}

fn parse_entry(entry: &[u8]) -> Option<((u64, u64), Known)> {
    let long = |at: usize| Some(u64::from_le_bytes(entry.get(at..at + 8)?.try_into().ok()?));
    let time = |at: usize| {
        Some(Timestamp {
            seconds: i64::from_le_bytes(entry.get(at..at + 8)?.try_into().ok()?),
            nanoseconds: u32::from_le_bytes(entry.get(at + 8..at + 12)?.try_into().ok()?),
        })
    };
    let known = Known {
        size_bytes: long(16)?,
        mtime: time(24)?,
        ctime: time(36)?,
        digest: Digest::from_bytes(entry.get(48..80)?.try_into().ok()?),
    };
    Some(((long(0)?, long(8)?), known))
}

#[cfg(test)]
mod tests {
    use super::StatCache;
    use std::io::Write;
    use wharf_image::Digest;
    use wharf_safefs::{Root, Timestamp};
    use wharf_store::Store;

    #[test]
    fn unchanged_files_are_known_and_changed_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("root")).unwrap();
        let root = Root::open(directory.path()).unwrap();
        let write = |text: &str| {
            let mut file = root.create_file("f", 0o644).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        write("one");
        let top = root.metadata().unwrap();
        let young = root.lstat("f").unwrap();
        let mut cache = StatCache::open(&store, &top, 0);
        cache.put(&young, Digest::of("one"));
        cache.save().unwrap();
        assert_eq!(StatCache::open(&store, &top, 0).get(&young), None);

        std::thread::sleep(std::time::Duration::from_millis(30));
        cache.put(&young, Digest::of("one"));
        cache.save().unwrap();
        let cache = StatCache::open(&store, &top, 0);
        assert_eq!(cache.get(&young), Some(Digest::of("one")));
        // Same size, and a modification time that was set back: the change time tells.
        write("two");
        root.set_times("f", young.atime, young.mtime).unwrap();
        assert_eq!(cache.get(&root.lstat("f").unwrap()), None);
    }

    #[test]
    fn whole_seconds_are_trusted_later() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("root")).unwrap();
        let root = Root::open(directory.path()).unwrap();
        let mut metadata = root.metadata().unwrap();
        let now = Timestamp::from_seconds(Timestamp::now().seconds - 1);
        (metadata.mtime, metadata.ctime) = (now, now);
        let mut cache = StatCache::open(&store, &metadata, 0);
        cache.put(&metadata, Digest::of("x"));
        cache.save().unwrap();
        assert_eq!(cache.get(&metadata), None);
    }
}
