//! Stages: their instructions and triggers, one after the other (spec llb §7.2).

use std::collections::BTreeMap;

use wharf_dockerfile::{Instruction, InstructionKind, Location, Stage, parse_commands};
use wharf_llb::Edge;

use super::bases::unknown;
use super::mistakes::{UNKNOWN_DIRECTORY, hangs_on_variables};
use super::names::{Numbering, is_counted};
use super::needs::copied_from;
use super::{Lowering, StageState, Use};
use crate::BuildError;
use crate::plan::{PlannedStage, StageBase};

/// Replaces the stage numbers of the Dockerfile by places in the plan.
pub(super) fn number_bases(stages: &mut [PlannedStage], places: &BTreeMap<usize, usize>) {
    for stage in stages {
        if let StageBase::Stage(index) = &mut stage.base {
            *index = places.get(index).copied().unwrap_or_default();
        }
    }
}

impl Lowering<'_, '_> {
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
