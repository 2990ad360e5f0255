//! A graph that an operation holds (spec llb §2.4, BuildOp).

use std::collections::HashMap;
use std::sync::PoisonError;

use wharf_llb::limits::MAX_DEFINITION_BYTES;
use wharf_llb::{BuildOp, DEFINITION_INPUT, Definition, VertexId};

use super::exec::input_of;
use super::node::Outcome;
use super::snapshot::Snapshot;
use super::{SolveInput, Solver};
use crate::BuildError;
use crate::definition;

/// Where the definition lies if the operation does not say.
const DEFAULT_FILE: &str = "/buildkit.llb.definition";
/// How deep graphs may hold graphs.
pub(super) const MAX_DEPTH: usize = 8;

impl Solver<'_> {
    /// Solves the graph that an operation holds; its result is the vertex's.
    pub(super) fn solve_nested(
        &self,
        id: VertexId,
        build: &BuildOp,
    ) -> Result<(Outcome, Vec<Snapshot>), BuildError> {
        if self.input.depth >= MAX_DEPTH {
            return Err(wrong(format!(
                "graphs are nested more than {MAX_DEPTH} deep"
            )));
        }
        let held = self.held_definition(id, build)?;
        let (graph, result) = definition::read(&held, self.host, self.input.options)?;
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

    /// Returns the definition: the operation's own, or a file of the input that is named for it.
    fn held_definition(&self, id: VertexId, build: &BuildOp) -> Result<Definition, BuildError> {
        if build.builder.is_some() {
            let message = "only the builder itself can solve a nested graph, not an input";
            return Err(wrong(message.to_owned()));
        }
        let input = match (build.inputs.get(DEFINITION_INPUT), &build.definition) {
            (Some(input), _) => *input,
            (None, Some(definition)) => return Ok((**definition).clone()),
            (None, None) => {
                return Err(wrong(format!(
                    "a nested graph needs an input named {DEFINITION_INPUT}, or a definition of its own"
                )));
            }
        };
        let file = build
            .attributes
            .get("llbbuild.filename")
            .map_or(DEFAULT_FILE, String::as_str);
        let holder = input_of(&self.inputs(id), Some(input));
        if holder.is_empty() {
            return Err(wrong(format!(
                "the nested graph is to be read from {file}, but its input holds no files"
            )));
        }
        let bytes = self
            .view(&holder)?
            .read(file, MAX_DEFINITION_BYTES as u64)?;
        Definition::decode(&bytes).map_err(|error| wrong(format!("{file}: {error}")))
    }
}

fn wrong(message: String) -> BuildError {
    BuildError::Graph { message }
}
