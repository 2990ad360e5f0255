//! Settings and documents: small records of the other rooms.

use rusqlite::OptionalExtension;

use crate::db::{Durability, json_column};
use crate::error::{Result, StoreError};
use crate::limits::{MAX_DOCUMENT_BYTES, MAX_SETTING_BYTES};
use crate::store::Store;

impl Store {
    /// Returns a setting's value.
    pub fn setting(&self, key: &str) -> Result<Option<String>> {
        self.inner.database.read("read a setting", |connection| {
            let mut statement =
                connection.prepare_cached("SELECT value FROM settings WHERE key = ?1")?;
            Ok(statement.query_row([key], |row| row.get(0)).optional()?)
        })
    }

    /// Sets a setting. Durable on return.
    pub fn set_setting(&self, key: &str, value: &str) -> Result<()> {
        let size = value.len() as u64;
        if size > MAX_SETTING_BYTES {
            return Err(StoreError::TooLarge {
                what: "setting",
                size,
                limit: MAX_SETTING_BYTES,
            });
        }
        self.inner
            .database
            .write(Durability::Power, "write a setting", |transaction| {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO settings (key, value) VALUES (?1, ?2)")?
                    .execute((key, value))?;
                Ok(())
            })
    }

    /// Stores a JSON document under a kind ("network") and a key, replacing an older one.
    pub fn put_document(&self, kind: &str, key: &str, document: &serde_json::Value) -> Result<()> {
        let document = encode_document(document)?;
        self.inner.database.write(Durability::Process, "store a document", |transaction| {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO documents (kind, key, document) VALUES (?1, ?2, ?3)")?
                .execute((kind, key, document))?;
            Ok(())
        })
    }

    /// Returns a document, if it is there.
    pub fn document(&self, kind: &str, key: &str) -> Result<Option<serde_json::Value>> {
        self.inner.database.read("read a document", |connection| {
            let mut statement = connection
                .prepare_cached("SELECT document FROM documents WHERE kind = ?1 AND key = ?2")?;
            Ok(statement
                .query_row([kind, key], |row| json_column(row, 0))
                .optional()?)
        })
    }

    /// Returns all documents of a kind with their keys, sorted by key.
    pub fn documents(&self, kind: &str) -> Result<Vec<(String, serde_json::Value)>> {
        self.inner.database.read("list documents", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT key, document FROM documents WHERE kind = ?1 ORDER BY key",
            )?;
            let documents =
                statement.query_map([kind], |row| Ok((row.get(0)?, json_column(row, 1)?)))?;
            Ok(documents.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Deletes a document; says whether there was one.
    pub fn delete_document(&self, kind: &str, key: &str) -> Result<bool> {
        self.inner
            .database
            .write(Durability::Process, "delete a document", |transaction| {
                let mut statement = transaction
                    .prepare_cached("DELETE FROM documents WHERE kind = ?1 AND key = ?2")?;
                Ok(statement.execute([kind, key])? > 0)
            })
    }
}

/// Returns a document's text, unless it is past [`MAX_DOCUMENT_BYTES`].
pub(crate) fn encode_document(document: &serde_json::Value) -> Result<String> {
    let text = document.to_string();
    let size = text.len() as u64;
    if size > MAX_DOCUMENT_BYTES {
        return Err(StoreError::TooLarge {
            what: "document",
            size,
            limit: MAX_DOCUMENT_BYTES,
        });
    }
    Ok(text)
}
