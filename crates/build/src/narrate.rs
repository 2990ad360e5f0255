//! Tells a parallel build in the order of its Dockerfile, step by step, as docker's classic builder does.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;

use wharf_image::Digest;
use wharf_llb::{Edge, Op, VertexId};

use crate::assemble::{Assembler, Finished, padded_history};
use crate::plan::{Plan, PlannedStage, StageBase, Step};
use crate::solve::{Outcome, Snapshot, Solver};
use crate::{BuildError, BuildEvent, SolveEvent};

/// Scheme of sources that a client sends.
const LOCAL: &str = "local://";

/// Follows a solve.
pub(crate) struct Narrator<'a, 'e> {
    plan: &'a Plan,
    solver: &'a Solver<'a>,
    assembler: Assembler<'a>,
    received: Receiver<SolveEvent>,
    events: &'e mut dyn FnMut(BuildEvent),
    /// What vertices did that is not told yet.
    untold: HashMap<Digest, Vec<SolveEvent>>,
    /// Vertices that are done.
    completed: HashMap<Digest, bool>,
    /// The first vertex that failed of itself.
    failed: Option<Digest>,
    is_over: bool,
    next_step: usize,
    finished: Vec<Option<Finished>>,
    /// The container that was told to run.
    container: Option<String>,
}

impl<'a, 'e> Narrator<'a, 'e> {
    /// Prepares to tell a plan's solve; `received` ends with the solve.
    pub fn new(
        plan: &'a Plan,
        solver: &'a Solver<'a>,
        assembler: Assembler<'a>,
        received: Receiver<SolveEvent>,
        events: &'e mut dyn FnMut(BuildEvent),
    ) -> Self {
        Self {
            plan,
            solver,
            assembler,
            received,
            events,
            untold: HashMap::new(),
            completed: HashMap::new(),
            failed: None,
            is_over: false,
            next_step: 1,
            finished: Vec::new(),
            container: None,
        }
    }

    /// Tells everything; returns the end of the target, nothing where the solve failed.
    pub fn tell(&mut self) -> Result<Option<Finished>, BuildError> {
        let plan = self.plan;
        for text in &plan.warnings {
            let text = text.to_string();
            (self.events)(BuildEvent::GlobalWarning { text });
        }
        for text in &plan.global_args {
            self.announce(text);
        }
        for stage in &plan.stages {
            let told = self.stage(stage)?;
            if self.failed.is_some() {
                self.tell_failure();
                return Ok(None);
            }
            let finished = match told {
                Told::Whole(finished) => finished,
                Told::Cut => return Ok(None),
            };
            if let Some(finished) = &finished {
                (self.events)(BuildEvent::StageDone { id: finished.id });
            }
            self.finished.push(finished);
        }
        self.drain();
        Ok(self.finished.pop().flatten())
    }

