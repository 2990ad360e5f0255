//! Garbage: what nothing owns.
//!
//! Owners of a layer are images, containers, cache records and leases; owners of a blob are images, their
//! documents, cache records, layers and leases. Rows go first, durably, then the
//! directories are renamed into `tmp/` and removed in the background: a crash in between leaves files
//! without a row, which the next start removes.

use rusqlite::{Connection, OptionalExtension, Transaction};
use wharf_image::{DiffId, Digest};

use crate::blobs::delete_blob_row;
use crate::db::{Durability, digest_column, lock};
use crate::error::{Result, StoreError};
use crate::family;
use crate::leases::{Held, LeaseTable};
use crate::store::Store;
use crate::worker::Job;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// Layers removed.
    pub layers: u64,
    /// Blobs removed.
    pub blobs: u64,
    /// Bytes on disk set free.
    pub bytes: u64,
}

/// What may have lost its last owner.
#[derive(Debug, Default, Clone)]
pub(crate) struct Candidates {
    pub(crate) layers: Vec<DiffId>,
    pub(crate) blobs: Vec<Digest>,
}

/// What has no row any more and waits to be removed.
#[derive(Debug, Default)]
struct Garbage {
    numbers: Vec<i64>,
    blobs: Vec<Digest>,
    /// Those of `numbers` that have files in common with others: what comes free with them has to be looked for.
    shared: Vec<i64>,
    /// Layers whose share of common files grows.
    to_measure: Vec<i64>,
    report: SweepReport,
}

impl Garbage {
    fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.blobs.is_empty()
    }
}

impl Store {
    /// Removes all that nothing owns. Safe beside running operations that hold a [`Lease`](crate::Lease).
    pub fn sweep(&self) -> Result<SweepReport> {
        let candidates = self.inner.database.read("look for garbage", unowned)?;
        if candidates.layers.is_empty() && candidates.blobs.is_empty() {
            return Ok(SweepReport::default());
        }
        self.collect_reported("sweep", |_| Ok((candidates.clone(), ())))
            .map(|((), report)| report)
    }

    /// Drops the compressed blobs of layers that can be made again without them; a registry has them, too.
    /// Which blob a layer came as stays known.
    pub fn evict_layer_blobs(&self) -> Result<SweepReport> {
        let leases = lock(&self.inner.leases);
        let garbage = self.inner.database.write(
            Durability::Power,
            "evict compressed layers",
            |transaction| {
                let mut garbage = Garbage::default();
                for digest in evictable(transaction)? {
                    if !leases.is_held(Held::Blob(digest)) {
                        remove_blob(transaction, &digest, &mut garbage)?;
                    }
                }
                Ok(garbage)
            },
        )?;
        self.discard_all(&garbage)?;
        Ok(garbage.report)
    }

