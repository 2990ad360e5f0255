//! Why a step was executed: its structured key against the nearest earlier one.

mod compare;
mod describe;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wharf_image::{DiffId, Digest};
use wharf_store::Store;

use super::Label;
use crate::BuildError;
use crate::listing::ListingChange;

use compare::{compare, text_of};

/// Kind of the documents that hold what last stood in a place.
const SLOT_KIND: &str = "build-slot";

/// One reason for which a step was executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What kind of reason: `first`, `no-cache`, `instruction`, `variable`, `option`, `files`, `input`, `image`,
    /// `changing`, `removed`.
    pub kind: String,
    /// The reason in words.
    pub text: String,
    /// Which files are different.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub files: Option<ListingChange>,
}

impl Cause {
    fn new(kind: &str, text: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            text: text.into(),
            files: None,
        }
    }
}

/// Keeps what stands in a step's place now, for explaining the next miss there, and the layer that it added.
pub(super) fn remember(
    store: &Store,
    explain: &Value,
    key: Digest,
    layer: Option<DiffId>,
) -> Result<(), BuildError> {
    let document = json!({ "key": key, "explain": explain, "layer": layer });
    for slot in slots(explain) {
        store.put_document(SLOT_KIND, &slot, &document)?;
    }
    Ok(())
}

/// Keeps what stands in a step's place now unless it stood there before.
pub(super) fn remember_if_new(
    store: &Store,
    label: &Label,
    key: Digest,
    layer: Option<DiffId>,
    explain: impl FnOnce() -> Value,
) -> Result<(), BuildError> {
    let Some(slot) = label_slots(label).into_iter().next() else {
        return Ok(());
    };
    let known = store.document(SLOT_KIND, &slot)?;
    if known.is_some_and(|known| known["key"] == json!(key)) {
        return Ok(());
    }
    remember(store, &explain(), key, layer)
}

/// Returns the layer that what last stood in a step's place added.
pub(super) fn earlier_layer(store: &Store, label: Option<&Label>) -> Option<DiffId> {
    let earlier = earlier(store, label?)?;
    earlier["layer"].as_str()?.parse().ok()
}

/// Returns what last stood in a step's place.
fn earlier(store: &Store, label: &Label) -> Option<Value> {
    label_slots(label)
        .iter()
        .find_map(|slot| store.document(SLOT_KIND, slot).ok().flatten())
}

/// What of the cache could be used for a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usable {
    /// All of it.
    All,
    /// Only what stands under the contents of its inputs: one of them is executed again.
    ByContent,
    /// Nothing, as for all of its stage.
    NothingOfStage,
    /// Nothing, as for all steps.
    Nothing,
}

/// Returns why a step is executed.
pub(super) fn causes(
    store: &Store,
    label: Option<&Label>,
    key: Digest,
    explain: &Value,
    usable: Usable,
) -> Vec<Cause> {
    let unused = match usable {
        Usable::Nothing => Some("the cache was not to be used"),
        Usable::NothingOfStage => Some("the cache was not to be used for its stage"),
        Usable::All | Usable::ByContent => None,
    };
    if let Some(text) = unused {
        return vec![Cause::new("no-cache", text)];
    }
    let Some(label) = label else {
        return Vec::new();
    };
    let Some(earlier) = earlier(store, label) else {
        return vec![Cause::new("first", "it was never built before")];
    };
    if earlier["key"] == json!(key) && usable == Usable::All {
        return vec![Cause::new("removed", "its cached result was removed")];
    }
    let found = compare(store, &earlier["explain"], explain);
    if let Some(path) = explain["changed"].as_str() {
        return vec![Cause::new(
            "changing",
            format!("{path} changed while the build ran"),
        )];
    }
    if let Some(path) = earlier["explain"]["changed"].as_str()
        && found.is_empty()
    {
        let text =
            format!("{path} changed while it was last copied, so that its result was not kept");
        return vec![Cause::new("changing", text)];
    }
    if found.is_empty() && usable == Usable::ByContent {
        return vec![Cause::new("input", "what it stands on was executed again")];
    }
    if found.is_empty() {
        return vec![Cause::new("removed", "its cached result was removed")];
    }
    found
}

/// Returns the names of a step's place: by its text, and by its number.
fn label_slots(label: &Label) -> Vec<String> {
    if label.slot.is_empty() {
        return Vec::new();
    }
    let by_text = Digest::of(format!("text\0{}\0{}", label.slot, label.text)).hex();
    let by_place = Digest::of(format!("place\0{}\0{}", label.slot, label.place)).hex();
    vec![by_text, by_place]
}

/// Returns the names of the place that a structured key tells.
fn slots(explain: &Value) -> Vec<String> {
    label_slots(&Label {
        text: text_of(&explain["step"]),
        slot: text_of(&explain["slot"]),
        place: explain["place"].as_u64().unwrap_or_default() as usize,
        ..Label::default()
    })
}
