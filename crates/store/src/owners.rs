//! What keeps a layer (design invariant 10).

use rusqlite::Connection;
use wharf_image::{DiffId, Digest, ImageId};

use crate::db::digest_column;
use crate::error::Result;
use crate::store::Store;

/// All that keeps one layer from being swept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayerOwners {
    /// Images that have it.
    pub images: Vec<ImageId>,
    /// IDs of containers that stand on it.
    pub containers: Vec<String>,
    /// Keys of build cache records that lead to it.
    pub cache_records: Vec<Digest>,
    /// Purposes of operations in progress that hold it.
    pub leases: Vec<String>,
}

impl LayerOwners {
    /// Says whether the next sweep takes the layer.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Store {
    /// Returns what keeps a layer.
    pub fn layer_owners(&self, diff_id: &DiffId) -> Result<LayerOwners> {
        let mut owners = self
            .inner
            .database
            .read("list a layer's owners", |connection| {
                Ok(LayerOwners {
                    images: digests(
                        connection,
                        diff_id,
                        "SELECT DISTINCT image_id FROM image_layers WHERE diff_id = ?1",
                    )?,
                    containers: containers(connection, diff_id)?,
                    cache_records: digests(
                        connection,
                        diff_id,
                        "SELECT DISTINCT key FROM cache_layers WHERE diff_id = ?1",
                    )?,
                    leases: Vec::new(),
                })
            })?;
        owners.leases = self.leases_of_layer(diff_id);
        Ok(owners)
    }
}

fn digests(connection: &Connection, diff_id: &DiffId, sql: &str) -> Result<Vec<Digest>> {
    let mut statement = connection.prepare_cached(sql)?;
    let owners = statement.query_map([diff_id.to_string()], |row| digest_column(row, 0))?;
    Ok(owners.collect::<rusqlite::Result<_>>()?)
}

fn containers(connection: &Connection, diff_id: &DiffId) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT container_id FROM container_layers WHERE diff_id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let owners = statement.query_map([diff_id.to_string()], |row| row.get(0))?;
    Ok(owners.collect::<rusqlite::Result<_>>()?)
}
