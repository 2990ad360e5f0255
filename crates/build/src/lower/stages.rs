//! FROM: bases, targets, and which stages are needed (spec llb §7.2).

use std::collections::{BTreeMap, BTreeSet};

use wharf_dockerfile::expand::Expander;
use wharf_dockerfile::instruction::Copy;
use wharf_dockerfile::{Instruction, InstructionKind, Stage, parse_commands};
use wharf_image::{ContainerConfig, ImageConfig, Platform, Reference};

use super::args::Globals;
use super::{LowerInput, Lowering, StageState, mistake};
use crate::config::{self, DEFAULT_PATH};
use crate::old_graph::{Input, Op, Source};
use crate::old_plan::{PlannedStage, StageBase};
use crate::suggest::nearest;
use crate::{BaseImage, BuildError};

const SCRATCH: &str = "scratch";

/// A FROM line after expansion.
pub(super) struct From {
    base: String,
    platform: Option<Platform>,
}

/// Expands all FROM lines; those of stages that nobody needs have to make sense, too.
pub(super) fn expand_froms(
    input: &LowerInput<'_>,
    expander: &Expander,
    globals: &Globals,
) -> Result<Vec<From>, BuildError> {
    let expand_one = |stage: &Stage| {
        let wrong = |message: String| mistake(input, &stage.location, message, None);
        let expand = |word: &str| {
            expander
                .expand_word(word, &globals.values)
                .map_err(|error| wrong(error.to_string()))
        };
        let base = expand(&stage.from.image)?;
        if base.is_empty() {
            return Err(wrong(format!(
                "base name ({}) should not be blank",
                stage.from.image
            )));
        }
        let platform = match &stage.from.platform {
            Some(text) => {
                let expanded = expand(text)?;
                let parsed = Platform::parse(&expanded);
                Some(parsed.map_err(|error| {
                    wrong(format!("failed to parse platform {expanded}: {error}"))
                })?)
            }
            None => None,
        };
        Ok(From { base, platform })
    };
    input.dockerfile.stages.iter().map(expand_one).collect()
}

/// Refuses stages that copy from themselves, also where nobody needs them.
pub(super) fn check_cycles(input: &LowerInput<'_>) -> Result<(), BuildError> {
    for stage in &input.dockerfile.stages {
        let Some(name) = stage.from.stage_name.as_deref() else {
            continue;
        };
        let is_own = |from: &str| from.to_lowercase() == name;
        let own = stage
            .instructions
            .iter()
            .find(|instruction| copied_from(instruction).is_some_and(is_own));
        if let Some(instruction) = own {
            let message = format!("circular dependency detected on stage: {name}");
            return Err(mistake(input, &instruction.location, message, None));
        }
    }
    Ok(())
}

/// Returns the number of the stage to build.
pub(super) fn find_target(input: &LowerInput<'_>) -> Result<usize, BuildError> {
    let stages = &input.dockerfile.stages;
    let last = stages.len().saturating_sub(1);
    if input.target.is_empty() {
        return Ok(last);
    }
    stage_by_name(stages, input.target).ok_or_else(|| {
        let names = stages
            .iter()
            .filter_map(|stage| stage.from.stage_name.as_deref());
        BuildError::NoTarget {
            name: input.target.to_owned(),
            hint: nearest(input.target, names).map(|name| format!("did you mean {name}?")),
        }
    })
}

/// Replaces the stage numbers of the Dockerfile by places in the plan.
pub(super) fn number_bases(stages: &mut [PlannedStage], places: &BTreeMap<usize, usize>) {
    for stage in stages {
        if let StageBase::Stage(index) = &mut stage.base {
            *index = places.get(index).copied().unwrap_or_default();
        }
    }
}

/// Returns the last stage of a name, or the stage of a number.
fn stage_index(stages: &[Stage], name: &str) -> Option<usize> {
    stage_by_name(stages, name).or_else(|| name.parse().ok().filter(|index| *index < stages.len()))
}

fn stage_by_name(stages: &[Stage], name: &str) -> Option<usize> {
    let lower = name.to_lowercase();
    stages
        .iter()
        .rposition(|stage| stage.from.stage_name.as_deref() == Some(lower.as_str()))
}

fn copied_from(instruction: &Instruction) -> Option<&str> {
    match &instruction.kind {
        InstructionKind::Copy(Copy { from, .. }) => from.as_deref(),
        _ => None,
    }
}

impl Lowering<'_, '_> {
    /// Returns the stages that a stage needs and itself, in order.
    pub(super) fn needed(&self, stage: usize) -> BTreeSet<usize> {
        let mut needed = BTreeSet::new();
        let mut open = vec![stage];
        while let Some(index) = open.pop() {
            if !needed.insert(index) {
                continue;
            }
            open.extend(self.base_stage(index));
            let instructions = self
                .input
                .dockerfile
                .stages
                .get(index)
                .map(|stage| stage.instructions.as_slice());
            let names = instructions
                .unwrap_or_default()
                .iter()
                .filter_map(copied_from);
            open.extend(names.filter_map(|name| self.earlier_stage(index, name)));
        }
        needed
    }

