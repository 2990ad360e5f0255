//! `SOURCE_DATE_EPOCH`: the time of all that is made, as seconds, or as that of a context or of what a stage adds (spec
//! image-store §12.3).

use jiff::Timestamp;
use wharf_dockerfile::expand::Expander;
use wharf_dockerfile::instruction::Copy;
use wharf_dockerfile::{Instruction, InstructionKind, Stage, parse_git_url};
use wharf_llb::SourceOp;

use super::args::{Globals, given};
use super::contexts::NamedContext;
use super::froms::SCRATCH;
use super::sources::{git_source, http_source, is_address, is_git};
use super::{LowerInput, mistake};
use crate::BuildError;
use crate::context::MAIN_CONTEXT;

pub(super) const EPOCH_ARG: &str = "SOURCE_DATE_EPOCH";

/// Something that has a time of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TimeSource {
    /// The main build context.
    MainContext,
    /// A repository, whose commit has a time, or an address, whose server may tell one.
    Source(SourceOp),
}

/// Finds the time of a source, in seconds since 1970; none where it has none.
pub(crate) type FindTime<'a> = dyn Fn(&TimeSource) -> Result<Option<i64>, BuildError> + 'a;

/// Returns the time as RFC 3339, and puts the seconds where instructions look for the argument.
///
/// # Errors
/// What is no time and names nothing, stages that do more than add one source, and what `find_time` says.
pub(super) fn resolve(
    input: &LowerInput<'_>,
    expander: &Expander,
    globals: &mut Globals,
) -> Result<Option<String>, BuildError> {
    let written = given(input.build_args, EPOCH_ARG).or_else(|| globals.value(EPOCH_ARG));
    let Some(text) = written.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let seconds = match text.parse() {
        Ok(seconds) => Some(seconds),
        Err(_) => {
            let seconds = match named(input, expander, globals, &text)? {
                Some(source) => (input.find_time)(&source)?,
                None => None,
            };
            globals.epoch = Some(
                seconds
                    .map(|seconds| seconds.to_string())
                    .unwrap_or_default(),
            );
            seconds
        }
    };
    match seconds.map(Timestamp::from_second) {
        None => Ok(None),
        Some(Ok(time)) => Ok(Some(time.to_string())),
        Some(Err(_)) => Err(invalid(&text)),
    }
}

fn invalid(text: &str) -> BuildError {
    BuildError::instruction(format!("invalid {EPOCH_ARG}: {text}"))
}

/// Returns what a name stands for: the main context, a named one, or a stage; nothing where it has no time.
fn named(
    input: &LowerInput<'_>,
    expander: &Expander,
    globals: &Globals,
    name: &str,
) -> Result<Option<TimeSource>, BuildError> {
    if name == MAIN_CONTEXT {
        return Ok(Some(TimeSource::MainContext));
    }
    let context = input
        .contexts
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    if let Some((_, context)) = context {
        return Ok(match context {
            NamedContext::Git(url) => match parse_git_url(url) {
                Ok(url) => Some(TimeSource::Source(git_source(&url, None, None))),
                Err(error) => return Err(BuildError::instruction(error.to_string())),
            },
            NamedContext::Http(url) => Some(TimeSource::Source(http_source(url, None))),
            _ => None,
        });
    }
    let stages = &input.dockerfile.stages;
    let is_meant = |stage: &&Stage| {
        let own = stage.from.stage_name.as_deref();
        own.is_some_and(|own| own.eq_ignore_ascii_case(name))
    };
    let Some(stage) = stages.iter().find(is_meant) else {
        return Err(invalid(name));
    };
    let source = Reading {
        input,
        expander,
        values: without_epoch(&globals.values),
    }
    .source_of(stage)?;
    Ok(Some(TimeSource::Source(source)))
}

fn without_epoch(values: &[(String, String)]) -> Vec<(String, String)> {
    let others = values.iter().filter(|(name, _)| name != EPOCH_ARG);
    others.cloned().collect()
}

/// A stage being read for the one source that it adds.
struct Reading<'a> {
    input: &'a LowerInput<'a>,
    expander: &'a Expander,
    values: Vec<(String, String)>,
}

impl Reading<'_> {
    fn wrong(&self, stage: &Stage, message: &str) -> BuildError {
        mistake(
            self.input,
            &stage.location,
            format!("{EPOCH_ARG} stage {message}"),
            None,
        )
    }

    fn expand(&self, word: &str, stage: &Stage) -> Result<String, BuildError> {
        self.expander
            .expand_word(word, &self.values)
            .map_err(|error| mistake(self.input, &stage.location, error.to_string(), None))
    }

    fn source_of(mut self, stage: &Stage) -> Result<SourceOp, BuildError> {
        const ONE: &str = "must contain exactly one remote ADD";
        if self.expand(&stage.from.image, stage)? != SCRATCH {
            return Err(self.wrong(stage, "must use FROM scratch"));
        }
        let mut source = None;
        for instruction in &stage.instructions {
            match &instruction.kind {
                InstructionKind::Arg(args) => {
                    for arg in args {
                        let default = arg.value.as_ref();
                        let value = match given(self.input.build_args, &arg.key) {
                            Some(given) => Some(given),
                            None => default.map(|word| self.expand(word, stage)).transpose()?,
                        };
                        self.values
                            .extend(value.map(|value| (arg.key.clone(), value)));
                    }
                }
                InstructionKind::Add(_) if source.is_some() => return Err(self.wrong(stage, ONE)),
                InstructionKind::Add(add) => source = Some(self.added(add, stage)?),
                _ => return Err(self.unsupported(stage, instruction)),
            }
        }
        source.ok_or_else(|| self.wrong(stage, ONE))
    }

    fn unsupported(&self, stage: &Stage, instruction: &Instruction) -> BuildError {
        let keyword = instruction.keyword.to_uppercase();
        self.wrong(
            stage,
            &format!("does not meet source-only requirements: unsupported {keyword} instruction"),
        )
    }

    fn added(&self, add: &Copy, stage: &Stage) -> Result<SourceOp, BuildError> {
        let [written] = add.sources.as_slice() else {
            return Err(self.wrong(stage, "must contain exactly one remote ADD source"));
        };
        if !add.heredocs.is_empty() {
            return Err(self.wrong(stage, "must contain exactly one remote ADD source"));
        }
        let place = self.expand(written, stage)?;
        let checksum = match &add.checksum {
            Some(word) => Some(self.expand(word, stage)?),
            None => None,
        };
        let checksum = checksum.as_deref();
        if is_git(&place) {
            let url = parse_git_url(&place)
                .map_err(|error| mistake(self.input, &stage.location, error.to_string(), None))?;
            return Ok(git_source(&url, add.keep_git_dir, checksum));
        }
        if is_address(&place) {
            return Ok(http_source(&place, checksum));
        }
        Err(self.wrong(stage, "source must be a single HTTP(S) or Git ADD"))
    }
}
