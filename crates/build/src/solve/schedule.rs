//! What runs when: keys and hits first, then whatever is ready, a few at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use wharf_image::Digest;
use wharf_llb::{Edge, NetworkMode, Op, SecurityMode, VertexId};

use super::Solver;
use super::key::{self, Taking};
use super::node::{Node, Outcome};
use super::snapshot::Snapshot;
use crate::cache::{self, Hit};
use crate::{BuildError, SolveEvent};

/// How often a worker without work looks whether the build was cancelled, or memory came free.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// No further step starts beside running ones while less than this share of memory is free.
const MIN_FREE_MEMORY_PERCENT: u64 = 5;
/// Most workers of one build.
pub(crate) const MAX_PARALLEL: usize = 64;

/// What workers share.
#[derive(Default)]
pub(crate) struct State {
    /// The vertices that the wanted ones stand on, and those.
    pub nodes: BTreeMap<VertexId, Node>,
    ready: BTreeSet<VertexId>,
    running: usize,
    unsolved: usize,
    failure: Option<BuildError>,
}

impl Solver<'_> {
    /// Looks up everything by how it came to be and finds out what has to be executed.
    pub(super) fn prepare(&self) -> Result<(), BuildError> {
        let reachable = self.reachable();
        let mut state = State::default();
        for vertex in &reachable {
            let looked_up = self.look_up(*vertex, &state.nodes);
            let node = looked_up.map_err(|error| BuildError::Step {
                vertex: *vertex,
                error: Box::new(error),
                shown: String::new(),
            })?;
            state.nodes.insert(*vertex, node);
        }
        self.need(&mut state);
        for (vertex, node) in &state.nodes {
            self.announce(*vertex, node);
        }
        *self.lock() = state;
        Ok(())
    }

    /// Refuses programs that ask for what was not granted.
    fn check_entitlements(&self, id: VertexId) -> Result<(), BuildError> {
        let Op::Exec(exec) = &self.input.graph.vertex(id).op else {
            return Ok(());
        };
        let granted = self.input.options.entitlements;
        let asked = [
            (
                exec.network == NetworkMode::Host && !granted.host_network,
                "network.host",
            ),
            (
                exec.security == SecurityMode::Insecure && !granted.insecure,
                "security.insecure",
            ),
        ];
        match asked.iter().find(|(is_missing, _)| *is_missing) {
            Some((_, name)) => Err(BuildError::instruction(format!(
                "{}: {name} is not allowed: grant it with --allow {name}",
                self.name(id)
            ))),
            None => Ok(()),
        }
    }

    /// Returns the wanted vertices and all they stand on, producers first.
    fn reachable(&self) -> Vec<VertexId> {
        let mut found = BTreeSet::new();
        let mut open: Vec<VertexId> = self.input.wanted.iter().map(|edge| edge.vertex).collect();
        while let Some(vertex) = open.pop() {
            if found.insert(vertex) {
                let inputs = &self.input.graph.vertex(vertex).inputs;
                open.extend(inputs.iter().map(|edge| edge.vertex));
            }
        }
        found.into_iter().collect()
    }

    fn look_up(&self, id: VertexId, nodes: &BTreeMap<VertexId, Node>) -> Result<Node, BuildError> {
        self.check_stopped()?;
        let vertex = self.input.graph.vertex(id);
        check_outputs(&vertex.op)?;
        self.check_entitlements(id)?;
        let mut node = Node {
            takings: key::takings(vertex),
            ..Node::default()
        };
        if let Op::Source(source) = &vertex.op {
            self.look_up_source(id, source, &mut node)?;
            return Ok(node);
        }
        self.take_contexts(id, &mut node)?;
        let made_by = |edge: &Edge| {
            nodes
                .get(&edge.vertex)
                .and_then(|node| output_key(node, edge))
        };
        node.key = self.definition_key(id, &node, &made_by);
        if let Some(hit) = self.find_by_definition(id, &node, nodes)? {
            node.outcome = Outcome::Cached;
            node.snapshots = hit;
            node.forget_kept();
        }
        Ok(node)
    }

    /// Returns the key of a vertex by how its inputs came to be; none where that is not known for all of them.
    pub(super) fn definition_key(
        &self,
        id: VertexId,
        node: &Node,
        made_by: &dyn Fn(&Edge) -> Option<Digest>,
    ) -> Option<Digest> {
        let vertex = self.input.graph.vertex(id);
        let (kind, parts) = key::parts(vertex);
        let mut is_known = true;
        let mut inputs = Vec::new();
        for (index, edge) in vertex.inputs.iter().enumerate() {
            let by_content = self.contents_of(node, index);
            if let Some(contents) = by_content {
                inputs.push(json!({ "content": contents }));
                continue;
            }
            let made = made_by(edge);
            is_known &= made.is_some();
            inputs.push(json!({ "made": made, "selectors": key::selectors(vertex, index) }));
        }
        let counted = json!({ "parts": parts, "inputs": inputs });
        is_known.then(|| cache::key_of(kind, &counted))
    }

    /// Returns the digests of what is counted by content, if all of it is known.
    pub(super) fn contents_of(&self, node: &Node, input: usize) -> Option<Vec<Digest>> {
        let Taking::Content(numbers) = node.takings.get(input)? else {
            return None;
        };
        let find = |number: &usize| {
            let wanted = (input, *number);
            let found = node.contents.iter().find(|(at, _)| *at == wanted);
            found.map(|(_, content)| content.digest)
        };
        numbers.iter().map(find).collect()
    }

    fn find_by_definition(
        &self,
        id: VertexId,
        node: &Node,
        nodes: &BTreeMap<VertexId, Node>,
    ) -> Result<Option<Vec<Snapshot>>, BuildError> {
        let Some(key) = node.key.filter(|_| self.may_hit(id)) else {
            return Ok(None);
        };
        let vertex = self.input.graph.vertex(id);
        let state = key::state_input(vertex).and_then(|input| vertex.inputs.get(input));
        let below = match state {
            None => None,
            // A result stands on its input's: without that it would not be known what it stands on.
            Some(edge) => match nodes
                .get(&edge.vertex)
                .and_then(|node| snapshot_of(node, edge))
            {
                Some(snapshot) => Some(snapshot),
                None => return Ok(None),
            },
        };
        self.find_outputs(id, &key, below)
    }

    /// Says whether a vertex may be taken from the cache.
    pub(super) fn may_hit(&self, id: VertexId) -> bool {
        !self.input.options.no_cache && !self.input.graph.vertex(id).metadata.ignore_cache
    }

    /// Returns the results of all outputs of a vertex if all are in the cache.
    pub(super) fn find_outputs(
        &self,
        id: VertexId,
        key: &Digest,
        below: Option<&Snapshot>,
    ) -> Result<Option<Vec<Snapshot>>, BuildError> {
        let chain = below.map(Snapshot::diff_ids).transpose()?;
        let mut snapshots = Vec::new();
        for output in 0..output_count(&self.input.graph.vertex(id).op) {
            let key = numbered(key, output);
            let chain = chain.as_deref().filter(|_| output == 0);
            let imported = self.input.imported;
            let found = cache::find_anywhere(self.store, &self.lease, imported, &key, chain)?;
            let Some(hit) = found else {
                return Ok(None);
            };
            snapshots.push(from_hit(&hit, chain.map_or(0, <[_]>::len)));
        }
        Ok(Some(snapshots))
    }

    /// Marks what has to be executed and counts what each waits for.
    fn need(&self, state: &mut State) {
        let mut open: Vec<VertexId> = self.input.wanted.iter().map(|edge| edge.vertex).collect();
        let mut users: HashMap<VertexId, Vec<VertexId>> = HashMap::new();
        while let Some(vertex) = open.pop() {
            let Some(node) = state.nodes.get_mut(&vertex) else {
                continue;
            };
            if node.outcome != Outcome::NotNeeded {
                continue;
            }
            node.outcome = Outcome::Pending;
            state.unsolved += 1;
            for edge in &self.input.graph.vertex(vertex).inputs {
                let list = users.entry(edge.vertex).or_default();
                if list.last() != Some(&vertex) && !list.contains(&vertex) {
                    list.push(vertex);
                }
                open.push(edge.vertex);
            }
        }
        for (input, waiting) in users {
            let is_solved = |node: &Node| matches!(node.outcome, Outcome::Cached);
            if state.nodes.get(&input).is_none_or(is_solved) {
                continue;
            }
            for vertex in &waiting {
                if let Some(node) = state.nodes.get_mut(vertex) {
                    node.waits_for += 1;
                }
            }
            if let Some(node) = state.nodes.get_mut(&input) {
                node.users = waiting;
            }
        }
        let is_ready = |node: &Node| node.outcome == Outcome::Pending && node.waits_for == 0;
        let ready = state.nodes.iter().filter(|(_, node)| is_ready(node));
        state.ready = ready.map(|(vertex, _)| *vertex).collect();
    }

    fn announce(&self, id: VertexId, node: &Node) {
        let vertex = self.input.graph.vertex(id);
        self.tell(SolveEvent::Vertex {
            digest: vertex.digest,
            name: self.name(id),
            inputs: vertex
                .inputs
                .iter()
                .map(|edge| self.digest(edge.vertex))
                .collect(),
        });
        if node.outcome == Outcome::Cached {
            self.tell(SolveEvent::Completed {
                digest: vertex.digest,
                cached: true,
                error: None,
                at_ms: self.at_ms(),
            });
        }
    }

    /// Executes all that is needed; returns when nothing is left or something failed.
    ///
    /// # Errors
    /// The first failure. What was executed before stays in the cache.
    pub fn run(&self) -> Result<(), BuildError> {
        let workers = self.input.options.parallel.clamp(1, MAX_PARALLEL);
        std::thread::scope(|scope| {
            for _ in 0..workers.min(self.lock().unsolved) {
                scope.spawn(|| self.work());
            }
        });
        let hashed = self.finish_hashing();
        match self.lock().failure.take() {
            Some(error) => Err(error),
            None => hashed,
        }
    }

    /// Does what is ready until nothing is left.
    fn work(&self) {
        while let Some(vertex) = self.next() {
            let guard = Unwinding(self, vertex);
            let result = self.solve_vertex(vertex);
            std::mem::forget(guard);
            self.end(vertex, result);
        }
    }

    /// Waits for a vertex that can run now; nothing when the work is over.
    fn next(&self) -> Option<VertexId> {
        let mut state = self.lock();
        loop {
            if self.host.is_cancelled() && state.failure.is_none() {
                state.failure = Some(BuildError::Cancelled);
                self.stopped.store(true, Ordering::SeqCst);
            }
            if state.failure.is_some() || state.unsolved == 0 {
                self.changed.notify_all();
                return None;
            }
            let may_start = state.running == 0 || has_free_memory();
            if may_start && let Some(vertex) = state.ready.pop_first() {
                state.running += 1;
                return Some(vertex);
            }
            state = self
                .changed
                .wait_timeout(state, POLL_INTERVAL)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn end(&self, id: VertexId, result: Result<(Outcome, Vec<Snapshot>), BuildError>) {
        let (digest, at_ms) = (self.digest(id), self.at_ms());
        let event = |cached: bool, error: Option<String>| SolveEvent::Completed {
            digest,
            cached,
            error,
            at_ms,
        };
        let mut state = self.lock();
        state.running -= 1;
        let Some(node) = state.nodes.get_mut(&id) else {
            return;
        };
        node.report.completed_ms = at_ms;
        node.forget_kept();
        match result {
            Ok((outcome, snapshots)) => {
                let is_cached = outcome == Outcome::Cached;
                node.report.outcome = outcome.clone();
                node.outcome = outcome;
                node.snapshots = snapshots;
                let users = std::mem::take(&mut node.users);
                state.unsolved -= 1;
                for user in users {
                    if let Some(node) = state.nodes.get_mut(&user) {
                        node.waits_for -= 1;
                        if node.waits_for == 0 {
                            state.ready.insert(user);
                        }
                    }
                }
                self.tell(event(is_cached, None));
            }
            Err(error) => {
                node.outcome = Outcome::Failed;
                node.report.outcome = Outcome::Failed;
                self.tell(event(false, Some(error.to_string())));
                // What was stopped because of a failure is not the failure.
                if state.failure.is_none() {
                    state.failure = Some(error);
                }
                self.stopped.store(true, Ordering::SeqCst);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    fn finish_hashing(&self) -> Result<(), BuildError> {
        let hashing =
            std::mem::take(&mut *self.hashing.lock().unwrap_or_else(PoisonError::into_inner));
        let mut result = Ok(());
        for thread in hashing {
            match thread.join() {
                Ok(done) => result = result.and(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    }
}

/// Ends the build for the other workers when one of them panics.
struct Unwinding<'s, 'a>(&'s Solver<'a>, VertexId);

impl Drop for Unwinding<'_, '_> {
    fn drop(&mut self) {
        let message = "a build step ended unexpectedly: this is a bug, please report it".to_owned();
        self.0.end(self.1, Err(BuildError::Graph { message }));
    }
}

/// Returns the key of one output of a vertex.
pub(super) fn output_key(node: &Node, edge: &Edge) -> Option<Digest> {
    match &node.key {
        Some(key) => Some(numbered(key, edge.output)),
        None => snapshot_of(node, edge)?.result_key(),
    }
}

/// Returns the key of a numbered output.
pub(super) fn numbered(key: &Digest, output: u32) -> Digest {
    if output == 0 {
        *key
    } else {
        Digest::of(format!("{key} {output}"))
    }
}

pub(super) fn snapshot_of<'n>(node: &'n Node, edge: &Edge) -> Option<&'n Snapshot> {
    node.snapshots.get(edge.output as usize)
}

/// Returns how many outputs an operation has.
pub(super) fn output_count(op: &Op) -> u32 {
    let highest = match op {
        Op::Exec(exec) => exec.mounts.iter().filter_map(|mount| mount.output).max(),
        Op::File(file) => file.actions.iter().filter_map(|action| action.output).max(),
        _ => None,
    };
    highest.map_or(1, |highest| highest.saturating_add(1))
}

/// Refuses outputs that are not numbered from 0 without gaps.
fn check_outputs(op: &Op) -> Result<(), BuildError> {
    let mut outputs: Vec<u32> = match op {
        Op::Exec(exec) => exec
            .mounts
            .iter()
            .filter_map(|mount| mount.output)
            .collect(),
        Op::File(file) => file
            .actions
            .iter()
            .filter_map(|action| action.output)
            .collect(),
        _ => return Ok(()),
    };
    outputs.sort_unstable();
    if (0..)
        .zip(&outputs)
        .all(|(number, output)| number == *output)
    {
        return Ok(());
    }
    Err(BuildError::Graph {
        message: format!("outputs are to be numbered from 0 without gaps, found {outputs:?}"),
    })
}

pub(super) fn from_hit(hit: &Hit, layers_below: usize) -> Snapshot {
    let own = hit.diff_ids.len().saturating_sub(layers_below);
    let mut snapshot = Snapshot::named(&hit.diff_ids, own, hit.created.clone());
    snapshot.unchanged_by = hit.is_unchanged.then_some(hit.key);
    snapshot
}

/// Says whether another step may start beside running ones.
fn has_free_memory() -> bool {
    const MAX_BYTES: u64 = 64 << 10;
    let text =
        wharf_safefs::trusted::read_to_string("/proc/meminfo", MAX_BYTES).unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    match (value("MemAvailable:"), value("MemTotal:")) {
        (Some(free), Some(total)) => free * 100 >= total * MIN_FREE_MEMORY_PERCENT,
        _ => true,
    }
}
