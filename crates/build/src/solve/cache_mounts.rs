//! Directories of `RUN --mount=type=cache`: found by their ID, kept apart from the step cache.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_image::Digest;
use wharf_safefs::{CopyOptions, Root, copy_tree, trusted};
use wharf_store::{BuildPart, Store};

use crate::BuildError;

/// Kind of the documents that describe cache mounts, by the name of their directory.
const KIND: &str = "build-cache-mount";
const MODE: u32 = 0o755;
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Private copies of one cache that are tried before a new one is refused.
const MAX_PRIVATE: usize = 1_000;

/// Who may use a cache mount beside somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheSharing {
    /// Everybody at once.
    Shared,
    /// Each user gets one of their own while the others are busy.
    Private,
    /// One after the other.
    Locked,
}

/// A cache mount as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMount {
    /// Name of its directory.
    pub name: String,
    /// The ID that steps ask for.
    pub id: String,
    /// When it was made, in nanoseconds since 1970.
    pub created_unix_ns: i64,
    /// When a step last used it, in nanoseconds since 1970.
    pub last_used_unix_ns: i64,
    /// How many steps used it.
    pub use_count: u64,
}

/// How many steps use each directory, and whether one of them has it alone.
static USERS: LazyLock<Mutex<HashMap<PathBuf, (usize, bool)>>> = LazyLock::new(Mutex::default);

/// A step's use of a cache mount.
pub(crate) struct CacheUse {
    path: PathBuf,
}

/// What a new cache mount starts with: a directory of an input.
pub(crate) struct Beginning<'a> {
    /// The input's files.
    pub root: &'a Root,
    /// The directory in them.
    pub selector: &'a str,
}

impl CacheUse {
    /// Takes a cache mount into use, making it where there is none; waits for one that is locked.
    ///
    /// # Errors
    /// [`BuildError::Cancelled`], and a disk that fails.
    pub fn begin(
        store: &Store,
        id: &str,
        sharing: CacheSharing,
        beginning: Option<Beginning<'_>>,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Self, BuildError> {
        let name = Digest::of(id).hex();
        let taken = match sharing {
            CacheSharing::Private => take_private(store, &name)?,
            sharing => {
                let path = store.build_dir(BuildPart::CacheMounts).join(&name);
                while !take(&path, sharing == CacheSharing::Locked) {
                    if is_cancelled() {
                        return Err(BuildError::Cancelled);
                    }
                    std::thread::sleep(POLL_INTERVAL);
                }
                Self { path }
            }
        };
        make(store, &taken.path, beginning.as_ref())?;
        note_use(store, &taken.path, id)?;
        Ok(taken)
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for CacheUse {
    fn drop(&mut self) {
        let mut users = lock();
        if let Some((count, _)) = users.get_mut(&self.path) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.path);
            }
        }
    }
}

fn lock() -> MutexGuard<'static, HashMap<PathBuf, (usize, bool)>> {
    USERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a directory unless it is in the way of somebody who wants it alone.
fn take(path: &Path, alone: bool) -> bool {
    let mut users = lock();
    match users.get_mut(path) {
        None => {
            users.insert(path.to_path_buf(), (1, alone));
            true
        }
        Some((count, is_alone)) if !*is_alone && !alone => {
            *count += 1;
            true
        }
        Some(_) => false,
    }
}

fn take_private(store: &Store, name: &str) -> Result<CacheUse, BuildError> {
    let parent = store.build_dir(BuildPart::CacheMounts);
    for number in 0..MAX_PRIVATE {
        let path = if number == 0 {
            parent.join(name)
        } else {
            parent.join(format!("{name}.{number}"))
        };
        if take(&path, true) {
            return Ok(CacheUse { path });
        }
    }
    Err(BuildError::instruction(format!(
        "{MAX_PRIVATE} steps use a private copy of one cache mount"
    )))
}

