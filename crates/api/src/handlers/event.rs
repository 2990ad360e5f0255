//! The event stream (spec engine-api §9).

use crate::call::Call;
use crate::filters;
use crate::limits::STREAM_CHUNKS;
use crate::query::Query;
use crate::respond::{self, Answer, Failure};
use crate::timestamp::{now_ns, parse_unix};
use crate::version::ApiVersion;
use crate::wire::event::{EventMessage, FILTER_KEYS, is_wanted};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wharf_engine::Engine;
use wharf_engine::model::request::Filters;
use wharf_engine::model::view::Event;

/// Separator before each record of a JSON text sequence (RFC 7464).
const RECORD_SEPARATOR: u8 = 0x1e;

/// `GET /events`
pub(crate) async fn events(call: Call) -> Answer {
    let (since_ns, until_ns) = (time(&call.query, "since")?, time(&call.query, "until")?);
    if let (Some(since), Some(until)) = (since_ns, until_ns)
        && since > until
    {
        return Err(Failure::bad_request(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            call.query.text("since"),
            call.query.text("until")
        )));
    }
    let filters = filters::from_query(&call.query)?;
    let is_over = until_ns.is_some_and(|until_ns| until_ns <= now_ns());
    if !is_over {
        filters::accept(&filters, &FILTER_KEYS)?;
    }
    let (content_type, is_sequence) = form_of(call.header("accept").unwrap_or_default());
    let (sender, chunks) = mpsc::channel(STREAM_CHUNKS);
    let feed = Feed {
        filters,
        version: call.version,
        is_sequence,
        until_ns,
        sender,
        last_ns: 0,
    };
    tokio::spawn(feed.run(call.engine, since_ns, is_over));
    Ok(respond::stream(content_type, chunks))
}

fn time(query: &Query, key: &str) -> Result<Option<i64>, Failure> {
    parse_unix(query.text(key))
        .map_err(|text| Failure::bad_request(format!("invalid value for '{key}': {text}")))
}

/// Chooses the form of the stream; JSON is what clients up to 1.51 expect.
fn form_of(accept: &str) -> (&'static str, bool) {
    if accept.contains("application/json-seq") {
        ("application/json-seq", true)
    } else if accept.contains("application/jsonl") {
        ("application/jsonl", false)
    } else if accept.contains("application/x-ndjson") {
        ("application/x-ndjson", false)
    } else {
        (respond::JSON, false)
    }
}

struct Feed {
    filters: Filters,
    version: ApiVersion,
    is_sequence: bool,
    until_ns: Option<i64>,
    sender: mpsc::Sender<io::Result<Bytes>>,
    /// Time of the last event seen, to go on from after events were missed.
    last_ns: i64,
}

impl Feed {
    /// Sends past events, then new ones, until the time is over or the client leaves.
    async fn run(mut self, engine: Arc<Engine>, since_ns: Option<i64>, is_over: bool) {
        let (past, mut receiver) = engine.events(since_ns);
        if !self.send_all(past).await || is_over {
            return;
        }
        let end = self.end();
        loop {
            let received = tokio::select! {
                received = receiver.recv() => received,
                () = tokio::time::sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => return,
                () = self.sender.closed() => return,
            };
            match received {
                Ok(event) => {
                    if !self.send_all([event]).await {
                        return;
                    }
                }
                // A slow client missed some: they are still among the remembered ones.
                Err(RecvError::Lagged(_)) => {
                    let (missed, again) = engine.events(Some(self.last_ns + 1));
                    receiver = again;
                    if !self.send_all(missed).await {
                        return;
                    }
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Returns when a stream with an end is over.
    fn end(&self) -> Option<Instant> {
        let left_ns = self.until_ns?.saturating_sub(now_ns());
        Some(Instant::now() + Duration::from_nanos(u64::try_from(left_ns).unwrap_or(0)))
    }

    /// Sends those events that pass; false once the client is gone.
    async fn send_all(&mut self, events: impl IntoIterator<Item = Event>) -> bool {
        for event in events {
            self.last_ns = self.last_ns.max(event.time_ns);
            let is_late = self
                .until_ns
                .is_some_and(|until_ns| event.time_ns > until_ns);
            if is_late || !is_wanted(&self.filters, &event) {
                continue;
            }
            if self.sender.send(Ok(self.write(&event))).await.is_err() {
                return false;
            }
        }
        true
    }

    fn write(&self, event: &Event) -> Bytes {
        let mut line = Vec::new();
        if self.is_sequence {
            line.push(RECORD_SEPARATOR);
        }
        let message = EventMessage::new(event, &self.version);
        line.extend(serde_json::to_vec(&message).unwrap_or_default());
        line.push(b'\n');
        Bytes::from(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_the_accept_header() {
        assert_eq!(form_of(""), ("application/json", false));
        assert_eq!(
            form_of("application/json-seq"),
            ("application/json-seq", true)
        );
        assert_eq!(
            form_of("application/x-ndjson, */*"),
            ("application/x-ndjson", false)
        );
    }
}
