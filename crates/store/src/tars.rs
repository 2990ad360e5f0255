//! A layer's exact tar, made again from its directory.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use rusqlite::{OptionalExtension, Row};
use wharf_image::{DiffId, Hasher};
use wharf_layer::{LayerError, Recipe};
use wharf_safefs::{Root, trusted};

use crate::db::size_column;
use crate::error::{Kind, Result, StoreError};
use crate::layers::TarSource;
use crate::limits::MAX_RECIPE_BYTES;
use crate::store::Store;

const READ_BUFFER_BYTES: usize = 256 << 10;

/// How one layer's tar is made.
struct Tar {
    number: i64,
    size_bytes: u64,
    source: TarSource,
}

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
        let tar = self.find_tar(diff_id)?;
        let path = self.inner.layout.layer_files(tar.number);
        let found = match tar.source {
            TarSource::Canonical => write_canonical(diff_id, &path, out)?,
            TarSource::Recipe => self.rebuild(diff_id, &tar, &path, out)?,
            TarSource::Blob => self.decompress_kept_blob(diff_id, &tar, out)?,
        };
        if found == *diff_id {
            return Ok(tar.size_bytes);
        }
        Err(mismatch(diff_id, found))
    }

    fn find_tar(&self, diff_id: &DiffId) -> Result<Tar> {
        self.inner.database.read("look up a layer", |connection| {
            let sql = "SELECT number, tar_bytes, tar_source FROM layers WHERE diff_id = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let tar = statement
                .query_row([diff_id.to_string()], tar_row)
                .optional()?;
            tar.ok_or_else(|| StoreError::not_found(Kind::Layer, diff_id))
        })
    }

    fn rebuild(
        &self,
        diff_id: &DiffId,
        tar: &Tar,
        path: &Path,
        out: &mut dyn Write,
    ) -> Result<DiffId> {
        let failed = |error| layer_error(diff_id, path, error);
        let bytes = trusted::read_limited(self.inner.layout.recipe(tar.number), MAX_RECIPE_BYTES)?;
        let recipe = Recipe::from_bytes(&bytes).map_err(failed)?;
        recipe.rebuild(&Root::open(path)?, out).map_err(failed)?;
        Ok(recipe.diff_id())
    }

    fn decompress_kept_blob(
        &self,
        diff_id: &DiffId,
        tar: &Tar,
        out: &mut dyn Write,
    ) -> Result<DiffId> {
        for blob in self.layer_blobs(diff_id)? {
            let Some(file) = self.blob(&blob.digest)? else {
                continue;
            };
            let path = self.inner.layout.blob(&blob.digest);
            let (_, stream) =
                wharf_layer::decompress(BufReader::with_capacity(READ_BUFFER_BYTES, file))
                    .map_err(|error| layer_error(diff_id, &path, error))?;
            let mut out = Hashing {
                out,
                hasher: Hasher::new(),
            };
            // One byte more than there should be gives another digest.
            io::copy(&mut stream.take(tar.size_bytes.saturating_add(1)), &mut out)
                .map_err(|error| StoreError::io("decompress", &path, error))?;
            return Ok(out.hasher.finish());
        }
        let what = format!("layer {}", diff_id.short());
        Err(StoreError::damaged(
            what,
            "the blob that holds its tar is gone; pull it again",
        ))
    }
}

fn write_canonical(diff_id: &DiffId, path: &Path, out: &mut dyn Write) -> Result<DiffId> {
    let summary = wharf_layer::write_tar(&Root::open(path)?, out)
        .map_err(|error| layer_error(diff_id, path, error))?;
    Ok(summary.diff_id)
}

fn tar_row(row: &Row<'_>) -> rusqlite::Result<Tar> {
    let name: String = row.get(2)?;
    let source = TarSource::parse(&name).ok_or(rusqlite::Error::InvalidColumnName(name))?;
    Ok(Tar {
        number: row.get(0)?,
        size_bytes: size_column(row, 1)?,
        source,
    })
}

fn layer_error(diff_id: &DiffId, path: &Path, error: LayerError) -> StoreError {
    match error {
        LayerError::RebuildMismatch { found, .. } => mismatch(diff_id, found),
        error => StoreError::layer(diff_id, path, error),
    }
}

fn mismatch(diff_id: &DiffId, found: DiffId) -> StoreError {
    let what = format!("files of layer {} were changed", diff_id.short());
    StoreError::DigestMismatch {
        what,
        expected: *diff_id,
        found,
    }
}

/// Hashes what passes through.
struct Hashing<'a> {
    out: &'a mut dyn Write,
    hasher: Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
