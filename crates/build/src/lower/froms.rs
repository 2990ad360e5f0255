//! FROM lines: expanded, whether anybody needs their stages or not (spec llb §7.2).

use wharf_dockerfile::expand::Expander;
use wharf_dockerfile::{Location, Stage, nearest};
use wharf_image::{Platform, Reference};

use super::args::Globals;
use super::mistakes::{Mistakes, may_have_any_name, within};
use super::needs::base_by_name;
use super::{LowerInput, mistake};
use crate::BuildError;

/// The base that is nothing.
pub(super) const SCRATCH: &str = "scratch";

/// A FROM line after expansion.
#[derive(Clone, Default)]
pub(super) struct From {
    /// The image, the stage or the named context.
    pub base: String,
    /// `--platform`; none where it is not given.
    pub platform: Option<Platform>,
    /// Whether it could not be read.
    pub is_broken: bool,
}

/// Expands all FROM lines; those of stages that nobody needs have to make sense, too.
pub(super) fn expand_froms(
    input: &LowerInput<'_>,
    expander: &Expander,
    globals: &Globals,
    mistakes: &Mistakes,
) -> Result<Vec<From>, BuildError> {
    let expand_one = |stage: &Stage| {
        let wrong = |word: &str, message: String| {
            mistake(input, &within(input, &stage.location, word), message, None)
        };
        let expand = |word: &str| {
            expander
                .expand_word(word, &globals.values)
                .map_err(|error| wrong(word, error.to_string()))
        };
        let base = expand(&stage.from.image)?;
        if base.is_empty() {
            return Err(wrong(
                &stage.from.image,
                format!("base name ({}) should not be blank", stage.from.image),
            ));
        }
        let platform = match &stage.from.platform {
            Some(text) => {
                let expanded = expand(text)?;
                if expanded.is_empty() {
                    let message = format!("empty platform value from expression {text}");
                    let near = unmatched(text, expander, globals);
                    return Err(mistake(
                        input,
                        &within(input, &stage.location, text),
                        message,
                        near,
                    ));
                }
                let parsed = match unwritable(&expanded) {
                    Some(reason) => Err(reason),
                    None => Platform::parse(&expanded).map_err(|error| error.to_string()),
                };
                Some(parsed.map_err(|reason| {
                    let message = format!("failed to parse platform {text}: {reason}");
                    wrong(text, message)
                })?)
            }
            None => None,
        };
        Ok(From {
            base,
            platform,
            is_broken: false,
        })
    };
    let broken = From {
        is_broken: true,
        ..From::default()
    };
    let hangs_on_argument = |stage: &Stage| {
        let platform = stage.from.platform.as_deref().unwrap_or_default();
        stage.from.image.contains('$') || platform.contains('$')
    };
    let mut froms = Vec::new();
    let stages = &input.dockerfile.stages;
    for (index, stage) in stages.iter().enumerate() {
        // Names that hang on an argument which could not be read are not looked at.
        let from = if stage.is_unreadable || (globals.is_unsure && hangs_on_argument(stage)) {
            None
        } else {
            mistakes.keep(expand_one(stage))?
        };
        let earlier = stages.get(..index).unwrap_or_default();
        // Also where nobody needs the stage: a name that no image can have is a mistake.
        let from = match from {
            Some(from) if !stands_for_more(input, earlier, stage, &from.base) => {
                let checked = check_reference(input, &from.base, &stage.location);
                mistakes.keep(checked)?.map(|()| from)
            }
            from => from,
        };
        let is_known = |from: &From| {
            base_by_name(earlier, &from.base).is_some() || !may_have_any_name(earlier)
        };
        froms.push(from.filter(is_known).unwrap_or_else(|| broken.clone()));
    }
    Ok(froms)
}

/// Refuses what is no image's name.
pub(super) fn check_reference(
    input: &LowerInput<'_>,
    name: &str,
    at: &Location,
) -> Result<(), BuildError> {
    match Reference::parse(name) {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = format!("failed to parse stage name {name:?}: {error}");
            Err(mistake(input, &within(input, at, name), message, None))
        }
    }
}

/// Says whether a base is something else than an image: nothing, an earlier stage, a named context.
fn stands_for_more(input: &LowerInput<'_>, earlier: &[Stage], stage: &Stage, base: &str) -> bool {
    let is_context = |name: &str| {
        let mut known = input.contexts.keys();
        known.any(|known| known.eq_ignore_ascii_case(name))
    };
    base == SCRATCH
        || base_by_name(earlier, base).is_some()
        || may_have_any_name(earlier)
        || is_context(base)
        || stage.from.stage_name.as_deref().is_some_and(is_context)
}

/// Returns the name that a variable of a platform could have been meant as.
fn unmatched(text: &str, expander: &Expander, globals: &Globals) -> Option<String> {
    let unmatched = expander.expand(text, &globals.values).ok()?.unmatched;
    let known = || globals.values.iter().map(|(name, _)| name.as_str());
    let near = unmatched
        .iter()
        .find_map(|name| nearest(name, known(), true))?;
    Some(near.to_owned())
}

/// Returns why a text cannot be a platform: a part that is empty or has a character that none has, in containerd's words.
fn unwritable(text: &str) -> Option<String> {
    let is_part = |part: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        !part.is_empty() && part.chars().all(is_allowed)
    };
    let parts = text.split('/');
    // A system may have its version and features behind it.
    let mut names = parts.map(|part| part.split_once('(').map_or(part, |(name, _)| name));
    let wrong = names.find(|part| !is_part(part))?;
    Some(format!(
        "{wrong:?} is an invalid component of {text:?}: platform specifier component must match \
         \"^[A-Za-z0-9_.-]+$\": invalid argument"
    ))
}
