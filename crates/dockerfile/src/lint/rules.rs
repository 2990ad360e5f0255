//! Rules that look at words and names only.

use std::collections::BTreeSet;

use super::{warn, warn_at};
use crate::ast::{Location, Node};
use crate::diagnostic::Diagnostic;
use crate::instruction::{Arg, Dockerfile, InstructionKind, KeyValue};

const SECRET_WORDS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const HARMLESS_WORDS: [&str; 3] = ["public", "file", "version"];
const RESERVED_STAGES: [&str; 2] = ["context", "scratch"];

/// Checks one node: MaintainerDeprecated, StageNameCasing, FromAsCasing.
pub(super) fn check_node(node: &Node, warnings: &mut Vec<Diagnostic>) {
    match node.keyword.text.to_lowercase().as_str() {
        "from" => check_from(node, warnings),
        "maintainer" => warnings.push(warn(
            &node.location,
            &node.keyword,
            "MaintainerDeprecated",
            "Maintainer instruction is deprecated in favor of using label",
        )),
        _ => {}
    }
}

fn check_from(node: &Node, warnings: &mut Vec<Diagnostic>) {
    let [_, word, name] = node.arguments.as_slice() else {
        return;
    };
    if name.text.chars().any(char::is_uppercase) {
        let message = format!("Stage name '{}' should be lowercase", name.text);
        warnings.push(warn(&node.location, name, "StageNameCasing", message));
    }
    let keyword = &node.keyword.text;
    // A keyword in mixed case is another check's concern.
    let is_same = if is_lower(keyword) {
        is_lower(&word.text)
    } else {
        word.text == word.text.to_uppercase()
    };
    if is_uniform(keyword) && !is_same {
        let message = format!(
            "'{}' and '{keyword}' keywords' casing do not match",
            word.text
        );
        warnings.push(warn(&node.location, word, "FromAsCasing", message));
    }
}

fn is_lower(word: &str) -> bool {
    word == word.to_lowercase()
}

fn is_uniform(word: &str) -> bool {
    is_lower(word) || word == word.to_uppercase()
}

/// Checks ConsistentInstructionCasing: keywords follow the majority, upper case if there is none.
pub(super) fn check_casing(dockerfile: &Dockerfile, warnings: &mut Vec<Diagnostic>) {
    let keywords = || {
        dockerfile.stages.iter().flat_map(|stage| {
            let keyword = stage
                .original
                .split(char::is_whitespace)
                .next()
                .unwrap_or_default();
            let rest = stage.instructions.iter();
            let rest =
                rest.map(|instruction| (instruction.keyword.as_str(), &instruction.location));
            std::iter::once((keyword, &stage.location)).chain(rest)
        })
    };
    let uniform = keywords().filter(|(keyword, _)| is_uniform(keyword));
    let (lower, upper): (Vec<&str>, Vec<&str>) = uniform
        .map(|(keyword, _)| keyword)
        .partition(|keyword| is_lower(keyword));
    let (case, fold): (_, fn(&str) -> String) = if lower.len() > upper.len() {
        ("lowercase", str::to_lowercase)
    } else {
        ("uppercase", str::to_uppercase)
    };
    for (keyword, location) in keywords().filter(|(keyword, _)| fold(keyword) != *keyword) {
        let message =
            format!("Command '{keyword}' should match the case of the command majority ({case})");
        warnings.push(warn_at(location, "ConsistentInstructionCasing", message));
    }
}

/// Checks DuplicateStageName and ReservedStageName.
pub(super) fn check_stage_names(dockerfile: &Dockerfile, warnings: &mut Vec<Diagnostic>) {
    let mut seen = BTreeSet::new();
    for stage in &dockerfile.stages {
        let Some(name) = &stage.from.stage_name else {
            continue;
        };
        if RESERVED_STAGES.contains(&name.as_str()) {
            let message =
                format!("Stage name should not use the same name as reserved stage \"{name}\"");
            warnings.push(warn_at(&stage.location, "ReservedStageName", message));
        }
        if !seen.insert(name) {
            let message = format!("Duplicate stage name \"{name}\", stage names should be unique");
            warnings.push(warn_at(&stage.location, "DuplicateStageName", message));
        }
    }
}

/// Checks InvalidDefinitionDescription: a comment above a named stage or an ARG describes it.
pub(super) fn check_descriptions(dockerfile: &Dockerfile, warnings: &mut Vec<Diagnostic>) {
    let mut check = |keyword: &str, names: &[&str], comments: &[String], location: &Location| {
        let describes = |comment: &String| {
            names.iter().any(|name| {
                comment
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(' '))
            })
        };
        if comments.is_empty() || comments.iter().any(describes) {
            return;
        }
        let name = match names {
            [name] => name,
            _ => "<arg_key>",
        };
        let message =
            format!("Comment for {keyword} should follow the format: `# {name} <description>`");
        warnings.push(warn_at(location, "InvalidDefinitionDescription", message));
    };
    let in_stages = dockerfile
        .stages
        .iter()
        .flat_map(|stage| &stage.instructions);
    for instruction in dockerfile.meta_args.iter().chain(in_stages) {
        if let InstructionKind::Arg(args) = &instruction.kind {
            let names: Vec<&str> = args.iter().map(|arg| arg.key.as_str()).collect();
            check("ARG", &names, &instruction.comments, &instruction.location);
        }
    }
    for stage in &dockerfile.stages {
        if let Some(name) = &stage.from.stage_name {
            check("FROM", &[name], &stage.comments, &stage.location);
        }
    }
}

/// Checks SecretsUsedInArgOrEnv for one name.
pub(super) fn check_secret(
    keyword: &str,
    name: &str,
    location: &Location,
    warnings: &mut Vec<Diagnostic>,
) {
    if is_secret_name(name) {
        let message =
            format!("Do not use ARG or ENV instructions for sensitive data ({keyword} \"{name}\")");
        warnings.push(warn_at(location, "SecretsUsedInArgOrEnv", message));
    }
}

/// Returns whether a name says that its value is a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let lower = name.to_lowercase();
    // A word counts where it stands between underscores.
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRET_WORDS) && !has(&HARMLESS_WORDS)
}

/// Checks SecretsUsedInArgOrEnv for the names of an ARG.
pub(super) fn check_arg_secrets(args: &[Arg], location: &Location, warnings: &mut Vec<Diagnostic>) {
    for arg in args {
        check_secret("ARG", &arg.key, location, warnings);
    }
}

/// Checks LegacyKeyValueFormat.
pub(super) fn check_format(
    keyword: &str,
    pairs: &[KeyValue],
    location: &Location,
    warnings: &mut Vec<Diagnostic>,
) {
    if pairs.iter().any(|pair| !pair.has_equals) {
        let message = format!(
            "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
        );
        warnings.push(warn_at(location, "LegacyKeyValueFormat", message));
    }
}

/// Checks ExposeProtoCasing and ExposeInvalidFormat for one port.
pub(super) fn check_port(port: &str, location: &Location, warnings: &mut Vec<Diagnostic>) {
    let (address, protocol) = port.split_once('/').unwrap_or((port, ""));
    if !is_lower(protocol) {
        let message =
            format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        warnings.push(warn_at(location, "ExposeProtoCasing", message));
    }
    if address.contains(':') {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        );
        warnings.push(warn_at(location, "ExposeInvalidFormat", message));
    }
}
