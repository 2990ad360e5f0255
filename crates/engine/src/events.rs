//! The event stream: a ring of what happened lately and a broadcast of what happens (spec engine-api §9).

use crate::clock::now_ns;
use crate::model::container::Container;
use crate::model::view::Event;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use tokio::sync::broadcast;

/// Number of past events kept for `since`, as docker keeps them.
pub const RING_SIZE: usize = 256;
/// Events a slow subscriber may lag behind before it loses some.
const CHANNEL_SIZE: usize = 1024;

/// Keeps and spreads events.
pub(crate) struct Events {
    ring: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self {
            ring: Mutex::new(VecDeque::with_capacity(RING_SIZE)),
            sender: broadcast::channel(CHANNEL_SIZE).0,
        }
    }

    /// Records and spreads an event of now.
    pub(crate) fn emit<const N: usize>(
        &self,
        kind: &str,
        action: &str,
        actor_id: &str,
        attributes: [(&str, String); N],
    ) {
        let attributes = attributes
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        self.publish(kind, action, actor_id, attributes);
    }

    /// Records a container's event: image, name and all labels are always among the attributes.
    pub(crate) fn container<const N: usize>(
        &self,
        container: &Container,
        action: &str,
        extra: [(&str, String); N],
    ) {
        let mut attributes: BTreeMap<String, String> = container.config.labels.clone();
        attributes.insert("image".to_owned(), container.config.image.clone());
        attributes.insert("name".to_owned(), container.name.clone());
        attributes.extend(
            extra
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value)),
        );
        self.publish("container", action, &container.id, attributes);
    }

    /// Returns the kept events not older than `since_ns` and a receiver of all that follow; nothing
    /// falls between the two.
    pub(crate) fn subscribe(
        &self,
        since_ns: Option<i64>,
    ) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let ring = self
            .ring
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let past = since_ns.map_or_else(Vec::new, |since| {
            ring.iter()
                .filter(|event| event.time_ns >= since)
                .cloned()
                .collect()
        });
        (past, self.sender.subscribe())
    }

    pub(crate) fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Records and spreads an event of now with any attributes.
    pub(crate) fn publish(
        &self,
        kind: &str,
        action: &str,
        actor_id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let event = Event {
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor_id: actor_id.to_owned(),
            attributes,
            time_ns: now_ns(),
        };
        let mut ring = self
            .ring
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if ring.len() == RING_SIZE {
            ring.pop_front();
        }
        ring.push_back(event.clone());
        let _no_subscriber_is_fine = self.sender.send(event);
    }
}
