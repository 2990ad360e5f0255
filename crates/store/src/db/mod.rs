//! The database: one writer, a pool of readers, write-ahead log.
//!
//! Readers see a snapshot and never wait for the writer (sqlite.org/wal.html, "Concurrency").

mod columns;
mod schema;

pub(crate) use columns::{
    compression_name, digest_column, digest_option_column, json_column, parse_compression,
    paths_from_bytes, paths_to_bytes, reference_column, size_column, sql_size,
};

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Result, StoreError};

/// Readers kept open between calls; more are opened when more threads read at once.
const MAX_IDLE_READERS: usize = 4;
/// How long a connection waits for another one's lock; only log recovery ever holds one that long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Page cache of one connection, in KiB (negative means KiB, sqlite.org/pragma.html#pragma_cache_size).
const CACHE_KIB: i64 = -1024;
/// Statements each connection keeps compiled; there are fewer in all of this room.
const MAX_CACHED_STATEMENTS: usize = 96;
/// Marks the file as ours ("whrf"; sqlite.org/pragma.html#pragma_application_id).
const APPLICATION_ID: i64 = 0x7768_7266;

/// How durable a commit is when the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Survives a killed process; a power cut may lose the last commits, in order, and damages nothing.
    Process,
    /// Survives a power cut, with all commits before it.
    Power,
}

/// The open database.
pub(crate) struct Database {
    path: PathBuf,
    writer: Mutex<Writer>,
    readers: Mutex<Vec<Connection>>,
}

struct Writer {
    connection: Connection,
    durability: Durability,
}

impl Database {
    /// Opens or creates the database and brings its schema to [`SCHEMA_VERSION`].
    pub(crate) fn open(path: &Path, root: &Path) -> Result<Self> {
        let mut connection = connect(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        )
        .map_err(|error| failed(error, "open", path))?;
        prepare_writer(&connection).map_err(|error| failed(error, "open", path))?;
        schema::migrate(&mut connection, root).map_err(|error| error.during("migrate", path))?;
        Ok(Self {
            path: path.to_path_buf(),
            writer: Mutex::new(Writer {
                connection,
                durability: Durability::Process,
            }),
            readers: Mutex::new(Vec::new()),
        })
    }

    /// Runs `query` on one snapshot.
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        query: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        let pooled = lock(&self.readers).pop();
        let connection = match pooled {
            Some(connection) => connection,
            None => self
                .new_reader()
                .map_err(|error| failed(error, "open a reader", &self.path))?,
        };
        let result = connection
            .unchecked_transaction()
            .map_err(StoreError::from)
            .and_then(|snapshot| query(&snapshot))
            .map_err(|error| error.during(operation, &self.path));
        let mut readers = lock(&self.readers);
        if readers.len() < MAX_IDLE_READERS {
            readers.push(connection);
        }
        result
    }

    /// Runs `change` as one transaction and commits it; nothing of it stays when it fails.
    pub(crate) fn write<T>(
        &self,
        durability: Durability,
        operation: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut writer = lock(&self.writer);
        self.write_locked(&mut writer, durability, change)
            .map_err(|error| error.during(operation, &self.path))
    }

    fn write_locked<T>(
        &self,
        writer: &mut MutexGuard<'_, Writer>,
        durability: Durability,
        change: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        if writer.durability != durability {
            // The setting cannot change within a transaction (sqlite.org/pragma.html#pragma_synchronous).
            let value = if durability == Durability::Power {
                "FULL"
            } else {
                "NORMAL"
            };
            writer
                .connection
                .pragma_update(None, "synchronous", value)?;
            writer.durability = durability;
        }
        let transaction = writer
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Makes all commits so far survive a power cut.
    pub(crate) fn make_durable(&self) -> Result<()> {
        // Only a commit that writes also syncs the log, and with it all commits before.
        self.write(Durability::Power, "sync", |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO settings (key, value) VALUES ('store.syncs', '1')
                     ON CONFLICT (key) DO UPDATE SET value = value + 1",
                )?
                .execute([])?;
            Ok(())
        })
    }

    fn new_reader(&self) -> rusqlite::Result<Connection> {
        let connection = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(MAX_CACHED_STATEMENTS);
    connection.pragma_update(None, "cache_size", CACHE_KIB)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

fn prepare_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)
}

fn failed(error: rusqlite::Error, operation: &'static str, path: &Path) -> StoreError {
    StoreError::from(error).during(operation, path)
}

/// Locks a mutex whose data no panic can leave half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
