//! The store itself: what its parts share.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use wharf_image::Digest;
use wharf_safefs::trusted;

use crate::cache::Touch;
use crate::db::{Database, lock};
use crate::error::{Result, StoreError};
use crate::images::ConfigCache;
use crate::layout::{self, Layout};
use crate::leases::LeaseTable;
use crate::lock_file::LockFile;
use crate::recovery::OpenReport;
use crate::worker::{Job, Worker};

/// The data root. Clones share it; the last one that is dropped lets go of it.
///
/// All methods block on disk; reads wait for no writer.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    // Dropped first: the thread uses the database and the directories, which the lock protects.
    pub(crate) worker: Worker,
    pub(crate) database: Arc<Database>,
    pub(crate) layout: Layout,
    /// The data root, opened for `syncfs`.
    pub(crate) file_system: File,
    pub(crate) leases: Mutex<LeaseTable>,
    pub(crate) configs: Mutex<ConfigCache>,
    pub(crate) touches: Mutex<HashMap<Digest, Touch>>,
    pub(crate) report: OnceLock<OpenReport>,
    next_number: AtomicI64,
    next_temporary: AtomicU64,
    /// Tells this opening's temporary names from those of the ones before.
    opened_unix_ns: i64,
    _lock: LockFile,
}

impl Store {
    /// Opens the data root, creating it where there is none.
    ///
    /// Empties `tmp/`, repairs what a crash left between directories and rows, verifies unsealed layers and
    /// blobs when the machine was booted since they were written, and sweeps what nothing owns;
    /// [`Store::open_report`] tells what was found.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds the root, [`StoreError::NewerFormat`] when a newer
    /// version wrote it, [`StoreError::DatabaseMissing`] when it holds data that no database describes.
    pub fn open(root: &Path) -> Result<Store> {
        Self::open_at_boot(root, &current_boot_id()?)
    }

    pub(crate) fn open_at_boot(root: &Path, boot_id: &str) -> Result<Store> {
        let layout = Layout::new(&absolute(root)?);
        layout.create()?;
        let lock = LockFile::acquire(&layout.lock(), layout.root())?;
        refuse_lost_database(&layout)?;
        prepare_database_files(&layout)?;
        let database = Arc::new(Database::open(&layout.database(), layout.root())?);
        let inner = Inner {
            worker: Worker::start(Arc::clone(&database), layout.clone())?,
            database,
            file_system: trusted::open(layout.root())?,
            leases: Mutex::default(),
            configs: Mutex::default(),
            touches: Mutex::default(),
            report: OnceLock::new(),
            next_number: AtomicI64::new(first_free_number(&layout)?),
            next_temporary: AtomicU64::new(0),
            opened_unix_ns: now_unix_ns(),
            layout,
            _lock: lock,
        };
        let store = Store {
            inner: Arc::new(inner),
        };
        let report = store.recover(boot_id)?;
        store.inner.layout.make_reserve();
        // Set once, here.
        let _ = store.inner.report.set(report);
        Ok(store)
    }

    /// Returns the data root.
    pub fn root(&self) -> &Path {
        self.inner.layout.root()
    }

    /// Tells what opening found and repaired.
    pub fn open_report(&self) -> &OpenReport {
        self.inner.report.get_or_init(OpenReport::default)
    }

    /// Waits until all that was deleted before is gone from the disk, too.
    pub fn wait_for_removals(&self) {
        self.inner.worker.wait();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("root", &self.root())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Returns a path under `tmp/` that nothing has.
    pub(crate) fn temporary_path(&self, purpose: &str) -> PathBuf {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        self.layout
            .temporary()
            .join(format!("{purpose}-{:x}-{number}", self.opened_unix_ns))
    }

    /// Returns a number that no layer or variant has had since the store was opened.
    pub(crate) fn next_layer_number(&self) -> i64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a directory with empty directories in it, each with its mode, whole or not at all.
    pub(crate) fn make_directory(
        &self,
        mode: u32,
        parts: &[(&str, u32)],
        place: &Path,
    ) -> Result<()> {
        let staged = self.temporary_path("directory");
        let made = trusted::create_dir(&staged, mode)
            .and_then(|()| {
                parts
                    .iter()
                    .try_for_each(|(name, mode)| trusted::create_dir(staged.join(name), *mode))
            })
            .and_then(|()| trusted::rename(&staged, place));
        if made.is_err() {
            self.worker.submit(Job::Remove(staged));
        }
        Ok(made?)
    }

    /// Takes something out of its place at once and removes it in the background. Absence is no error.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        let trash = self.temporary_path("trash");
        match trusted::rename(path, &trash) {
            Ok(()) => {
                self.worker.submit(Job::Remove(trash));
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let touches = std::mem::take(&mut *lock(&self.touches));
        if !touches.is_empty() {
            // Hits that are lost only make a record look older.
            let _ = self.write_touches(&touches);
        }
    }
}

/// Returns nanoseconds since 1970.
pub(crate) fn now_unix_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn current_boot_id() -> Result<String> {
    const MAX_BOOT_ID_BYTES: u64 = 128;
    let text = trusted::read_to_string("/proc/sys/kernel/random/boot_id", MAX_BOOT_ID_BYTES)?;
    Ok(text.trim().to_owned())
}

/// Mounts and other processes need paths that do not depend on the working directory.
fn absolute(root: &Path) -> Result<PathBuf> {
    std::path::absolute(root).map_err(|error| StoreError::io("resolve", root, error))
}

/// Without its database the first sweep would take all that is there for garbage.
fn refuse_lost_database(layout: &Layout) -> Result<()> {
    match trusted::metadata(layout.database()) {
        Ok(metadata) if metadata.size_bytes > 0 => return Ok(()),
        Err(error) if !error.is_not_found() => return Err(error.into()),
        _ => {}
    }
    for path in [
        layout.layers(),
        layout.containers(),
        layout.volumes(),
        layout.blobs(),
    ] {
        if !trusted::read_dir_sorted(&path)?.is_empty() {
            return Err(StoreError::DatabaseMissing {
                root: layout.root().to_path_buf(),
                found: path,
            });
        }
    }
    Ok(())
}

/// SQLite gives its log the mode of the database (sqlite.org/wal.html), which must be there before it.
fn prepare_database_files(layout: &Layout) -> Result<()> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(layout::FILE_MODE);
    trusted::open_with(layout.database(), &options)?;
    for path in layout.database_files() {
        if trusted::exists(&path)? {
            trusted::chmod(&path, layout::FILE_MODE)?;
        }
    }
    Ok(())
}

/// Numbers are not used again while anything of theirs lies on disk.
fn first_free_number(layout: &Layout) -> Result<i64> {
    let entries = trusted::read_dir_sorted(layout.layers())?;
    let numbers = entries
        .iter()
        .filter_map(|entry| entry.name.to_str()?.parse::<i64>().ok());
    Ok(numbers.max().unwrap_or(0).max(0).saturating_add(1))
}
