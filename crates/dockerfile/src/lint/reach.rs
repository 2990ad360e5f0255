//! Which stages a build needs.

use crate::instruction::{Dockerfile, InstructionKind, Stage};

/// Returns the number of the stage that is built: by name, by number, or the last one.
pub(crate) fn target_index(dockerfile: &Dockerfile, target: Option<&str>) -> usize {
    let last = dockerfile.stages.len().saturating_sub(1);
    match target {
        None | Some("") => last,
        Some(target) => stage_index(&dockerfile.stages, target).unwrap_or(last),
    }
}

/// Returns which stages are needed to build the target; `bases` holds each
/// stage's base after expansion.
pub(super) fn needed(dockerfile: &Dockerfile, bases: &[&str], target: usize) -> Vec<bool> {
    let mut needed = vec![false; dockerfile.stages.len()];
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        let (Some(is_needed), Some(stage)) = (needed.get_mut(index), dockerfile.stages.get(index))
        else {
            continue;
        };
        if std::mem::replace(is_needed, true) {
            continue;
        }
        let earlier = dockerfile.stages.get(..index).unwrap_or_default();
        let base = bases.get(index).copied().into_iter();
        open.extend(
            base.chain(sources(stage))
                .filter_map(|name| stage_index(earlier, name)),
        );
    }
    needed
}

/// Returns the names that a stage's instructions take files from.
pub(super) fn sources(stage: &Stage) -> impl Iterator<Item = &str> {
    stage
        .instructions
        .iter()
        .flat_map(|instruction| match &instruction.kind {
            InstructionKind::Copy(copy) => copy.from.as_deref().into_iter().collect(),
            InstructionKind::Run(run) => run
                .mounts
                .iter()
                .filter_map(|mount| mount.from.as_deref())
                .collect(),
            _ => Vec::new(),
        })
}

/// Returns the last stage of a name, or the stage of a number.
pub(super) fn stage_index(stages: &[Stage], name: &str) -> Option<usize> {
    let lower = name.to_lowercase();
    let by_name = stages
        .iter()
        .rposition(|stage| stage.from.stage_name.as_deref() == Some(lower.as_str()));
    by_name.or_else(|| name.parse().ok().filter(|index| *index < stages.len()))
}
