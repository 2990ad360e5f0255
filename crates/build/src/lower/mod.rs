//! From a Dockerfile to a graph, purely: no file is read and nothing is run (spec llb §7).

mod args;
mod bases;
mod contexts;
mod copy;
mod epoch;
mod froms;
mod instruction;
mod mistakes;
mod mounts;
mod names;
mod needs;
mod no_cache;
mod run;
mod sources;
mod stages;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use wharf_dockerfile::expand::Expander;
use wharf_dockerfile::{Diagnostic, Dockerfile, Location, Phase, Severity};
use wharf_image::{ContainerConfig, HistoryEntry, Platform};
use wharf_llb::{Edge, Graph, VertexId};

use crate::history;
use crate::plan::{Plan, PlannedStage, Step, StepState};
use crate::{BaseImage, BuildError};

pub(crate) use contexts::{NamedContext, OCI_LAYOUT};
pub(crate) use epoch::{FindTime, TimeSource};
pub(crate) use mounts::CACHE_DIR as OWNED_CACHE;
pub(crate) use sources::git_source;

use args::Globals;
use froms::From;
use mistakes::Mistakes;

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
    /// `--build-context`: what names stand for, instead of stages and images.
    pub contexts: &'a BTreeMap<String, NamedContext>,
    /// `--no-cache-filter`: the stages whose steps are executed again, by name.
    pub no_cache_stages: &'a [String],
    /// Whether RUN may ask to be confined by nothing.
    pub allow_insecure: bool,
    /// Network of every RUN that names none: `none` and `host` are part of the step.
    pub network_mode: &'a str,
    /// Finds the time that `SOURCE_DATE_EPOCH` names.
    pub find_time: &'a FindTime<'a>,
    /// Whether parts of the file could not be read: then nothing is said that could follow from them.
    pub is_partial: bool,
}

/// Most rounds of lowering: the second one knows the paths that the first one met.
const ROUNDS: usize = 2;

/// Finds an image by name for a platform.
pub(crate) type FindBase<'a> = dyn FnMut(&str, &Platform) -> Result<BaseImage, BuildError> + 'a;

/// Lowers what the target needs.
///
/// # Errors
/// All mistakes in the Dockerfile, unknown targets, and what `find_base` says.
pub(crate) fn lower(
    input: &LowerInput<'_>,
    find_base: &mut FindBase<'_>,
) -> Result<Plan, BuildError> {
    let mut paths = BTreeMap::new();
    let mut round = 0;
    loop {
        let (plan, met) = lower_round(input, find_base, &paths)?;
        round += 1;
        if met == paths || round == ROUNDS {
            return Ok(plan);
        }
        paths = met;
    }
}

/// Lowers what could be read of a file with mistakes, and returns the mistakes found on the way.
///
/// `find_base` should only look at what is here; images that it does not find are no mistakes.
pub(crate) fn other_mistakes(
    input: &LowerInput<'_>,
    find_base: &mut FindBase<'_>,
) -> Vec<Diagnostic> {
    if input.dockerfile.has_gap {
        return Vec::new();
    }
    let mistakes = Mistakes::default();
    // What stops it, as an unknown target, is told where the file has no mistakes.
    let _stopped = lower_all(input, find_base, &BTreeMap::new(), &mistakes);
    mistakes.into_diagnostics()
}

/// Lowers with what is known of the paths that are taken of each context; returns the paths met.
fn lower_round(
    input: &LowerInput<'_>,
    find_base: &mut FindBase<'_>,
    paths: &ContextPaths,
) -> Result<(Plan, ContextPaths), BuildError> {
    let mistakes = Mistakes::default();
    let lowered = lower_all(input, find_base, paths, &mistakes);
    mistakes.end(input, lowered)
}

fn lower_all(
    input: &LowerInput<'_>,
    find_base: &mut FindBase<'_>,
    paths: &ContextPaths,
    mistakes: &Mistakes,
) -> Result<(Plan, ContextPaths), BuildError> {
    let expander = Expander::new(input.dockerfile.directives.escape);
    let mut globals = Globals::new(input, &expander, mistakes)?;
    let epoch = if input.is_partial {
        None
    } else {
        let epoch = epoch::resolve(input, &expander, &mut globals);
        mistakes.keep(epoch)?.flatten()
    };
    let froms = froms::expand_froms(input, &expander, &globals, mistakes)?;
    let target = needs::find_target(input)?;
    needs::check_cycles(input, mistakes)?;
    let mut lowering = Lowering {
        input,
        expander,
        consumed: globals.consumed.clone(),
        globals,
        froms,
        graph: Graph::default(),
        images: HashMap::new(),
        find_base,
        done: BTreeMap::new(),
        open: Vec::new(),
        paths,
        met: BTreeMap::new(),
        first_names: BTreeMap::new(),
        uses: Vec::new(),
        epoch,
        mistakes,
    };
    lowering.require(target)?;
    lowering.name_bases(target);
    Ok(lowering.finish())
}

/// A lowering under way.
struct Lowering<'a, 'b> {
    input: &'a LowerInput<'a>,
    expander: Expander,
    globals: Globals,
    froms: Vec<From>,
    graph: Graph,
    /// Images by the identifier and platform of their source.
    images: HashMap<String, BaseImage>,
    find_base: &'b mut FindBase<'a>,
    /// Names of build arguments that something declared.
    consumed: BTreeSet<String>,
    /// Finished stages by their number in the Dockerfile.
    done: BTreeMap<usize, (PlannedStage, StageState)>,
    /// Stages being lowered.
    open: Vec<usize>,
    /// Paths taken of each context, as far as they are known already.
    paths: &'b ContextPaths,
    /// Paths taken of each context, as they are met.
    met: ContextPaths,
    /// The base images of stages with their names.
    first_names: BTreeMap<usize, (VertexId, String)>,
    /// What stages take of others, in order.
    uses: Vec<(usize, Use)>,
    /// Time of all that is made.
    epoch: Option<String>,
    /// What is wrong in the Dockerfile.
    mistakes: &'b Mistakes,
}

