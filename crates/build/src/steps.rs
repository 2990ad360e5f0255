//! The steps of a Dockerfile as vertices of the graph: how they are called, and what became of them.

use std::collections::HashMap;

use wharf_dockerfile::{Dockerfile, InstructionKind};
use wharf_llb::VertexId;

use crate::checks;
use crate::context::DockerfileText;
use crate::plan::Plan;
use crate::solve::{Label, Outcome, Report, Solver};
use crate::{BuildError, BuildRequest, StepRecord, StepStatus};

/// Returns what the solver says of the vertices that steps lead to.
pub(crate) fn labels(plan: &Plan, request: &BuildRequest) -> HashMap<VertexId, Label> {
    let mut labels = HashMap::new();
    for (vertex, number, stage, index) in steps_of(plan) {
        let Some(planned) = plan.stages.get(stage) else {
            continue;
        };
        let Some(step) = planned.steps.get(index) else {
            continue;
        };
        let place = format!(
            "{}\0{}\0{}",
            request.project, request.dockerfile_name, planned.text
        );
        labels.entry(vertex).or_insert_with(|| Label {
            text: step.text.clone(),
            number,
            slot: place,
            place: index,
            args: request.build_args.keys().cloned().collect(),
        });
    }
    labels
}

/// Returns what became of each step, for the record of the build.
pub(crate) fn step_records(plan: &Plan, solver: &Solver<'_>) -> Vec<StepRecord> {
    let reports: HashMap<VertexId, Report> = solver.reports().into_iter().collect();
    let steps = steps_of(plan).into_iter();
    steps
        .filter_map(|(vertex, number, stage, index)| {
            let text = plan.stages.get(stage)?.steps.get(index)?.text.clone();
            let report = reports.get(&vertex).cloned().unwrap_or_default();
            let status = match solver.outcome(vertex) {
                Outcome::Cached => StepStatus::Cached,
                Outcome::Executed => StepStatus::Executed,
                Outcome::Failed => StepStatus::Failed,
                Outcome::Pending => StepStatus::NotReached,
                Outcome::NotNeeded => StepStatus::NotNeeded,
            };
            Some(StepRecord {
                number,
                text,
                vertex: plan.graph.vertex(vertex).digest,
                status,
                started_ms: report.started_ms,
                completed_ms: report.completed_ms,
                causes: report.causes,
            })
        })
        .collect()
}

/// Adds the line of the Dockerfile to the error of a step that cannot be begun.
pub(crate) fn with_line(
    error: BuildError,
    plan: &Plan,
    file: &DockerfileText,
    dockerfile: &Dockerfile,
) -> BuildError {
    let BuildError::Step { vertex, error, .. } = error else {
        return error;
    };
    let places = steps_of(plan).into_iter();
    let text = places
        .filter(|(found, ..)| *found == vertex)
        .find_map(|(_, _, stage, index)| Some(&plan.stages.get(stage)?.steps.get(index)?.text));
    let mut instructions = dockerfile
        .stages
        .iter()
        .flat_map(|stage| &stage.instructions);
    let found = instructions.find(|instruction| Some(&instruction.original) == text);
    let shown = found.map(|instruction| {
        let line = checks::line_of(file, &instruction.location);
        match escaping_source(&instruction.kind) {
            Some(path) => format!(
                "{line}\nnote: {path} leads out of the build context, which COPY cannot leave"
            ),
            None => line,
        }
    });
    BuildError::Step {
        vertex,
        error,
        shown: shown.unwrap_or_default(),
    }
}

/// Returns the vertices that steps lead to, with the step's number, text and place.
fn steps_of(plan: &Plan) -> Vec<(VertexId, usize, usize, usize)> {
    let mut found = Vec::new();
    let mut number = plan.global_args.len();
    for (stage_index, stage) in plan.stages.iter().enumerate() {
        number += 1;
        let mut output = stage.start.output;
        for (index, step) in stage.steps.iter().enumerate() {
            number += usize::from(index >= stage.triggers);
            if let Some(edge) = step.state.output
                && step.state.output != output
            {
                found.push((edge.vertex, number, stage_index, index));
            }
            output = step.state.output;
        }
    }
    found
}

/// Returns a source of COPY or ADD whose `..` lead out of the context.
fn escaping_source(kind: &InstructionKind) -> Option<&str> {
    let (InstructionKind::Copy(copy) | InstructionKind::Add(copy)) = kind else {
        return None;
    };
    let leads_out = |path: &&String| {
        let mut depth = 0_usize;
        path.split('/').any(|part| match part {
            "" | "." => false,
            ".." => match depth.checked_sub(1) {
                Some(above) => {
                    depth = above;
                    false
                }
                None => true,
            },
            _ => {
                depth += 1;
                false
            }
        })
    };
    let mut sources = copy.sources.iter();
    sources.find(leads_out).map(String::as_str)
}
