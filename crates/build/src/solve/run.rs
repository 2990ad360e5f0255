//! One vertex: from the cache by what its inputs hold, from another build that runs it right now, or executed.

use wharf_image::Digest;
use wharf_llb::{Op, VertexId};

use super::Solver;
use super::explain::{self, Usable};
use super::flight::{self, Part};
use super::key::{self, Taking};
use super::lookup::{numbered, output_key, snapshot_of};
use super::node::{Node, Outcome};
use super::snapshot::{PendingLayer, Snapshot};
use crate::cache;
use crate::content::ContentDigest;
use crate::logs::StepLog;
use crate::{BuildError, OutputStream, SolveEvent};

/// What a vertex is executed on.
pub(super) struct Inputs {
    /// Files of each input; none where it is a build context that is only copied from.
    pub snapshots: Vec<Option<Snapshot>>,
}

/// Where the output of a step goes.
pub(super) struct StepOutput<'s, 'a> {
    solver: &'s Solver<'a>,
    digest: Digest,
    log: StepLog,
    lead: Option<&'s flight::Lead>,
}

/// What an execution made: one entry for each output, in order.
pub(super) type Made = Vec<MadeOutput>;

/// One output of an execution.
pub(super) struct MadeOutput {
    /// What it stands on.
    pub below: Snapshot,
    /// The layer that was added, if any.
    pub layer: Option<PendingLayer>,
}

impl StepOutput<'_, '_> {
    /// Passes output on: to whoever watches, to the log, and to builds that wait for the same step.
    pub fn write(&self, stream: OutputStream, bytes: &[u8]) {
        if let Some(lead) = self.lead {
            lead.output(stream, bytes);
        }
        self.log.write(bytes);
        self.solver.tell(SolveEvent::Log {
            digest: self.digest,
            stream,
            text: String::from_utf8_lossy(bytes).into_owned(),
        });
    }
}

impl<'a> Solver<'a> {
    /// Solves a vertex whose inputs are solved.
    pub(super) fn solve_vertex(
        &self,
        id: VertexId,
    ) -> Result<(Outcome, Vec<Snapshot>), BuildError> {
        self.check_stopped()?;
        let at_ms = self.at_ms();
        let digest = self.digest(id);
        self.with_node(id, |node| node.report.started_ms = at_ms);
        self.tell(SolveEvent::Started { digest, at_ms });
        match &self.input.graph.vertex(id).op {
            Op::Source(source) => self.solve_source(id, source),
            Op::Merge(merge) => self.merge(id, merge),
            Op::Build(build) => self.solve_nested(id, build),
            Op::Diff(diff) => match self.layers_between(diff, &self.inputs(id))? {
                Some(snapshot) => Ok((Outcome::Executed, vec![snapshot])),
                None => self.find_or_execute(id),
            },
            Op::Exec(_) | Op::File(_) => self.find_or_execute(id),
        }
    }

    /// Takes a vertex from the cache, by how its inputs came to be or by what they hold, or executes it.
    fn find_or_execute(&self, id: VertexId) -> Result<(Outcome, Vec<Snapshot>), BuildError> {
        let inputs = self.inputs(id);
        if self.has_changed(id) {
            let key = self.give_own_key(id);
            return self.execute_once(id, key, &inputs);
        }
        let below = self.below(id, &inputs);
        let key = self.key_with_inputs(id)?;
        let may_hit_by_key = self.may_hit(id) && !self.stands_on_rerun(id);
        if may_hit_by_key && let Some(hit) = self.find_outputs(id, &key, below.as_ref())? {
            return Ok((Outcome::Cached, hit));
        }
        self.take_contents(id, &inputs)?;
        if self.may_hit(id)
            && let Some(by_result) = self.result_key(id, &inputs)
            && let Some(hit) = self.find_outputs(id, &by_result, below.as_ref())?
        {
            for output in 0..hit.len() as u32 {
                let by_result = numbered(&by_result, output);
                cache::lead_to_result(self.store, &numbered(&key, output), &by_result)?;
            }
            return Ok((Outcome::Cached, hit));
        }
        self.execute_once(id, key, &inputs)
    }

    /// Executes a vertex unless another build does so right now; then waits for that.
    fn execute_once(
        &self,
        id: VertexId,
        key: Digest,
        inputs: &Inputs,
    ) -> Result<(Outcome, Vec<Snapshot>), BuildError> {
        loop {
            match flight::join(self.store.root(), key) {
                Part::Follow(flight) => {
                    let output = self.step_output(id, None);
                    let mut pass_on =
                        |stream: OutputStream, bytes: &[u8]| output.write(stream, bytes);
                    let end = flight.follow(&|| self.is_stopped(), &mut pass_on)?;
                    if let Some(snapshots) = end {
                        return Ok((Outcome::Executed, snapshots));
                    }
                }
                Part::Lead(lead) => {
                    self.explain_miss(id, key);
                    let made = {
                        let output = self.step_output(id, Some(&lead));
                        let made = self.execute(id, key, inputs, &output);
                        // Builds that wait have to look for themselves: the right to execute is given back.
                        if self.has_changed(id) {
                            let own = self.publish_changed(id, inputs, made?, &output)?;
                            return Ok((Outcome::Executed, own));
                        }
                        made
                    };
                    let result = made.and_then(|made| self.publish(id, key, inputs, made));
                    return lead.end(result).map(|list| (Outcome::Executed, list));
                }
            }
        }
    }

