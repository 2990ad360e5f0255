//! Tags and attributes of logs.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wharf_engine::log_tag::{DEFAULT_TAG, LogFacts, chosen_attributes, tag};

use super::{same_answer, text};
use crate::{Document, Vector, Verdict};

/// The facts that all vectors share.
fn facts(input: &Value) -> LogFacts {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    LogFacts {
        id: text(input, "id").to_owned(),
        name: text(input, "name").trim_start_matches('/').to_owned(),
        entrypoint: "/entry".to_owned(),
        args: owned(&["a", "b c"]),
        image_id: format!("sha256:{}", "ab".repeat(32)),
        image_name: "repo/img:tag".to_owned(),
        created_at_ns: 1_700_000_000_000_000_000,
        env: owned(&["A=1", "B=x=y"]),
        labels: [("com.x", "y"), ("lab", "v")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        daemon_name: "docker".to_owned(),
    }
}

pub(super) fn check(vector: &Vector, _: &Document) -> Verdict {
    let facts = facts(&vector.input);
    let found = if vector.input["config"].is_object() {
        let options: BTreeMap<String, String> =
            serde_json::from_value(vector.input["config"].clone()).unwrap();
        chosen_attributes(&options, &facts).map(|extra| json!({"extra": extra}))
    } else {
        let template = Some(text(&vector.input, "tag")).filter(|template| !template.is_empty());
        tag(template.unwrap_or(DEFAULT_TAG), &facts).map(|tag| json!({"tag": tag}))
    };
    same_answer(
        found.map_err(|error| error.message().to_owned()),
        &vector.expected,
    )
}