/// Makes the directory; it appears whole or not at all.
fn make(store: &Store, path: &Path, beginning: Option<&Beginning<'_>>) -> Result<(), BuildError> {
    if trusted::exists(path)? {
        return Ok(());
    }
    let staging = store.stage()?;
    if let Some(beginning) = beginning {
        let from = beginning.root.open_dir(beginning.selector)?;
        copy_tree(&from, staging.root(), &CopyOptions::default())?;
    } else {
        trusted::chmod(staging.files(), MODE)?;
    }
    match trusted::rename(staging.files(), path) {
        // Another step that shares it was faster.
        Err(_) if trusted::exists(path)? => Ok(()),
        result => Ok(result?),
    }
}

fn note_use(store: &Store, path: &Path, id: &str) -> Result<(), BuildError> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let now = now_unix_ns();
    let earlier = store.document(KIND, &name)?;
    let earlier = earlier.and_then(|document| serde_json::from_value::<CacheMount>(document).ok());
    let mount = CacheMount {
        id: id.to_owned(),
        created_unix_ns: earlier.as_ref().map_or(now, |mount| mount.created_unix_ns),
        last_used_unix_ns: now,
        use_count: earlier.map_or(0, |mount| mount.use_count) + 1,
        name: name.clone(),
    };
    let document = serde_json::to_value(mount).unwrap_or_default();
    Ok(store.put_document(KIND, &name, &document)?)
}

