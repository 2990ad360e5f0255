//! The solver: runs a build graph, in parallel, and only what the cache does not hold.
//!
//! Every vertex first gets a key by how its inputs came to be. Whatever such a key leads to is not executed, and
//! neither is what only it needed. The rest runs as its inputs get ready; a vertex whose inputs are there gets a
//! second key by what they hold, so that inputs made again with an equal result are found too (spec llb §3, §4).

mod agent;
mod cache_mounts;
mod changed;
mod diff;
mod direct;
mod exec;
mod explain;
mod failed;
mod file;
mod flight;
mod git;
mod http;
mod key;
mod lookup;
mod mounts;
mod nested;
mod node;
mod publish;
mod run;
mod schedule;
mod snapshot;
mod source;
mod stubs;

pub use cache_mounts::{
    CacheMount, CacheSharing, cache_mounts, find_cache_mount, import_cache_mount,
    remove_cache_mount,
};
pub use explain::Cause;
pub(crate) use failed::forget_failed;
pub use failed::{FailedStep, failed_step};
pub(crate) use git::{Means, bring, commit_seconds};
pub(crate) use node::{Outcome, Report};
pub(crate) use snapshot::Snapshot;
pub(crate) use source::image_key;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use jiff::Timestamp;
use wharf_image::DiffId;
use wharf_llb::{Edge, Graph, VertexId};
use wharf_store::{Lease, Store};

use crate::context::Context;
use crate::imported::Imported;
use crate::logs::BuildLogs;
use crate::request::SolveOptions;
use crate::{BaseImage, BuildError, Host, SolveEvent};
use schedule::State;

/// What to solve.
pub(crate) struct SolveInput<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The outputs that are wanted.
    pub wanted: &'a [Edge],
    /// What the frontend knows about vertices.
    pub labels: &'a HashMap<VertexId, Label>,
    /// Images that are resolved already, by [`image_key`].
    pub images: &'a HashMap<String, BaseImage>,
    /// Build contexts by name.
    pub contexts: &'a BTreeMap<String, Context>,
    /// How to solve.
    pub options: &'a SolveOptions,
    /// Caches of other machines.
    pub imported: &'a Imported,
    /// In how many graphs this one is held.
    pub depth: usize,
}

struct Closing<'s, 'a>(&'s Solver<'a>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        let mut events = self.0.events.lock().unwrap_or_else(PoisonError::into_inner);
        *events = None;
    }
}

/// What a frontend knows about a vertex.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Label {
    /// The instruction as written.
    pub text: String,
    /// Its number among the shown steps; 0 for none.
    pub number: usize,
    /// Tells the place of the step in its project, for finding what stood there earlier.
    pub slot: String,
    /// Its number within that place.
    pub place: usize,
    /// Names of environment variables that are build arguments.
    pub args: Vec<String>,
}

/// A solve under way.
pub(crate) struct Solver<'a> {
    store: &'a Store,
    host: &'a dyn Host,
    input: SolveInput<'a>,
    lease: Lease,
    logs: BuildLogs,
    began: Instant,
    /// Where events go, until the solve is over.
    events: Mutex<Option<Sender<SolveEvent>>>,
    /// Set when nothing more is to be done: a failure, or nobody waits.
    stopped: AtomicBool,
    state: Mutex<State>,
    changed: std::sync::Condvar,
    hashing: Mutex<Vec<JoinHandle<Result<(), BuildError>>>>,
}

impl<'a> Solver<'a> {
    /// Prepares a solve: looks up all that needs no work.
    ///
    /// # Errors
    /// A graph that makes no sense, files of a context that cannot be read.
    pub fn new(
        store: &'a Store,
        host: &'a dyn Host,
        input: SolveInput<'a>,
        events: Sender<SolveEvent>,
    ) -> Result<Self, BuildError> {
        let solver = Self {
            store,
            host,
            lease: store.lease("build")?,
            logs: BuildLogs::of(store, &input.options.build),
            input,
            began: Instant::now(),
            events: Mutex::new(Some(events)),
            stopped: AtomicBool::new(false),
            state: Mutex::default(),
            changed: std::sync::Condvar::new(),
            hashing: Mutex::default(),
        };
        solver.prepare()?;
        Ok(solver)
    }