    /// Runs `change`, which deletes rows of owners, and removes what it left without one.
    pub(crate) fn collect<T>(
        &self,
        operation: &'static str,
        change: impl FnMut(&Transaction<'_>) -> Result<(Candidates, T)>,
    ) -> Result<T> {
        self.collect_reported(operation, change)
            .map(|(value, _)| value)
    }

    /// Does what [`Store::collect`] does and reports what was removed.
    pub(crate) fn collect_reported<T>(
        &self,
        operation: &'static str,
        change: impl FnMut(&Transaction<'_>) -> Result<(Candidates, T)>,
    ) -> Result<(T, SweepReport)> {
        let mut change = change;
        match self.collect_once(operation, &mut change) {
            // Deleting needs a little space itself: on a full disk the reserve gives it.
            Err(StoreError::NoSpace { .. }) if self.inner.layout.give_up_reserve() => {
                self.collect_once(operation, &mut change)
            }
            result => result,
        }
    }

    fn collect_once<T>(
        &self,
        operation: &'static str,
        change: &mut impl FnMut(&Transaction<'_>) -> Result<(Candidates, T)>,
    ) -> Result<(T, SweepReport)> {
        let leases = lock(&self.inner.leases);
        let (value, mut garbage) =
            self.inner
                .database
                .write(Durability::Process, operation, |transaction| {
                    let (candidates, value) = change(transaction)?;
                    Ok((value, delete_unowned(transaction, &leases, candidates)?))
                })?;
        if !garbage.is_empty() {
            // A power cut must not bring rows back whose files are gone. Mostly there is nothing to remove.
            self.inner.database.make_durable()?;
            garbage.report.bytes += family::freed_bytes(&self.inner.layout, &garbage.shared)?;
            self.discard_all(&garbage)?;
        }
        for number in garbage.to_measure {
            self.inner.worker.submit(Job::Measure(number));
        }
        Ok((value, garbage.report))
    }

    fn discard_all(&self, garbage: &Garbage) -> Result<()> {
        let layers = garbage
            .numbers
            .iter()
            .map(|number| self.inner.layout.layer(*number));
        let blobs = garbage
            .blobs
            .iter()
            .map(|digest| self.inner.layout.blob(digest));
        // One that fails does not stop the others; the next start tries it again.
        let failures: Vec<_> = layers
            .chain(blobs)
            .filter_map(|path| self.inner.discard(&path).err())
            .collect();
        failures.into_iter().next().map_or(Ok(()), Err)
    }
}

const LAYER_IS_OWNED: &str = "EXISTS (SELECT 1 FROM image_layers o WHERE o.diff_id = l.diff_id)
    OR EXISTS (SELECT 1 FROM container_layers o WHERE o.diff_id = l.diff_id)
    OR EXISTS (SELECT 1 FROM cache_layers o WHERE o.diff_id = l.diff_id)";
const BLOB_IS_OWNED: &str = "EXISTS (SELECT 1 FROM images o WHERE o.id = b.digest)
    OR EXISTS (SELECT 1 FROM image_documents o WHERE o.digest = b.digest)
    OR EXISTS (SELECT 1 FROM cache_records o WHERE o.config_digest = b.digest)
    OR EXISTS (SELECT 1 FROM layer_blobs o WHERE o.digest = b.digest)";

/// Lists what no row owns; leases are asked later.
fn unowned(connection: &Connection) -> Result<Candidates> {
    let list = |sql: String| -> Result<Vec<Digest>> {
        let mut statement = connection.prepare_cached(&sql)?;
        let digests = statement.query_map([], |row| digest_column(row, 0))?;
        Ok(digests.collect::<rusqlite::Result<_>>()?)
    };
    Ok(Candidates {
        layers: list(format!(
            "SELECT diff_id FROM layers l WHERE NOT ({LAYER_IS_OWNED})"
        ))?,
        blobs: list(format!(
            "SELECT digest FROM blobs b WHERE NOT ({BLOB_IS_OWNED})"
        ))?,
    })
}

/// Lists the blobs that only layers own which do not need them.
fn evictable(connection: &Connection) -> Result<Vec<Digest>> {
    let sql = "SELECT digest FROM blobs b
        WHERE digest IN (SELECT digest FROM layer_blobs)
            AND NOT EXISTS (SELECT 1 FROM layer_blobs o JOIN layers l ON l.diff_id = o.diff_id
                WHERE o.digest = b.digest AND l.tar_source = 'blob')
            AND NOT EXISTS (SELECT 1 FROM images o WHERE o.id = b.digest)
            AND NOT EXISTS (SELECT 1 FROM image_documents o WHERE o.digest = b.digest)
            AND NOT EXISTS (SELECT 1 FROM cache_records o WHERE o.config_digest = b.digest)";
    let mut statement = connection.prepare_cached(sql)?;
    let digests = statement.query_map([], |row| digest_column(row, 0))?;
    Ok(digests.collect::<rusqlite::Result<_>>()?)
}

fn delete_unowned(
    transaction: &Transaction<'_>,
    leases: &LeaseTable,
    candidates: Candidates,
) -> Result<Garbage> {
    let mut garbage = Garbage::default();
    let mut blobs = candidates.blobs;
    for diff_id in &candidates.layers {
        if !leases.is_held(Held::Layer(*diff_id)) {
            delete_layer(transaction, diff_id, &mut garbage, &mut blobs)?;
        }
    }
    for digest in &blobs {
        if !leases.is_held(Held::Blob(*digest)) {
            delete_blob(transaction, digest, &mut garbage)?;
        }
    }
    Ok(garbage)
}

fn delete_layer(
    transaction: &Transaction<'_>,
    diff_id: &DiffId,
    garbage: &mut Garbage,
    blobs: &mut Vec<Digest>,
) -> Result<()> {
    let diff_id = diff_id.to_string();
    let sql = format!(
        "SELECT number, coalesce(disk_bytes, size_bytes), family FROM layers l
         WHERE diff_id = ?1 AND NOT ({LAYER_IS_OWNED})"
    );
    let found: Option<(i64, i64, Option<i64>)> = transaction
        .prepare_cached(&sql)?
        .query_row([&diff_id], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((number, disk_bytes, family)) = found else {
        return Ok(());
    };
    let mut removed = vec![(number, disk_bytes)];
    let mut variants =
        transaction.prepare_cached("SELECT number, disk_bytes FROM variants WHERE diff_id = ?1")?;
    let mut rows = variants.query([&diff_id])?;
    while let Some(row) = rows.next()? {
        removed.push((row.get(0)?, row.get(1)?));
    }
    garbage.report.layers += 1;
    for (number, disk_bytes) in removed {
        garbage.numbers.push(number);
        match family {
            Some(_) => garbage.shared.push(number),
            None => garbage.report.bytes += u64::try_from(disk_bytes).unwrap_or(0),
        }
    }
    if let Some(family) = family {
        garbage
            .to_measure
            .extend(family::leave(transaction, family, number)?);
    }
    let mut compressed =
        transaction.prepare_cached("SELECT digest FROM layer_blobs WHERE diff_id = ?1")?;
    for digest in compressed.query_map([&diff_id], |row| digest_column(row, 0))? {
        blobs.push(digest?);
    }
    transaction
        .prepare_cached("DELETE FROM layers WHERE diff_id = ?1")?
        .execute([&diff_id])?;
    Ok(())
}

fn delete_blob(
    transaction: &Transaction<'_>,
    digest: &Digest,
    garbage: &mut Garbage,
) -> Result<()> {
    let sql = format!("SELECT 1 FROM blobs b WHERE digest = ?1 AND NOT ({BLOB_IS_OWNED})");
    if !transaction
        .prepare_cached(&sql)?
        .exists([digest.to_string()])?
    {
        return Ok(());
    }
    remove_blob(transaction, digest, garbage)
}

fn remove_blob(
    transaction: &Transaction<'_>,
    digest: &Digest,
    garbage: &mut Garbage,
) -> Result<()> {
    if let Some(disk_bytes) = delete_blob_row(transaction, digest)? {
        garbage.blobs.push(*digest);
        garbage.report.blobs += 1;
        garbage.report.bytes += disk_bytes;
    }
    Ok(())
}