fn now_unix_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Returns all cache mounts with the bytes they take on disk, sorted by ID.
///
/// # Errors
/// A store that cannot be read.
pub fn cache_mounts(store: &Store) -> Result<Vec<(CacheMount, u64)>, BuildError> {
    let mut found = Vec::new();
    for (name, document) in store.documents(KIND)? {
        let Ok(mount) = serde_json::from_value::<CacheMount>(document) else {
            continue;
        };
        let path = store.build_dir(BuildPart::CacheMounts).join(&name);
        match trusted::disk_usage(&path) {
            Ok(usage) => found.push((mount, usage.disk_bytes)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_by(|(left, _), (right, _)| (&left.id, &left.name).cmp(&(&right.id, &right.name)));
    Ok(found)
}

/// Opens a cache mount by its ID or the beginning of its name.
///
/// # Errors
/// An ID that none has, or a beginning that several have.
pub fn find_cache_mount(
    store: &Store,
    wanted: &str,
) -> Result<(CacheMount, u64, Root), BuildError> {
    let all = cache_mounts(store)?;
    let by_id = |mount: &CacheMount| mount.id == wanted || mount.id == format!("/{wanted}");
    let mut found: Vec<&(CacheMount, u64)> = all.iter().filter(|(mount, _)| by_id(mount)).collect();
    if found.is_empty() {
        let starts = |mount: &CacheMount| !wanted.is_empty() && mount.name.starts_with(wanted);
        found = all.iter().filter(|(mount, _)| starts(mount)).collect();
        if found.len() > 1 {
            return Err(BuildError::instruction(format!(
                "several cache mounts start with {wanted}: give more of the name"
            )));
        }
    }
    let Some((mount, bytes)) = found.first() else {
        return Err(BuildError::instruction(format!(
            "no such cache mount: {wanted} (`wharf builder cache ls` lists them)"
        )));
    };
    let path = store.build_dir(BuildPart::CacheMounts).join(&mount.name);
    Ok((mount.clone(), *bytes, Root::open(path)?))
}

/// Removes a cache mount; returns the bytes that come free.
///
/// # Errors
/// One that a running step uses.
pub fn remove_cache_mount(store: &Store, mount: &CacheMount) -> Result<u64, BuildError> {
    let path = store.build_dir(BuildPart::CacheMounts).join(&mount.name);
    if !take(&path, true) {
        return Err(BuildError::instruction(format!(
            "cache mount {} is in use by a running step",
            mount.id
        )));
    }
    let _in_use = CacheUse { path };
    let bytes = store.discard_build_entry(BuildPart::CacheMounts, &mount.name)?;
    store.delete_document(KIND, &mount.name)?;
    Ok(bytes)
}

/// Replaces the content of a cache mount by an archive's, or makes the cache mount.
///
/// # Errors
/// An archive that cannot be unpacked; one that a running step uses.
pub fn import_cache_mount(
    store: &Store,
    id: &str,
    archive: &mut (dyn std::io::Read + Send),
) -> Result<CacheMount, BuildError> {
    // Dockerfiles' mounts have IDs that begin with a slash (spec llb: `id=x` is the cache `/x`).
    let id = match id.strip_prefix('/') {
        Some(_) => id.to_owned(),
        None => format!("/{id}"),
    };
    let id = id.as_str();
    let staging = store.stage()?;
    let (_, tar) = wharf_layer::decompress(std::io::BufReader::new(archive))?;
    let options = wharf_layer::ExtractOptions {
        best_effort_xattrs: true,
        ..wharf_layer::ExtractOptions::default()
    };
    let unpacked = wharf_layer::extract(tar, staging.root(), Path::new(""), &options)?;
    if unpacked.tar_bytes == 0 {
        return Err(BuildError::instruction(format!(
            "nothing to import into cache mount {id}: expected a tar archive, found no bytes"
        )));
    }
    let name = Digest::of(id).hex();
    let path = store.build_dir(BuildPart::CacheMounts).join(&name);
    if !take(&path, true) {
        return Err(BuildError::instruction(format!(
            "cache mount {id} is in use by a running step"
        )));
    }
    let in_use = CacheUse { path };
    store.discard_build_entry(BuildPart::CacheMounts, &name)?;
    trusted::rename(staging.files(), in_use.path())?;
    note_use(store, in_use.path(), id)?;
    let (mount, _, _) = find_cache_mount(store, &name)?;
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::{
        CacheSharing, CacheUse, cache_mounts, find_cache_mount, import_cache_mount,
        remove_cache_mount,
    };
    use wharf_safefs::Root;
    use wharf_store::Store;

    fn begin(store: &Store, sharing: CacheSharing, cancelled: bool) -> Option<CacheUse> {
        CacheUse::begin(store, "/c", sharing, None, &|| cancelled).ok()
    }

    #[test]
    fn sharing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("root")).unwrap();
        let first = begin(&store, CacheSharing::Shared, false).unwrap();
        let second = begin(&store, CacheSharing::Shared, false).unwrap();
        assert_eq!(first.path(), second.path());
        assert!(begin(&store, CacheSharing::Locked, true).is_none());
        let own = begin(&store, CacheSharing::Private, false).unwrap();
        assert_ne!(own.path(), first.path());
        let (mount, _, _) = find_cache_mount(&store, "c").unwrap();
        assert!(remove_cache_mount(&store, &mount).is_err());
        drop((first, second, own));
        let locked = begin(&store, CacheSharing::Locked, false).unwrap();
        assert!(begin(&store, CacheSharing::Locked, true).is_none());
        drop(locked);
        assert_eq!(cache_mounts(&store).unwrap().len(), 2);
        remove_cache_mount(&store, &mount).unwrap();
        assert_eq!(cache_mounts(&store).unwrap().len(), 1);
    }

    #[test]
    fn archives_replace_the_content() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("root")).unwrap();
        let source = tempfile::tempdir().unwrap();
        let root = Root::open(source.path()).unwrap();
        root.create_file("f", 0o640).unwrap();
        let mut tar = Vec::new();
        let options = wharf_layer::PlainTarOptions::default();
        wharf_layer::write_plain_tar(&root, "".as_ref(), &mut tar, &options).unwrap();
        let mount = import_cache_mount(&store, "/x", &mut tar.as_slice()).unwrap();
        assert_eq!(mount.id, "/x");
        // As a Dockerfile names it.
        let same = import_cache_mount(&store, "x", &mut tar.as_slice()).unwrap();
        assert_eq!((same.id, &same.name), (mount.id, &mount.name));
        assert!(import_cache_mount(&store, "/y", &mut [].as_slice()).is_err());
        assert_eq!(cache_mounts(&store).unwrap().len(), 1);
        let (_, _, root) = find_cache_mount(&store, &mount.name[..12]).unwrap();
        assert_eq!(root.lstat("f").unwrap().mode, 0o640);
        assert!(find_cache_mount(&store, "nosuch").is_err());
    }
}