/// What a stage takes of elsewhere.
#[derive(Debug, Clone)]
enum Use {
    /// Another stage.
    Stage(usize),
    /// An image.
    Image(VertexId, String),
}

/// Paths that are taken of each context; `/` is all of it.
type ContextPaths = BTreeMap<String, BTreeSet<String>>;

/// What later instructions of a stage, and stages built on it, depend on.
#[derive(Debug, Clone)]
struct StageState {
    config: ContainerConfig,
    author: Option<String>,
    output: Option<Edge>,
    /// Platform of the stage.
    platform: Platform,
    /// How its steps are numbered.
    names: names::Numbering,
    /// Variables for expansion and RUN: the config's and the build arguments, the last of a name counts.
    env: Vec<(String, String)>,
    /// Build arguments in scope, in the order of declaration.
    args: Vec<(String, Option<String>)>,
    /// Whether CMD appeared in this stage.
    has_cmd: bool,
    /// Whether a mistake leaves open what the stage's variables are: what hangs on them is not looked at.
    is_unsure: bool,
    /// Whether a trigger could not be read: it may set variables of stages on top of this one.
    has_unknown_trigger: bool,
}

impl StageState {
    fn step_state(&self) -> StepState {
        StepState {
            config: self.config.clone(),
            author: self.author.clone(),
            output: self.output,
        }
    }

    /// Sets a variable for expansion and RUN: it comes last, wherever it was before.
    fn set_variable(&mut self, key: &str, value: &str) {
        self.env.retain(|(name, _)| name != key);
        self.env.push((key.to_owned(), value.to_owned()));
    }

    /// Puts the variables of the config behind the build arguments, as a stage on top of another sees them.
    fn variables_of_config_last(&mut self) {
        for entry in &self.config.env {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.env.retain(|(name, _)| name != key);
            self.env.push((key.to_owned(), value.to_owned()));
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
            if !self.done.contains_key(&index) && !self.open.contains(&index) {
                self.open.push(index);
                let lowered = self.stage(index)?;
                self.open.pop();
                self.done.insert(index, lowered);
            }
        }
        Ok(())
    }

    fn expand(&self, word: &str, state: &StageState, at: &Location) -> Result<String, BuildError> {
        self.expander
            .expand_word(word, &state.env)
            .map_err(|error| self.mistake(&self.within(at, word), error.to_string()))
    }

    /// Returns an error that shows an instruction.
    fn mistake(&self, at: &Location, message: impl Into<String>) -> BuildError {
        mistake(self.input, at, message, None)
    }

    /// Returns the place of a text within an instruction; the whole where it is written otherwise.
    fn within(&self, at: &Location, text: &str) -> Location {
        mistakes::within(self.input, at, text)
    }

    /// Names the base images: where several stages stand on one, the last counts that is come to on the way from the
    /// target to what it needs.
    fn name_bases(&mut self, target: usize) {
        let mut seen = BTreeSet::new();
        let mut names = Vec::new();
        self.visit(target, &mut seen, &mut names);
        for (vertex, name) in names {
            self.graph.rename(vertex, name);
        }
    }

    fn visit(&self, stage: usize, seen: &mut BTreeSet<usize>, names: &mut Vec<(VertexId, String)>) {
        if !seen.insert(stage) {
            return;
        }
        names.extend(self.first_names.get(&stage).cloned());
        for (_, used) in self.uses.iter().filter(|(user, _)| *user == stage) {
            match used {
                Use::Stage(index) => self.visit(*index, seen, names),
                Use::Image(vertex, name) => names.push((*vertex, name.clone())),
            }
        }
    }

    fn finish(mut self) -> (Plan, ContextPaths) {
        let places: BTreeMap<usize, usize> = self.done.keys().copied().zip(0..).collect();
        let mut stages: Vec<PlannedStage> = Vec::with_capacity(places.len());
        for (stage, _) in std::mem::take(&mut self.done).into_values() {
            stages.push(stage);
        }
        stages::number_bases(&mut stages, &places);
        if let Some(stage) = stages.last_mut() {
            self.add_labels(stage);
        }
        let warnings = args::unconsumed(self.input.build_args, &self.consumed)
            .into_iter()
            .chain(self.unknown_no_cache_stages())
            .collect();
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
        let plan = Plan {
            images: self.images,
            total: global_args.len() + shown,
            warnings,
            epoch: self.epoch,
            platform: self.input.platform.clone(),
            graph: self.graph,
            global_args,
            stages,
        };
        (plan, self.met)
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
    let told = vec![diagnostic(at, message, help)];
    BuildError::dockerfile(input.file_name, input.source, told)
}

/// Returns a mistake at a place; `help` is the word that was probably meant.
fn diagnostic(at: &Location, message: impl Into<String>, help: Option<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        phase: Phase::File,
        message: message.into(),
        span: at.span.clone(),
        lines: at.start_line..=at.end_line,
        help,
        rule: None,
    }
}

/// Returns what the host says about an image that is not to be had, with the line that asks for it.
fn no_image(input: &LowerInput<'_>, name: &str, at: &Location, error: BuildError) -> BuildError {
    let BuildError::Host(reason) = error else {
        return error;
    };
    let text = reason.to_string();
    let message = if text.contains(name) {
        text
    } else {
        format!("{name}: {text}")
    };
    match mistake(input, at, message, None) {
        BuildError::Dockerfile { rendered, .. } => BuildError::BaseImage { rendered, reason },
        other => other,
    }
}
