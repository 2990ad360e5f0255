//! What runs when: keys and hits first, then whatever is ready, a few at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wharf_llb::VertexId;

use super::Solver;
use super::node::{Node, Outcome};
use super::snapshot::Snapshot;
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

    /// Tells of a vertex, and of its result where that is in the cache.
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

    /// Notes what became of a vertex; what waited for it may be ready now.
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

    /// Waits until everything is hashed and recorded.
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
