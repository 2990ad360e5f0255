//! What the recorded vectors and the fuzz targets ask of this room. No face for other rooms.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use wharf_engine::model::container::State;
use wharf_engine::model::request::Filters;

/// Compares two API versions.
#[must_use]
pub fn compare_versions(left: &str, right: &str) -> Ordering {
    crate::version::compare(left, right)
}

/// Parses a time of a query parameter into nanoseconds since 1970.
///
/// # Errors
/// docker's text.
pub fn parse_unix_timestamp(text: &str) -> Result<Option<i64>, String> {
    crate::timestamp::parse_unix(text)
}

/// Parses the `filters` parameter.
///
/// # Errors
/// The message of the answer.
pub fn parse_filters(text: &str) -> Result<Filters, String> {
    crate::filters::parse(text).map_err(|failure| failure.message().to_owned())
}

/// Tells whether a text is one of a filter key's values.
#[must_use]
pub fn filter_matches_exactly(filters: &Filters, key: &str, source: &str) -> bool {
    crate::filters::matches_exactly(filters, key, source)
}

/// Tells whether pairs such as labels fulfil a filter key.
#[must_use]
pub fn filter_matches_pairs(
    filters: &Filters,
    key: &str,
    pairs: &BTreeMap<String, String>,
) -> bool {
    crate::filters::matches_pairs(filters, key, pairs)
}

/// Returns the text of the STATUS column for a container that has a health check.
#[must_use]
pub fn state_text(state: &State, now_ns: i64) -> String {
    crate::human::state_text(state, true, now_ns)
}

/// Reads a request's body as each call that has one would; what is found is dropped.
pub fn read_bodies(bytes: &[u8]) {
    use crate::body::{parse_json, read_document};
    use crate::wire::{create, volume};
    let Ok(body) = parse_json(bytes) else {
        return;
    };
    let _ = create::container(body.clone(), None, None);
    let _ = create::update(body.clone());
    let _ = read_document::<create::ExecBody>(body.clone());
    let _ = read_document::<create::ExecStart>(body.clone());
    let _ = read_document::<volume::CreateVolume>(body);
}
