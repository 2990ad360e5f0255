//! Sealing: data is durable before a row points at it (design invariant 2).

use std::path::PathBuf;

use rusqlite::Transaction;
use wharf_image::Digest;
use wharf_safefs::trusted;

use crate::db::{Durability, digest_column};
use crate::error::{Result, StoreError};
use crate::store::Store;

/// Up to this many blobs are synced one by one when no layer waits; a file system can hold much that is
/// not ours and that `syncfs` would have to write, too.
const MAX_SINGLE_SYNCS: usize = 4;

/// What was published and may still be only in memory.
struct Unsealed {
    layers: Vec<i64>,
    /// With the time of creation: a blob can be deleted and put again meanwhile.
    blobs: Vec<(Digest, i64)>,
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
                let mut layers =
                    connection.prepare_cached("SELECT number FROM layers WHERE sealed = 0")?;
                let mut blobs = connection
                    .prepare_cached("SELECT digest, created_ns FROM blobs WHERE sealed = 0")?;
                Ok(Unsealed {
                    layers: layers
                        .query_map([], |row| row.get(0))?
                        .collect::<rusqlite::Result<_>>()?,
                    blobs: blobs
                        .query_map([], |row| Ok((digest_column(row, 0)?, row.get(1)?)))?
                        .collect::<rusqlite::Result<_>>()?,
                })
            })
    }

    fn sync(&self, unsealed: &Unsealed) -> Result<()> {
        if unsealed.layers.is_empty() && unsealed.blobs.is_empty() {
            return Ok(());
        }
        if unsealed.layers.is_empty() && unsealed.blobs.len() <= MAX_SINGLE_SYNCS {
            return self.sync_blobs(&unsealed.blobs);
        }
        trusted::syncfs(&self.inner.file_system).map_err(StoreError::from)
    }

    fn sync_blobs(&self, blobs: &[(Digest, i64)]) -> Result<()> {
        for (digest, _) in blobs {
            let path: PathBuf = self.inner.layout.blob(digest);
            match trusted::open(&path) {
                Ok(file) => file
                    .sync_all()
                    .map_err(|error| StoreError::io("sync", &path, error))?,
                // Deleted meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(trusted::sync_directory(self.inner.layout.blobs())?)
    }
}

fn mark_sealed(transaction: &Transaction<'_>, unsealed: &Unsealed) -> Result<()> {
    let mut layers =
        transaction.prepare_cached("UPDATE layers SET sealed = 1 WHERE number = ?1")?;
    for number in &unsealed.layers {
        layers.execute([number])?;
    }
    let mut blobs = transaction
        .prepare_cached("UPDATE blobs SET sealed = 1 WHERE digest = ?1 AND created_ns = ?2")?;
    for (digest, created_ns) in &unsealed.blobs {
        blobs.execute((digest.to_string(), created_ns))?;
    }
    Ok(())
}
