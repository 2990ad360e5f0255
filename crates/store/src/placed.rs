//! Layers that lie in their place before their DiffID is known: later build steps mount them while they are hashed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::db::{Durability, lock};
use crate::error::{Kind, Result, StoreError};
use crate::layers::{Layer, LayerPaths, NewLayer, TarSource, insert_layer};
use crate::leases::Held;
use crate::staging::Staging;
use crate::store::{Inner, Store};
use crate::worker::Job;

/// A layer's directory in its final place, without a row: it can be mounted, but nothing names it.
///
/// Gone with this value unless [`Store::publish_placed`] gave it a row; a crash before that leaves a directory
/// that the next start removes.
pub struct PlacedLayer {
    store: Arc<Inner>,
    number: i64,
    is_named: AtomicBool,
}

impl Store {
    /// Moves a staged directory to its place among the layers. It must not change any more.
    pub fn place_layer(&self, staging: Staging) -> Result<PlacedLayer> {
        staging.keep_only_files()?;
        let number = self.inner.next_layer_number();
        staging.publish(&self.inner.layout.layer(number))?;
        Ok(PlacedLayer {
            store: Arc::clone(&self.inner),
            number,
            is_named: AtomicBool::new(false),
        })
    }

    /// Names a placed directory by its DiffID. When that layer is there already the placed copy stays only as
    /// long as its value.
    ///
    /// # Errors
    /// See [`Store::publish_layer`]; only layers made here can be placed first.
    pub fn publish_placed(&self, placed: &PlacedLayer, new: &NewLayer) -> Result<Layer> {
        let diff_id = new.summary.diff_id;
        let paths = LayerPaths::of(new)?;
        lock(&self.inner.leases).hold_for_all(Held::Layer(diff_id));
        if !placed.is_named.load(Ordering::Acquire) && self.layer(&diff_id)?.is_none() {
            let inserted = self.inner.database.write(
                Durability::Process,
                "publish a layer",
                |transaction| {
                    insert_layer(
                        transaction,
                        placed.number,
                        new,
                        &paths,
                        TarSource::Canonical,
                    )
                },
            )?;
            if inserted {
                placed.is_named.store(true, Ordering::Release);
                self.inner.worker.submit(Job::Measure(placed.number));
            }
        }
        self.layer(&diff_id)?
            .ok_or_else(|| StoreError::not_found(Kind::Layer, diff_id))
    }
}

impl PlacedLayer {
    /// Returns the directory with the layer's files.
    pub fn files(&self) -> PathBuf {
        self.store.layout.layer_files(self.number)
    }

    /// Returns the layer's own directory.
    pub fn path(&self) -> PathBuf {
        self.store.layout.layer(self.number)
    }
}

impl Drop for PlacedLayer {
    fn drop(&mut self) {
        if !*self.is_named.get_mut() {
            // What cannot be removed now has no row and goes at the next start.
            let _orphan = self.store.discard(Path::new(&self.path()));
        }
    }
}

impl std::fmt::Debug for PlacedLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlacedLayer")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
