//! Layers: published directories, named by what they hold.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, Transaction};
use wharf_image::{DiffId, Digest, LayerCompression};
use wharf_safefs::trusted;

use crate::db::{
    Durability, compression_name, digest_column, lock, parse_compression, paths_to_bytes,
    size_column, sql_size,
};
use crate::error::{Kind, Result, StoreError};
use crate::family;
use crate::layout::{FILE_MODE, RECIPE};
use crate::leases::Held;
use crate::limits::{MAX_CONTENTS_BYTES, MAX_LAYER_PATHS_BYTES, MAX_LAYERS, MAX_RECIPE_BYTES};
use crate::staging::Staging;
use crate::store::{Store, now_unix_ns};
use crate::worker::Job;

pub use wharf_layer::{Applied, LayerSummary, Recipe};

/// What a staged directory holds, for [`Store::publish_layer`](crate::Store::publish_layer).
#[derive(Debug)]
pub struct NewLayer {
    /// DiffID and counts.
    pub summary: LayerSummary,
    /// `None` for a layer whose tar the canonical writer makes again from the directory; `Some` for one that
    /// came from outside. One that is not complete needs `blob`, and the blob in the store.
    pub recipe: Option<Recipe>,
    /// Directories that the tar only implied (they have no entry of their own).
    pub implied_dirs: Vec<PathBuf>,
    /// Hard links whose target lies in a layer below: link path and target path.
    pub pending_links: Vec<(PathBuf, PathBuf)>,
    /// Whether the layer hides all that lies below it.
    pub opaque_root: bool,
    /// The compressed blob that this layer was made from, if any; its bytes need not be in the store.
    pub blob: Option<LayerBlob>,
    /// The layer that files were taken over from by a second name, if any.
    pub linked: Option<Linked>,
}

/// Files that a layer has in common with an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linked {
    /// The earlier layer; it must be held by a lease until the new one is published.
    pub diff_id: DiffId,
    /// What the common files take on disk.
    pub disk_bytes: u64,
}

impl NewLayer {
    /// Returns a layer made here, whose tar the canonical writer makes again.
    pub fn made_here(summary: LayerSummary) -> Self {
        Self {
            summary,
            recipe: None,
            implied_dirs: Vec::new(),
            pending_links: Vec::new(),
            opaque_root: false,
            blob: None,
            linked: None,
        }
    }

    /// Returns a layer that was unpacked from a tar, with the compressed blob it came as.
    pub fn unpacked(applied: Applied, blob: Option<LayerBlob>) -> Self {
        Self {
            summary: applied.summary,
            recipe: Some(applied.recipe),
            implied_dirs: applied.implied_dirs,
            pending_links: applied.pending_links,
            opaque_root: applied.opaque_root,
            blob,
            linked: None,
        }
    }
}

/// A compressed form of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// How they are compressed.
    pub compression: LayerCompression,
    /// Their length in bytes.
    pub size_bytes: u64,
}

/// A published layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Names its directory below `layers/`.
    pub number: i64,
    /// Digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// Sum of the apparent sizes of its regular files, docker's `Size`.
    pub size_bytes: u64,
    /// What it takes on disk; `None` until it was measured in the background.
    pub disk_bytes: Option<u64>,
    /// Length of its uncompressed tar.
    pub tar_bytes: u64,
    /// Entries of its tar.
    pub entries: u64,
    /// When it was published, in nanoseconds since 1970.
    pub created_unix_ns: i64,
}

const LAYER_COLUMNS: &str =
    "number, diff_id, size_bytes, disk_bytes, tar_bytes, entries, created_ns";

impl Store {
    /// Publishes a staged directory as the layer of its DiffID: rename, then row. When that layer is there
    /// already the staged copy is dropped and the existing one returned.
    ///
    /// The layer is durable once an image that needs it is put; until an image, a container, a cache record
    /// or a lease holds it, a sweep may take it.
    pub fn publish_layer(&self, staging: Staging, new: NewLayer) -> Result<Layer> {
        let diff_id = new.summary.diff_id;
        let paths = LayerPaths::of(&new)?;
        let source = self.tar_source(&new)?;
        lock(&self.inner.leases).hold_for_all(Held::Layer(diff_id));
        if self.layer(&diff_id)?.is_none() {
            staging.keep_only_files()?;
            if let (TarSource::Recipe, Some(recipe)) = (source, &new.recipe) {
                write_recipe(&staging, recipe)?;
            }
            self.publish_new(staging, &new, &paths, source)?;
        }
        if let Some(blob) = &new.blob {
            self.add_layer_blob(&diff_id, blob)?;
        }
        self.layer(&diff_id)?
            .ok_or_else(|| StoreError::not_found(Kind::Layer, diff_id))
    }

