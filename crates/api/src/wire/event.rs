//! Events and which of them a client asked for (spec engine-api §9).

use crate::filters::{matches_exactly, matches_pairs};
use crate::version::ApiVersion;
use serde::Serialize;
use std::collections::BTreeMap;
use wharf_engine::model::request::Filters;
use wharf_engine::model::view::Event;

/// The filter keys of `GET /events`.
pub(crate) const FILTER_KEYS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// First version without the legacy keys `status`, `id` and `from`.
const FIRST_WITHOUT_LEGACY_KEYS: &str = "1.52";

/// One event, keys in docker's order.
#[derive(Debug, Serialize)]
pub(crate) struct EventMessage<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(rename = "Type")]
    kind: &'a str,
    #[serde(rename = "Action")]
    action: &'a str,
    #[serde(rename = "Actor")]
    actor: Actor<'a>,
    scope: &'static str,
    time: i64,
    #[serde(rename = "timeNano")]
    time_nano: i64,
}

#[derive(Debug, Serialize)]
struct Actor<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Attributes")]
    attributes: &'a BTreeMap<String, String>,
}

impl<'a> EventMessage<'a> {
    /// Makes the message that clients of `version` read.
    pub(crate) fn new(event: &'a Event, version: &ApiVersion) -> Self {
        let is_legacy = version.is_before(FIRST_WITHOUT_LEGACY_KEYS);
        let has_status = is_legacy && matches!(event.kind.as_str(), "container" | "image");
        let image = event.attributes.get("image").map(String::as_str);
        Self {
            status: has_status.then_some(event.action.as_str()),
            // A prune has no object; docker leaves the key out then.
            id: Some(event.actor_id.as_str()).filter(|id| has_status && !id.is_empty()),
            from: image.filter(|_| is_legacy && event.kind == "container"),
            kind: &event.kind,
            action: &event.action,
            actor: Actor {
                id: &event.actor_id,
                attributes: &event.attributes,
            },
            scope: "local",
            time: crate::timestamp::seconds(event.time_ns),
            time_nano: event.time_ns,
        }
    }
}

/// Tells whether an event passes the filters.
pub(crate) fn is_wanted(filters: &Filters, event: &Event) -> bool {
    is_wanted_action(filters, &event.action)
        && matches_exactly(filters, "type", &event.kind)
        && matches_exactly(filters, "scope", "local")
        && matches_pairs(filters, "label", &event.attributes)
        && [
            "container",
            "network",
            "volume",
            "daemon",
            "plugin",
            "config",
            "secret",
            "node",
            "service",
        ]
        .iter()
        .all(|kind| is_wanted_actor(filters, kind, event))
        && is_wanted_image(filters, event)
}

/// Matches the action exactly, or by prefix once an action that carries a command or a result is
/// asked for.
fn is_wanted_action(filters: &Filters, action: &str) -> bool {
    let Some(wanted) = filters.get("event").filter(|wanted| !wanted.is_empty()) else {
        return true;
    };
    let by_prefix = wanted.iter().any(|wanted| {
        ["health_status", "exec_create", "exec_start"]
            .iter()
            .any(|prefix| wanted.starts_with(prefix))
    });
    wanted
        .iter()
        .any(|wanted| action == wanted || (by_prefix && action.starts_with(wanted.as_str())))
}

/// Matches name, ID or the ID's beginning of one kind of actor.
fn is_wanted_actor(filters: &Filters, kind: &str, event: &Event) -> bool {
    let Some(wanted) = filters.get(kind).filter(|wanted| !wanted.is_empty()) else {
        return true;
    };
    let name = event.attributes.get("name");
    event.kind == kind
        && wanted.iter().any(|wanted| {
            event.actor_id.starts_with(wanted.as_str()) || name.is_some_and(|name| name == wanted)
        })
}

/// Matches an image's ID or name, with or without tag; of container events, the image they name.
fn is_wanted_image(filters: &Filters, event: &Event) -> bool {
    let Some(wanted) = filters.get("image").filter(|wanted| !wanted.is_empty()) else {
        return true;
    };
    let attribute = if event.kind == "image" {
        "name"
    } else {
        "image"
    };
    let name = event
        .attributes
        .get(attribute)
        .map(String::as_str)
        .unwrap_or_default();
    wanted.iter().any(|wanted| {
        event.actor_id == *wanted
            || name == wanted
            || without_tag(name) == wanted
            || without_tag(&event.actor_id) == wanted
    })
}

/// Cuts `:tag` off; a port in the host part is no tag.
fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str) -> Event {
        Event {
            kind: "container".into(),
            action: action.into(),
            actor_id: "abcdef".into(),
            attributes: [("image", "busybox:latest"), ("name", "web"), ("a", "b")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            time_ns: 1_700_000_000_000_000_001,
        }
    }

    fn filters(key: &str, value: &str) -> Filters {
        [(key.to_owned(), vec![value.to_owned()])].into()
    }

    #[test]
    fn filters_choose() {
        for (key, value, action, expected) in [
            ("event", "start", "start", true),
            ("event", "star", "start", false),
            ("event", "health_status", "health_status: healthy", true),
            ("event", "exec_create: ls", "exec_create: ls", true),
            ("container", "web", "start", true),
            ("container", "abc", "start", true),
            ("container", "other", "start", false),
            ("image", "busybox", "start", true),
            ("image", "alpine", "start", false),
            ("type", "container", "start", true),
            ("type", "image", "start", false),
            ("volume", "web", "start", false),
            ("label", "a=b", "start", true),
            ("label", "a=c", "start", false),
        ] {
            assert_eq!(
                is_wanted(&filters(key, value), &event(action)),
                expected,
                "{key}={value}"
            );
        }
        assert!(is_wanted(&Filters::new(), &event("start")));
    }

    #[test]
    fn what_has_no_object_has_no_id() {
        let mut event = event("prune");
        event.actor_id.clear();
        let value = serde_json::to_value(EventMessage::new(&event, &ApiVersion::newest()))
            .expect("plain data");
        assert_eq!(value.get("id"), None);
        assert_eq!(value["Actor"]["ID"], "");
    }

    #[test]
    fn legacy_keys_come_first() {
        let event = event("start");
        let text = serde_json::to_string(&EventMessage::new(&event, &ApiVersion::newest()))
            .expect("plain data");
        assert_eq!(
            text,
            r#"{"status":"start","id":"abcdef","from":"busybox:latest","Type":"container","Action":"start","Actor":{"ID":"abcdef","Attributes":{"a":"b","image":"busybox:latest","name":"web"}},"scope":"local","time":1700000000,"timeNano":1700000000000000001}"#
        );
    }
}
