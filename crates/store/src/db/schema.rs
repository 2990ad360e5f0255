//! The tables, and how older versions of them become the present ones.

use std::path::Path;

use rusqlite::{Connection, Transaction};

use crate::error::{Result, StoreError};

/// Steps from each version to the next; the number of steps is the present version. A step that was
/// released is never changed, only followed by another.
const MIGRATIONS: &[fn(&Transaction<'_>) -> rusqlite::Result<()>] =
    &[create_first_version, add_families];

/// The format version written to `user_version`.
pub(crate) const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings the schema to the present version in one transaction.
pub(crate) fn migrate(connection: &mut Connection, root: &Path) -> Result<()> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if !(0..=SCHEMA_VERSION).contains(&found) {
        return Err(StoreError::NewerFormat {
            root: root.to_path_buf(),
            found,
            known: SCHEMA_VERSION,
        });
    }
    if found == SCHEMA_VERSION {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for (version, step) in (0_i64..).zip(MIGRATIONS) {
        if version >= found {
            step(&transaction)?;
        }
    }
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(())
}

fn create_first_version(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(FIRST_VERSION)
}

fn add_families(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(FAMILIES)
}

// Layers that have files in common: each has the number of the first of them.
const FAMILIES: &str = "
ALTER TABLE layers ADD COLUMN family INTEGER;
CREATE INDEX layers_by_family ON layers (family, number) WHERE family IS NOT NULL;
";

// References from images and cache records to layers and blobs are enforced: whatever a sweep believes,
// the database refuses to drop what an image needs. Containers only list their layers, so that a container
// whose layer was lost can still be shown and deleted.
const FIRST_VERSION: &str = "
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    disk_bytes INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE layers (
    number INTEGER PRIMARY KEY,
    diff_id TEXT NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL,
    disk_bytes INTEGER,
    tar_bytes INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    tar_source TEXT NOT NULL,
    hides_lower INTEGER NOT NULL,
    implied_dirs BLOB,
    pending_links BLOB,
    sealed INTEGER NOT NULL,
    created_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX layers_unsealed ON layers (number) WHERE sealed = 0;
CREATE TABLE layer_blobs (
    diff_id TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    compression TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (diff_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX layer_blobs_by_digest ON layer_blobs (digest);
CREATE TABLE variants (
    number INTEGER PRIMARY KEY,
    diff_id TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
    corrections TEXT NOT NULL,
    disk_bytes INTEGER NOT NULL,
    UNIQUE (diff_id, corrections)
) STRICT;
CREATE TABLE images (
    id TEXT PRIMARY KEY REFERENCES blobs (digest),
    parent TEXT,
    created_ns INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    tagged_ns INTEGER,
    built_here INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX images_by_parent ON images (parent) WHERE parent IS NOT NULL;
CREATE TABLE image_layers (
    image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id TEXT NOT NULL REFERENCES layers (diff_id),
    chain_id TEXT NOT NULL,
    PRIMARY KEY (image_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_layers_by_diff_id ON image_layers (diff_id);
CREATE INDEX image_layers_by_chain_id ON image_layers (chain_id);
CREATE TABLE image_documents (
    image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES blobs (digest),
    descriptor TEXT NOT NULL,
    put_ns INTEGER NOT NULL,
    PRIMARY KEY (image_id, kind, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_documents_by_digest ON image_documents (digest);
CREATE TABLE names (
    reference TEXT PRIMARY KEY,
    image_id TEXT NOT NULL REFERENCES images (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX names_by_image ON names (image_id);
CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image_id TEXT,
    document TEXT NOT NULL,
    created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE container_layers (
    container_id TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id TEXT NOT NULL,
    chain_id TEXT NOT NULL,
    PRIMARY KEY (container_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX container_layers_by_diff_id ON container_layers (diff_id);
CREATE INDEX container_layers_by_chain_id ON container_layers (chain_id);
CREATE TABLE volumes (
    name TEXT PRIMARY KEY,
    driver TEXT NOT NULL,
    labels TEXT NOT NULL,
    options TEXT NOT NULL,
    anonymous INTEGER NOT NULL,
    created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE cache_records (
    key TEXT PRIMARY KEY,
    config_digest TEXT REFERENCES blobs (digest),
    description TEXT NOT NULL,
    explain TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    used_ns INTEGER NOT NULL,
    use_count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX cache_records_by_config ON cache_records (config_digest) WHERE config_digest IS NOT NULL;
CREATE TABLE cache_layers (
    key TEXT NOT NULL REFERENCES cache_records (key) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id TEXT NOT NULL REFERENCES layers (diff_id),
    chain_id TEXT NOT NULL,
    PRIMARY KEY (key, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX cache_layers_by_diff_id ON cache_layers (diff_id);
CREATE INDEX cache_layers_by_chain_id ON cache_layers (chain_id);
CREATE TABLE documents (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
";