    /// Decides how the layer's tar will be made again.
    fn tar_source(&self, new: &NewLayer) -> Result<TarSource> {
        match (&new.recipe, &new.blob) {
            (None, _) => Ok(TarSource::Canonical),
            (Some(recipe), _) if recipe.is_canonical() => Ok(TarSource::Canonical),
            (Some(recipe), _) if recipe.is_complete() => Ok(TarSource::Recipe),
            (Some(_), Some(blob)) if self.has_blob(&blob.digest)? => Ok(TarSource::Blob),
            _ => Err(StoreError::Invalid {
                what: "layer",
                found: new.summary.diff_id.to_string(),
                reason: "its tar cannot be made again from its files and its blob was not kept"
                    .to_owned(),
            }),
        }
    }

    fn publish_new(
        &self,
        staging: Staging,
        new: &NewLayer,
        paths: &LayerPaths,
        source: TarSource,
    ) -> Result<()> {
        let number = self.inner.next_layer_number();
        let place = self.inner.layout.layer(number);
        staging.publish(&place)?;
        let inserted =
            self.inner
                .database
                .write(Durability::Process, "publish a layer", |transaction| {
                    insert_layer(transaction, number, new, paths, source)
                });
        if let Ok(true) = inserted {
            self.inner.worker.submit(Job::Measure(number));
            return Ok(());
        }
        // Another thread published the same layer first, or the row could not be written.
        self.inner.discard(&place)?;
        inserted.map(drop)
    }

    /// Returns the layer of a DiffID, if it is there.
    pub fn layer(&self, diff_id: &DiffId) -> Result<Option<Layer>> {
        self.inner.database.read("look up a layer", |connection| {
            find_layer(connection, diff_id)
        })
    }

    /// Returns the list that was kept with [`Staging::keep_contents`]; nothing where there is none.
    pub fn layer_contents(&self, diff_id: &DiffId) -> Result<Option<Vec<u8>>> {
        let Some(layer) = self.layer(diff_id)? else {
            return Ok(None);
        };
        let path = self.inner.layout.contents(layer.number);
        match trusted::read_limited(&path, MAX_CONTENTS_BYTES) {
            Ok(list) => Ok(Some(list)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns all layers, oldest first.
    pub fn layers(&self) -> Result<Vec<Layer>> {
        self.inner.database.read("list layers", |connection| {
            let sql = format!("SELECT {LAYER_COLUMNS} FROM layers ORDER BY number");
            let mut statement = connection.prepare_cached(&sql)?;
            let layers = statement
                .query_map([], layer_row)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(layers)
        })
    }

    /// Returns the layer that a compressed blob unpacks to, whether or not the blob itself was kept.
    pub fn layer_by_blob(&self, digest: &Digest) -> Result<Option<Layer>> {
        self.inner
            .database
            .read("look up a layer by its blob", |connection| {
                let mut statement = connection
                    .prepare_cached("SELECT diff_id FROM layer_blobs WHERE digest = ?1")?;
                let diff_id = statement
                    .query_row([digest.to_string()], |row| digest_column(row, 0))
                    .optional()?;
                diff_id.map_or(Ok(None), |diff_id| find_layer(connection, &diff_id))
            })
    }

    /// Returns the known compressed forms of a layer; [`Store::blob`] says whether one is kept.
    pub fn layer_blobs(&self, diff_id: &DiffId) -> Result<Vec<LayerBlob>> {
        self.inner.database.read("list a layer's blobs", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT digest, compression, size_bytes FROM layer_blobs WHERE diff_id = ?1 ORDER BY digest",
            )?;
            let blobs = statement.query_map([diff_id.to_string()], layer_blob_row)?.collect::<rusqlite::Result<_>>()?;
            Ok(blobs)
        })
    }

    /// Records a compressed form of a layer; if its bytes are kept as a blob, they live as long as the layer.
    pub fn add_layer_blob(&self, diff_id: &DiffId, blob: &LayerBlob) -> Result<()> {
        self.inner.database.write(Durability::Process, "record a layer's blob", |transaction| {
            if find_layer(transaction, diff_id)?.is_none() {
                return Err(StoreError::not_found(Kind::Layer, diff_id));
            }
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO layer_blobs (diff_id, digest, compression, size_bytes) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute((
                    diff_id.to_string(),
                    blob.digest.to_string(),
                    compression_name(blob.compression),
                    sql_size(blob.size_bytes),
                ))?;
            Ok(())
        })
    }
}

/// Returns a layer's row.
pub(crate) fn find_layer(connection: &Connection, diff_id: &DiffId) -> Result<Option<Layer>> {
    let sql = format!("SELECT {LAYER_COLUMNS} FROM layers WHERE diff_id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement
        .query_row([diff_id.to_string()], layer_row)
        .optional()?)
}

/// Returns the rows of a whole chain.
///
/// # Errors
/// [`StoreError::NotFound`] names the first layer that is missing.
pub(crate) fn find_chain(connection: &Connection, diff_ids: &[DiffId]) -> Result<Vec<Layer>> {
    check_chain_length(diff_ids)?;
    diff_ids
        .iter()
        .map(|diff_id| {
            find_layer(connection, diff_id)?
                .ok_or_else(|| StoreError::not_found(Kind::Layer, diff_id))
        })
        .collect()
}

/// Refuses chains that could never be mounted.
pub(crate) fn check_chain_length(diff_ids: &[DiffId]) -> Result<()> {
    if diff_ids.len() > MAX_LAYERS {
        return Err(StoreError::Invalid {
            what: "layer chain",
            found: format!("{} layers", diff_ids.len()),
            reason: format!("at most {MAX_LAYERS} layers can be mounted"),
        });
    }
    Ok(())
}

/// Inserts one row per layer of a chain into a table of (owner, position, diff_id, chain_id).
pub(crate) fn insert_chain(
    transaction: &Transaction<'_>,
    insert: &str,
    owner: &str,
    diff_ids: &[DiffId],
) -> Result<()> {
    let mut statement = transaction.prepare_cached(insert)?;
    let chain_ids = wharf_image::chain_ids(diff_ids);
    for (position, (diff_id, chain_id)) in (0_i64..).zip(diff_ids.iter().zip(chain_ids)) {
        statement.execute((owner, position, diff_id.to_string(), chain_id.to_string()))?;
    }
    Ok(())
}

/// How a layer's tar is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TarSource {
    /// By the canonical writer from the directory.
    Canonical,
    /// By the recipe that lies beside the files.
    Recipe,
    /// By decompressing the kept blob.
    Blob,
}