    /// Returns the stage before `index` that COPY names by name or number.
    pub(super) fn earlier_stage(&self, index: usize, name: &str) -> Option<usize> {
        stage_index(self.input.dockerfile.stages.get(..index)?, name)
    }

    /// Returns the stage itself or one behind it that has this name.
    pub(super) fn later_stage(&self, index: usize, name: &str) -> Option<usize> {
        let found = stage_by_name(self.input.dockerfile.stages.get(index..)?, name)?;
        Some(index + found)
    }

    fn base_stage(&self, index: usize) -> Option<usize> {
        let base = &self.froms.get(index)?.base;
        stage_by_name(self.input.dockerfile.stages.get(..index)?, base)
    }

    /// Lowers one stage; those it needs are done.
    pub(super) fn stage(&mut self, index: usize) -> Result<(PlannedStage, StageState), BuildError> {
        let input = self.input;
        // Only numbers of stages that exist are asked for.
        let stage = &input.dockerfile.stages[index];
        let (base, mut state) = self.base(index, stage)?;
        let triggers = self.take_triggers(stage, &mut state)?;
        let mut planned = PlannedStage {
            text: stage.original.clone(),
            base,
            triggers: triggers.len(),
            start: state.step_state(),
            steps: Vec::new(),
        };
        for instruction in triggers.iter().chain(&stage.instructions) {
            let step = self.instruction(index, instruction, &mut state)?;
            planned.steps.push(step);
        }
        Ok((planned, state))
    }

    fn base(&mut self, index: usize, stage: &Stage) -> Result<(StageBase, StageState), BuildError> {
        if let Some(base) = self.base_stage(index)
            && let Some((_, state)) = self.done.get(&base)
        {
            let state = StageState {
                has_cmd: false,
                ..state.clone()
            };
            return Ok((StageBase::Stage(base), state));
        }
        // Only numbers of stages that exist are asked for.
        let From { base, platform } = &self.froms[index];
        if base == SCRATCH {
            let config = ContainerConfig {
                working_dir: "/".to_owned(),
                ..ContainerConfig::default()
            };
            return Ok((StageBase::Scratch, start(config, None, Input::Scratch)));
        }
        let (base, platform) = (base.clone(), platform.clone());
        if let Err(error) = Reference::parse(&base) {
            let message = format!("failed to parse stage name {base:?}: {error}");
            return Err(self.mistake(&stage.location, message));
        }
        let platform = platform.unwrap_or_else(|| self.input.platform.clone());
        let image = (self.find_base)(&base, &platform)?;
        let output = self.image_source(&image);
        let config = inherited(&image.config);
        let state = start(config, image.config.author.clone(), output);
        Ok((StageBase::Image(image), state))
    }

    /// Returns the files of an image.
    pub(super) fn image_source(&mut self, image: &BaseImage) -> Input {
        let layers = image.config.rootfs.diff_ids.clone();
        if layers.is_empty() {
            return Input::Scratch;
        }
        Input::Vertex(
            self.graph
                .add(Op::Source(Source::Image { layers }), Vec::new()),
        )
    }

    /// Takes the triggers out of the config and reads them; they stand where FROM stands.
    fn take_triggers(
        &self,
        stage: &Stage,
        state: &mut StageState,
    ) -> Result<Vec<Instruction>, BuildError> {
        let mut instructions = Vec::new();
        for trigger in std::mem::take(&mut state.config.on_build) {
            let parsed = parse_commands(&trigger).map_err(|diagnostics| {
                let reason = diagnostics
                    .first()
                    .map(|diagnostic| diagnostic.message.clone())
                    .unwrap_or_default();
                self.mistake(
                    &stage.location,
                    format!("the base image's trigger ONBUILD {trigger}: {reason}"),
                )
            })?;
            instructions.extend(parsed.into_iter().map(|instruction| Instruction {
                location: stage.location.clone(),
                ..instruction
            }));
        }
        Ok(instructions)
    }
}

/// Returns the state of a stage before its first instruction.
fn start(mut config: ContainerConfig, author: Option<String>, output: Input) -> StageState {
    if config::env_value(&config.env, "PATH").is_none() {
        config.env.push(format!("PATH={DEFAULT_PATH}"));
    }
    let split = |entry: &String| {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        (key.to_owned(), value.to_owned())
    };
    StageState {
        env: config.env.iter().map(split).collect(),
        config,
        author,
        output,
        args: Vec::new(),
        has_cmd: false,
    }
}

/// Returns what images inherit of their base's config (spec image-store §3).
fn inherited(image: &ImageConfig) -> ContainerConfig {
    let base = image.config.clone().unwrap_or_default();
    ContainerConfig {
        user: base.user,
        exposed_ports: base.exposed_ports,
        env: base.env,
        cmd: base.cmd,
        healthcheck: base.healthcheck,
        args_escaped: base.args_escaped,
        volumes: base.volumes,
        working_dir: base.working_dir,
        entrypoint: base.entrypoint,
        on_build: base.on_build,
        labels: base.labels,
        stop_signal: base.stop_signal,
        stop_timeout: base.stop_timeout,
        shell: base.shell,
        ..ContainerConfig::default()
    }
}
