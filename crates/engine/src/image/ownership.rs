//! What is being stored and nothing owns yet.

use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    /// Stores something under a lease, so that no sweep takes a layer before an image has it; when it fails,
    /// the layers that were published for it are removed again.
    pub(crate) fn store_whole<T>(
        &self,
        purpose: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let lease = self
            .store
            .lease(purpose)
            .map_err(store_error("cannot hold layers"))?;
        let stored = work();
        drop(lease);
        if stored.is_err() {
            self.drop_unowned();
        }
        stored
    }

    /// Removes layers and blobs without an owner; what cannot be removed now goes at the next start.
    pub(crate) fn drop_unowned(&self) {
        let _next_start = self.store.sweep();
    }
}
