//! Builds that others than their client may end, by the ID that the client gave them.

use crate::engine::Engine;
use crate::error::EngineError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Builds that run, by their clients' IDs; several may have one.
#[derive(Default)]
pub(crate) struct RunningBuilds(Mutex<HashMap<String, Vec<CancellationToken>>>);

impl RunningBuilds {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Vec<CancellationToken>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A build's place among those that can be ended by ID; dropping it gives the place up.
pub struct CancellableBuild {
    engine: Arc<Engine>,
    id: String,
    token: CancellationToken,
}

impl CancellableBuild {
    /// Waits until somebody ends the build; returns what its client is told.
    pub async fn cancelled(&self) -> EngineError {
        self.token.cancelled().await;
        EngineError::internal("context canceled")
    }
}

impl Drop for CancellableBuild {
    fn drop(&mut self) {
        self.token.cancel();
        self.engine.running_builds.with(|builds| {
            let left = builds.get_mut(&self.id).is_some_and(|tokens| {
                tokens.retain(|token| !token.is_cancelled());
                !tokens.is_empty()
            });
            if !left {
                builds.remove(&self.id);
            }
        });
    }
}

impl Engine {
    /// Lets a build be ended by an ID; an empty one is never looked for.
    #[must_use]
    pub fn cancellable_build(self: &Arc<Self>, id: &str) -> CancellableBuild {
        let token = CancellationToken::new();
        self.running_builds.with(|builds| {
            builds.entry(id.to_owned()).or_default().push(token.clone());
        });
        CancellableBuild {
            engine: Arc::clone(self),
            id: id.to_owned(),
            token,
        }
    }

    /// Ends the builds with an ID; that there is none is no error, as with docker.
    pub fn cancel_build(&self, id: &str) {
        self.running_builds.with(|builds| {
            for token in builds.get(id).into_iter().flatten() {
                token.cancel();
            }
        });
    }
}
