//! Build cache records: what a step's key led to.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, Transaction};
use wharf_image::{DiffId, Digest};

use crate::db::{
    Durability, digest_column, digest_option_column, json_column, lock, size_column, sql_size,
};
use crate::documents::encode_document;
use crate::error::Result;
use crate::images::{check_size, prefix_range};
use crate::layers::{find_chain, insert_chain};
use crate::leases::Held;
use crate::limits::MAX_CONFIG_BYTES;
use crate::store::{Store, now_unix_ns};
use crate::sweep::Candidates;

const CACHE_COLUMNS: &str =
    "key, config_digest, description, explain, size_bytes, created_ns, used_ns, use_count";
/// Hits are remembered and written together: a lookup waits for no writer.
const MAX_PENDING_TOUCHES: usize = 1024;

/// What a build step led to, under its key.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheRecord {
    /// Digest of the step's structured key.
    pub key: Digest,
    /// The whole chain after the step, lowest first.
    pub diff_ids: Vec<DiffId>,
    /// The image config after the step; its digest works as an image ID.
    pub config: Option<Vec<u8>>,
    /// One line for listings.
    pub description: String,
    /// The structured key, for explaining a later miss.
    pub explain: serde_json::Value,
    /// Bytes that the step's own layer holds.
    pub size_bytes: u64,
    /// When it was made, in nanoseconds since 1970; set by the store.
    pub created_unix_ns: i64,
    /// When it was last hit, in nanoseconds since 1970; set by the store.
    pub last_used_unix_ns: i64,
    /// How often it was hit; set by the store.
    pub use_count: u64,
}

/// Hits of a record that are not written yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Touch {
    used_unix_ns: i64,
    hits: u64,
}

impl Store {
    /// Stores a record, replacing an older one of the same key. Its layers must be there and are kept
    /// as long as the record. After a power cut it is there whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::NotFound`](crate::StoreError::NotFound) names a missing layer.
    pub fn put_cache(&self, record: &CacheRecord) -> Result<()> {
        let explain = encode_document(&record.explain)?;
        let lease = self.lease("put build cache record")?;
        for diff_id in &record.diff_ids {
            lease.hold(Held::Layer(*diff_id));
        }
        let config_digest = match &record.config {
            Some(bytes) => {
                check_size("image config", bytes, MAX_CONFIG_BYTES)?;
                Some(self.put_blob(bytes)?)
            }
            None => None,
        };
        self.inner.database.write(
            Durability::Process,
            "store a build cache record",
            |transaction| {
                find_chain(transaction, &record.diff_ids)?;
                insert_record(transaction, record, config_digest, &explain)
            },
        )
    }

    /// Returns the record of a key and counts the hit.
    pub fn cache(&self, key: &Digest) -> Result<Option<CacheRecord>> {
        let found = self
            .inner
            .database
            .read("look up a build cache record", |connection| {
                let sql = format!("SELECT {CACHE_COLUMNS} FROM cache_records WHERE key = ?1");
                let mut statement = connection.prepare_cached(&sql)?;
                let row = statement
                    .query_row([key.to_string()], cache_row)
                    .optional()?;
                row.map(|row| with_layers(connection, row)).transpose()
            })?;
        let Some((record, config)) = found else {
            return Ok(None);
        };
        self.touch(key)?;
        Ok(Some(self.with_config(record, config)?))
    }

    /// Returns all records, the longest unused first.
    pub fn caches(&self) -> Result<Vec<CacheRecord>> {
        self.write_touches()?;
        let records = self
            .inner
            .database
            .read("list build cache records", |connection| {
                let sql =
                    format!("SELECT {CACHE_COLUMNS} FROM cache_records ORDER BY used_ns, key");
                let mut statement = connection.prepare_cached(&sql)?;
                let rows = statement.query_map([], cache_row)?;
                rows.map(|row| with_layers(connection, row?))
                    .collect::<Result<Vec<_>>>()
            })?;
        records
            .into_iter()
            .map(|(record, config)| self.with_config(record, config))
            .collect()
    }

    /// Deletes records and what only they kept; unknown keys are no error. Returns the bytes set free on disk.
    pub fn delete_cache(&self, keys: &[Digest]) -> Result<u64> {
        let ((), report) = self.collect_reported("delete build cache records", |transaction| {
            let mut candidates = Candidates::default();
            for key in keys {
                delete_record(transaction, key, &mut candidates)?;
            }
            Ok((candidates, ()))
        })?;
        Ok(report.bytes)
    }

