//! Blobs: bytes named by their digest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use rusqlite::{OptionalExtension, Transaction};
use wharf_image::{Digest, Hasher};
use wharf_safefs::trusted;

use crate::db::{Durability, lock, sql_size};
use crate::error::{Result, StoreError};
use crate::layout::FILE_MODE;
use crate::leases::Held;
use crate::store::{Store, now_unix_ns};

const READ_BUFFER_BYTES: usize = 64 << 10;

/// Writes one blob; what is dropped without a commit leaves nothing.
pub struct BlobWriter {
    store: Store,
    file: File,
    path: PathBuf,
    hasher: Hasher,
    size_bytes: u64,
    committed: bool,
}

impl Store {
    /// Stores bytes as a blob and returns their digest. Durable once an image that needs them is put.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        lock(&self.inner.leases).hold_for_all(Held::Blob(digest));
        if self.has_blob(&digest)? {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer
            .write_all(bytes)
            .map_err(|error| StoreError::io("write", &writer.path, error))?;
        writer.commit(Some(digest))
    }

    /// Starts a blob whose bytes arrive in pieces.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        let path = self.inner.temporary_path("blob");
        let file = trusted::create_new(&path, FILE_MODE)?;
        let store = self.clone();
        Ok(BlobWriter {
            store,
            file,
            path,
            hasher: Hasher::new(),
            size_bytes: 0,
            committed: false,
        })
    }

    /// Opens a blob for reading; `None` when it is not there. The bytes are not verified.
    pub fn blob(&self, digest: &Digest) -> Result<Option<File>> {
        match trusted::open(self.inner.layout.blob(digest)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a blob of at most `limit_bytes` and verifies its digest (spec image-store §19.1); `None` when it
    /// is not there.
    pub fn read_blob(&self, digest: &Digest, limit_bytes: u64) -> Result<Option<Vec<u8>>> {
        let bytes = match trusted::read_limited(self.inner.layout.blob(digest), limit_bytes) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        check_digest(digest, Digest::of(&bytes))?;
        Ok(Some(bytes))
    }

    /// Returns a blob's size in bytes; `None` when it is not there.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        match trusted::metadata(self.inner.layout.blob(digest)) {
            Ok(metadata) => Ok(Some(metadata.size_bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn insert_blob_row(&self, digest: &Digest, size_bytes: u64, disk_bytes: u64) -> Result<()> {
        let row = (
            digest.to_string(),
            sql_size(size_bytes),
            sql_size(disk_bytes),
            now_unix_ns(),
        );
        self.inner.database.write(Durability::Process, "store a blob", |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO blobs (digest, size_bytes, disk_bytes, sealed, created_ns) VALUES (?1, ?2, ?3, 0, ?4)",
                )?
                .execute(row)?;
            Ok(())
        })
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool> {
        self.inner.database.read("look up a blob", |connection| {
            let mut statement =
                connection.prepare_cached("SELECT 1 FROM blobs WHERE digest = ?1")?;
            Ok(statement.exists([digest.to_string()])?)
        })
    }

    /// Says whether a blob's bytes have its digest.
    pub(crate) fn verify_blob(&self, digest: &Digest) -> Result<bool> {
        let Some(mut file) = self.blob(digest)? else {
            return Ok(false);
        };
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish() == *digest),
                Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(StoreError::io(
                        "read",
                        &self.inner.layout.blob(digest),
                        error,
                    ));
                }
            }
        }
    }
}

impl BlobWriter {
    /// Returns the number of bytes written so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Publishes the blob under the digest of its bytes.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] when `expected` is another digest; nothing is published then.
    pub fn commit(mut self, expected: Option<Digest>) -> Result<Digest> {
        let digest = std::mem::take(&mut self.hasher).finish();
        if let Some(expected) = expected {
            check_digest(&expected, digest)?;
        }
        let disk_bytes = trusted::file_metadata(&self.file, &self.path)?.blocks * 512;
        let store = self.store.clone();
        // A sweep must not come between the file and its row.
        let mut leases = lock(&store.inner.leases);
        leases.hold_for_all(Held::Blob(digest));
        if store.has_blob(&digest)? {
            // The one that is there may be durable already, this one is not.
            return Ok(digest);
        }
        let place = store.inner.layout.blob(&digest);
        trusted::rename(&self.path, &place)?;
        self.committed = true;
        if let Err(error) = store.insert_blob_row(&digest, self.size_bytes, disk_bytes) {
            let _ = trusted::remove_file(&place);
            return Err(error);
        }
        Ok(digest)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.committed {
            // What stays is emptied with tmp/ at the next start.
            let _ = trusted::remove_file(&self.path);
        }
    }
}

impl std::fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobWriter")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Deletes a blob's row; returns its bytes on disk, or `None` where there was none.
pub(crate) fn delete_blob_row(
    transaction: &Transaction<'_>,
    digest: &Digest,
) -> Result<Option<u64>> {
    let mut statement =
        transaction.prepare_cached("DELETE FROM blobs WHERE digest = ?1 RETURNING disk_bytes")?;
    let disk_bytes: Option<i64> = statement
        .query_row([digest.to_string()], |row| row.get(0))
        .optional()?;
    Ok(disk_bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0)))
}

fn check_digest(expected: &Digest, found: Digest) -> Result<()> {
    if *expected == found {
        return Ok(());
    }
    Err(StoreError::DigestMismatch {
        what: format!("blob {}", expected.short()),
        expected: *expected,
        found,
    })
}
