//! Images that builds led to and that somebody is still busy with: to name them, or to take their files out.
//!
//! Builds of the same inputs lead to the same image. One that was built only for its files goes again once those were
//! taken out, but not while another build that led to it is busy with it, and not where any of them is to stay.

use crate::engine::Engine;
use crate::error::Result;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wharf_image::ImageId;
use wharf_store::StoreError;

/// How long an image waits for a client that takes it out and never says that it has.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// All images that somebody is busy with.
#[derive(Default)]
pub(crate) struct ImageClaims(Mutex<Table>);

#[derive(Default)]
struct Table {
    claimed: HashMap<ImageId, Claimed>,
    /// Claims whose builds are over, by the build's name: their clients take something out.
    parked: HashMap<String, (ImageId, Instant)>,
}

struct Claimed {
    holders: usize,
    /// Whether the image is left when nobody is busy with it any more.
    stays: bool,
}

/// One build's hold on an image; dropping it gives the image up.
pub(super) struct Claim {
    engine: Arc<Engine>,
    id: ImageId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.engine.give_up(&self.id);
    }
}

impl Claim {
    /// Leaves the image to the build's client until it says that it is done.
    pub(super) fn park(self, build: &str) {
        let mut table = self.engine.image_claims.lock();
        let parked = (self.id, Instant::now());
        table.parked.insert(build.to_owned(), parked);
        // Another holder for the one that ends here.
        if let Some(claimed) = table.claimed.get_mut(&self.id) {
            claimed.holders += 1;
        }
    }
}

impl ImageClaims {
    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Takes hold of an image that a build is about to store; it is left in the end where it was there before, or where
    /// anybody wants it to stay.
    pub(super) fn claim_image(
        self: &Arc<Self>,
        id: &ImageId,
        stays: bool,
    ) -> std::result::Result<Claim, StoreError> {
        self.give_up_forgotten();
        let mut table = self.image_claims.lock();
        match table.claimed.get_mut(id) {
            Some(claimed) => {
                claimed.holders += 1;
                claimed.stays |= stays;
            }
            None => {
                let stays = stays || self.store.image(id)?.is_some();
                table.claimed.insert(*id, Claimed { holders: 1, stays });
            }
        }
        Ok(Claim {
            engine: Arc::clone(self),
            id: *id,
        })
    }

    /// Gives up the image that a build left to its client; one that is not known is given up already.
    ///
    /// # Errors
    /// None but of the machine.
    pub async fn release_build(self: &Arc<Self>, build: &str) -> Result<()> {
        let build = build.to_owned();
        self.with_store(move |engine| {
            let parked = engine.image_claims.lock().parked.remove(&build);
            if let Some((id, _)) = parked {
                engine.give_up(&id);
            }
            Ok(())
        })
        .await
    }

    /// Does something to those images that no build is busy with.
    pub(crate) fn with_unclaimed<I, T>(
        &self,
        mut images: Vec<I>,
        id_of: impl Fn(&I) -> ImageId,
        work: impl FnOnce(Vec<I>) -> T,
    ) -> T {
        let table = self.image_claims.lock();
        images.retain(|image| !table.claimed.contains_key(&id_of(image)));
        // Whoever claims one of them now finds it gone and makes it again.
        work(images)
    }

    /// Says whether builds are busy with an image that is to go: it goes when they are done.
    pub(crate) fn leave_to_builds(&self, id: &ImageId) -> bool {
        let mut table = self.image_claims.lock();
        let claimed = table.claimed.get_mut(id);
        claimed.map(|claimed| claimed.stays = false).is_some()
    }

    fn give_up(&self, id: &ImageId) {
        let mut table = self.image_claims.lock();
        let Some(claimed) = table.claimed.get_mut(id) else {
            return;
        };
        claimed.holders -= 1;
        if claimed.holders > 0 {
            return;
        }
        let stays = claimed.stays;
        table.claimed.remove(id);
        if !stays {
            // What cannot be removed is an image without a name, as builds without a name leave them.
            let _left_to_prune = self.remove_unnamed(id);
        }
    }

    fn give_up_forgotten(&self) {
        let mut forgotten = Vec::new();
        self.image_claims.lock().parked.retain(|_, (id, since)| {
            let is_kept = since.elapsed() < PATIENCE;
            if !is_kept {
                forgotten.push(*id);
            }
            is_kept
        });
        for id in forgotten {
            self.give_up(&id);
        }
    }
}
