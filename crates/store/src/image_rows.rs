//! Rows of images.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Row, Transaction};
use wharf_image::{ChainId, Descriptor, ImageConfig, ImageId};

use crate::db::{digest_column, digest_option_column, json_column, size_column, sql_size};
use crate::error::{Result, StoreError};
use crate::images::{Image, NewImage};
use crate::layers::insert_chain;
use crate::store::now_unix_ns;
use crate::sweep::Candidates;

pub(crate) const MANIFEST: &str = "manifest";
pub(crate) const INDEX: &str = "index";
pub(crate) const IMAGE_COLUMNS: &str = "id, parent, created_ns, size_bytes, tagged_ns, built_here";

pub(crate) struct ImageRow {
    pub(crate) id: ImageId,
    pub(crate) parent: Option<ImageId>,
    pub(crate) created_unix_ns: i64,
    pub(crate) size_bytes: u64,
    pub(crate) last_tag_unix_ns: Option<i64>,
    pub(crate) built_here: bool,
}

/// An image's newest documents.
#[derive(Default)]
pub(crate) struct Documents {
    pub(crate) manifest: Option<Descriptor>,
    pub(crate) index: Option<Descriptor>,
}

impl ImageRow {
    pub(crate) fn into_image(self, config: Arc<ImageConfig>, documents: Documents) -> Image {
        Image {
            id: self.id,
            config,
            parent: self.parent,
            created_unix_ns: self.created_unix_ns,
            size_bytes: self.size_bytes,
            last_tag_unix_ns: self.last_tag_unix_ns,
            built_here: self.built_here,
            manifest: documents.manifest,
            index: documents.index,
        }
    }
}

/// Says whether an image has a row.
pub(crate) fn image_exists(connection: &Connection, id: &ImageId) -> Result<bool> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM images WHERE id = ?1")?;
    Ok(statement.exists([id.to_string()])?)
}

pub(crate) fn created_unix_ns(config: &ImageConfig) -> i64 {
    let parsed = config
        .created
        .as_deref()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    parsed
        .and_then(|time| i64::try_from(time.as_nanosecond()).ok())
        .unwrap_or(0)
}

pub(crate) fn insert_image(
    transaction: &Transaction<'_>,
    id: &ImageId,
    image: &NewImage<'_>,
    config: &ImageConfig,
    size_bytes: u64,
) -> Result<()> {
    let new_row = !image_exists(transaction, id)?;
    transaction
        .prepare_cached(
            "INSERT INTO images (id, parent, created_ns, size_bytes, built_here) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET parent = coalesce(excluded.parent, parent),
                built_here = max(excluded.built_here, built_here)",
        )?
        .execute((
            id.to_string(),
            image.parent.map(|parent| parent.to_string()),
            created_unix_ns(config),
            sql_size(size_bytes),
            image.built_here,
        ))?;
    if new_row {
        let insert = "INSERT INTO image_layers (image_id, position, diff_id, chain_id) VALUES (?1, ?2, ?3, ?4)";
        insert_chain(
            transaction,
            insert,
            &id.to_string(),
            &config.rootfs.diff_ids,
        )?;
    }
    for (kind, document) in [(MANIFEST, &image.manifest), (INDEX, &image.index)] {
        if let Some((descriptor, _)) = document {
            insert_document(transaction, id, kind, descriptor)?;
        }
    }
    Ok(())
}

pub(crate) fn insert_document(
    transaction: &Transaction<'_>,
    id: &ImageId,
    kind: &str,
    descriptor: &Descriptor,
) -> Result<()> {
    let json = serde_json::to_string(descriptor)
        .map_err(|error| StoreError::damaged("descriptor", error))?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO image_documents (image_id, kind, digest, descriptor, put_ns)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            id.to_string(),
            kind,
            descriptor.digest.to_string(),
            json,
            now_unix_ns(),
        ))?;
    Ok(())
}

/// Returns the newest documents of one image or of all.
pub(crate) fn list_documents(
    connection: &Connection,
    id: Option<&ImageId>,
) -> Result<HashMap<ImageId, Documents>> {
    let mut statement = connection.prepare_cached(
        "SELECT image_id, kind, descriptor FROM image_documents
         WHERE ?1 IS NULL OR image_id = ?1 ORDER BY put_ns",
    )?;
    let mut rows = statement.query([id.map(|id| id.to_string())])?;
    let mut documents: HashMap<ImageId, Documents> = HashMap::new();
    while let Some(row) = rows.next()? {
        let entry = documents.entry(digest_column(row, 0)?).or_default();
        let descriptor: Descriptor = json_column(row, 2)?;
        match row.get::<_, String>(1)?.as_str() {
            MANIFEST => entry.manifest = Some(descriptor),
            _ => entry.index = Some(descriptor),
        }
    }
    Ok(documents)
}

pub(crate) fn image_row(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        id: digest_column(row, 0)?,
        parent: digest_option_column(row, 1)?,
        created_unix_ns: row.get(2)?,
        size_bytes: size_column(row, 3)?,
        last_tag_unix_ns: row.get(4)?,
        built_here: row.get(5)?,
    })
}

/// Returns what deleting an image may leave without an owner.
pub(crate) fn image_candidates(connection: &Connection, id: &ImageId) -> Result<Candidates> {
    let id_text = id.to_string();
    let mut layers = connection
        .prepare_cached("SELECT DISTINCT diff_id FROM image_layers WHERE image_id = ?1")?;
    let layers = layers
        .query_map([&id_text], |row| digest_column(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut blobs = connection
        .prepare_cached("SELECT digest FROM image_documents WHERE image_id = ?1 UNION SELECT ?1")?;
    let blobs = blobs
        .query_map([&id_text], |row| digest_column(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Candidates { layers, blobs })
}

/// Returns an image's chain IDs, top to bottom.
pub(crate) fn image_chain(connection: &Connection, id: &ImageId) -> Result<Vec<ChainId>> {
    let mut statement = connection.prepare_cached(
        "SELECT chain_id FROM image_layers WHERE image_id = ?1 ORDER BY position DESC",
    )?;
    let chain = statement.query_map([id.to_string()], |row| digest_column(row, 0))?;
    Ok(chain.collect::<rusqlite::Result<_>>()?)
}

pub(crate) fn chain_is_used(connection: &Connection, chain_id: &ChainId) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM image_layers WHERE chain_id = ?1
         UNION ALL SELECT 1 FROM container_layers WHERE chain_id = ?1
         UNION ALL SELECT 1 FROM cache_layers WHERE chain_id = ?1",
    )?;
    Ok(statement.exists([chain_id.to_string()])?)
}
