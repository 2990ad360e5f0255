//! A graph that an input holds (spec llb §2.4, BuildOp).

use std::collections::HashMap;
use std::sync::PoisonError;

use wharf_llb::{BuildOp, Graph, VertexId};

use super::exec::input_of;
use super::node::Outcome;
use super::snapshot::Snapshot;
use super::{SolveInput, Solver};
use crate::BuildError;

/// Where the definition lies if the operation does not say.
const DEFAULT_FILE: &str = "/buildkit.llb.definition";
/// Most bytes of a definition.
const MAX_DEFINITION_BYTES: u64 = 64 << 20;
/// How deep graphs may hold graphs.
const MAX_DEPTH: usize = 8;

impl Solver<'_> {
    /// Solves the graph that an input holds; its result is the vertex's.
    pub(super) fn solve_nested(
        &self,
        id: VertexId,
        build: &BuildOp,
    ) -> Result<(Outcome, Vec<Snapshot>), BuildError> {
        if self.input.depth >= MAX_DEPTH {
            return Err(BuildError::Graph {
                message: format!("graphs are nested more than {MAX_DEPTH} deep"),
            });
        }
        let inputs = self.inputs(id);
        let holder = input_of(&inputs, Some(0));
        if holder.is_empty() {
            return Err(BuildError::Graph {
                message: "a nested graph is to be read from nothing".to_owned(),
            });
        }
        let file = build
            .attributes
            .get("llbbuild.filename")
            .map_or(DEFAULT_FILE, String::as_str);
        let bytes = self.view(&holder)?.read(file, MAX_DEFINITION_BYTES)?;
        let (graph, result) =
            Graph::from_definition(&bytes).map_err(|error| BuildError::Graph {
                message: error.to_string(),
            })?;
        let Some(result) = result else {
            return Ok((Outcome::Executed, vec![Snapshot::default()]));
        };
        let wanted = [result];
        let input = SolveInput {
            graph: &graph,
            wanted: &wanted,
            labels: &HashMap::new(),
            images: self.input.images,
            contexts: self.input.contexts,
            options: self.input.options,
            imported: self.input.imported,
            depth: self.input.depth + 1,
        };
        let events = self
            .events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let events = events.unwrap_or_else(|| std::sync::mpsc::channel().0);
        let nested = Solver::new(self.store, self.host, input, events)?;
        nested.run()?;
        let snapshot = nested.snapshot(result).unwrap_or_default();
        // The layers have to stay held as long as this solve.
        self.hold(&snapshot.diff_ids()?, "a nested graph")?;
        Ok((Outcome::Executed, vec![snapshot]))
    }
}
