//! Executing a plan: stage by stage, step by step, each from the cache where it can be.

mod file;
mod image;
mod run;
mod solve;

use std::collections::HashMap;

use jiff::Timestamp;
use wharf_image::{DiffId, Digest, HistoryEntry, ImageId};
use wharf_store::{Lease, Staging, Store};

use crate::cache::Key;
use crate::context::Context;
use crate::graph::{Input, VertexId};
use crate::plan::{Plan, PlannedStage, StageBase, Step, StepState};
use crate::{BuildError, BuildEvent, BuildRequest, Host};

/// Executes a plan and returns the image.
///
/// # Errors
/// See [`BuildError`]. What was published before stays in the cache; the failed step leaves nothing.
pub(crate) fn execute(
    store: &Store,
    host: &dyn Host,
    request: &BuildRequest,
    context: &Context,
    plan: &Plan,
    events: &mut dyn FnMut(BuildEvent),
) -> Result<ImageId, BuildError> {
    let mut execution = Execution {
        store,
        host,
        request,
        context,
        plan,
        events,
        lease: store.lease("build")?,
        results: HashMap::new(),
        fetched: HashMap::new(),
        finished: Vec::new(),
        next_step: 1,
    };
    execution.all()
}

/// The files that a vertex led to.
#[derive(Debug, Clone)]
struct Solved {
    /// The key; none for nothing.
    key: Option<Digest>,
    /// The chain, lowest first.
    diff_ids: Vec<DiffId>,
    /// When it was made, as RFC 3339; none where nothing was made.
    created: Option<String>,
    /// Whether the vertex added no layer.
    is_empty: bool,
    /// The config that is on record.
    recorded_config: Option<Vec<u8>>,
    /// What is still to be recorded: key and size of the layer.
    pending: Option<(Key, u64)>,
}

/// Where a stage stands after a step.
#[derive(Debug, Clone)]
struct Finished {
    /// Digest of the config.
    id: ImageId,
    history: Vec<HistoryEntry>,
    /// The config's bytes; none where the stage is its base image.
    config: Option<Vec<u8>>,
}

struct Execution<'a> {
    store: &'a Store,
    host: &'a dyn Host,
    request: &'a BuildRequest,
    context: &'a Context,
    plan: &'a Plan,
    events: &'a mut dyn FnMut(BuildEvent),
    lease: Lease,
    results: HashMap<VertexId, Solved>,
    fetched: HashMap<VertexId, Staging>,
    /// Ends of the stages so far.
    finished: Vec<Finished>,
    next_step: usize,
}

impl Execution<'_> {
    fn all(&mut self) -> Result<ImageId, BuildError> {
        let plan = self.plan;
        for text in &plan.warnings {
            (self.events)(BuildEvent::GlobalWarning { text: text.clone() });
        }
        for text in &plan.global_args {
            self.announce(text);
        }
        for stage in &plan.stages {
            let finished = self.stage(stage)?;
            (self.events)(BuildEvent::StageDone { id: finished.id });
            self.finished.push(finished);
        }
        self.store_image()
    }

    fn stage(&mut self, stage: &PlannedStage) -> Result<Finished, BuildError> {
        self.check_cancelled()?;
        self.announce(&stage.text);
        let mut state = self.start(stage)?;
        if !matches!(stage.base, StageBase::Scratch) {
            (self.events)(BuildEvent::StepDone { id: state.id });
        }
        if stage.triggers > 0 {
            (self.events)(BuildEvent::Triggers {
                count: stage.triggers,
            });
        }
        let mut output = stage.start.output;
        for (index, step) in stage.steps.iter().enumerate() {
            self.check_cancelled()?;
            if index >= stage.triggers {
                self.announce(&step.text);
            }
            for text in &step.warnings {
                (self.events)(BuildEvent::Warning { text: text.clone() });
            }
            let changes_files = step.state.output != output;
            output = step.state.output;
            self.step(step, changes_files, &mut state)?;
            (self.events)(BuildEvent::StepDone { id: state.id });
        }
        Ok(state)
    }

    /// Returns where a stage begins.
    fn start(&mut self, stage: &PlannedStage) -> Result<Finished, BuildError> {
        match &stage.base {
            StageBase::Stage(index) => match self.finished.get(*index) {
                Some(base) => Ok(base.clone()),
                None => Err(BuildError::instruction("the stage stands on one below it")),
            },
            StageBase::Image(base) => {
                self.solve(stage.start.output)?;
                let history = image::padded_history(&base.config);
                let is_same = base.config.config.as_ref() == Some(&stage.start.config)
                    && stage.steps.is_empty();
                if is_same {
                    return Ok(Finished {
                        id: base.id,
                        history,
                        config: None,
                    });
                }
                let created = base.config.created.clone();
                let finished = self.finished_at(&stage.start, history, created)?;
                Ok(Finished {
                    id: base.id,
                    ..finished
                })
            }
            StageBase::Scratch => self.finished_at(&stage.start, Vec::new(), None),
        }
    }

    /// Executes one step, or takes it from the cache.
    fn step(
        &mut self,
        step: &Step,
        changes_files: bool,
        at: &mut Finished,
    ) -> Result<(), BuildError> {
        let solved = self.solve(step.state.output)?;
        let mut history = std::mem::take(&mut at.history);
        let Some(mut entry) = step.history.clone() else {
            return self.config_step(step, history, None, at);
        };
        if !changes_files {
            return self.config_step(step, history, Some(entry), at);
        }
        entry.created.clone_from(&solved.created);
        entry.empty_layer = solved.is_empty;
        history.push(entry);
        *at = self.finished_at(&step.state, history, solved.created.clone())?;
        self.record(step, &solved, at)
    }

    fn check_cancelled(&self) -> Result<(), BuildError> {
        if self.host.is_cancelled() {
            Err(BuildError::Cancelled)
        } else {
            Ok(())
        }
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

    /// Returns the time of what is made now.
    fn now(&self) -> String {
        self.plan
            .epoch
            .clone()
            .unwrap_or_else(|| Timestamp::now().to_string())
    }

    /// Returns the chain of an input that is solved.
    fn chain(&self, input: Input) -> Vec<DiffId> {
        match input {
            Input::Scratch => Vec::new(),
            Input::Vertex(id) => self
                .results
                .get(&id)
                .map(|solved| solved.diff_ids.clone())
                .unwrap_or_default(),
        }
    }

    fn finished_at(
        &self,
        state: &StepState,
        history: Vec<HistoryEntry>,
        created: Option<String>,
    ) -> Result<Finished, BuildError> {
        let mut config = self.plan.image_config(state, history);
        config.rootfs.diff_ids = self.chain(state.output);
        config.created = config
            .history
            .last()
            .and_then(|entry| entry.created.clone())
            .or(created);
        let bytes = config.to_bytes();
        Ok(Finished {
            id: Digest::of(&bytes),
            history: config.history,
            config: Some(bytes),
        })
    }
}
