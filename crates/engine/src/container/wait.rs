//! Waiting for a container's end.

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::request::WaitCondition;
use crate::model::view::WaitResult;
use std::future::Future;
use std::sync::Arc;

impl Engine {
    /// Arms a wait; the returned future ends when the condition holds.
    ///
    /// # Errors
    /// Fails at once when there is no such container.
    pub fn wait_container(
        self: &Arc<Self>,
        name: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = Result<WaitResult>> + Send + use<>> {
        let entry = self.containers.find(name)?;
        let mut life = entry.life.subscribe();
        let exits_before = life.borrow().exits;
        Ok(async move {
            let reached = life
                .wait_for(|life| match condition {
                    WaitCondition::NotRunning => {
                        (!life.running && !life.restarting) || life.exits > exits_before
                    }
                    WaitCondition::NextExit => life.exits > exits_before || life.removed,
                    WaitCondition::Removed => life.removed || life.removal_error.is_some(),
                })
                .await
                .map_err(|_| EngineError::internal("the engine stopped"))?;
            Ok(WaitResult {
                exit_code: reached.exit_code,
                error: reached.removal_error.clone(),
            })
        })
    }
}
