//! Images: a config, a list of layers, and the documents that came with them.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::OptionalExtension;
use wharf_image::{Descriptor, Digest, ImageConfig, ImageId};

use crate::db::{digest_column, lock};
use crate::error::{Kind, Result, StoreError};
use crate::image_rows::{
    IMAGE_COLUMNS, INDEX, ImageRow, MANIFEST, image_exists, image_row, insert_image, list_documents,
};
use crate::layers::find_chain;
use crate::leases::Held;
use crate::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, MIN_PREFIX_CHARS};
use crate::store::Store;

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

impl Image {
    /// Says whether putting `new`, which has the same config, would change nothing.
    fn tells_all_of(&self, new: &NewImage<'_>) -> bool {
        let has = |document: &Option<(Descriptor, Vec<u8>)>, own: &Option<Descriptor>| {
            document
                .as_ref()
                .is_none_or(|(descriptor, _)| own.as_ref() == Some(descriptor))
        };
        (new.parent.is_none() || new.parent == self.parent)
            && (self.built_here || !new.built_here)
            && has(&new.manifest, &self.manifest)
            && has(&new.index, &self.index)
    }
}

/// Most bytes of configs that stay parsed in memory; lists of many images read each config once.
const MAX_CACHED_CONFIG_BYTES: usize = 4 << 20;

/// Parsed configs by image ID. A config never changes under its ID.
#[derive(Debug, Default)]
pub(crate) struct ConfigCache {
    configs: HashMap<ImageId, Arc<ImageConfig>>,
    bytes: usize,
}

impl ConfigCache {
    /// Forgets an image's config.
    pub(crate) fn remove(&mut self, id: &ImageId) {
        self.configs.remove(id);
    }

    fn insert(&mut self, id: ImageId, config: Arc<ImageConfig>, bytes: usize) {
        if self.bytes + bytes > MAX_CACHED_CONFIG_BYTES {
            *self = Self::default();
        }
        if self.configs.insert(id, config).is_none() {
            self.bytes += bytes;
        }
    }
}

impl Store {
    /// Stores an image; all its layers must be there. It is durable when this returns: config, documents
    /// and layers are on disk before the row is (design invariant 2).
    ///
    /// An image that is there already gets the new documents beside its older ones.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] names a missing layer; a hard link to a file that no layer has is refused;
    /// [`StoreError::TooLarge`] a config past
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
        // A stack that cannot be mounted is refused now, not when a container wants it.
        self.layer_dirs(diff_ids)?;
        let size_bytes = layers.iter().map(|layer| layer.size_bytes).sum();
        let id = self.put_blob(image.config)?;
        if let Some(existing) = self.image(&id)?
            && existing.tells_all_of(image)
        {
            return Ok(existing);
        }
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