    fn execute(
        &self,
        id: VertexId,
        key: Digest,
        inputs: &Inputs,
        output: &StepOutput<'_, '_>,
    ) -> Result<Made, BuildError> {
        match &self.input.graph.vertex(id).op {
            Op::Exec(exec) => self.exec(id, exec, key, inputs, output),
            Op::File(file) => self.change_files(id, file, inputs, output),
            Op::Diff(diff) => self.diff(diff, inputs),
            Op::Source(_) | Op::Merge(_) | Op::Build(_) => Ok(Vec::new()),
        }
    }

    /// Calls a function with what is known of a vertex; nothing where it is none of this solve.
    pub(super) fn with_node<T>(
        &self,
        id: VertexId,
        use_it: impl FnOnce(&mut Node) -> T,
    ) -> Option<T> {
        self.lock().nodes.get_mut(&id).map(use_it)
    }

    fn stands_on_rerun(&self, id: VertexId) -> bool {
        self.with_node(id, |node| node.stands_on_rerun)
            .unwrap_or(false)
    }

    fn step_output<'s>(
        &'s self,
        id: VertexId,
        lead: Option<&'s flight::Lead>,
    ) -> StepOutput<'s, 'a> {
        let digest = self.digest(id);
        StepOutput {
            solver: self,
            digest,
            log: self.logs.step(&digest),
            lead,
        }
    }

    /// Returns the files of a vertex's inputs.
    pub(super) fn inputs(&self, id: VertexId) -> Inputs {
        let state = self.lock();
        let edges = self.input.graph.vertex(id).inputs.iter();
        let snapshot = |edge| {
            let edge: &wharf_llb::Edge = edge;
            snapshot_of(state.nodes.get(&edge.vertex)?, edge).cloned()
        };
        Inputs {
            snapshots: edges.map(snapshot).collect(),
        }
    }

    /// Returns what the vertex changes; nothing where it begins with nothing.
    fn below(&self, id: VertexId, inputs: &Inputs) -> Option<Snapshot> {
        let input = key::state_input(self.input.graph.vertex(id))?;
        inputs.snapshots.get(input).cloned().flatten()
    }

    /// Returns the key by how the inputs came to be; where that was not known before, by their results.
    fn key_with_inputs(&self, id: VertexId) -> Result<Digest, BuildError> {
        let known = self.with_node(id, |node| node.key).flatten();
        if let Some(key) = known {
            return Ok(key);
        }
        for snapshot in self.inputs(id).snapshots.iter().flatten() {
            snapshot.diff_ids()?;
        }
        let mut state = self.lock();
        let key = {
            let made_by = |edge: &wharf_llb::Edge| {
                state
                    .nodes
                    .get(&edge.vertex)
                    .and_then(|node| output_key(node, edge))
            };
            state
                .nodes
                .get(&id)
                .and_then(|node| self.definition_key(id, node, &made_by))
        };
        let key = key.unwrap_or_else(|| self.digest(id));
        if let Some(node) = state.nodes.get_mut(&id) {
            node.key = Some(key);
        }
        Ok(key)
    }

    /// Computes the contents of inputs that count by it and are not known yet.
    fn take_contents(&self, id: VertexId, inputs: &Inputs) -> Result<(), BuildError> {
        let vertex = self.input.graph.vertex(id);
        let takings = key::takings(vertex);
        for (input, taking) in takings.iter().enumerate() {
            let Taking::Content(numbers) = taking else {
                continue;
            };
            for number in numbers {
                let at = (input, *number);
                let is_known =
                    |node: &mut Node| node.contents.iter().any(|(known, _)| *known == at);
                if self.with_node(id, is_known).unwrap_or(true) {
                    continue;
                }
                let snapshot = inputs.snapshots.get(input).cloned().flatten();
                let content = self.content_of_layers(vertex, *number, snapshot.as_ref())?;
                self.with_node(id, |node| node.contents.push((at, content)));
            }
        }
        Ok(())
    }

    /// Notes why a vertex is executed.
    fn explain_miss(&self, id: VertexId, key: Digest) {
        let usable = if self.input.options.no_cache {
            Usable::Nothing
        } else if !self.may_hit(id) {
            Usable::NothingOfStage
        } else if self.stands_on_rerun(id) {
            Usable::ByContent
        } else {
            Usable::All
        };
        let causes = explain::causes(
            self.store,
            self.input.labels.get(&id),
            key,
            &self.explanation(id),
            usable,
        );
        self.with_node(id, |node| node.report.causes = causes);
    }

    /// Returns the content digest of what a mount or action takes of some layers.
    fn content_of_layers(
        &self,
        vertex: &wharf_llb::Vertex,
        number: usize,
        snapshot: Option<&Snapshot>,
    ) -> Result<ContentDigest, BuildError> {
        let Some(snapshot) = snapshot.filter(|snapshot| !snapshot.is_empty()) else {
            return Ok(super::source::nothing());
        };
        let view = self.view(snapshot)?;
        super::source::content(vertex, number, crate::content::Reading::own(&view), None)
    }

    /// Mounts the files of a snapshot, read-only, where nothing else sees them.
    pub(super) fn view(&self, snapshot: &Snapshot) -> Result<wharf_safefs::Root, BuildError> {
        self.host
            .view(&snapshot.dirs(self.store)?)
            .map_err(BuildError::Host)
    }
}