    /// Returns the digests of step configs that start with these hexadecimal characters (without `sha256:`).
    pub fn find_cached_config(&self, hex_prefix: &str) -> Result<Vec<Digest>> {
        let Some((low, high)) = prefix_range(hex_prefix) else {
            return Ok(Vec::new());
        };
        self.inner
            .database
            .read("look up a step's config", |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT DISTINCT config_digest FROM cache_records
                 WHERE config_digest >= ?1 AND config_digest < ?2 ORDER BY 1",
                )?;
                let digests = statement.query_map([low, high], |row| digest_column(row, 0))?;
                Ok(digests.collect::<rusqlite::Result<_>>()?)
            })
    }

    fn touch(&self, key: &Digest) -> Result<()> {
        let many = {
            let mut touches = lock(&self.inner.touches);
            let touch = touches.entry(*key).or_default();
            touch.used_unix_ns = now_unix_ns();
            touch.hits += 1;
            touches.len() >= MAX_PENDING_TOUCHES
        };
        if many { self.write_touches() } else { Ok(()) }
    }

    fn write_touches(&self) -> Result<()> {
        let touches: HashMap<Digest, Touch> = std::mem::take(&mut *lock(&self.inner.touches));
        if touches.is_empty() {
            return Ok(());
        }
        self.inner.write_touches(&touches)
    }

    fn with_config(&self, record: CacheRecord, config: Option<Digest>) -> Result<CacheRecord> {
        let config = match config {
            Some(digest) => self.read_blob(&digest, MAX_CONFIG_BYTES)?,
            None => None,
        };
        Ok(CacheRecord { config, ..record })
    }
}

impl crate::store::Inner {
    pub(crate) fn write_touches(&self, touches: &HashMap<Digest, Touch>) -> Result<()> {
        self.database.write(Durability::Process, "count build cache hits", |transaction| {
            let mut statement = transaction
                .prepare_cached("UPDATE cache_records SET used_ns = ?2, use_count = use_count + ?3 WHERE key = ?1")?;
            for (key, touch) in touches {
                statement.execute((key.to_string(), touch.used_unix_ns, sql_size(touch.hits)))?;
            }
            Ok(())
        })
    }
}

fn insert_record(
    transaction: &Transaction<'_>,
    record: &CacheRecord,
    config_digest: Option<Digest>,
    explain: &str,
) -> Result<()> {
    let key = record.key.to_string();
    transaction
        .prepare_cached("DELETE FROM cache_records WHERE key = ?1")?
        .execute([&key])?;
    let sql = format!(
        "INSERT INTO cache_records ({CACHE_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, 0)"
    );
    transaction.prepare_cached(&sql)?.execute((
        &key,
        config_digest.map(|digest| digest.to_string()),
        &record.description,
        explain,
        sql_size(record.size_bytes),
        now_unix_ns(),
    ))?;
    let insert =
        "INSERT INTO cache_layers (key, position, diff_id, chain_id) VALUES (?1, ?2, ?3, ?4)";
    insert_chain(transaction, insert, &key, &record.diff_ids)
}

/// Deletes a record's row and adds what it kept to `candidates`.
pub(crate) fn delete_record(
    transaction: &Transaction<'_>,
    key: &Digest,
    candidates: &mut Candidates,
) -> Result<()> {
    candidates.layers.extend(chain_of(transaction, key)?);
    let mut statement = transaction
        .prepare_cached("DELETE FROM cache_records WHERE key = ?1 RETURNING config_digest")?;
    let config = statement
        .query_row([key.to_string()], |row| digest_option_column(row, 0))
        .optional()?;
    candidates.blobs.extend(config.flatten());
    Ok(())
}

fn cache_row(row: &Row<'_>) -> rusqlite::Result<(CacheRecord, Option<Digest>)> {
    let record = CacheRecord {
        key: digest_column(row, 0)?,
        diff_ids: Vec::new(),
        config: None,
        description: row.get(2)?,
        explain: json_column(row, 3)?,
        size_bytes: size_column(row, 4)?,
        created_unix_ns: row.get(5)?,
        last_used_unix_ns: row.get(6)?,
        use_count: size_column(row, 7)?,
    };
    Ok((record, digest_option_column(row, 1)?))
}

fn with_layers(
    connection: &Connection,
    (record, config): (CacheRecord, Option<Digest>),
) -> Result<(CacheRecord, Option<Digest>)> {
    let diff_ids = chain_of(connection, &record.key)?;
    Ok((CacheRecord { diff_ids, ..record }, config))
}

fn chain_of(connection: &Connection, key: &Digest) -> Result<Vec<DiffId>> {
    let mut statement = connection
        .prepare_cached("SELECT diff_id FROM cache_layers WHERE key = ?1 ORDER BY position")?;
    let chain = statement.query_map([key.to_string()], |row| digest_column(row, 0))?;
    Ok(chain.collect::<rusqlite::Result<_>>()?)
}
