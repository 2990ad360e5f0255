//! Sealing: data is durable before a row points at it (design invariant 2).

use std::path::{Path, PathBuf};

use rusqlite::{Row, Transaction};
use wharf_image::Digest;
use wharf_safefs::{FsError, OpenFlags, Root, trusted};

use crate::db::{Durability, digest_column, size_column};
use crate::error::{Result, StoreError};
use crate::store::Store;

/// Up to this many files are synced one by one: `syncfs` also writes what others left in memory, which can
/// be gigabytes on a busy host. Past it one `syncfs` is cheaper.
const MAX_SINGLE_SYNCS: u64 = 64;
/// Up to this many bytes are synced file by file.
const MAX_SINGLE_SYNC_BYTES: u64 = 32 << 20;

/// A layer's own directory and the one that holds its files.
const LAYER_DIRECTORIES: u64 = 2;

/// What was published and may still be only in memory.
struct Unsealed {
    layers: Vec<UnsealedLayer>,
    /// With the time of creation: a blob can be deleted and put again meanwhile.
    blobs: Vec<(Digest, i64)>,
}

struct UnsealedLayer {
    number: i64,
    entries: u64,
    size_bytes: u64,
}

impl Store {
    /// Makes all that is published so far durable, then commits `change` durably, together with the seals.
    ///
    /// One `syncfs` seals however many layers wait; nobody's lock is held while it runs.
    pub(crate) fn seal<T>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let unsealed = self.unsealed()?;
        self.sync(&unsealed)?;
        self.inner
            .database
            .write(Durability::Power, "commit an image", |transaction| {
                mark_sealed(transaction, &unsealed)?;
                change(transaction)
            })
    }

    fn unsealed(&self) -> Result<Unsealed> {
        self.inner
            .database
            .read("list unsealed layers", |connection| {
                let mut layers = connection.prepare_cached(
                    "SELECT number, entries, size_bytes FROM layers WHERE sealed = 0",
                )?;
                let mut blobs = connection
                    .prepare_cached("SELECT digest, created_ns FROM blobs WHERE sealed = 0")?;
                Ok(Unsealed {
                    layers: layers
                        .query_map([], unsealed_layer)?
                        .collect::<rusqlite::Result<_>>()?,
                    blobs: blobs
                        .query_map([], |row| Ok((digest_column(row, 0)?, row.get(1)?)))?
                        .collect::<rusqlite::Result<_>>()?,
                })
            })
    }

    fn sync(&self, unsealed: &Unsealed) -> Result<()> {
        let in_layers: u64 = unsealed
            .layers
            .iter()
            .map(|layer| layer.entries + LAYER_DIRECTORIES)
            .sum();
        let files = in_layers + unsealed.blobs.len() as u64;
        let bytes: u64 = unsealed.layers.iter().map(|layer| layer.size_bytes).sum();
        if files > MAX_SINGLE_SYNCS || bytes > MAX_SINGLE_SYNC_BYTES {
            return trusted::syncfs(&self.inner.file_system).map_err(StoreError::from);
        }
        for layer in &unsealed.layers {
            ignore_deleted(sync_tree(&self.inner.layout.layer(layer.number)))?;
        }
        if !unsealed.layers.is_empty() {
            trusted::sync_directory(self.inner.layout.layers())?;
        }
        for (digest, _) in &unsealed.blobs {
            ignore_deleted(sync_file(&self.inner.layout.blob(digest)))?;
        }
        if !unsealed.blobs.is_empty() {
            trusted::sync_directory(self.inner.layout.blobs())?;
        }
        Ok(())
    }
}

fn unsealed_layer(row: &Row<'_>) -> rusqlite::Result<UnsealedLayer> {
    Ok(UnsealedLayer {
        number: row.get(0)?,
        entries: size_column(row, 1)?,
        size_bytes: size_column(row, 2)?,
    })
}

/// What is deleted while it is synced needs no seal.
fn ignore_deleted(result: std::result::Result<(), FsError>) -> Result<()> {
    match result {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

fn sync_file(path: &Path) -> std::result::Result<(), FsError> {
    trusted::open(path)?
        .sync_all()
        .map_err(|error| FsError::io("sync", path, error))
}

/// Syncs files and directories; symlinks and device nodes are part of their directory's journal entry.
fn sync_tree(path: &Path) -> std::result::Result<(), FsError> {
    let root = Root::open(path)?;
    let mut stack = vec![PathBuf::new()];
    while let Some(at) = stack.pop() {
        let (directory, entries) = root.open_and_list(&at)?;
        for entry in entries {
            if entry.file_type.is_dir() {
                stack.push(at.join(entry.name));
            } else if entry.file_type.is_file() {
                let file = directory.open_file_nofollow(&entry.name, OpenFlags::RDONLY)?;
                file.sync_all()
                    .map_err(|error| FsError::io("sync", &entry.name, error))?;
            }
        }
        rustix::fs::fsync(&directory).map_err(|errno| FsError::io("sync", &at, errno))?;
    }
    Ok(())
}

fn mark_sealed(transaction: &Transaction<'_>, unsealed: &Unsealed) -> Result<()> {
    let mut layers =
        transaction.prepare_cached("UPDATE layers SET sealed = 1 WHERE number = ?1")?;
    for layer in &unsealed.layers {
        layers.execute([layer.number])?;
    }
    let mut blobs = transaction
        .prepare_cached("UPDATE blobs SET sealed = 1 WHERE digest = ?1 AND created_ns = ?2")?;
    for (digest, created_ns) in &unsealed.blobs {
        blobs.execute((digest.to_string(), created_ns))?;
    }
    Ok(())
}
