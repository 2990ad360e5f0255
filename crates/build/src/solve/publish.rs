//! What was made gets its place; beside later steps it is hashed and recorded.

use std::sync::PoisonError;

use serde_json::json;
use wharf_image::{DiffId, Digest};
use wharf_layer::clean_upper;
use wharf_llb::VertexId;
use wharf_store::Staging;

use super::key;
use super::lookup::{from_hit, numbered};
use super::node::Outcome;
use super::run::{Inputs, Made, MadeOutput};
use super::snapshot::{LayerRef, PendingLayer, Snapshot};
use super::{Solver, explain};
use crate::BuildError;
use crate::cache::{self, Entry};

impl Solver<'_> {
    /// Takes an earlier result that is found by a key, or makes and records it.
    pub(super) fn find_or_make(
        &self,
        id: VertexId,
        key: Digest,
        make: impl FnOnce() -> Result<Option<PendingLayer>, BuildError>,
    ) -> Result<(Outcome, Snapshot), BuildError> {
        if self.may_hit(id)
            && let Some(hit) =
                cache::find_anywhere(self.store, &self.lease, self.input.imported, &key, None)?
        {
            return Ok((Outcome::Cached, from_hit(&hit, 0)));
        }
        let made = MadeOutput {
            below: Snapshot::default(),
            layer: make()?,
        };
        let inputs = Inputs {
            snapshots: Vec::new(),
        };
        let made = vec![made];
        let snapshots = if self.has_changed(id) {
            let own = self.give_own_key(id);
            self.publish(id, own, &inputs, made)?
        } else {
            self.publish(id, key, &inputs, made)?
        };
        let snapshot = snapshots.into_iter().next().unwrap_or_default();
        Ok((Outcome::Executed, snapshot))
    }

    /// Gives what was made its place, and has it hashed and recorded while later steps run.
    pub(super) fn publish(
        &self,
        id: VertexId,
        key: Digest,
        inputs: &Inputs,
        made: Made,
    ) -> Result<Vec<Snapshot>, BuildError> {
        self.check_stopped()?;
        let created = self.now();
        let mut snapshots = Vec::with_capacity(made.len());
        for (output, made) in (0..).zip(made) {
            let mut layers = made.below.layers;
            let own = usize::from(made.layer.is_some());
            layers.extend(
                made.layer
                    .map(|layer| LayerRef::Pending(std::sync::Arc::new(layer))),
            );
            snapshots.push(Snapshot {
                layers,
                own,
                created: Some(created.clone()),
                unchanged_by: (own == 0).then(|| numbered(&key, output)),
            });
        }
        let (kind, parts) = key::parts(self.input.graph.vertex(id));
        let recording = Recording {
            key,
            description: self.description(id),
            explain: self.explanation(id),
            kind,
            parts,
            inputs: self.recorded_inputs(id, inputs),
            created,
            is_as_counted: !self.has_changed(id),
        };
        let (store, made) = (self.store.clone(), snapshots.clone());
        let lease = self.store.lease("build step")?;
        let thread = std::thread::spawn(move || {
            let recorded = record(&store, &recording, &made);
            drop(lease);
            recorded
        });
        self.hashing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        Ok(snapshots)
    }

    /// Turns a staged directory into a layer in its place; nothing where it holds no change.
    pub(super) fn place(
        &self,
        staging: Staging,
        below: &Snapshot,
        exclude: &[std::path::PathBuf],
    ) -> Result<Option<PendingLayer>, BuildError> {
        let upper = staging.root();
        clean_upper(upper, &below.lowers(self.store)?, exclude)?;
        if upper.entries()?.is_empty() {
            return Ok(None);
        }
        Ok(Some(PendingLayer::new(self.store.place_layer(staging)?)))
    }

    /// Returns the key of a vertex by what its inputs hold; nothing while a layer of theirs is hashed.
    pub(super) fn result_key(&self, id: VertexId, inputs: &Inputs) -> Option<Digest> {
        let recording: Vec<RecordedInput> = self.recorded_inputs(id, inputs);
        let (kind, parts) = key::parts(self.input.graph.vertex(id));
        result_key(kind, &parts, &recording)
    }

    /// Returns the inputs as the key by result counts them.
    fn recorded_inputs(&self, id: VertexId, inputs: &Inputs) -> Vec<RecordedInput> {
        let state = self.lock();
        let Some(node) = state.nodes.get(&id) else {
            return Vec::new();
        };
        let count = self.input.graph.vertex(id).inputs.len();
        let input = |index| match self.contents_of(node, index) {
            Some(contents) => RecordedInput::Contents(contents),
            None => RecordedInput::Tree(inputs.snapshots.get(index).cloned().flatten()),
        };
        (0..count).map(input).collect()
    }

    /// Returns how a vertex is called in its record.
    fn description(&self, id: VertexId) -> String {
        match self.input.labels.get(&id) {
            Some(label) if !label.text.is_empty() => label.text.clone(),
            _ => self.name(id),
        }
    }
}

/// What is needed to record a vertex.
struct Recording {
    key: Digest,
    description: String,
    explain: serde_json::Value,
    kind: &'static str,
    parts: serde_json::Value,
    inputs: Vec<RecordedInput>,
    created: String,
    /// Whether the inputs are what was counted.
    is_as_counted: bool,
}

/// An input as the key by result counts it.
enum RecordedInput {
    Contents(Vec<Digest>),
    Tree(Option<Snapshot>),
}

/// Names the new layers and records what was made; runs beside later steps.
fn record(
    store: &wharf_store::Store,
    recording: &Recording,
    made: &[Snapshot],
) -> Result<(), BuildError> {
    let mut by_result = None;
    for (output, snapshot) in (0..).zip(made) {
        let mut size_bytes = 0;
        if snapshot.own > 0
            && let Some(LayerRef::Pending(pending)) = snapshot.layers.last()
        {
            size_bytes = pending.name(store)?.size_bytes;
        }
        let diff_ids: Vec<DiffId> = snapshot.diff_ids()?;
        // All inputs have their names by now: what stands on them has.
        if by_result.is_none() && recording.is_as_counted {
            by_result = result_key(recording.kind, &recording.parts, &recording.inputs);
        }
        let by_result = by_result.map(|key| numbered(&key, output));
        let key = numbered(&recording.key, output);
        let entry = Entry {
            key,
            by_result,
            diff_ids,
            created: Some(recording.created.clone()),
            config: None,
            explain: recording.explain.clone(),
            description: &recording.description,
            size_bytes,
            is_unchanged: snapshot.unchanged_by.is_some(),
        };
        cache::put(store, entry)?;
        if let Some(by_result) = &by_result {
            cache::lead_to_record(store, by_result, &key)?;
        }
    }
    let layer = made.first().and_then(Snapshot::own_layer);
    explain::remember(store, &recording.explain, recording.key, layer)
}

/// Returns the key by what the inputs hold.
fn result_key(kind: &str, parts: &serde_json::Value, inputs: &[RecordedInput]) -> Option<Digest> {
    let mut counted = Vec::with_capacity(inputs.len());
    for input in inputs {
        counted.push(match input {
            RecordedInput::Contents(contents) => json!({ "content": contents }),
            RecordedInput::Tree(None) => json!(null),
            RecordedInput::Tree(Some(snapshot)) => json!({ "result": snapshot.result_key()? }),
        });
    }
    Some(cache::key_of(
        kind,
        &json!({ "parts": parts, "results": counted }),
    ))
}
