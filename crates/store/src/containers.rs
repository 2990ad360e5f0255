//! Containers: a document, the layers it stands on, and a directory.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, Transaction};
use wharf_image::{DiffId, ImageId};
use wharf_safefs::trusted;

use crate::db::{Durability, digest_column, digest_option_column, json_column};
use crate::documents::encode_document;
use crate::error::{Kind, Result, StoreError};
use crate::layers::{find_chain, insert_chain};
use crate::leases::Held;
use crate::limits::MAX_NAME_CHARS;
use crate::store::{Store, now_unix_ns};
use crate::sweep::Candidates;

/// The container's own changes, overlayfs' upper directory.
const UPPER: (&str, u32) = ("upper", 0o755);
/// Overlayfs' work directory; on the same file system as the upper one.
const WORK: (&str, u32) = ("work", 0o700);
const CONTAINER_MODE: u32 = 0o700;

/// A container's row.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerRow {
    /// 64 hexadecimal characters, or any other name for a directory.
    pub id: String,
    /// Its name without a leading slash.
    pub name: String,
    /// The image it was made from; the row does not keep the image, only the layers.
    pub image: Option<ImageId>,
    /// The layers it stands on, lowest first; kept until the container is deleted.
    pub diff_ids: Vec<DiffId>,
    /// The engine's own record.
    pub document: serde_json::Value,
}

impl Store {
    /// Creates a container: its directory with empty `upper` and `work`, then its row. Returns the directory.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] when the ID or the name is taken, [`StoreError::NotFound`] when a layer
    /// is missing.
    pub fn create_container(&self, row: ContainerRow) -> Result<PathBuf> {
        check_name("container id", &row.id)?;
        check_name("container name", &row.name)?;
        let document = encode_document(&row.document)?;
        let lease = self.lease("create container")?;
        for diff_id in &row.diff_ids {
            lease.hold(Held::Layer(*diff_id));
        }
        let directory = self.inner.layout.containers().join(&row.id);
        if trusted::exists(&directory)? {
            return Err(taken(&row.id, None));
        }
        self.make_container_directory(&directory)?;
        let inserted =
            self.inner
                .database
                .write(Durability::Process, "create a container", |transaction| {
                    insert_container(transaction, &row, &document)
                });
        match inserted {
            Ok(()) => Ok(directory),
            Err(error) => {
                self.inner.discard(&directory)?;
                Err(error)
            }
        }
    }

    pub(crate) fn make_container_directory(&self, directory: &Path) -> Result<()> {
        self.inner
            .make_directory(CONTAINER_MODE, &[UPPER, WORK], directory)
    }

    /// Replaces a container's document.
    pub fn update_container(&self, id: &str, document: &serde_json::Value) -> Result<()> {
        let document = encode_document(document)?;
        self.inner
            .database
            .write(Durability::Process, "update a container", |transaction| {
                let mut statement = transaction
                    .prepare_cached("UPDATE containers SET document = ?2 WHERE id = ?1")?;
                require_one(statement.execute((id, document))?, id)
            })
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] names the container that has it.
    pub fn rename_container(&self, id: &str, name: &str) -> Result<()> {
        check_name("container name", name)?;
        self.inner
            .database
            .write(Durability::Process, "rename a container", |transaction| {
                refuse_taken_name(transaction, id, name)?;
                let mut statement =
                    transaction.prepare_cached("UPDATE containers SET name = ?2 WHERE id = ?1")?;
                require_one(statement.execute((id, name))?, id)
            })
    }

    /// Returns a container, if it is there.
    pub fn container(&self, id: &str) -> Result<Option<ContainerRow>> {
        self.inner
            .database
            .read("look up a container", |connection| {
                let sql = "SELECT id, name, image_id, document FROM containers WHERE id = ?1";
                let mut statement = connection.prepare_cached(sql)?;
                let row = statement.query_row([id], container_row).optional()?;
                row.map(|row| with_layers(connection, row)).transpose()
            })
    }

