//! Who owns which bytes on disk.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::Connection;
use wharf_image::{DiffId, Digest, ImageId};
use wharf_safefs::trusted;

use crate::build_area::BuildPart;
use crate::db::{digest_column, digest_option_column, size_column};
use crate::error::Result;
use crate::family::measure;
use crate::store::Store;

/// Bytes on disk by owner. The parts do not overlap; their [`DiskUsage::total_bytes`] is what `du` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskUsage {
    /// Layers, each once, with their variants and recipes.
    pub layers_bytes: u64,
    /// Configs, manifests and compressed layers.
    pub blobs_bytes: u64,
    /// Containers' directories, by ID.
    pub containers: Vec<(String, u64)>,
    /// Volumes, by name.
    pub volumes: Vec<(String, u64)>,
    /// What builds keep beside layers and records, by part.
    pub build: Vec<(BuildPart, u64)>,
    /// What is staged or being removed right now.
    pub temporary_bytes: u64,
    /// The database, and the directories that hold all this.
    pub database_bytes: u64,
    /// What each image adds and shares; parts of `layers_bytes`.
    pub images: Vec<ImageUsage>,
    /// What each build cache record adds and shares; parts of `layers_bytes`.
    pub cache: Vec<CacheUsage>,
    /// Bytes of layers that only build cache records keep.
    pub cache_only_bytes: u64,
}

/// What one image takes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageUsage {
    /// The image.
    pub id: ImageId,
    /// Bytes of layers that other images also have.
    pub shared_bytes: u64,
    /// Bytes of layers that no other image has.
    pub exclusive_bytes: u64,
}

/// What one build cache record takes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUsage {
    /// The record's key.
    pub key: Digest,
    /// The layer that the step added, if any.
    pub layer: Option<DiffId>,
    /// Bytes of that layer.
    pub disk_bytes: u64,
    /// Whether an image or a container also keeps that layer.
    pub shared: bool,
}

impl DiskUsage {
    /// Returns the sum of all parts.
    pub fn total_bytes(&self) -> u64 {
        let measured = |list: &[(String, u64)]| list.iter().map(|(_, bytes)| bytes).sum::<u64>();
        self.layers_bytes
            + self.blobs_bytes
            + measured(&self.containers)
            + measured(&self.volumes)
            + self.build.iter().map(|(_, bytes)| bytes).sum::<u64>()
            + self.temporary_bytes
            + self.database_bytes
    }
}

/// One layer's or variant's share.
struct LayerBytes {
    diff_id: DiffId,
    disk_bytes: u64,
    images: u64,
    containers: u64,
    cache_records: u64,
}

