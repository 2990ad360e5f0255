//! Images: a config, a list of layers, and the documents that came with them.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, Transaction};
use wharf_image::{ChainId, Descriptor, Digest, ImageConfig, ImageId};

use crate::db::{digest_column, digest_option_column, json_column, lock, size_column, sql_size};
use crate::error::{Kind, Result, StoreError};
use crate::layers::{find_chain, insert_chain};
use crate::leases::Held;
use crate::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, MIN_PREFIX_CHARS};
use crate::store::{Store, now_unix_ns};
use crate::sweep::Candidates;

/// An image to store; see [`Store::put_image`](crate::Store::put_image).
#[derive(Debug, Clone, Default)]
pub struct NewImage<'a> {
    /// The config's bytes, kept as they are; their digest is the image's ID.
    pub config: &'a [u8],
    /// The image this one was committed or built on, where docker's classic builder would record it.
    pub parent: Option<ImageId>,
    /// Whether it was built, committed or imported here.
    pub built_here: bool,
    /// The manifest it came with: descriptor and bytes.
    pub manifest: Option<(Descriptor, Vec<u8>)>,
    /// The index it came with: descriptor and bytes.
    pub index: Option<(Descriptor, Vec<u8>)>,
}

impl<'a> NewImage<'a> {
    /// Returns an image of this config and nothing else.
    pub fn of(config: &'a [u8]) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }
}

/// A stored image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of the config's bytes.
    pub id: ImageId,
    /// The config, parsed; its bytes are the blob of the same digest.
    pub config: Arc<ImageConfig>,
    /// The image it was committed or built on, if recorded.
    pub parent: Option<ImageId>,
    /// The config's creation time in nanoseconds since 1970; 0 where it has none.
    pub created_unix_ns: i64,
    /// Sum of the layers' sizes in bytes, docker's `Size`.
    pub size_bytes: u64,
    /// When a name was last put on it, in nanoseconds since 1970.
    pub last_tag_unix_ns: Option<i64>,
    /// Whether it was built, committed or imported here.
    pub built_here: bool,
    /// The manifest it last came with.
    pub manifest: Option<Descriptor>,
    /// The index it last came with.
    pub index: Option<Descriptor>,
}

/// Most bytes of configs that stay parsed in memory; lists of many images read each config once.
const MAX_CACHED_CONFIG_BYTES: usize = 4 << 20;
const MANIFEST: &str = "manifest";
const INDEX: &str = "index";
const IMAGE_COLUMNS: &str = "id, parent, created_ns, size_bytes, tagged_ns, built_here";

/// Parsed configs by image ID. A config never changes under its ID.
#[derive(Debug, Default)]
pub(crate) struct ConfigCache {
    configs: HashMap<ImageId, Arc<ImageConfig>>,
    bytes: usize,
}

impl ConfigCache {
    fn insert(&mut self, id: ImageId, config: Arc<ImageConfig>, bytes: usize) {
        if self.bytes + bytes > MAX_CACHED_CONFIG_BYTES {
            *self = Self::default();
        }
        if self.configs.insert(id, config).is_none() {
            self.bytes += bytes;
        }
    }
}

struct ImageRow {
    id: ImageId,
    parent: Option<ImageId>,
    created_unix_ns: i64,
    size_bytes: u64,
    last_tag_unix_ns: Option<i64>,
    built_here: bool,
}

/// An image's newest documents.
#[derive(Default)]
struct Documents {
    manifest: Option<Descriptor>,
    index: Option<Descriptor>,
}

impl Store {
    /// Stores an image; all its layers must be there. It is durable when this returns: config, documents
    /// and layers are on disk before the row is (design invariant 2).
    ///
    /// An image that is there already gets the new documents beside its older ones.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] names a missing layer; [`StoreError::TooLarge`] a config past
    /// [`MAX_CONFIG_BYTES`] or a manifest or index past [`MAX_MANIFEST_BYTES`].
    pub fn put_image(&self, image: &NewImage<'_>) -> Result<Image> {
        let config = parse_config(image.config)?;
        let lease = self.lease("put image")?;
        let diff_ids = &config.rootfs.diff_ids;
        for diff_id in diff_ids {
            lease.hold(Held::Layer(*diff_id));
        }
        let layers = self
            .inner
            .database
            .read("look up an image's layers", |connection| {
                find_chain(connection, diff_ids)
            })?;
        let size_bytes = layers.iter().map(|layer| layer.size_bytes).sum();
        let id = self.put_blob(image.config)?;
        for (kind, document) in [(MANIFEST, &image.manifest), (INDEX, &image.index)] {
            if let Some((descriptor, bytes)) = document {
                self.put_document_blob(kind, descriptor, bytes)?;
            }
        }
        self.seal(|transaction| insert_image(transaction, &id, image, &config, size_bytes))?;
        self.image(&id)?
            .ok_or_else(|| StoreError::not_found(Kind::Image, id))
    }

