//! Seccomp profiles that a user hands in, in docker's format (spec runtime §2.5).

use crate::error::{EngineError, Result};
use serde_json::{Value, json};

/// Largest profile that is read, in bytes.
const MAX_PROFILE_BYTES: usize = 1024 * 1024;

/// Turns docker's profile format into the OCI form: rules whose conditions do not hold for this
/// container, machine and kernel are left out. A profile that says nothing at all is no filter.
///
/// # Errors
/// Docker's `Decoding seccomp profile failed` with the reason; docker's status for it is 500.
pub(crate) fn parse_profile(text: &str, capabilities: &[String]) -> Result<Option<Value>> {
    let failed = |reason: String| {
        EngineError::internal(format!("Decoding seccomp profile failed: {reason}"))
    };
    if text.len() > MAX_PROFILE_BYTES {
        return Err(failed(format!(
            "{} bytes, at most {MAX_PROFILE_BYTES} are allowed",
            text.len()
        )));
    }
    let profile: Value =
        serde_json::from_str(text).map_err(|error| failed(json_text(text, &error)))?;
    if !profile.is_object() {
        return Err(failed("a profile is a JSON object".to_owned()));
    }
    check_profile(&profile)?;
    let rules = profile["syscalls"].as_array().cloned().unwrap_or_default();
    let default_action = match profile.get("defaultAction") {
        None | Some(Value::Null) if rules.is_empty() => return Ok(None),
        Some(Value::String(action)) if action.is_empty() && rules.is_empty() => return Ok(None),
        Some(Value::String(action)) => action,
        _ => return Err(failed("defaultAction is missing".to_owned())),
    };
    let mut result =
        json!({ "defaultAction": default_action, "architectures": architectures(&profile) });
    for key in ["defaultErrnoRet", "flags"] {
        if let Some(value) = profile.get(key).filter(|value| !value.is_null()) {
            result[key] = value.clone();
        }
    }
    let kept: Vec<Value> = rules
        .iter()
        .filter(|rule| applies(rule, capabilities))
        .map(rule_of)
        .collect();
    if !kept.is_empty() {
        result["syscalls"] = Value::Array(kept);
    }
    Ok(Some(result))
}

/// Refuses what a profile says twice, and what cannot be carried out.
fn check_profile(profile: &Value) -> Result<()> {
    let has = |value: &Value, key: &str| match &value[key] {
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => false,
    };
    let fail = |text: &str| Err(EngineError::internal(text));
    if has(profile, "architectures") && has(profile, "archMap") {
        return fail(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
        );
    }
    if has(profile, "listenerPath") {
        return fail("seccomp profiles with a listenerPath are not supported");
    }
    let rules = profile["syscalls"].as_array();
    if rules
        .into_iter()
        .flatten()
        .any(|rule| has(rule, "name") && has(rule, "names"))
    {
        return fail(
            "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
        );
    }
    Ok(())
}

/// Says what is wrong with JSON, for the most frequent mistake (a path instead of a profile) as Go does.
fn json_text(text: &str, error: &serde_json::Error) -> String {
    match text.trim_start().chars().next() {
        None => "unexpected end of JSON input".to_owned(),
        Some(first) if !"{[\"-0123456789tfn".contains(first) => {
            format!("invalid character '{first}' looking for beginning of value")
        }
        Some(_) => error.to_string(),
    }
}

/// Returns the profile's list, or this machine's entry of its map with the sub-architectures.
fn architectures(profile: &Value) -> Value {
    if let Some(list) = profile
        .get("architectures")
        .filter(|list| list.as_array().is_some_and(|list| !list.is_empty()))
    {
        return list.clone();
    }
    let native = format!("SCMP_ARCH_{}", std::env::consts::ARCH.to_ascii_uppercase());
    let map = profile
        .get("archMap")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let own = map
        .iter()
        .find(|entry| entry["architecture"] == native.as_str());
    let subs = own
        .and_then(|entry| entry["subArchitectures"].as_array())
        .cloned()
        .unwrap_or_default();
    std::iter::once(Value::String(native)).chain(subs).collect()
}

fn rule_of(rule: &Value) -> Value {
    let names = match rule.get("names") {
        Some(names) if names.is_array() => names.clone(),
        _ => json!([rule["name"]]),
    };
    let mut result = json!({ "names": names, "action": rule["action"] });
    for key in ["errnoRet", "args"] {
        if let Some(value) = rule.get(key).filter(|value| {
            !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
        }) {
            result[key] = value.clone();
        }
    }
    result
}

fn applies(rule: &Value, capabilities: &[String]) -> bool {
    let words = |part: &str, key: &str| -> Vec<String> {
        let list = rule[part][key].as_array().cloned().unwrap_or_default();
        list.iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let has = |name: &String| capabilities.contains(name);
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let (needed, own) = (words("includes", "caps"), words("includes", "arches"));
    needed.iter().all(has)
        && (own.is_empty() || own.iter().any(|name| name == machine))
        && !words("excludes", "caps").iter().any(has)
        && !words("excludes", "arches")
            .iter()
            .any(|name| name == machine)
        && rule["includes"]["minKernel"]
            .as_str()
            .is_none_or(kernel_is_at_least)
        && !rule["excludes"]["minKernel"]
            .as_str()
            .is_some_and(kernel_is_at_least)
}

fn kernel_is_at_least(wanted: &str) -> bool {
    let version = |text: &str| -> Vec<u32> {
        text.split(['.', '-'])
            .take(2)
            .map_while(|part| part.parse().ok())
            .collect()
    };
    version(&crate::host::host().info.kernel_release) >= version(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_maps() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
            "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
            "syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"},
                {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
                {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
                {"names":["future"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}}]}"#;
        let names = |capabilities: &[String]| -> Vec<String> {
            let profile = parse_profile(text, capabilities).unwrap().unwrap();
            profile["syscalls"]
                .as_array()
                .unwrap()
                .iter()
                .map(|rule| rule["names"][0].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(&[]), ["read", "clone"]);
        assert_eq!(names(&["CAP_SYS_ADMIN".to_owned()]), ["read", "mount"]);
        assert_eq!(parse_profile("{}", &[]).unwrap(), None);
        for broken in ["", "[]", "bad", "{\"defaultAction\":3}"] {
            assert!(
                parse_profile(broken, &[])
                    .unwrap_err()
                    .message()
                    .starts_with("Decoding seccomp profile failed"),
                "{broken}"
            );
        }
    }
}
