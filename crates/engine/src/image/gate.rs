//! How many layers go over the network at once, in all pulls or pushes together.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of places that the settings can change while transfers run.
pub(crate) struct Gate(Mutex<(usize, Arc<Semaphore>)>);

impl Default for Gate {
    fn default() -> Self {
        Self(Mutex::new((0, Arc::new(Semaphore::new(0)))))
    }
}

impl Gate {
    /// Waits for one of `places`; none is no limit. Transfers that began under another number keep their places.
    pub(crate) async fn enter(&self, places: usize) -> Option<OwnedSemaphorePermit> {
        let places = match places {
            0 => Semaphore::MAX_PERMITS,
            places => places.min(Semaphore::MAX_PERMITS),
        };
        let semaphore = {
            let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if current.0 != places {
                *current = (places, Arc::new(Semaphore::new(places)));
            }
            Arc::clone(&current.1)
        };
        // Nobody closes it.
        semaphore.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn the_number_of_places_counts_and_can_change() {
        let gate = Gate::default();
        let first = gate.enter(1).await;
        assert!(gate.enter(1).now_or_never().is_none(), "one place");
        let second = gate.enter(2).now_or_never().flatten();
        assert!(second.is_some(), "the new number counts");
        drop((first, second));
        assert!(gate.enter(1).now_or_never().flatten().is_some());
        let many: Vec<_> = (0..100)
            .map(|_| gate.enter(0).now_or_never().flatten())
            .collect();
        assert!(many.iter().all(Option::is_some), "no limit");
    }
}
