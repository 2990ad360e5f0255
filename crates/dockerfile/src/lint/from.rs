//! FROM: the base image's name and platform (spec/llb.md §7.2, §8).

use std::collections::BTreeSet;

use super::globals::{Globals, PLATFORM_ARGS};
use super::warn_at;
use crate::diagnostic::Diagnostic;
use crate::expand::Expander;
use crate::instruction::Stage;
use crate::suggest::nearest;

/// FROM after expansion.
pub(super) struct FromFacts {
    /// The base: an image, an earlier stage's name or `scratch`.
    pub image: String,
    /// The value of `--platform`.
    pub platform: Option<String>,
    /// Names of global arguments that FROM uses.
    pub used: BTreeSet<String>,
}

/// Checks UndefinedArgInFrom, RedundantTargetPlatform and FromPlatformFlagConstDisallowed.
pub(super) fn check_from(
    stage: &Stage,
    globals: &Globals,
    expander: &Expander,
    warnings: &mut Vec<Diagnostic>,
) -> FromFacts {
    let location = &stage.location;
    let mut used = BTreeSet::new();
    let mut expand = |word: &str| {
        let Ok(expansion) = expander.expand(word, &globals.values) else {
            return String::new();
        };
        for name in &expansion.unmatched {
            if globals.names.contains(name) {
                continue;
            }
            let message = format!("FROM argument '{name}' is not declared");
            let mut warning = warn_at(location, "UndefinedArgInFrom", message);
            let known = PLATFORM_ARGS
                .iter()
                .copied()
                .chain(globals.names.iter().map(String::as_str));
            warning.help = nearest(name, known, true).map(str::to_owned);
            warnings.push(warning);
        }
        used.extend(expansion.matched);
        expansion.result
    };
    let image = expand(&stage.from.image);
    let platform = stage.from.platform.as_deref().map(&mut expand);
    if let Some(written) = stage.from.platform.as_deref() {
        check_platform_flag(stage, written, warnings);
    }
    FromFacts {
        image,
        platform,
        used,
    }
}

fn check_platform_flag(stage: &Stage, written: &str, warnings: &mut Vec<Diagnostic>) {
    let location = &stage.location;
    if matches!(written, "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        let message = format!(
            "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
        );
        warnings.push(warn_at(location, "RedundantTargetPlatform", message));
    }
    let name = stage.from.stage_name.as_deref().unwrap_or_default();
    let mut parts = written.split('/');
    let (system, architecture) = (parts.next().unwrap_or_default(), parts.next());
    let is_named = name.contains(system) || architecture.is_some_and(|part| name.contains(part));
    if !written.contains('$') && !is_named {
        let message = format!("FROM --platform flag should not use constant value \"{written}\"");
        warnings.push(warn_at(
            location,
            "FromPlatformFlagConstDisallowed",
            message,
        ));
    }
}

/// Checks InvalidDefaultArgInFrom: without build arguments the base must still have a usable name.
pub(super) fn check_default<'a>(
    stage: &Stage,
    defaults: &Globals,
    expander: &Expander,
    stage_names: impl Iterator<Item = Option<&'a str>>,
    warnings: &mut Vec<Diagnostic>,
) {
    let written = &stage.from.image;
    let Ok(image) = expander.expand_word(written, &defaults.values) else {
        return;
    };
    let is_stage = stage_names.flatten().any(|name| name == image);
    if !is_stage && !is_image_name(&image) {
        let message =
            format!("Default value for ARG {written} results in empty or invalid base image name");
        warnings.push(warn_at(&stage.location, "InvalidDefaultArgInFrom", message));
    }
}

/// Returns whether a text has the form of an image name: `[host[:port]/]path[:tag][@digest]`.
fn is_image_name(text: &str) -> bool {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !digest.contains(':') || digest.ends_with(':')) {
        return false;
    }
    let last_start = name.rfind('/').map_or(0, |slash| slash + 1);
    let tag_start = name
        .get(last_start..)
        .and_then(|last| last.find(':'))
        .map(|at| last_start + at);
    let (path, tag) = match tag_start {
        Some(at) => (name.get(..at).unwrap_or_default(), name.get(at + 1..)),
        None => (name, None),
    };
    let is_tag = |tag: &str| {
        let is_rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        !tag.is_empty()
            && tag.len() <= 128
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(is_rest)
    };
    let path = match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => path,
    };
    let is_component = |part: &str| {
        let is_inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        !part.is_empty()
            && part.bytes().all(is_inner)
            && !part.starts_with(['_', '.', '-'])
            && !part.ends_with(['_', '.', '-'])
    };
    tag.is_none_or(is_tag) && path.split('/').all(is_component)
}