impl TarSource {
    /// Returns the stored name.
    fn name(self) -> &'static str {
        match self {
            Self::Canonical => "canonical",
            Self::Recipe => "recipe",
            Self::Blob => "blob",
        }
    }

    /// Returns the source of a stored name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Canonical, Self::Recipe, Self::Blob]
            .into_iter()
            .find(|source| source.name() == name)
    }
}

/// The columns that list paths; `None` where there are none.
pub(crate) struct LayerPaths {
    implied_dirs: Option<Vec<u8>>,
    pending_links: Option<Vec<u8>>,
}

impl LayerPaths {
    pub(crate) fn of(new: &NewLayer) -> Result<Self> {
        let links = new
            .pending_links
            .iter()
            .flat_map(|(link, target)| [link, target]);
        let implied_dirs = paths_to_bytes(&new.implied_dirs);
        let pending_links = paths_to_bytes(links);
        let size = (implied_dirs.len() + pending_links.len()) as u64;
        if size > MAX_LAYER_PATHS_BYTES {
            return Err(StoreError::TooLarge {
                what: "the list of a layer's implied directories and links",
                size,
                limit: MAX_LAYER_PATHS_BYTES,
            });
        }
        let filled = |bytes: Vec<u8>| (!bytes.is_empty()).then_some(bytes);
        Ok(Self {
            implied_dirs: filled(implied_dirs),
            pending_links: filled(pending_links),
        })
    }
}

fn write_recipe(staging: &Staging, recipe: &Recipe) -> Result<()> {
    let bytes = recipe.to_bytes();
    let size = bytes.len() as u64;
    if size > MAX_RECIPE_BYTES {
        return Err(StoreError::TooLarge {
            what: "a layer's recipe",
            size,
            limit: MAX_RECIPE_BYTES,
        });
    }
    let path: &Path = &staging.path().join(RECIPE);
    Ok(trusted::write_atomic(path, &bytes, FILE_MODE, false)?)
}

/// Inserts the row unless the layer has one; says whether it did.
pub(crate) fn insert_layer(
    transaction: &Transaction<'_>,
    number: i64,
    new: &NewLayer,
    paths: &LayerPaths,
    source: TarSource,
) -> Result<bool> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO layers (number, diff_id, size_bytes, tar_bytes, entries, tar_source, hides_lower,
            implied_dirs, pending_links, sealed, created_ns)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10) ON CONFLICT (diff_id) DO NOTHING",
    )?;
    let inserted = statement.execute((
        number,
        new.summary.diff_id.to_string(),
        sql_size(new.summary.size_bytes),
        sql_size(new.summary.tar_bytes),
        sql_size(new.summary.entries),
        source.name(),
        new.opaque_root,
        &paths.implied_dirs,
        &paths.pending_links,
        now_unix_ns(),
    ))?;
    if let (1, Some(linked)) = (inserted, &new.linked) {
        family::join(transaction, number, linked)?;
    }
    Ok(inserted == 1)
}

fn layer_row(row: &Row<'_>) -> rusqlite::Result<Layer> {
    let disk_bytes: Option<i64> = row.get(3)?;
    Ok(Layer {
        number: row.get(0)?,
        diff_id: digest_column(row, 1)?,
        size_bytes: size_column(row, 2)?,
        disk_bytes: disk_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        tar_bytes: size_column(row, 4)?,
        entries: size_column(row, 5)?,
        created_unix_ns: row.get(6)?,
    })
}

fn layer_blob_row(row: &Row<'_>) -> rusqlite::Result<LayerBlob> {
    let name: String = row.get(1)?;
    let compression = parse_compression(&name).ok_or(rusqlite::Error::InvalidColumnName(name))?;
    Ok(LayerBlob {
        digest: digest_column(row, 0)?,
        compression,
        size_bytes: size_column(row, 2)?,
    })
}