    /// Returns all containers, oldest first.
    pub fn containers(&self) -> Result<Vec<ContainerRow>> {
        self.inner.database.read("list containers", |connection| {
            let sql = "SELECT id, name, image_id, document FROM containers ORDER BY created_ns, id";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], container_row)?;
            rows.map(|row| with_layers(connection, row?)).collect()
        })
    }

    /// Deletes a container: its row and the layers only it kept, then its directory.
    pub fn delete_container(&self, id: &str) -> Result<()> {
        self.collect("delete a container", |transaction| {
            let layers = chain_of(transaction, id)?;
            let mut statement =
                transaction.prepare_cached("DELETE FROM containers WHERE id = ?1")?;
            require_one(statement.execute([id])?, id)?;
            Ok((
                Candidates {
                    layers,
                    blobs: Vec::new(),
                },
                (),
            ))
        })?;
        self.inner.discard(&self.inner.layout.containers().join(id))
    }

    /// Returns where a container's files lie; the directory is there as long as the container.
    pub fn container_dir(&self, id: &str) -> Result<PathBuf> {
        check_name("container id", id)?;
        Ok(self.inner.layout.containers().join(id))
    }
}

/// Refuses what cannot name a directory of ours: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let refuse = |reason: &str| {
        let found = name.chars().take(MAX_NAME_CHARS).collect();
        Err(StoreError::Invalid {
            what,
            found,
            reason: reason.to_owned(),
        })
    };
    if name.len() > MAX_NAME_CHARS {
        return refuse("it is longer than 255 characters");
    }
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return refuse("it must start with a letter or a digit");
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
    {
        return refuse("only letters, digits, _ . and - are allowed");
    }
    Ok(())
}

fn insert_container(
    transaction: &Transaction<'_>,
    row: &ContainerRow,
    document: &str,
) -> Result<()> {
    find_chain(transaction, &row.diff_ids)?;
    refuse_taken_name(transaction, &row.id, &row.name)?;
    transaction
        .prepare_cached(
            "INSERT INTO containers (id, name, image_id, document, created_ns) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((&row.id, &row.name, row.image.map(|id| id.to_string()), document, now_unix_ns()))?;
    let insert = "INSERT INTO container_layers (container_id, position, diff_id, chain_id) VALUES (?1, ?2, ?3, ?4)";
    insert_chain(transaction, insert, &row.id, &row.diff_ids)
}

fn refuse_taken_name(connection: &Connection, id: &str, name: &str) -> Result<()> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM containers WHERE name = ?1 AND id <> ?2")?;
    let holder: Option<String> = statement
        .query_row((name, id), |row| row.get(0))
        .optional()?;
    holder.map_or(Ok(()), |holder| Err(taken(name, Some(holder))))
}

fn taken(name: &str, by: Option<String>) -> StoreError {
    StoreError::AlreadyExists {
        kind: Kind::Container,
        name: name.to_owned(),
        by,
    }
}

fn require_one(changed: usize, id: &str) -> Result<()> {
    if changed == 0 {
        return Err(StoreError::not_found(Kind::Container, id));
    }
    Ok(())
}

fn container_row(row: &Row<'_>) -> rusqlite::Result<ContainerRow> {
    Ok(ContainerRow {
        id: row.get(0)?,
        name: row.get(1)?,
        image: digest_option_column(row, 2)?,
        diff_ids: Vec::new(),
        document: json_column(row, 3)?,
    })
}

fn with_layers(connection: &Connection, row: ContainerRow) -> Result<ContainerRow> {
    Ok(ContainerRow {
        diff_ids: chain_of(connection, &row.id)?,
        ..row
    })
}

fn chain_of(connection: &Connection, id: &str) -> Result<Vec<DiffId>> {
    let mut statement = connection.prepare_cached(
        "SELECT diff_id FROM container_layers WHERE container_id = ?1 ORDER BY position",
    )?;
    let chain = statement.query_map([id], |row| digest_column(row, 0))?;
    Ok(chain.collect::<rusqlite::Result<_>>()?)
}
