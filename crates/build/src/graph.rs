//! Solving a graph, whoever made it.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::channel;

use wharf_image::Digest;
use wharf_llb::Edge;
use wharf_store::Store;

use crate::context::Context;
use crate::imported::Imported;
use crate::solve::{Means, SolveInput, Solver};
use crate::{BuildError, ContextSource, Host, SolveEvent, SolveOptions};

/// Solves a graph, whoever made it; returns the layers of each wanted output, lowest first.
///
/// The layers stay as long as a record of the cache, an image or a lease keeps them.
///
/// # Errors
/// See [`BuildError`]. What was executed before stays in the cache.
pub fn solve(
    store: &Store,
    host: &dyn Host,
    (graph, wanted): (&wharf_llb::Graph, &[Edge]),
    contexts: &BTreeMap<String, ContextSource>,
    options: &SolveOptions,
    events: &mut dyn FnMut(SolveEvent),
) -> Result<Vec<Vec<Digest>>, BuildError> {
    let means = Means::of(options);
    let mut opened = BTreeMap::new();
    for (name, source) in contexts {
        opened.insert(name.clone(), Context::open(store, source, &means)?);
    }
    let (sender, received) = channel();
    let (labels, images, imported) = (HashMap::new(), HashMap::new(), Imported::default());
    let input = SolveInput {
        graph,
        wanted,
        labels: &labels,
        images: &images,
        contexts: &opened,
        options,
        imported: &imported,
        depth: 0,
    };
    let solver = Solver::new(store, host, input, sender)?;
    let solved = std::thread::scope(|scope| {
        let solving = scope.spawn(|| {
            let _closing = solver.closing();
            solver.run()
        });
        received.iter().for_each(events);
        solving
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let chains = solved.and_then(|()| {
        let chain = |edge: &Edge| solver.snapshot(*edge).unwrap_or_default().diff_ids();
        wanted.iter().map(chain).collect()
    });
    drop(solver);
    for context in opened.values_mut() {
        context.remember();
    }
    chains
}
