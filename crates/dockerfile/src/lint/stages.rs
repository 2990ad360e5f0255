//! Rules that follow variables and settings through the stages.

use std::collections::BTreeMap;

use super::capture::Capture;
use super::checker::Checker;
use super::from::{FromFacts, check_default, check_from};
use super::globals::Globals;
use super::{BaseImage, LintInput, reach, warn_at};
use crate::ast::Location;
use crate::diagnostic::Diagnostic;
use crate::expand::Expander;
use crate::instruction::{Dockerfile, Instruction, Stage, parse_commands};

/// Checks every stage, used or not.
pub(super) fn check_stages(
    dockerfile: &Dockerfile,
    input: &LintInput<'_>,
    warnings: &mut Vec<Diagnostic>,
) {
    let expander = Expander::new(dockerfile.directives.escape);
    let defaults = Globals::new(
        dockerfile,
        &LintInput {
            build_args: &[],
            ..*input
        },
        &expander,
    );
    walk(dockerfile, input, &expander, warnings, &mut |_, _, _| {});
    for stage in dockerfile
        .stages
        .iter()
        .filter(|stage| !stage.is_unreadable)
    {
        let names = dockerfile
            .stages
            .iter()
            .map(|stage| stage.from.stage_name.as_deref());
        check_default(stage, &defaults, &expander, names, warnings);
    }
}

/// A stage after its last instruction.
pub(crate) struct WalkedStage {
    /// Its name.
    name: Option<String>,
    /// The number of the stage it is built on.
    pub base: Option<usize>,
    /// Numbers of the stages that its instructions take files from.
    pub sources: Vec<usize>,
    state: StageState,
}

impl WalkedStage {
    /// Returns what it can be given.
    pub fn capture(&self) -> &Capture {
        &self.state.capture
    }
}

/// Where an instruction stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StagePlace {
    /// The number of its stage.
    pub index: usize,
    /// The number of the stage that its stage is built on.
    pub base: Option<usize>,
}

/// Sees every instruction of the file, with the variables that are set before it.
pub(crate) type Observer<'a> = dyn FnMut(StagePlace, &Instruction, &[(String, String)]) + 'a;

/// Goes through the stages up to the target, warning on the way; returns them in the file's order.
pub(crate) fn walk(
    dockerfile: &Dockerfile,
    input: &LintInput<'_>,
    expander: &Expander,
    warnings: &mut Vec<Diagnostic>,
    observe: &mut Observer<'_>,
) -> Vec<WalkedStage> {
    let globals = Globals::new(dockerfile, input, expander);
    let froms: Vec<FromFacts> = dockerfile
        .stages
        .iter()
        .map(|stage| check_from(stage, &globals, expander, warnings))
        .collect();
    let target = reach::target_index(dockerfile, input.target);
    let bases: Vec<&str> = froms.iter().map(|facts| facts.image.as_str()).collect();
    let needed = reach::needed(dockerfile, &bases, target);
    let mut done: Vec<WalkedStage> = Vec::new();
    // Stages behind the target are not looked into.
    let stages = dockerfile.stages.iter().take(target + 1);
    for ((index, stage), is_needed) in stages.enumerate().zip(needed) {
        let Some(facts) = froms.get(index) else {
            continue;
        };
        let base = done
            .iter()
            .rposition(|stage| stage.name.as_deref() == Some(facts.image.as_str()));
        let mut state = match base.and_then(|base| done.get(base)) {
            Some(base) => base.state.below(),
            None => base_state(stage, facts, input, warnings),
        };
        state.capture.args = globals.capture.args.clone();
        state.capture.used.extend(facts.used.iter().cloned());
        let mut checker = Checker {
            state: &mut state,
            expander,
            globals: &globals,
            input,
            warnings,
        };
        let triggers = std::mem::take(&mut checker.state.on_build);
        // An image's triggers only run where its stage is built.
        for trigger in triggers.iter().filter(|_| is_needed) {
            for mut instruction in parse_commands(trigger).unwrap_or_default() {
                instruction.location = stage.location.clone();
                checker.check(&instruction);
            }
        }
        for instruction in &stage.instructions {
            observe(StagePlace { index, base }, instruction, &checker.state.env);
            checker.check(instruction);
        }
        let earlier = dockerfile.stages.get(..index).unwrap_or_default();
        done.push(WalkedStage {
            name: stage.from.stage_name.clone(),
            base,
            sources: reach::sources(stage)
                .filter_map(|name| reach::stage_index(earlier, name))
                .collect(),
            state,
        });
    }
    done
}

/// What later instructions of a stage, and stages built on it, depend on.
#[derive(Clone, Default)]
pub(super) struct StageState {
    /// Variables that are set.
    pub env: Vec<(String, String)>,
    /// Names of the arguments that are declared.
    pub args: Vec<String>,
    /// Whether the working directory is known to be absolute.
    pub has_workdir: bool,
    /// Whether a shell was chosen.
    pub has_shell: bool,
    /// Whether variables may be set that are not known.
    pub has_unknown_env: bool,
    /// Triggers for stages built on this one.
    pub on_build: Vec<String>,
    /// Where CMD, ENTRYPOINT and HEALTHCHECK were set in this stage.
    pub is_set: BTreeMap<&'static str, Location>,
    /// What the stage can be given.
    pub capture: Capture,
}

impl StageState {
    /// Returns the state of a stage that stands on this one.
    fn below(&self) -> Self {
        Self {
            is_set: BTreeMap::new(),
            capture: Capture::default(),
            ..self.clone()
        }
    }
}

/// Returns the state an image gives; checks InvalidBaseImagePlatform.
fn base_state(
    stage: &Stage,
    facts: &FromFacts,
    input: &LintInput<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> StageState {
    if stage.is_unreadable {
        return StageState {
            has_workdir: true,
            has_shell: true,
            has_unknown_env: true,
            ..StageState::default()
        };
    }
    let platform = facts.platform.as_deref().unwrap_or(input.target_platform);
    let found = match facts.image.as_str() {
        "scratch" => None,
        image => (input.base_image)(image, platform),
    };
    let Some(BaseImage {
        platform: own,
        env,
        has_shell,
        on_build,
        is_unknown,
    }) = found
    else {
        return StageState::default();
    };
    if own != platform && !is_unknown {
        let message = format!(
            "Base image {} was pulled with platform \"{own}\", expected \"{platform}\" for current build",
            facts.image
        );
        warnings.push(warn_at(
            &stage.location,
            "InvalidBaseImagePlatform",
            message,
        ));
    }
    StageState {
        env,
        has_shell,
        on_build,
        has_unknown_env: is_unknown,
        ..StageState::default()
    }
}