impl Store {
    /// Returns who owns which bytes on disk. Layers and blobs are counted from rows, without a walk;
    /// containers, volumes and what is being made or removed are measured.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let mut usage = self.layer_usage()?;
        self.measure_directories(&mut usage)?;
        Ok(usage)
    }

    /// Returns what layers and blobs take, from rows alone; what would have to be measured is left empty.
    pub fn layer_usage(&self) -> Result<DiskUsage> {
        self.measure_unmeasured()?;
        let (mut usage, layers) = self.inner.database.read("count bytes", |connection| {
            let layers = list_layer_bytes(connection)?;
            let bytes: HashMap<DiffId, &LayerBytes> =
                layers.iter().map(|layer| (layer.diff_id, layer)).collect();
            let usage = DiskUsage {
                images: image_usage(connection, &bytes)?,
                cache: cache_usage(connection, &bytes)?,
                blobs_bytes: sum(connection, "SELECT coalesce(sum(disk_bytes), 0) FROM blobs")?,
                ..DiskUsage::default()
            };
            drop(bytes);
            Ok((usage, layers))
        })?;
        usage.layers_bytes = layers.iter().map(|layer| layer.disk_bytes).sum();
        usage.cache_only_bytes = layers
            .iter()
            .filter(|layer| layer.images == 0 && layer.containers == 0 && layer.cache_records > 0)
            .map(|layer| layer.disk_bytes)
            .sum();
        Ok(usage)
    }

    /// Measures the layers that the background thread has not come to yet.
    pub(crate) fn measure_unmeasured(&self) -> Result<()> {
        let numbers: Vec<i64> =
            self.inner
                .database
                .read("list unmeasured layers", |connection| {
                    let mut statement = connection
                        .prepare_cached("SELECT number FROM layers WHERE disk_bytes IS NULL")?;
                    Ok(statement
                        .query_map([], |row| row.get(0))?
                        .collect::<rusqlite::Result<_>>()?)
                })?;
        for number in numbers {
            match measure(&self.inner.database, &self.inner.layout, number) {
                Ok(_) => {}
                // Deleted meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn measure_directories(&self, usage: &mut DiskUsage) -> Result<()> {
        let layout = &self.inner.layout;
        for row in self.containers()? {
            let bytes = measured(&layout.containers().join(&row.id))?;
            usage.containers.push((row.id, bytes));
        }
        for volume in self.volumes()? {
            let bytes = measured(&layout.volumes().join(&volume.name))?;
            usage.volumes.push((volume.name, bytes));
        }
        for part in BuildPart::ALL {
            usage
                .build
                .push((part, measured(&layout.build_part(part))?));
        }
        usage.temporary_bytes = measured(&layout.temporary())?;
        for path in layout.own_paths() {
            usage.database_bytes += own_bytes(&path)?;
        }
        Ok(())
    }
}

/// Returns what a tree takes; nothing where it was deleted meanwhile.
fn measured(path: &Path) -> Result<u64> {
    match trusted::disk_usage(path) {
        Ok(usage) => Ok(usage.disk_bytes),
        Err(error) if error.is_not_found() => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Returns what a file or directory itself takes, without what is in it.
fn own_bytes(path: &Path) -> Result<u64> {
    match trusted::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.blocks * 512),
        Err(error) if error.is_not_found() => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn sum(connection: &Connection, sql: &str) -> Result<u64> {
    Ok(connection
        .prepare_cached(sql)?
        .query_row([], |row| size_column(row, 0))?)
}

fn list_layer_bytes(connection: &Connection) -> Result<Vec<LayerBytes>> {
    let mut statement = connection.prepare_cached(
        "SELECT diff_id,
            coalesce(disk_bytes, size_bytes)
                + (SELECT coalesce(sum(v.disk_bytes), 0) FROM variants v WHERE v.diff_id = l.diff_id),
            (SELECT count(DISTINCT image_id) FROM image_layers o WHERE o.diff_id = l.diff_id),
            (SELECT count(*) FROM container_layers o WHERE o.diff_id = l.diff_id),
            (SELECT count(*) FROM cache_layers o WHERE o.diff_id = l.diff_id)
         FROM layers l",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(LayerBytes {
            diff_id: digest_column(row, 0)?,
            disk_bytes: size_column(row, 1)?,
            images: size_column(row, 2)?,
            containers: size_column(row, 3)?,
            cache_records: size_column(row, 4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn image_usage(
    connection: &Connection,
    layers: &HashMap<DiffId, &LayerBytes>,
) -> Result<Vec<ImageUsage>> {
    // An image can have one layer twice; on disk it is there once.
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT i.id, o.diff_id FROM images i LEFT JOIN image_layers o ON o.image_id = i.id ORDER BY i.id",
    )?;
    let mut rows = statement.query([])?;
    let mut images: Vec<ImageUsage> = Vec::new();
    while let Some(row) = rows.next()? {
        let id = digest_column(row, 0)?;
        if images.last().is_none_or(|last| last.id != id) {
            images.push(ImageUsage {
                id,
                shared_bytes: 0,
                exclusive_bytes: 0,
            });
        }
        let layer = digest_option_column(row, 1)?.and_then(|diff_id| layers.get(&diff_id));
        if let (Some(image), Some(layer)) = (images.last_mut(), layer) {
            if layer.images > 1 {
                image.shared_bytes += layer.disk_bytes;
            } else {
                image.exclusive_bytes += layer.disk_bytes;
            }
        }
    }
    Ok(images)
}

fn cache_usage(
    connection: &Connection,
    layers: &HashMap<DiffId, &LayerBytes>,
) -> Result<Vec<CacheUsage>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, (SELECT diff_id FROM cache_layers o WHERE o.key = c.key ORDER BY position DESC LIMIT 1)
         FROM cache_records c ORDER BY key",
    )?;
    let rows = statement.query_map([], |row| {
        Ok((digest_column(row, 0)?, digest_option_column(row, 1)?))
    })?;
    let usage = rows.map(|row| {
        let (key, diff_id) = row?;
        let layer = diff_id.and_then(|diff_id: DiffId| layers.get(&diff_id));
        Ok(CacheUsage {
            key,
            layer: diff_id,
            disk_bytes: layer.map_or(0, |layer| layer.disk_bytes),
            shared: layer.is_some_and(|layer| layer.images + layer.containers > 0),
        })
    });
    usage.collect()
}