    fn put_document_blob(
        &self,
        kind: &'static str,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<()> {
        check_size(kind, bytes, MAX_MANIFEST_BYTES)?;
        let found = self.put_blob(bytes)?;
        if found != descriptor.digest {
            return Err(StoreError::DigestMismatch {
                what: kind.to_owned(),
                expected: descriptor.digest,
                found,
            });
        }
        Ok(())
    }

    /// Returns an image, if it is there.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when its config cannot be read.
    pub fn image(&self, id: &ImageId) -> Result<Option<Image>> {
        let found = self.inner.database.read("look up an image", |connection| {
            let sql = format!("SELECT {IMAGE_COLUMNS} FROM images WHERE id = ?1");
            let mut statement = connection.prepare_cached(&sql)?;
            let Some(row) = statement
                .query_row([id.to_string()], image_row)
                .optional()?
            else {
                return Ok(None);
            };
            let mut documents = list_documents(connection, Some(id))?;
            Ok(Some((row, documents.remove(id).unwrap_or_default())))
        })?;
        let Some((row, documents)) = found else {
            return Ok(None);
        };
        match self.config(id) {
            Ok(config) => Ok(Some(row.into_image(config, documents))),
            Err(error) => {
                // A deletion between the row and the config is no damage.
                if self.image_exists(id)? {
                    Err(error)
                } else {
                    Ok(None)
                }
            }
        }
    }

    /// Returns all images, newest first. An image whose config cannot be read is left out;
    /// [`Store::image`] tells what is wrong with it.
    pub fn images(&self) -> Result<Vec<Image>> {
        let (rows, mut documents) = self.inner.database.read("list images", |connection| {
            let sql = format!("SELECT {IMAGE_COLUMNS} FROM images ORDER BY created_ns DESC, id");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows: Vec<ImageRow> = statement
                .query_map([], image_row)?
                .collect::<rusqlite::Result<_>>()?;
            Ok((rows, list_documents(connection, None)?))
        })?;
        let images = rows.into_iter().filter_map(|row| {
            let config = self.config(&row.id).ok()?;
            let documents = documents.remove(&row.id).unwrap_or_default();
            Some(row.into_image(config, documents))
        });
        Ok(images.collect())
    }

    /// Returns the images that were committed or built on `id` here.
    pub fn children(&self, id: &ImageId) -> Result<Vec<ImageId>> {
        self.image_ids("SELECT id FROM images WHERE parent = ?1 ORDER BY id", id)
    }

    /// Returns the images that came with the index of this digest, one for each platform that is here.
    pub fn images_of_index(&self, digest: &Digest) -> Result<Vec<ImageId>> {
        self.image_ids(
            "SELECT DISTINCT image_id FROM image_documents WHERE digest = ?1 AND kind = 'index' ORDER BY image_id",
            digest,
        )
    }

