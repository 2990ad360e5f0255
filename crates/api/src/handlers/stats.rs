//! Counters of containers (spec engine-api §6.4).

use crate::call::Call;
use crate::limits::{STATS_INTERVAL, STREAM_CHUNKS};
use crate::respond::{self, Answer};
use crate::wire::stats;
use bytes::Bytes;
use serde_json::Value;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use wharf_engine::Engine;
use wharf_engine::model::view::StatsSample;

/// `GET /containers/{name}/stats`
pub(crate) async fn stats(call: Call) -> Answer {
    let container = call.engine.container(call.container())?;
    if call.query.switch("stream", true) {
        let (sender, chunks) = mpsc::channel(STREAM_CHUNKS);
        tokio::spawn(follow(call.engine, container.id.clone(), sender));
        return Ok(respond::stream(respond::JSON, chunks));
    }
    let first = call.engine.container_stats(&container.id).await?;
    if call.query.switch("one-shot", false) || !container.is_running() {
        return respond::json(&stats::message(&container, &first, None));
    }
    tokio::time::sleep(STATS_INTERVAL).await;
    let second = call.engine.container_stats(&container.id).await?;
    respond::json(&stats::message(&container, &second, Some(&first)))
}

/// Sends a reading each second until the client leaves or the container is gone.
async fn follow(engine: Arc<Engine>, id: String, sender: mpsc::Sender<io::Result<Bytes>>) {
    let mut ticks = tokio::time::interval_at(Instant::now(), STATS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut previous: Option<StatsSample> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = sender.closed() => return,
        }
        let Ok(container) = engine.container(&id) else {
            return;
        };
        let Ok(sample) = engine.container_stats(&id).await else {
            return;
        };
        let message: Value = stats::message(&container, &sample, previous.as_ref());
        if sender
            .send(Ok(Bytes::from(format!("{message}\n"))))
            .await
            .is_err()
        {
            return;
        }
        previous = Some(sample);
    }
}
