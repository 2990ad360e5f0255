//! From a Dockerfile to a graph, purely: no file is read and nothing is run (spec llb §7).

mod args;
mod copy;
mod instruction;
mod run;
mod stages;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use wharf_dockerfile::expand::Expander;
use wharf_dockerfile::{Diagnostic, Dockerfile, Location, Phase, Severity, render};
use wharf_image::{ContainerConfig, HistoryEntry, Platform};

use crate::history;
use crate::old_graph::{Graph, Input};
use crate::old_plan::{Plan, PlannedStage, Step, StepState};
use crate::{BaseImage, BuildError};

use args::Globals;
use stages::From;

/// What lowering depends on.
pub(crate) struct LowerInput<'a> {
    /// The Dockerfile.
    pub dockerfile: &'a Dockerfile,
    /// Its path, for messages.
    pub file_name: &'a str,
    /// Its text, for messages.
    pub source: &'a str,
    /// `--build-arg`.
    pub build_args: &'a BTreeMap<String, Option<String>>,
    /// `--label`.
    pub labels: &'a BTreeMap<String, String>,
    /// Name or number of the stage to build; empty means the last.
    pub target: &'a str,
    /// Platform to build for.
    pub platform: Platform,
    /// Platform that steps run on.
    pub build_platform: Platform,
}

/// Finds an image by name for a platform.
pub(crate) type FindBase<'a> = dyn FnMut(&str, &Platform) -> Result<BaseImage, BuildError> + 'a;

/// Lowers what the target needs.
///
/// # Errors
/// Mistakes in the Dockerfile, unknown targets, and what `find_base` says.
pub(crate) fn lower(
    input: &LowerInput<'_>,
    find_base: &mut FindBase<'_>,
) -> Result<Plan, BuildError> {
    let expander = Expander::new(input.dockerfile.directives.escape);
    let globals = Globals::new(input, &expander)?;
    let froms = stages::expand_froms(input, &expander, &globals)?;
    let target = stages::find_target(input)?;
    stages::check_cycles(input)?;
    let mut lowering = Lowering {
        input,
        expander,
        consumed: globals.consumed.clone(),
        globals,
        froms,
        graph: Graph::default(),
        find_base,
        done: BTreeMap::new(),
    };
    lowering.require(target)?;
    Ok(lowering.finish())
}

/// A lowering under way.
struct Lowering<'a, 'b> {
    input: &'a LowerInput<'a>,
    expander: Expander,
    globals: Globals,
    froms: Vec<From>,
    graph: Graph,
    find_base: &'b mut FindBase<'b>,
    /// Names of build arguments that something declared.
    consumed: BTreeSet<String>,
    /// Finished stages by their number in the Dockerfile.
    done: BTreeMap<usize, (PlannedStage, StageState)>,
}

/// What later instructions of a stage, and stages built on it, depend on.
#[derive(Debug, Clone)]
struct StageState {
    config: ContainerConfig,
    author: Option<String>,
    output: Input,
    /// Variables for expansion and RUN: the config's and the build arguments, the last of a name counts.
    env: Vec<(String, String)>,
    /// Build arguments in scope, in the order of declaration.
    args: Vec<(String, Option<String>)>,
    /// Whether CMD appeared in this stage.
    has_cmd: bool,
}

impl StageState {
    fn step_state(&self) -> StepState {
        StepState {
            config: self.config.clone(),
            author: self.author.clone(),
            output: self.output,
        }
    }

    /// Sets a variable for expansion and RUN: in its place where it is there, else at the end.
    fn set_variable(&mut self, key: &str, value: &str) {
        match self.env.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value.to_owned(),
            None => self.env.push((key.to_owned(), value.to_owned())),
        }
    }

    fn cwd(&self) -> &str {
        if self.config.working_dir.is_empty() {
            "/"
        } else {
            &self.config.working_dir
        }
    }
}

impl Lowering<'_, '_> {
    /// Lowers a stage and all that it needs, in the Dockerfile's order.
    fn require(&mut self, stage: usize) -> Result<(), BuildError> {
        for index in self.needed(stage) {
            if !self.done.contains_key(&index) {
                let lowered = self.stage(index)?;
                self.done.insert(index, lowered);
            }
        }
        Ok(())
    }

    fn expand(&self, word: &str, state: &StageState, at: &Location) -> Result<String, BuildError> {
        self.expander
            .expand_word(word, &state.env)
            .map_err(|error| self.mistake(at, error.to_string()))
    }

    /// Returns an error that shows an instruction.
    fn mistake(&self, at: &Location, message: impl Into<String>) -> BuildError {
        mistake(self.input, at, message, None)
    }

    /// Returns the error for what is not there yet.
    fn unsupported(&self, at: &Location, what: &str) -> BuildError {
        self.mistake(at, format!("{what} is not supported yet"))
    }

    fn finish(mut self) -> Plan {
        let places: BTreeMap<usize, usize> = self.done.keys().copied().zip(0..).collect();
        let mut stages: Vec<PlannedStage> = Vec::with_capacity(places.len());
        for (stage, _) in std::mem::take(&mut self.done).into_values() {
            stages.push(stage);
        }
        stages::number_bases(&mut stages, &places);
        if let Some(stage) = stages.last_mut() {
            self.add_labels(stage);
        }
        let global_args: Vec<String> = self
            .input
            .dockerfile
            .meta_args
            .iter()
            .map(|arg| arg.original.clone())
            .collect();
        let shown: usize = stages
            .iter()
            .map(|stage| 1 + stage.steps.len() - stage.triggers)
            .sum();
        Plan {
            total: global_args.len() + shown,
            warnings: args::unconsumed(self.input.build_args, &self.consumed)
                .into_iter()
                .collect(),
            epoch: args::epoch(self.input.build_args),
            platform: self.input.platform.clone(),
            graph: self.graph,
            global_args,
            stages,
        }
    }

    /// Adds the labels of the request: a step without history (spec llb §7.5).
    fn add_labels(&self, stage: &mut PlannedStage) {
        if self.input.labels.is_empty() {
            return;
        }
        let mut state = stage
            .steps
            .last()
            .map_or(&stage.start, |step| &step.state)
            .clone();
        state.config.labels.extend(self.input.labels.clone());
        let pairs: Vec<(String, String)> = self.input.labels.clone().into_iter().collect();
        stage.steps.push(Step {
            text: history::pairs("LABEL", &pairs),
            warnings: Vec::new(),
            history: None,
            state,
        });
    }
}

/// Returns an entry for a step that changes no files.
fn config_entry(created_by: String) -> Option<HistoryEntry> {
    Some(history::entry(created_by, true))
}

/// Returns an error that starts with `message` and shows an instruction.
fn mistake(
    input: &LowerInput<'_>,
    at: &Location,
    message: impl Into<String>,
    help: Option<String>,
) -> BuildError {
    let diagnostic = Diagnostic {
        severity: Severity::Error,
        phase: Phase::File,
        message: message.into(),
        span: at.span.clone(),
        lines: at.start_line..=at.end_line,
        help,
        rule: None,
    };
    BuildError::Dockerfile {
        rendered: render(input.file_name, input.source, &[diagnostic]),
    }
}
