//! The daemon's small rules: signals, versions, times, filters, capabilities, …

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use wharf_api::internals;
use wharf_runtime::{capabilities, signals};

use super::{same, same_answer, same_text, strings, text};
use crate::{Document, Vector, Verdict};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

pub(super) fn check(vector: &Vector, _: &Document) -> Verdict {
    let (input, expected) = (&vector.input, &vector.expected);
    let source = text(input, "s");
    match text(input, "fn") {
        "caps" | "normalize_caps" => caps(input, expected),
        "filters" => filters(input, expected),
        "timestamp" => timestamp(source, expected),
        "signal" => {
            let found = signals::parse(source).map_err(|error| error.to_string());
            let shown =
                |number: i32| json!({"n": number, "valid_for_linux": signals::is_valid(number)});
            same_text(found.map(shown), expected)
        }
        "unix_timestamp" => unix_timestamp(source, expected),
        "version_cmp" => versions(input, expected),
        other => Err(format!("unknown function {other}")),
    }
}

fn versions(input: &Value, expected: &Value) -> Verdict {
    let order = internals::compare_versions(text(input, "a"), text(input, "b"));
    let found = json!({
        "lt": order == Ordering::Less, "eq": order == Ordering::Equal, "gt": order == Ordering::Greater,
    });
    same("order", &found, expected)
}

fn unix_timestamp(source: &str, expected: &Value) -> Verdict {
    let found = internals::parse_unix_timestamp(source).map(|time_ns| match time_ns {
        None => json!({"zero": true, "unix": expected["unix"], "nanos": 0}),
        Some(time_ns) => {
            // Docker puts the fraction beside negative seconds instead of adding it.
            let (seconds, nanos) = (
                time_ns.div_euclid(NANOS_PER_SECOND),
                time_ns.rem_euclid(NANOS_PER_SECOND),
            );
            json!({"zero": false, "unix": seconds, "nanos": nanos})
        }
    });
    same_text(found, expected)
}

fn timestamp(source: &str, expected: &Value) -> Verdict {
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let found = wharf_units::parse_moment(source, now, &TimeZone::UTC);
    let shown = |moment: Timestamp| json!({"unix": moment.as_second(), "nanos": moment.subsec_nanosecond()});
    same_answer(
        found.map(shown).map_err(|error| error.to_string()),
        expected,
    )
}

fn filters(input: &Value, expected: &Value) -> Verdict {
    let filters = match internals::parse_filters(text(input, "json")) {
        Ok(filters) => filters,
        Err(error) => return same("error", error.as_str(), text(expected, "error")),
    };
    let mut wanted: BTreeMap<String, Vec<String>> =
        serde_json::from_value(expected["filters"].clone()).map_err(|error| error.to_string())?;
    wanted.values_mut().for_each(|values| values.sort());
    same("filters", &filters, &wanted)?;
    let Some(field) = input["match"]["field"].as_str() else {
        return Ok(());
    };
    let exact = internals::filter_matches_exactly(&filters, field, text(&input["match"], "source"));
    same("exact", Some(exact), expected["exact"].as_bool())?;
    let pairs: BTreeMap<String, String> =
        serde_json::from_value(input["match"]["kv"].clone()).unwrap();
    let matched = internals::filter_matches_pairs(&filters, field, &pairs);
    same("pairs", Some(matched), expected["kv"].as_bool())
}

fn caps(input: &Value, expected: &Value) -> Verdict {
    let found = match text(input, "fn") {
        "normalize_caps" => capabilities::normalize(&strings(&input["caps"])),
        _ => capabilities::tweak(
            &strings(&input["add"]),
            &strings(&input["drop"]),
            input["privileged"].as_bool().unwrap_or(false),
        ),
    };
    let mut wanted = strings(&expected["caps"]);
    if wanted.len() > 30 {
        // "All" depends on the machine that recorded it.
        let known = capabilities::all_names();
        wanted.retain(|name| known.contains(name));
    }
    let found = found
        .map(|caps| json!({"caps": caps}))
        .map_err(|error| error.to_string());
    let expected = if expected["error"].is_string() {
        expected.clone()
    } else {
        json!({"caps": wanted})
    };
    same_text(found, &expected)
}
