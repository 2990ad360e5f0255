//! Runs the recorded vectors: what docker's own libraries answer to the same inputs.

use serde_json::Value;
use wharf_image::{
    AnyReference, DescriptorPlatform, Digest, Platform, Reference, ReferenceError, ReferenceParts,
    chain_ids,
};

/// Runs `check` on every vector and reports all failures at once.
fn run(file: &str, minimum: usize, check: impl Fn(&Value, &Value) -> Result<(), String>) {
    let text = match file {
        "references" => include_str!("vectors/references.json"),
        "platforms" => include_str!("vectors/platforms.json"),
        _ => include_str!("vectors/chain-id.json"),
    };
    let document: Value = serde_json::from_str(text).expect("vector file");
    let vectors = document["vectors"].as_array().expect("vectors");
    assert!(
        vectors.len() >= minimum,
        "{file}: only {} vectors",
        vectors.len()
    );
    let failures: Vec<String> = vectors
        .iter()
        .filter_map(|vector| {
            let failure = check(&vector["input"], &vector["expected"]).err()?;
            Some(format!(
                "{}: {failure}\n  input {}\n  expected {}",
                vector["id"], vector["input"], vector["expected"]
            ))
        })
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} failed:\n{}",
        failures.len(),
        vectors.len(),
        failures.join("\n")
    );
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: found {found:?} expected {expected:?}"))
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Digests other than SHA-256 are refused here by design where the reference accepts them.
fn has_foreign_digest(expected: &Value) -> bool {
    let shown = [text(expected, "string"), text(expected, "digest")];
    shown
        .iter()
        .any(|shown| shown.contains("sha384:") || shown.contains("sha512:"))
}

fn compare<T>(
    what: &str,
    found: Result<T, ReferenceError>,
    expected: &Value,
    check: impl Fn(T) -> Result<(), String>,
) -> Result<(), String> {
    match (found, expected["error"].as_str()) {
        (Err(ReferenceError::Digest(_)), None) if has_foreign_digest(expected) => Ok(()),
        (Err(error), None) => Err(format!("{what}: {error}")),
        (Ok(_), Some(_)) => Err(format!("{what}: no error")),
        // The library's strict parser does not name the repository in this one message.
        (Err(ReferenceError::UpperCase(_)), Some("repository name must be lowercase")) => Ok(()),
        (Err(error), Some(message)) => same(what, error.to_string().as_str(), message),
        (Ok(found), None) => check(found),
    }
}

#[test]
fn references() {
    run("references", 1228, |input, expected| {
        let reference = text(input, "ref");
        let normalized = &expected["normalized"];
        compare(
            "normalized",
            Reference::parse(reference),
            normalized,
            |found| {
                same(
                    "string",
                    found.to_string().as_str(),
                    text(normalized, "string"),
                )?;
                same("domain", found.domain(), text(normalized, "domain"))?;
                same("path", found.path(), text(normalized, "path"))?;
                same("name", found.name().as_str(), text(normalized, "name"))?;
                same(
                    "familiar",
                    found.familiar().as_str(),
                    text(normalized, "familiar"),
                )?;
                same(
                    "familiar_name",
                    found.familiar_name().as_str(),
                    text(normalized, "familiar_name"),
                )?;
                same(
                    "tag",
                    found.tag().unwrap_or_default(),
                    text(normalized, "tag"),
                )?;
                same(
                    "digest",
                    found
                        .digest()
                        .map(Digest::to_string)
                        .unwrap_or_default()
                        .as_str(),
                    text(normalized, "digest"),
                )?;
                same(
                    "name_only",
                    Some(found.is_name_only()),
                    normalized["name_only"].as_bool(),
                )?;
                if let Some(pattern) = input["pattern"].as_str() {
                    let matched = found.familiar_match(pattern);
                    match expected["familiar_match_error"].as_str() {
                        Some(message) => same(
                            "match error",
                            matched.map_err(|e| e.to_string()),
                            Err(message.to_owned()),
                        )?,
                        None => same("match", matched.ok(), expected["familiar_match"].as_bool())?,
                    }
                }
                let again =
                    Reference::parse(&found.to_string()).map_err(|error| error.to_string())?;
                same("parse of canonical", &again, &found)?;
                same(
                    "tag_name_only",
                    found.with_default_tag().to_string().as_str(),
                    text(normalized, "tag_name_only"),
                )
            },
        )?;
        let strict = &expected["strict"];
        compare(
            "strict",
            ReferenceParts::parse(reference),
            strict,
            |found| same("name", found.name().as_str(), text(strict, "name")),
        )?;
        let any = &expected["any"];
        compare("any", AnyReference::parse(reference), any, |found| {
            let shown = match found {
                AnyReference::Digest(digest) => digest.to_string(),
                AnyReference::Named(named) => named.to_string(),
            };
            same("any string", shown.as_str(), text(any, "string"))
        })
    });
}

