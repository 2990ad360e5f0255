//! Names: canonical references that point at images.

use rusqlite::{Connection, OptionalExtension};
use wharf_image::{ImageId, Reference};

use crate::db::{Durability, digest_column, reference_column};
use crate::error::{Kind, Result, StoreError};
use crate::image_rows::image_exists;
use crate::store::{Store, now_unix_ns};

impl Store {
    /// Points a name at an image and returns where it pointed before. Durable on return.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the image is not there; [`StoreError::Invalid`] for a reference with
    /// neither tag nor digest.
    pub fn tag(&self, name: &Reference, id: &ImageId) -> Result<Option<ImageId>> {
        if name.is_name_only() {
            return Err(StoreError::Invalid {
                what: "image name",
                found: name.familiar(),
                reason: "it has neither a tag nor a digest".to_owned(),
            });
        }
        self.inner
            .database
            .write(Durability::Power, "tag an image", |transaction| {
                if !image_exists(transaction, id)? {
                    return Err(StoreError::not_found(Kind::Image, id));
                }
                let previous = find_name(transaction, name)?;
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO names (reference, image_id) VALUES (?1, ?2)",
                    )?
                    .execute((name.to_string(), id.to_string()))?;
                transaction
                    .prepare_cached("UPDATE images SET tagged_ns = ?2 WHERE id = ?1")?
                    .execute((id.to_string(), now_unix_ns()))?;
                Ok(previous)
            })
    }

    /// Removes a name and returns where it pointed; `None` when there was no such name.
    pub fn untag(&self, name: &Reference) -> Result<Option<ImageId>> {
        self.inner
            .database
            .write(Durability::Power, "untag an image", |transaction| {
                let mut statement = transaction
                    .prepare_cached("DELETE FROM names WHERE reference = ?1 RETURNING image_id")?;
                Ok(statement
                    .query_row([name.to_string()], |row| digest_column(row, 0))
                    .optional()?)
            })
    }

    /// Returns the image that exactly this name points at.
    pub fn resolve(&self, name: &Reference) -> Result<Option<ImageId>> {
        self.inner
            .database
            .read("look up a name", |connection| find_name(connection, name))
    }

    /// Returns all names of an image, sorted.
    pub fn names_of(&self, id: &ImageId) -> Result<Vec<Reference>> {
        self.inner
            .database
            .read("list an image's names", |connection| {
                names_of(connection, id)
            })
    }

    /// Returns all names and where they point, sorted by name.
    pub fn names(&self) -> Result<Vec<(Reference, ImageId)>> {
        self.inner.database.read("list names", |connection| {
            let mut statement = connection
                .prepare_cached("SELECT reference, image_id FROM names ORDER BY reference")?;
            let names = statement.query_map([], |row| {
                Ok((reference_column(row, 0)?, digest_column(row, 1)?))
            })?;
            Ok(names.collect::<rusqlite::Result<_>>()?)
        })
    }
}

/// Returns all names of an image, sorted.
pub(crate) fn names_of(connection: &Connection, id: &ImageId) -> Result<Vec<Reference>> {
    let mut statement = connection
        .prepare_cached("SELECT reference FROM names WHERE image_id = ?1 ORDER BY reference")?;
    let names = statement.query_map([id.to_string()], |row| reference_column(row, 0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

fn find_name(connection: &Connection, name: &Reference) -> Result<Option<ImageId>> {
    let mut statement =
        connection.prepare_cached("SELECT image_id FROM names WHERE reference = ?1")?;
    Ok(statement
        .query_row([name.to_string()], |row| digest_column(row, 0))
        .optional()?)
}