    /// Returns what became of a vertex so far.
    pub fn outcome(&self, vertex: VertexId) -> Outcome {
        let state = self.lock();
        state
            .nodes
            .get(&vertex)
            .map_or(Outcome::NotNeeded, |node| node.outcome.clone())
    }

    /// Returns the files of an output that is solved.
    pub fn snapshot(&self, edge: Edge) -> Option<Snapshot> {
        let state = self.lock();
        let node = state.nodes.get(&edge.vertex)?;
        node.snapshots.get(edge.output as usize).cloned()
    }

    /// Returns what is to be told of each vertex afterwards, in the order of the graph.
    pub fn reports(&self) -> Vec<(VertexId, Report)> {
        let state = self.lock();
        let nodes = state.nodes.iter();
        nodes
            .map(|(vertex, node)| (*vertex, node.report.clone()))
            .collect()
    }

    /// Keeps what stands in the places of steps that were in the cache, for explaining later misses.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn remember_hits(&self) -> Result<(), BuildError> {
        let hits: Vec<(VertexId, wharf_image::Digest, Option<DiffId>)> = {
            let state = self.lock();
            let cached = state
                .nodes
                .iter()
                .filter(|(_, node)| node.outcome == Outcome::Cached);
            cached
                .filter_map(|(vertex, node)| {
                    let layer = node.snapshots.first().and_then(Snapshot::own_layer);
                    Some((*vertex, node.key?, layer))
                })
                .collect()
        };
        for (vertex, key, layer) in hits {
            if let Some(label) = self.input.labels.get(&vertex) {
                explain::remember_if_new(self.store, label, key, layer, || {
                    self.explanation(vertex)
                })?;
            }
        }
        Ok(())
    }

    /// Returns the keys of what was used or made: of the vertices of some edges, or of all.
    pub fn used_keys(&self, wanted: &[Edge]) -> Vec<wharf_image::Digest> {
        let state = self.lock();
        let counts = |vertex: &VertexId| {
            wanted.is_empty() || wanted.iter().any(|edge| edge.vertex == *vertex)
        };
        let nodes = state.nodes.iter().filter(|(vertex, node)| {
            counts(vertex) && matches!(node.outcome, Outcome::Cached | Outcome::Executed)
        });
        let keys = nodes.filter_map(|(_, node)| Some((node.key?, node.snapshots.len())));
        let numbered = |(key, outputs): (wharf_image::Digest, usize)| {
            (0..outputs as u32).map(move |output| lookup::numbered(&key, output))
        };
        keys.flat_map(numbered).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) || self.host.is_cancelled()
    }

    fn check_stopped(&self) -> Result<(), BuildError> {
        if self.is_stopped() {
            Err(BuildError::Cancelled)
        } else {
            Ok(())
        }
    }

    fn tell(&self, event: SolveEvent) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(events) = events.as_ref() {
            // Whoever listens may have stopped listening.
            let _nobody_listens = events.send(event);
        }
    }

    /// Returns a value that ends the stream of events when it is dropped, also by a panic.
    pub fn closing(&self) -> impl Drop + use<'_, 'a> {
        Closing(self)
    }

    fn at_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn digest(&self, vertex: VertexId) -> wharf_image::Digest {
        self.input.graph.vertex(vertex).digest
    }

    /// Returns the time of what is made now.
    fn now(&self) -> String {
        let epoch = self.input.options.epoch.clone();
        epoch.unwrap_or_else(|| Timestamp::now().to_string())
    }

    /// Takes hold of layers that have to be there.
    fn hold(&self, diff_ids: &[DiffId], owner: &str) -> Result<(), BuildError> {
        for diff_id in diff_ids {
            if self.lease.hold_layer(diff_id)?.is_none() {
                return Err(BuildError::LayerMissing {
                    diff_id: *diff_id,
                    image: owner.to_owned(),
                });
            }
        }
        Ok(())
    }
}