    fn image_ids(&self, sql: &str, digest: &Digest) -> Result<Vec<ImageId>> {
        self.inner.database.read("look up images", |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let ids = statement.query_map([digest.to_string()], |row| digest_column(row, 0))?;
            Ok(ids.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Returns the images whose ID, manifest digest or index digest starts with these hexadecimal
    /// characters (without `sha256:`), each once. Anything else matches nothing.
    pub fn find_by_prefix(&self, hex_prefix: &str) -> Result<Vec<ImageId>> {
        let Some((low, high)) = prefix_range(hex_prefix) else {
            return Ok(Vec::new());
        };
        self.inner.database.read("look up an image by prefix", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id FROM images WHERE id >= ?1 AND id < ?2
                 UNION SELECT image_id FROM image_documents WHERE digest >= ?1 AND digest < ?2 ORDER BY 1",
            )?;
            let ids = statement.query_map([low, high], |row| digest_column(row, 0))?;
            Ok(ids.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Deletes an image and what only it kept. Returns the chain IDs of the layers that nothing shares any
    /// more, top to bottom, for docker's `Deleted:` lines (spec image-store §15.1 D).
    ///
    /// # Errors
    /// [`StoreError::InUse`] while names point at it.
    pub fn delete_image(&self, id: &ImageId) -> Result<Vec<ChainId>> {
        let released = self.collect("delete an image", |transaction| {
            delete_image_row(transaction, id)
        })?;
        lock(&self.inner.configs).configs.remove(id);
        Ok(released)
    }

    pub(crate) fn image_exists(&self, id: &ImageId) -> Result<bool> {
        self.inner.database.read("look up an image", |connection| {
            image_exists(connection, id)
        })
    }

    /// Returns the digests of all manifests and indexes that an image came with.
    pub(crate) fn document_digests(&self, id: &ImageId) -> Result<Vec<Digest>> {
        self.image_ids(
            "SELECT digest FROM image_documents WHERE image_id = ?1 ORDER BY digest",
            id,
        )
    }

    fn config(&self, id: &ImageId) -> Result<Arc<ImageConfig>> {
        if let Some(config) = lock(&self.inner.configs).configs.get(id) {
            return Ok(Arc::clone(config));
        }
        let damaged =
            |reason: String| StoreError::damaged(format!("config of image {}", id.short()), reason);
        let bytes = self
            .read_blob(id, MAX_CONFIG_BYTES)
            .map_err(|error| damaged(error.to_string()))?
            .ok_or_else(|| damaged("the file is missing".to_owned()))?;
        let config =
            Arc::new(ImageConfig::parse(&bytes).map_err(|error| damaged(error.to_string()))?);
        lock(&self.inner.configs).insert(*id, Arc::clone(&config), bytes.len());
        Ok(config)
    }
}

impl ImageRow {
    fn into_image(self, config: Arc<ImageConfig>, documents: Documents) -> Image {
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

/// Returns the half-open range of digest texts that start with `sha256:` and these characters.
pub(crate) fn prefix_range(hex_prefix: &str) -> Option<(String, String)> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let length_fits = (MIN_PREFIX_CHARS..=64).contains(&hex_prefix.len());
    // `g` follows `f`, the last digit.
    (length_fits && hex_prefix.bytes().all(is_hex)).then(|| {
        (
            format!("sha256:{hex_prefix}"),
            format!("sha256:{hex_prefix}g"),
        )
    })
}

pub(crate) fn check_size(what: &'static str, bytes: &[u8], limit: u64) -> Result<()> {
    let size = bytes.len() as u64;
    if size > limit {
        return Err(StoreError::TooLarge { what, size, limit });
    }
    Ok(())
}

fn parse_config(bytes: &[u8]) -> Result<ImageConfig> {
    check_size("image config", bytes, MAX_CONFIG_BYTES)?;
    ImageConfig::parse(bytes).map_err(|error| StoreError::Invalid {
        what: "image config",
        found: String::from_utf8_lossy(bytes.get(..64).unwrap_or(bytes)).into_owned(),
        reason: error.to_string(),
    })
}

fn created_unix_ns(config: &ImageConfig) -> i64 {
    let parsed = config
        .created
        .as_deref()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    parsed
        .and_then(|time| i64::try_from(time.as_nanosecond()).ok())
        .unwrap_or(0)
}

fn insert_image(
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

fn insert_document(
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
fn list_documents(
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

fn image_row(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        id: digest_column(row, 0)?,
        parent: digest_option_column(row, 1)?,
        created_unix_ns: row.get(2)?,
        size_bytes: size_column(row, 3)?,
        last_tag_unix_ns: row.get(4)?,
        built_here: row.get(5)?,
    })
}

fn delete_image_row(
    transaction: &Transaction<'_>,
    id: &ImageId,
) -> Result<(Candidates, Vec<ChainId>)> {
    let id_text = id.to_string();
    if !image_exists(transaction, id)? {
        return Err(StoreError::not_found(Kind::Image, id));
    }
    let mut names = transaction
        .prepare_cached("SELECT reference FROM names WHERE image_id = ?1 ORDER BY reference")?;
    let name: Option<String> = names.query_row([&id_text], |row| row.get(0)).optional()?;
    if let Some(by) = name {
        return Err(StoreError::InUse {
            kind: Kind::Image,
            name: id.short(),
            by: format!("the name {by}"),
        });
    }
    let candidates = image_candidates(transaction, id)?;
    transaction
        .prepare_cached("UPDATE images SET parent = NULL WHERE parent = ?1")?
        .execute([&id_text])?;
    let chain = image_chain(transaction, id)?;
    transaction
        .prepare_cached("DELETE FROM images WHERE id = ?1")?
        .execute([&id_text])?;
    let mut released = Vec::new();
    for chain_id in chain {
        if !chain_is_used(transaction, &chain_id)? {
            released.push(chain_id);
        }
    }
    Ok((candidates, released))
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
fn image_chain(connection: &Connection, id: &ImageId) -> Result<Vec<ChainId>> {
    let mut statement = connection.prepare_cached(
        "SELECT chain_id FROM image_layers WHERE image_id = ?1 ORDER BY position DESC",
    )?;
    let chain = statement.query_map([id.to_string()], |row| digest_column(row, 0))?;
    Ok(chain.collect::<rusqlite::Result<_>>()?)
}

fn chain_is_used(connection: &Connection, chain_id: &ChainId) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM image_layers WHERE chain_id = ?1
         UNION ALL SELECT 1 FROM container_layers WHERE chain_id = ?1
         UNION ALL SELECT 1 FROM cache_layers WHERE chain_id = ?1",
    )?;
    Ok(statement.exists([chain_id.to_string()])?)
}
