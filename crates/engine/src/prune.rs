//! One prune of a kind at a time, as docker has it.

use crate::error::{EngineError, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Remembers which prunes are under way.
#[derive(Default)]
pub(crate) struct PruneGuards {
    containers: AtomicBool,
    images: AtomicBool,
    volumes: AtomicBool,
    cache: AtomicBool,
    networks: AtomicBool,
}

/// Ends a prune when dropped.
pub(crate) struct PruneGuard<'a>(&'a AtomicBool);

impl Drop for PruneGuard<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl PruneGuards {
    pub(crate) fn containers(&self) -> Result<PruneGuard<'_>> {
        take(&self.containers)
    }

    pub(crate) fn images(&self) -> Result<PruneGuard<'_>> {
        take(&self.images)
    }

    pub(crate) fn volumes(&self) -> Result<PruneGuard<'_>> {
        take(&self.volumes)
    }

    pub(crate) fn networks(&self) -> Result<PruneGuard<'_>> {
        take(&self.networks)
    }

    pub(crate) fn cache(&self) -> Result<PruneGuard<'_>> {
        take(&self.cache)
    }
}

fn take(flag: &AtomicBool) -> Result<PruneGuard<'_>> {
    if flag.swap(true, Ordering::SeqCst) {
        return Err(EngineError::conflict(
            "a prune operation is already running",
        ));
    }
    Ok(PruneGuard(flag))
}
