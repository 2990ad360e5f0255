//! Names of images: references, platforms, chain ids.

use serde_json::Value;
use wharf_image::{
    AnyReference, DescriptorPlatform, Digest, Platform, Reference, ReferenceError, ReferenceParts,
    chain_ids,
};

use super::{same, text};
use crate::{Document, Vector, Verdict};

fn compare<T>(
    what: &str,
    found: Result<T, ReferenceError>,
    expected: &Value,
    check: impl Fn(T) -> Result<(), String>,
) -> Result<(), String> {
    match (found, expected["error"].as_str()) {
        (Err(error), None) => Err(format!("{what}: {error}")),
        (Ok(_), Some(_)) => Err(format!("{what}: no error")),
        // The library's strict parser does not name the repository in this one message.
        (Err(ReferenceError::UpperCase(_)), Some("repository name must be lowercase")) => Ok(()),
        (Err(error), Some(message)) => same(what, error.to_string().as_str(), message),
        (Ok(found), None) => check(found),
    }
}

pub(super) fn references(vector: &Vector, _: &Document) -> Verdict {
    let (input, expected) = (&vector.input, &vector.expected);
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
            let again = Reference::parse(&found.to_string()).map_err(|error| error.to_string())?;
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
}

/// The vectors were recorded on linux/amd64; inputs that leave out a part get the host's.
fn depends_on_host(input: &str) -> bool {
    let host = Platform::host();
    !input.contains('/') && (host.os != "linux" || host.architecture != "amd64")
}

pub(super) fn platforms(vector: &Vector, _: &Document) -> Verdict {
    let (input, expected) = (&vector.input, &vector.expected);
    let platform = text(input, "platform");
    if depends_on_host(platform) {
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

pub(super) fn chain_id(vector: &Vector, _: &Document) -> Verdict {
    let digests = |value: &Value| -> Vec<Digest> {
        super::strings(value)
            .iter()
            .map(|digest| digest.parse().unwrap())
            .collect()
    };
    let found = chain_ids(&digests(&vector.input["diff_ids"]));
    same("chain", found, digests(&vector.expected["chain_ids"]))
}