    /// Stores the target's end as an image.
    pub fn assembler(&self) -> &Assembler<'a> {
        &self.assembler
    }

    /// Tells something that is no step.
    pub fn say(&mut self, event: BuildEvent) {
        (self.events)(event);
    }

    fn stage(&mut self, stage: &PlannedStage) -> Result<Told, BuildError> {
        self.announce(&stage.text);
        let mut at = match (&stage.base, stage.start.output) {
            (StageBase::Scratch, Some(edge)) => {
                let is_needed = self.solver.outcome(edge.vertex) != Outcome::NotNeeded;
                if is_needed && self.wait_for(edge.vertex).is_none() {
                    return Ok(Told::Cut);
                }
                // A context that is only copied from makes no layer.
                let files = self.solver.snapshot(edge);
                files
                    .map(|files| self.start_from_files(stage, edge, &files))
                    .transpose()?
            }
            _ => self.start(stage)?,
        };
        if let Some(at) = &at
            && !matches!(stage.base, StageBase::Scratch)
        {
            (self.events)(BuildEvent::StepDone { id: at.id });
        }
        if stage.triggers > 0 {
            (self.events)(BuildEvent::Triggers {
                count: stage.triggers,
            });
        }
        let mut output = stage.start.output;
        for (index, step) in stage.steps.iter().enumerate() {
            if index >= stage.triggers {
                self.announce(&step.text);
            }
            for text in &step.warnings {
                let text = text.to_string();
                (self.events)(BuildEvent::Warning { text });
            }
            let changes_files = step.state.output != output;
            output = step.state.output;
            let snapshot = match self.step_files(output, changes_files) {
                Some(snapshot) => snapshot,
                None => return Ok(Told::Cut),
            };
            at = self.step(step, changes_files, snapshot, at)?;
        }
        Ok(Told::Whole(at))
    }

    fn step(
        &mut self,
        step: &Step,
        changes_files: bool,
        snapshot: Option<Snapshot>,
        at: Option<Finished>,
    ) -> Result<Option<Finished>, BuildError> {
        let (Some(snapshot), Some(before)) = (snapshot, at) else {
            return Ok(None);
        };
        let (finished, is_known) = self
            .assembler
            .step(step, &snapshot, changes_files, &before)?;
        if is_known {
            (self.events)(BuildEvent::CacheHit);
        }
        (self.events)(BuildEvent::StepDone { id: finished.id });
        Ok(Some(finished))
    }

    /// Waits for the files after a step, telling what it does meanwhile: nothing where the build ended before,
    /// an empty answer where the step is not needed.
    fn step_files(
        &mut self,
        output: Option<Edge>,
        changes_files: bool,
    ) -> Option<Option<Snapshot>> {
        let Some(edge) = output else {
            return Some(Some(Snapshot::default()));
        };
        if self.solver.outcome(edge.vertex) == Outcome::NotNeeded {
            if changes_files {
                (self.events)(BuildEvent::NotNeeded);
            }
            return Some(None);
        }
        self.wait_for(edge.vertex)?;
        if changes_files && self.solver.outcome(edge.vertex) == Outcome::Cached {
            (self.events)(BuildEvent::CacheHit);
        }
        self.solver.snapshot(edge).map(Some)
    }

    /// Returns where a stage begins.
    fn start(&mut self, stage: &PlannedStage) -> Result<Option<Finished>, BuildError> {
        match &stage.base {
            StageBase::Stage(index) => Ok(self.finished.get(*index).cloned().flatten()),
            StageBase::Image(base) => {
                let diff_ids = base.config.rootfs.diff_ids.clone();
                let history = padded_history(&base.config);
                let is_same = base.config.config.as_ref() == Some(&stage.start.config)
                    && stage.steps.is_empty();
                if is_same {
                    return Ok(Some(Finished {
                        id: base.id,
                        diff_ids,
                        history,
                        config: None,
                    }));
                }
                let snapshot = Snapshot::named(&diff_ids, diff_ids.len(), None);
                let created = base.config.created.clone();
                let finished = self
                    .assembler
                    .start(&stage.start, &snapshot, history, created)?;
                Ok(Some(Finished {
                    id: base.id,
                    ..finished
                }))
            }
            StageBase::Scratch => self
                .assembler
                .start(&stage.start, &Snapshot::default(), Vec::new(), None)
                .map(Some),
        }
    }

    /// Returns where a stage begins that stands on a named context.
    fn start_from_files(
        &self,
        stage: &PlannedStage,
        edge: Edge,
        files: &Snapshot,
    ) -> Result<Finished, BuildError> {
        let text = match &self.plan.graph.vertex(edge.vertex).op {
            Op::Source(source) => source
                .identifier
                .strip_prefix(LOCAL)
                .map(|name| format!("local source for {name}")),
            _ => None,
        };
        let assembler = &self.assembler;
        assembler.start_from_files(&stage.start, files, text.as_deref())
    }

    fn announce(&mut self, text: &str) {
        let (index, total) = (self.next_step, self.plan.total);
        self.next_step += 1;
        (self.events)(BuildEvent::StepStarted {
            index,
            total,
            text: text.to_owned(),
        });
    }

    /// Tells what a vertex does until it is done; nothing where the build ended before.
    fn wait_for(&mut self, vertex: VertexId) -> Option<()> {
        let digest = self.plan.graph.vertex(vertex).digest;
        loop {
            self.tell_vertex(digest);
            if let Some(is_good) = self.completed.get(&digest).copied() {
                self.tell_removed();
                return is_good.then_some(());
            }
            if self.failed.is_some() || self.is_over {
                return None;
            }
            self.receive();
        }
    }

    /// Tells what is known of a vertex and not told yet.
    fn tell_vertex(&mut self, digest: Digest) {
        for event in self.untold.remove(&digest).unwrap_or_default() {
            match event {
                SolveEvent::Running { container, .. } => {
                    self.container = Some(container.clone());
                    (self.events)(BuildEvent::Running { id: container });
                }
                SolveEvent::Log { stream, text, .. } => {
                    let bytes = text.into_bytes();
                    (self.events)(BuildEvent::Output { stream, bytes });
                }
                _ => {}
            }
        }
    }

    fn tell_removed(&mut self) {
        if let Some(id) = self.container.take() {
            (self.events)(BuildEvent::IntermediateRemoved { id });
        }
    }

    /// Takes the next event: it is passed on at once, and kept until its step is told.
    fn receive(&mut self) {
        let Ok(event) = self.received.recv() else {
            self.is_over = true;
            return;
        };
        (self.events)(BuildEvent::Solve(event.clone()));
        match &event {
            SolveEvent::Running { digest, .. } | SolveEvent::Log { digest, .. } => {
                self.untold.entry(*digest).or_default().push(event);
            }
            SolveEvent::Completed { digest, error, .. } => {
                let cancelled = BuildError::Cancelled.to_string();
                if error.as_ref().is_some_and(|error| *error != cancelled) && self.failed.is_none()
                {
                    self.failed = Some(*digest);
                }
                self.completed.insert(*digest, error.is_none());
            }
            _ => {}
        }
    }

    /// Takes all that is left.
    fn drain(&mut self) {
        while !self.is_over {
            self.receive();
        }
    }

    /// Tells the step that failed, wherever it stands.
    fn tell_failure(&mut self) {
        let Some(failed) = self.failed else { return };
        let mut number = self.plan.global_args.len();
        for stage in &self.plan.stages {
            number += 1;
            for (index, step) in stage.steps.iter().enumerate() {
                number += usize::from(index >= stage.triggers);
                let is_failed = step
                    .state
                    .output
                    .is_some_and(|edge| self.plan.graph.vertex(edge.vertex).digest == failed);
                if is_failed && self.untold.contains_key(&failed) {
                    if number >= self.next_step {
                        (self.events)(BuildEvent::StepStarted {
                            index: number,
                            total: self.plan.total,
                            text: step.text.clone(),
                        });
                    }
                    self.tell_vertex(failed);
                    self.tell_removed();
                    return;
                }
            }
        }
    }
}

/// How far a stage was told.
enum Told {
    /// To its end; nothing is known of it where it is not needed.
    Whole(Option<Finished>),
    /// The build ended before.
    Cut,
}
