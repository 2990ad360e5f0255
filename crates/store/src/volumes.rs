//! Volumes: named directories that outlive containers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Row};

use crate::containers::check_name;
use crate::db::{Durability, json_column, lock};
use crate::error::{Kind, Result, StoreError};
use crate::layout::VOLUME_FILES;
use crate::store::{Store, now_unix_ns};

/// The driver of volumes that lie here.
pub(crate) const LOCAL_DRIVER: &str = "local";
/// Docker's mode for a volume's own directory: passed through, not listed.
const VOLUME_MODE: u32 = 0o701;
const FILES_MODE: u32 = 0o755;
const VOLUME_COLUMNS: &str = "name, driver, labels, options, anonymous, created_ns";

/// A volume to create.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name.
    pub name: String,
    /// Its driver; `local` when empty.
    pub driver: String,
    /// User labels.
    pub labels: BTreeMap<String, String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Whether the name was made up for a container.
    pub anonymous: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// User labels.
    pub labels: BTreeMap<String, String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Whether the name was made up for a container.
    pub anonymous: bool,
    /// When it was made, in nanoseconds since 1970.
    pub created_unix_ns: i64,
}

impl Store {
    /// Creates a volume with an empty `_data` directory.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] when the name is taken; the caller decides whether that is one.
    pub fn create_volume(&self, new: &NewVolume) -> Result<Volume> {
        check_name("volume name", &new.name)?;
        // A volume of this name may be on its way out; deletion holds the same lock.
        let _gate = lock(&self.inner.leases);
        if self.volume(&new.name)?.is_some() {
            return Err(StoreError::AlreadyExists {
                kind: Kind::Volume,
                name: new.name.clone(),
                by: None,
            });
        }
        let driver = if new.driver.is_empty() {
            LOCAL_DRIVER
        } else {
            &new.driver
        };
        let volume = Volume {
            name: new.name.clone(),
            driver: driver.to_owned(),
            labels: new.labels.clone(),
            options: new.options.clone(),
            anonymous: new.anonymous,
            created_unix_ns: now_unix_ns(),
        };
        self.make_volume_directory(&new.name)?;
        if let Err(error) = self.insert_volume(&volume) {
            self.inner
                .discard(&self.inner.layout.volumes().join(&new.name))?;
            return Err(error);
        }
        Ok(volume)
    }

    pub(crate) fn make_volume_directory(&self, name: &str) -> Result<()> {
        let place = self.inner.layout.volumes().join(name);
        self.inner
            .make_directory(VOLUME_MODE, &[(VOLUME_FILES, FILES_MODE)], &place)
    }

    pub(crate) fn insert_volume(&self, volume: &Volume) -> Result<()> {
        let json = |map: &BTreeMap<String, String>| {
            serde_json::to_string(map).map_err(|error| StoreError::damaged("volume", error))
        };
        let (labels, options) = (json(&volume.labels)?, json(&volume.options)?);
        self.inner
            .database
            .write(Durability::Power, "create a volume", |transaction| {
                let sql = format!(
                    "INSERT INTO volumes ({VOLUME_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
                );
                transaction.prepare_cached(&sql)?.execute((
                    &volume.name,
                    &volume.driver,
                    labels,
                    options,
                    volume.anonymous,
                    volume.created_unix_ns,
                ))?;
                Ok(())
            })
    }

    /// Returns a volume, if it is there.
    pub fn volume(&self, name: &str) -> Result<Option<Volume>> {
        self.inner.database.read("look up a volume", |connection| {
            find_volume(connection, name)
        })
    }

    /// Returns all volumes, sorted by name.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        self.inner.database.read("list volumes", |connection| {
            let sql = format!("SELECT {VOLUME_COLUMNS} FROM volumes ORDER BY name");
            let mut statement = connection.prepare_cached(&sql)?;
            let volumes = statement.query_map([], volume_row)?;
            Ok(volumes.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Deletes a volume with all it holds. Whether anything uses it is the caller's to know.
    pub fn delete_volume(&self, name: &str) -> Result<()> {
        let _gate = lock(&self.inner.leases);
        self.inner
            .database
            .write(Durability::Power, "delete a volume", |transaction| {
                let deleted = transaction
                    .prepare_cached("DELETE FROM volumes WHERE name = ?1")?
                    .execute([name])?;
                if deleted == 0 {
                    return Err(StoreError::not_found(Kind::Volume, name));
                }
                Ok(())
            })?;
        self.inner.discard(&self.inner.layout.volumes().join(name))
    }

    /// Returns the directory that is mounted for a volume.
    pub fn volume_path(&self, name: &str) -> Result<PathBuf> {
        check_name("volume name", name)?;
        Ok(self.inner.layout.volumes().join(name).join(VOLUME_FILES))
    }
}

fn find_volume(connection: &Connection, name: &str) -> Result<Option<Volume>> {
    let sql = format!("SELECT {VOLUME_COLUMNS} FROM volumes WHERE name = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row([name], volume_row).optional()?)
}

fn volume_row(row: &Row<'_>) -> rusqlite::Result<Volume> {
    Ok(Volume {
        name: row.get(0)?,
        driver: row.get(1)?,
        labels: json_column(row, 2)?,
        options: json_column(row, 3)?,
        anonymous: row.get(4)?,
        created_unix_ns: row.get(5)?,
    })
}
