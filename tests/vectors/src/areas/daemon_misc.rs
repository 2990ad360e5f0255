//! The daemon's small rules: signals, versions, times, filters, capabilities, …

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use wharf_api::internals;
use wharf_engine::model::host_config::RestartPolicy;
use wharf_engine::{EngineError, values};
use wharf_runtime::{capabilities, signals};
use wharf_units::{Port, PortRange};

use super::{same, same_answer, same_text, strings, text};
use crate::{Document, Vector, Verdict};

/// Where docker's daemon listens when nothing else is said.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const DOCKER_PORT: u16 = 2375;
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
        "container_mode" => container_mode(source, expected),
        "container_name_valid" => same(
            "valid",
            Some(values::is_valid_container_name(source)),
            expected["valid"].as_bool(),
        ),
        "daemon_host" => {
            let found = wharf_api::normalize_listen_url(source, DOCKER_SOCKET, DOCKER_PORT);
            same_answer(found.map(shown), expected)
        }
        "dns_search" => {
            let found = wharf_cli::internals::misc::dns_search(source);
            same_text(
                found.map(shown).map_err(|error| error.to_string()),
                expected,
            )
        }
        "env" => checked(source, values::check_variable(source), expected),
        "extra_host" => checked(
            source,
            values::parse_extra_host(source).map(|_| ()),
            expected,
        ),
        "label" => checked(source, values::check_daemon_label(source), expected),
        "link" => {
            let found = values::parse_link(source);
            let found = found.map(|(name, alias)| json!({"name": name, "alias": alias}));
            same_text(found.map_err(|error| error.message().to_owned()), expected)
        }
        "port" => {
            let found = Port::parse(source).map(|port| {
                json!({"num": port.number, "proto": port.protocol, "string": port.to_string()})
            });
            same_text(found.map_err(|error| error.to_string()), expected)
        }
        "port_range" => {
            let found = PortRange::parse(source).map(|range| {
                json!({"start": range.first, "end": range.last, "proto": range.protocol,
                       "string": range.to_string()})
            });
            same_text(found.map_err(|error| error.to_string()), expected)
        }
        "restart_policy" => restart_policy(&input["policy"], expected),
        "truncate_id" => {
            let found = wharf_cli::internals::text::short_id(source);
            same("id", found, text(expected, "s"))
        }
        other => Err(format!("unknown function {other}")),
    }
}

fn shown(text: impl AsRef<str>) -> Value {
    json!({"s": text.as_ref()})
}

/// Compares a check that gives its input back.
fn checked(source: &str, found: Result<(), EngineError>, expected: &Value) -> Verdict {
    let found = found
        .map(|()| shown(source))
        .map_err(|error| error.message().to_owned());
    same_text(found, expected)
}

fn restart_policy(policy: &Value, expected: &Value) -> Verdict {
    let policy = RestartPolicy {
        name: text(policy, "Name").to_owned(),
        maximum_retry_count: policy["MaximumRetryCount"].as_i64().unwrap_or(0),
    };
    let found = values::check_restart_policy(&policy).map(|()| json!({"ok": true}));
    same_text(found.map_err(|error| error.message().to_owned()), expected)
}

fn container_mode(mode: &str, expected: &Value) -> Verdict {
    let joined = values::joined_container(mode);
    let found = json!({
        "cgroupns_valid": values::is_cgroup_namespace_mode(mode),
        "ipc_valid": values::is_ipc_mode(mode),
        "pid_valid": values::is_pid_mode(mode),
        "userns_valid": values::is_host_or_own_mode(mode),
        "uts_valid": values::is_host_or_own_mode(mode),
        "ipc_container": joined.unwrap_or_default(),
        "pid_container": joined.unwrap_or_default(),
        "net": {
            "connected": joined.unwrap_or_default(),
            "container": joined.is_some(),
            "name": if joined.is_some() { "container" } else { mode },
            "private": values::has_own_network(mode),
            "user_defined": values::is_user_defined_network(mode),
        },
    });
    same("modes", &found, expected)
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
