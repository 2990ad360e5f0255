//! Looking a vertex up by how it came to be, before anything runs.

use std::collections::BTreeMap;

use serde_json::json;
use wharf_image::Digest;
use wharf_llb::{Edge, NetworkMode, Op, SecurityMode, VertexId};

use super::Solver;
use super::key::{self, Taking};
use super::node::{Node, Outcome};
use super::snapshot::Snapshot;
use crate::BuildError;
use crate::cache::{self, Hit};

impl Solver<'_> {
    /// Returns what is known of a vertex whose producers are looked up: its key, and its result where that is in the cache.
    ///
    /// # Errors
    /// Outputs that make no sense, what was not granted, sources that cannot be looked up.
    pub(super) fn look_up(
        &self,
        id: VertexId,
        nodes: &BTreeMap<VertexId, Node>,
    ) -> Result<Node, BuildError> {
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
        node.stands_on_rerun = self.producers_rerun(id, nodes);
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

    /// Finds the results of a vertex by how its inputs came to be.
    fn find_by_definition(
        &self,
        id: VertexId,
        node: &Node,
        nodes: &BTreeMap<VertexId, Node>,
    ) -> Result<Option<Vec<Snapshot>>, BuildError> {
        let is_sought = self.may_hit(id) && !node.stands_on_rerun;
        let Some(key) = node.key.filter(|_| is_sought) else {
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

    /// Says whether a vertex stands on one that may not be taken from the cache, be it by others.
    fn producers_rerun(&self, id: VertexId, nodes: &BTreeMap<VertexId, Node>) -> bool {
        let producers = self.input.graph.vertex(id).inputs.iter();
        let mut producers = producers.map(|edge| edge.vertex);
        producers.any(|producer| {
            let stands_on_rerun = |node: &Node| node.stands_on_rerun;
            self.input.graph.vertex(producer).metadata.ignore_cache
                || nodes.get(&producer).is_some_and(stands_on_rerun)
        })
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

/// Returns the files of one output of a vertex.
pub(super) fn snapshot_of<'n>(node: &'n Node, edge: &Edge) -> Option<&'n Snapshot> {
    node.snapshots.get(edge.output as usize)
}

/// Returns the files of a hit that stands on some layers.
pub(super) fn from_hit(hit: &Hit, layers_below: usize) -> Snapshot {
    let own = hit.diff_ids.len().saturating_sub(layers_below);
    let mut snapshot = Snapshot::named(&hit.diff_ids, own, hit.created.clone());
    snapshot.unchanged_by = hit.is_unchanged.then_some(hit.key);
    snapshot
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
