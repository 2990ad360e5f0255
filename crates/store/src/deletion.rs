//! Deleting images, one or many at once.

use rusqlite::Transaction;
use wharf_image::{ChainId, ImageId, Reference};

use crate::db::lock;
use crate::error::{Kind, Result, StoreError};
use crate::image_rows::{chain_is_used, image_candidates, image_chain, image_exists};
use crate::names::names_of;
use crate::store::Store;
use crate::sweep::{Candidates, SweepReport};

impl Store {
    /// Deletes an image and what only it kept. Returns the chain IDs of the layers that nothing shares any
    /// more, top to bottom, for docker's `Deleted:` lines (spec image-store §15.1 D).
    ///
    /// # Errors
    /// [`StoreError::InUse`] while names point at it.
    pub fn delete_image(&self, id: &ImageId) -> Result<Vec<ChainId>> {
        let released = self.collect("delete an image", |transaction| {
            delete_unnamed(transaction, id)
        })?;
        lock(&self.inner.configs).remove(id);
        Ok(released)
    }

    /// Deletes images, each with its names, and what only they kept, all in one transaction; the order counts
    /// where one was made on another. Returns for each what [`Store::delete_image`] returns, and what came free.
    ///
    /// An image stays with its names (`None`) that is gone, that another image was made on, or that has not
    /// exactly these names any more (sorted).
    pub fn delete_images(
        &self,
        images: &[(ImageId, Vec<Reference>)],
    ) -> Result<(Vec<Option<Vec<ChainId>>>, SweepReport)> {
        // What comes free is told by what was measured.
        self.measure_unmeasured()?;
        let (released, report) = self.collect_reported("delete images", |transaction| {
            let mut candidates = Candidates::default();
            let mut released = Vec::with_capacity(images.len());
            for (id, names) in images {
                released.push(delete_unused(transaction, id, names, &mut candidates)?);
            }
            Ok((candidates, released))
        })?;
        let mut configs = lock(&self.inner.configs);
        for ((id, _), released) in images.iter().zip(&released) {
            if released.is_some() {
                configs.remove(id);
            }
        }
        Ok((released, report))
    }
}

fn delete_unused(
    transaction: &Transaction<'_>,
    id: &ImageId,
    names: &[Reference],
    candidates: &mut Candidates,
) -> Result<Option<Vec<ChainId>>> {
    let id_text = id.to_string();
    let has_child = transaction
        .prepare_cached("SELECT 1 FROM images WHERE parent = ?1")?
        .exists([&id_text])?;
    if has_child || !image_exists(transaction, id)? || names_of(transaction, id)? != names {
        return Ok(None);
    }
    if !names.is_empty() {
        transaction
            .prepare_cached("DELETE FROM names WHERE image_id = ?1")?
            .execute([&id_text])?;
    }
    delete_row(transaction, id, candidates).map(Some)
}

fn delete_unnamed(
    transaction: &Transaction<'_>,
    id: &ImageId,
) -> Result<(Candidates, Vec<ChainId>)> {
    if !image_exists(transaction, id)? {
        return Err(StoreError::not_found(Kind::Image, id));
    }
    if let Some(by) = names_of(transaction, id)?.first() {
        return Err(StoreError::InUse {
            kind: Kind::Image,
            name: id.short(),
            by: format!("the name {by}"),
        });
    }
    transaction
        .prepare_cached("UPDATE images SET parent = NULL WHERE parent = ?1")?
        .execute([id.to_string()])?;
    let mut candidates = Candidates::default();
    let released = delete_row(transaction, id, &mut candidates)?;
    Ok((candidates, released))
}

/// Deletes an image's row; adds what it may have been the last to keep and returns what nothing shares any more.
fn delete_row(
    transaction: &Transaction<'_>,
    id: &ImageId,
    candidates: &mut Candidates,
) -> Result<Vec<ChainId>> {
    let left = image_candidates(transaction, id)?;
    candidates.layers.extend(left.layers);
    candidates.blobs.extend(left.blobs);
    let chain = image_chain(transaction, id)?;
    transaction
        .prepare_cached("DELETE FROM images WHERE id = ?1")?
        .execute([id.to_string()])?;
    let mut released = Vec::new();
    for chain_id in chain {
        if !chain_is_used(transaction, &chain_id)? {
            released.push(chain_id);
        }
    }
    Ok(released)
}
