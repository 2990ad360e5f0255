//! FROM lines: expanded, whether anybody needs their stages or not (spec llb §7.2).

use wharf_dockerfile::Stage;
use wharf_dockerfile::expand::Expander;
use wharf_image::Platform;

use super::args::Globals;
use super::mistakes::{Mistakes, may_have_any_name, within};
use super::needs::stage_by_name;
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
        let is_known = |from: &From| {
            stage_by_name(earlier, &from.base).is_some() || !may_have_any_name(earlier)
        };
        froms.push(from.filter(is_known).unwrap_or_else(|| broken.clone()));
    }
    Ok(froms)
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