/// The vectors were recorded on linux/amd64; inputs that leave out a part get the host's.
fn depends_on_host(input: &str) -> bool {
    let host = Platform::host();
    !input.contains('/') && (host.os != "linux" || host.architecture != "amd64")
}

#[test]
fn platforms() {
    run("platforms", 298, |input, expected| {
        let platform = text(input, "platform");
        if depends_on_host(platform) {
            #[expect(clippy::print_stderr, reason = "a skipped case must show")]
            {
                eprintln!("skipped {platform:?}: recorded on linux/amd64");
            }
            return Ok(());
        }
        let written = match (
            Platform::parse_as_written(platform),
            expected["error"].is_string(),
        ) {
            (Err(_), true) => return Ok(()),
            (Ok(found), true) => return Err(format!("no error but {found:?}")),
            (found, false) => found.map_err(|error| error.to_string())?,
        };
        same("parsed", &written, &platform_of(&expected["parsed"]))?;
        same(
            "format",
            written.to_string().as_str(),
            text(expected, "format"),
        )?;
        same(
            "format_all",
            written.format_all().as_str(),
            text(expected, "format_all"),
        )?;
        let normalized = Platform::parse(platform).map_err(|error| error.to_string())?;
        same(
            "normalized",
            &normalized,
            &platform_of(&expected["normalized"]),
        )?;
        same(
            "format_normalized",
            normalized.format_all().as_str(),
            text(expected, "format_normalized"),
        )?;
        match input["candidates"].as_array() {
            Some(candidates) => check_candidates(&normalized, candidates, expected),
            None => Ok(()),
        }
    });
}

fn platform_of(value: &Value) -> Platform {
    let features = value["os_features"].as_array().into_iter().flatten();
    Platform {
        os: text(value, "os").to_owned(),
        architecture: text(value, "architecture").to_owned(),
        variant: text(value, "variant").to_owned(),
        os_version: text(value, "os_version").to_owned(),
        os_features: features
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    }
}

fn check_candidates(
    platform: &Platform,
    candidates: &[Value],
    expected: &Value,
) -> Result<(), String> {
    let mut ranked = Vec::new();
    for (at, candidate) in candidates.iter().enumerate() {
        let name = candidate.as_str().unwrap_or_default();
        let candidate = DescriptorPlatform::from(
            &Platform::parse_as_written(name).map_err(|error| error.to_string())?,
        );
        let rank = platform.rank(&candidate);
        same(
            &format!("only {name}"),
            Some(rank.is_some()),
            expected["only_match"][at].as_bool(),
        )?;
        let exact = platform.matches_exactly(&candidate);
        same(
            &format!("strict {name}"),
            Some(exact),
            expected["only_strict_match"][at].as_bool(),
        )?;
        ranked.extend(rank.map(|rank| (rank, name)));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    let expected: Vec<&str> = expected["only_ranked"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    same(
        "ranked",
        ranked.into_iter().map(|(_, name)| name).collect(),
        expected,
    )
}

#[test]
fn chain_id() {
    let digests = |value: &Value| -> Vec<Digest> {
        let texts = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        texts.map(|text| text.parse().expect("digest")).collect()
    };
    run("chain-id", 69, |input, expected| {
        same(
            "chain",
            chain_ids(&digests(&input["diff_ids"])),
            digests(&expected["chain_ids"]),
        )
    });
}
