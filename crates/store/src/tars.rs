//! A layer's exact tar, made again from its directory.

use std::io::{self, BufReader, Write};

use rusqlite::OptionalExtension;
use wharf_image::{DiffId, Hasher};
use wharf_layer::Recipe;
use wharf_safefs::{Root, trusted};

use crate::error::{Kind, Result, StoreError};
use crate::layers::TarSource;
use crate::limits::MAX_RECIPE_BYTES;
use crate::store::Store;

const READ_BUFFER_BYTES: usize = 256 << 10;

impl Store {
    /// Writes a layer's uncompressed tar, bit for bit what its DiffID names, and returns its length in bytes.
    ///
    /// A layer made here is written by the canonical writer, one from outside is rebuilt by its recipe
    /// or, where it has none, decompressed from its kept blob.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] when the directory no longer holds what the DiffID names; `out` has
    /// taken the wrong bytes then.
    pub fn write_layer_tar(&self, diff_id: &DiffId, out: &mut dyn Write) -> Result<u64> {
        let (number, source) = self.find_tar_source(diff_id)?;
        let path = self.inner.layout.layer_files(number);
        let mut out = Checked {
            out,
            hasher: Hasher::new(),
            size_bytes: 0,
        };
        let failed = |error| StoreError::layer(diff_id, &path, error);
        match source {
            TarSource::Canonical => {
                wharf_layer::write_tar(&Root::open(&path)?, &mut out).map_err(failed)?;
            }
            TarSource::Recipe => {
                let bytes =
                    trusted::read_limited(self.inner.layout.recipe(number), MAX_RECIPE_BYTES)?;
                let recipe = Recipe::from_bytes(&bytes).map_err(failed)?;
                recipe
                    .rebuild(&Root::open(&path)?, &mut out)
                    .map_err(failed)?;
            }
            TarSource::Blob => self.decompress_kept_blob(diff_id, &mut out)?,
        }
        out.finish(diff_id)
    }

    fn find_tar_source(&self, diff_id: &DiffId) -> Result<(i64, TarSource)> {
        let found: Option<(i64, String)> =
            self.inner.database.read("look up a layer", |connection| {
                let sql = "SELECT number, tar_source FROM layers WHERE diff_id = ?1";
                let mut statement = connection.prepare_cached(sql)?;
                Ok(statement
                    .query_row([diff_id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?)
            })?;
        let (number, name) = found.ok_or_else(|| StoreError::not_found(Kind::Layer, diff_id))?;
        let source = TarSource::parse(&name).ok_or_else(|| {
            StoreError::damaged(
                format!("layer {}", diff_id.short()),
                format!("tar source {name:?}"),
            )
        })?;
        Ok((number, source))
    }

    fn decompress_kept_blob(&self, diff_id: &DiffId, out: &mut dyn Write) -> Result<()> {
        for blob in self.layer_blobs(diff_id)? {
            let Some(file) = self.blob(&blob.digest)? else {
                continue;
            };
            let path = self.inner.layout.blob(&blob.digest);
            let (_, mut tar) =
                wharf_layer::decompress(BufReader::with_capacity(READ_BUFFER_BYTES, file))
                    .map_err(|error| StoreError::layer(diff_id, &path, error))?;
            io::copy(&mut tar, out).map_err(|error| StoreError::io("decompress", &path, error))?;
            return Ok(());
        }
        Err(StoreError::damaged(
            format!("layer {}", diff_id.short()),
            "the blob that holds its tar is gone; pull it again",
        ))
    }
}

/// Hashes what passes through.
struct Checked<'a> {
    out: &'a mut dyn Write,
    hasher: Hasher,
    size_bytes: u64,
}

impl Checked<'_> {
    fn finish(self, diff_id: &DiffId) -> Result<u64> {
        let found = self.hasher.finish();
        if found == *diff_id {
            return Ok(self.size_bytes);
        }
        Err(StoreError::DigestMismatch {
            what: "tar of a layer".to_owned(),
            expected: *diff_id,
            found,
        })
    }
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
