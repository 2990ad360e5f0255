//! FROM: bases, targets, and which stages are needed (spec llb §7.2).

use std::collections::{BTreeMap, BTreeSet};

use wharf_dockerfile::expand::Expander;
use wharf_dockerfile::instruction::Copy;
use wharf_dockerfile::{Instruction, InstructionKind, Location, Stage, nearest, parse_commands};
use wharf_image::{ContainerConfig, ImageConfig, Platform, Reference};
use wharf_llb::Edge;

use super::args::Globals;
use super::contexts::Resolved;
use super::mistakes::{Mistakes, UNKNOWN_DIRECTORY, hangs_on_variables, may_have_any_name, within};
use super::names::{Numbering, is_counted, named};
use super::{LowerInput, Lowering, StageState, Use, mistake, no_image};
use crate::config::{self, DEFAULT_PATH};
use crate::plan::{PlannedStage, StageBase};
use crate::{BaseImage, BuildError};

pub(super) const SCRATCH: &str = "scratch";

/// A FROM line after expansion.
#[derive(Clone, Default)]
pub(super) struct From {
    base: String,
    platform: Option<Platform>,
    /// Whether it could not be read.
    is_broken: bool,
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

/// Refuses stages that copy from themselves, also where nobody needs them.
pub(super) fn check_cycles(input: &LowerInput<'_>, mistakes: &Mistakes) -> Result<(), BuildError> {
    for stage in &input.dockerfile.stages {
        let Some(name) = stage.from.stage_name.as_deref() else {
            continue;
        };
        let is_own = |from: &str| from.to_lowercase() == name;
        let own = stage
            .instructions
            .iter()
            .find(|instruction| copied_from(instruction).is_some_and(is_own))
            .filter(|_| !may_have_any_name(std::slice::from_ref(stage)));
        if let Some(instruction) = own {
            let message = format!("circular dependency detected on stage: {name}");
            let wrong = mistake(input, &instruction.location, message, None);
            mistakes.keep(Err::<(), _>(wrong))?;
        }
    }
    Ok(())
}

/// Returns the number of the stage to build.
pub(super) fn find_target(input: &LowerInput<'_>) -> Result<usize, BuildError> {
    let stages = &input.dockerfile.stages;
    let Some(last) = stages.len().checked_sub(1) else {
        return Err(BuildError::instruction(
            "dockerfile contains no stages to build",
        ));
    };
    if input.target.is_empty() {
        return Ok(last);
    }
    let found = stage_by_name(stages, input.target);
    let found = found.or(may_have_any_name(stages).then_some(last));
    found.ok_or_else(|| {
        let names = stages
            .iter()
            .filter_map(|stage| stage.from.stage_name.as_deref());
        BuildError::NoTarget {
            name: input.target.to_owned(),
            hint: nearest(input.target, names, false).map(|name| format!("did you mean {name}?")),
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

/// Returns the names that RUN mounts from.
fn mounted_from(instruction: &Instruction) -> Vec<&str> {
    match &instruction.kind {
        InstructionKind::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| mount.from.as_deref())
            .collect(),
        _ => Vec::new(),
    }
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
            let Some(stage) = self.input.dockerfile.stages.get(index) else {
                continue;
            };
            if stage.is_unreadable {
                let words = stage.original.split_whitespace();
                open.extend(words.filter_map(|word| self.earlier_stage(index, word)));
            }
            for instruction in &stage.instructions {
                if let InstructionKind::Unreadable(unreadable) = &instruction.kind {
                    let names = unreadable.from.iter();
                    open.extend(names.filter_map(|name| self.earlier_stage(index, name)));
                }
                let copied = copied_from(instruction);
                open.extend(copied.and_then(|name| self.earlier_stage(index, name)));
                let mounted = mounted_from(instruction).into_iter();
                open.extend(
                    mounted
                        .filter_map(|name| self.stage_named(name))
                        .filter(|stage| *stage < index),
                );
            }
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

    /// Returns the stage of a name, wherever it stands.
    pub(super) fn stage_named(&self, name: &str) -> Option<usize> {
        stage_by_name(&self.input.dockerfile.stages, name)
    }

    /// Returns the files at the end of a stage.
    pub(super) fn stage_output(
        &mut self,
        index: usize,
        name: &str,
        at: &Location,
    ) -> Result<Option<Edge>, BuildError> {
        self.require(index)?;
        let user = self.open.last().copied().unwrap_or(index);
        self.uses.push((user, Use::Stage(index)));
        let output = self.done.get(&index).map(|(_, state)| state.output);
        output.ok_or_else(|| {
            self.mistake(at, format!("circular dependency detected on stage: {name}"))
        })
    }

    /// Refuses what is no image's name.
    pub(super) fn check_reference(&self, name: &str, at: &Location) -> Result<(), BuildError> {
        match Reference::parse(name) {
            Ok(_) => Ok(()),
            Err(error) => {
                let message = format!("failed to parse stage name {name:?}: {error}");
                Err(self.mistake(&self.within(at, name), message))
            }
        }
    }

    /// Lowers one stage; those it needs are done.
    pub(super) fn stage(&mut self, index: usize) -> Result<(PlannedStage, StageState), BuildError> {
        let input = self.input;
        // Only numbers of stages that exist are asked for.
        let stage = &input.dockerfile.stages[index];
        let counted = stage
            .instructions
            .iter()
            .filter(|one| is_counted(one))
            .count();
        let names = Numbering {
            stage: self.stage_label(index),
            last: 0,
            total: counted,
        };
        let platform = self.input.platform.clone();
        let base = self.base(index, stage, names.clone());
        let (base, mut state, is_replaced) = self
            .mistakes
            .keep(base)?
            .unwrap_or_else(|| (StageBase::Scratch, unknown(platform, names), false));
        let triggers = if is_replaced {
            Vec::new()
        } else {
            let triggers = self.take_triggers(stage, &mut state);
            self.mistakes.keep(triggers)?.unwrap_or_default()
        };
        state.names.total += triggers.len();
        let mut planned = PlannedStage {
            text: stage.original.clone(),
            base,
            triggers: triggers.len(),
            start: state.step_state(),
            steps: Vec::new(),
        };
        let own: &[Instruction] = if is_replaced {
            &[]
        } else {
            &stage.instructions
        };
        for (number, instruction) in triggers.iter().chain(own).enumerate() {
            let is_trigger = number < triggers.len();
            if state.is_unsure && hangs_on_variables(instruction) {
                if matches!(instruction.kind, InstructionKind::Workdir(_)) {
                    UNKNOWN_DIRECTORY.clone_into(&mut state.config.working_dir);
                }
                continue;
            }
            let count = self.mistakes.count();
            let step = self.instruction(index, instruction, is_trigger, &mut state);
            planned.steps.extend(self.mistakes.keep(step)?);
            let is_wrong = self.mistakes.count() > count;
            let sets_variables = matches!(
                instruction.kind,
                InstructionKind::Arg(_) | InstructionKind::Env(_)
            );
            state.is_unsure |= sets_variables && is_wrong;
            if is_wrong && matches!(instruction.kind, InstructionKind::Workdir(_)) {
                UNKNOWN_DIRECTORY.clone_into(&mut state.config.working_dir);
            }
        }
        Ok((planned, state))
    }

    /// Returns how a stage is called in the names of its steps.
    fn stage_label(&self, index: usize) -> String {
        let stages = &self.input.dockerfile.stages;
        let is_outside = |stage: usize, instruction: &Instruction| {
            let copied = copied_from(instruction);
            let is_mounting =
                matches!(&instruction.kind, InstructionKind::Run(run) if !run.mounts.is_empty());
            is_mounting || copied.is_some_and(|from| self.earlier_stage(stage, from).is_none())
        };
        let has_others = stages.iter().enumerate().any(|(number, stage)| {
            stage
                .instructions
                .iter()
                .any(|instruction| is_outside(number, instruction))
        });
        if stages.len() == 1 && !has_others {
            return String::new();
        }
        let name = stages
            .get(index)
            .and_then(|stage| stage.from.stage_name.clone());
        name.unwrap_or_else(|| format!("stage-{index}"))
    }

    /// Returns what a stage starts from, and whether it is replaced as a whole by a named context.
    fn base(
        &mut self,
        index: usize,
        stage: &Stage,
        mut names: Numbering,
    ) -> Result<(StageBase, StageState, bool), BuildError> {
        // Only numbers of stages that exist are asked for.
        let From {
            base,
            platform,
            is_broken,
        } = self.froms[index].clone();
        if is_broken {
            let state = unknown(self.input.platform.clone(), names);
            return Ok((StageBase::Scratch, state, false));
        }
        let platform = platform.unwrap_or_else(|| self.input.platform.clone());
        let at = &stage.location;
        if let Some(name) = &stage.from.stage_name
            && let Some(found) = self.named_context(name, &platform, at)?
        {
            let (base, state) = self.resolved(found, name, names, platform, at)?;
            return Ok((base, state, true));
        }
        if let Some(base) = self.base_stage(index)
            && let Some((_, state)) = self.done.get(&base)
        {
            self.uses.push((index, Use::Stage(base)));
            let mut state = StageState {
                has_cmd: false,
                names,
                is_unsure: state.is_unsure || state.has_unknown_trigger,
                has_unknown_trigger: false,
                ..state.clone()
            };
            state.variables_of_config_last();
            return Ok((StageBase::Stage(base), state, false));
        }
        if let Some(found) = self.named_context(&base, &platform, at)? {
            let (base, state) = self.resolved(found, &base, names, platform, at)?;
            return Ok((base, state, false));
        }
        if base == SCRATCH {
            let state = start(empty_config(), None, None, platform, names);
            return Ok((StageBase::Scratch, state, false));
        }
        self.check_reference(&base, at)?;
        let found = self.find(&base, &platform);
        let found = found.map_err(|error| no_image(self.input, &base, at, error))?;
        let Some(image) = found else {
            return Ok((StageBase::Scratch, unknown(platform, names), false));
        };
        names.total += 1;
        let name = names.next(&format!("FROM {}", canonical(&base, &image)));
        let output = self.image_vertex(&base, &image, &platform, named(name.clone()));
        self.first_names.insert(index, (output.vertex, name));
        let state = image_state(&image, output, platform, names);
        Ok((StageBase::Image(image), state, false))
    }

    /// Starts a stage from what a named context stands for.
    fn resolved(
        &mut self,
        found: Resolved,
        name: &str,
        names: Numbering,
        platform: Platform,
        at: &Location,
    ) -> Result<(StageBase, StageState), BuildError> {
        Ok(match found {
            Resolved::Image(image, edge) => {
                let state = image_state(&image, edge, platform, names);
                (StageBase::Image(image), state)
            }
            Resolved::Unknown => (StageBase::Scratch, unknown(platform, names)),
            Resolved::Files(files) => {
                let state = start(empty_config(), None, files, platform, names);
                (StageBase::Scratch, state)
            }
            Resolved::Stage(index) => {
                self.stage_output(index, name, at)?;
                let state = self.done.get(&index).map(|(_, state)| state.clone());
                let state = state.ok_or_else(|| {
                    self.mistake(at, format!("circular dependency detected on stage: {name}"))
                })?;
                let state = StageState {
                    has_cmd: false,
                    names,
                    ..state
                };
                (StageBase::Stage(index), state)
            }
        })
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

fn empty_config() -> ContainerConfig {
    ContainerConfig {
        working_dir: "/".to_owned(),
        ..ContainerConfig::default()
    }
}

/// Returns the state of a stage whose base is not known.
fn unknown(platform: Platform, names: Numbering) -> StageState {
    let mut state = start(empty_config(), None, None, platform, names);
    UNKNOWN_DIRECTORY.clone_into(&mut state.config.working_dir);
    state.is_unsure = true;
    state
}

fn image_state(
    image: &BaseImage,
    output: Edge,
    platform: Platform,
    names: Numbering,
) -> StageState {
    // An image without layers is nothing.
    let output = (!image.config.rootfs.diff_ids.is_empty()).then_some(output);
    let config = inherited(&image.config);
    start(config, image.config.author.clone(), output, platform, names)
}

/// Returns the state of a stage before its first instruction.
fn start(
    mut config: ContainerConfig,
    author: Option<String>,
    output: Option<Edge>,
    platform: Platform,
    names: Numbering,
) -> StageState {
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
        platform,
        names,
        args: Vec::new(),
        has_cmd: false,
        is_unsure: false,
        has_unknown_trigger: false,
    }
}

/// Returns an image's whole name with the digest of what was found.
pub(super) fn canonical(name: &str, image: &BaseImage) -> String {
    match Reference::parse(name) {
        Ok(reference) => {
            let reference = reference.with_default_tag();
            let tag = reference
                .tag()
                .map_or_else(String::new, |tag| format!(":{tag}"));
            // What came from no registry has only its own name.
            let found = reference.digest().copied().or(image.digest);
            let digest = found.unwrap_or(image.id);
            format!("{}{tag}@{digest}", reference.name())
        }
        Err(_) => name.to_owned(),
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
