//! Which stage is to be built, and which stages it needs (spec llb §7.2).

use std::collections::BTreeSet;

use wharf_dockerfile::instruction::Copy;
use wharf_dockerfile::{Instruction, InstructionKind, Stage, nearest};

use super::mistakes::{Mistakes, may_have_any_name};
use super::{LowerInput, Lowering, mistake};
use crate::BuildError;

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

    /// Returns the earlier stage that a stage is built on.
    pub(super) fn base_stage(&self, index: usize) -> Option<usize> {
        let base = &self.froms.get(index)?.base;
        base_by_name(self.input.dockerfile.stages.get(..index)?, base)
    }

    /// Returns the stage of a name, wherever it stands.
    pub(super) fn stage_named(&self, name: &str) -> Option<usize> {
        stage_by_name(&self.input.dockerfile.stages, name)
    }
}

/// Returns the last stage of a name, or the stage of a number.
fn stage_index(stages: &[Stage], name: &str) -> Option<usize> {
    stage_by_name(stages, name).or_else(|| name.parse().ok().filter(|index| *index < stages.len()))
}

/// Returns the last stage of a name as FROM finds it: in the lower case that names are kept in.
pub(super) fn base_by_name(stages: &[Stage], name: &str) -> Option<usize> {
    stages
        .iter()
        .rposition(|stage| stage.from.stage_name.as_deref() == Some(name))
}

/// Returns the last stage of a name; all but FROM take it in any case.
pub(super) fn stage_by_name(stages: &[Stage], name: &str) -> Option<usize> {
    base_by_name(stages, &name.to_lowercase())
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

/// Returns the name that COPY copies from.
pub(super) fn copied_from(instruction: &Instruction) -> Option<&str> {
    match &instruction.kind {
        InstructionKind::Copy(Copy { from, .. }) => from.as_deref(),
        _ => None,
    }
}
