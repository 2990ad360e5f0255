//! Files of a context that change while a build runs.
//!
//! A step is found again by the digests that its files had when the build began. Where one of them is another by the
//! time it is copied, the result is kept under a key of its own, which no later build finds: what was hashed is what
//! is stored, or nothing stands under that name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use wharf_image::Digest;
use wharf_llb::{Op, Vertex, VertexId};
use wharf_safefs::{Metadata, Timestamp};

use super::Solver;
use super::node::Node;
use super::run::{Inputs, Made, StepOutput};
use super::snapshot::Snapshot;
use crate::content::{Reading, Taken};
use crate::{BuildError, OutputStream};

/// Tells keys apart that are made at the same time.
static OWN_KEYS: AtomicU64 = AtomicU64::new(0);

impl Solver<'_> {
    /// Notes that a file was no more what the key of a vertex counts.
    pub(super) fn note_change(&self, id: VertexId, changed: Option<PathBuf>) {
        if let Some(path) = changed {
            self.with_node(id, |node| {
                node.changed.get_or_insert(path);
            });
        }
    }

    /// Says whether the key of a vertex counts what is there no more.
    pub(super) fn has_changed(&self, id: VertexId) -> bool {
        self.changed_file(id).is_some()
    }

    /// Returns the file that changed, as text.
    pub(super) fn changed_file(&self, id: VertexId) -> Option<String> {
        let changed = self.with_node(id, |node| node.changed.clone()).flatten()?;
        Some(changed.to_string_lossy().into_owned())
    }

    /// Notes which programs counted files that are others in what is about to be copied for their mounts.
    ///
    /// What was read counts, not only the attributes: those were taken a moment before.
    pub(super) fn compare_users(&self, id: VertexId, reading: Reading<'_>, taken: &Taken) {
        let now: HashMap<PathBuf, (&Metadata, Option<&Digest>)> = entries_of(taken).collect();
        let is_other = |path: &Path, known: &Metadata, counted: Option<&Digest>| {
            let found = now.get(path);
            found.is_none_or(|(found, read)| {
                reading.has_changed(known, found) || (counted.is_some() && counted != *read)
            })
        };
        self.each_user(id, |node, vertex| {
            let of_context = node.contents.iter().filter(|((input, _), _)| {
                let edge = vertex.inputs.get(*input);
                edge.is_some_and(|edge| edge.vertex == id)
            });
            of_context
                .flat_map(|(_, content)| entries_of(&content.taken))
                .find(|(path, (known, counted))| is_other(path, known, *counted))
                .map(|(path, _)| path)
        });
    }

    /// Notes for the programs that a context is mounted for what was noted for the context: a file changed while it was copied.
    pub(super) fn tell_users(&self, id: VertexId) {
        let changed = self.with_node(id, |node| node.changed.clone()).flatten();
        if changed.is_some() {
            self.each_user(id, |_, _| changed.clone());
        }
    }

    /// Notes the file that `changed` names for each program that takes something of a vertex.
    fn each_user(&self, id: VertexId, mut changed: impl FnMut(&Node, &Vertex) -> Option<PathBuf>) {
        let mut state = self.lock();
        for (user, node) in &mut state.nodes {
            let vertex = self.input.graph.vertex(*user);
            let takes = vertex.inputs.iter().any(|edge| edge.vertex == id);
            if matches!(vertex.op, Op::Exec(_))
                && takes
                && let Some(path) = changed(node, vertex)
            {
                node.changed = Some(path);
            }
        }
    }

    /// Gives a vertex a key that nothing else has, and has all that stands on it counted anew.
    pub(super) fn give_own_key(&self, id: VertexId) -> Digest {
        let number = OWN_KEYS.fetch_add(1, Ordering::Relaxed);
        let build = &self.input.options.build;
        let now = Timestamp::now();
        let key = Digest::of(format!("own\0{build}\0{now:?}\0{number}"));
        let mut state = self.lock();
        let mut above = vec![id];
        while let Some(vertex) = above.pop() {
            let Some(node) = state.nodes.get_mut(&vertex) else {
                continue;
            };
            node.key = (vertex == id).then_some(key);
            above.extend(node.users.iter().copied());
        }
        key
    }

    /// Keeps what a vertex led to for this build alone.
    pub(super) fn publish_changed(
        &self,
        id: VertexId,
        inputs: &Inputs,
        made: Made,
        output: &StepOutput<'_, '_>,
    ) -> Result<Vec<Snapshot>, BuildError> {
        let path = self.changed_file(id).unwrap_or_default();
        let text = format!(
            "warning: {} changed while the build ran: the result of this step is not kept for later builds\n",
            path.escape_debug()
        );
        output.write(OutputStream::Stderr, text.as_bytes());
        let key = self.give_own_key(id);
        self.publish(id, key, inputs, made)
    }
}

/// Returns all that was taken, by path, with what it holds where that is known.
fn entries_of(taken: &Taken) -> impl Iterator<Item = (PathBuf, (&Metadata, Option<&Digest>))> {
    taken.each().flat_map(|(one, digests)| {
        let entries = one.entries.iter().enumerate();
        entries.map(|(number, entry)| {
            let path = one.path.join(&entry.path);
            (path, (&entry.metadata, digests.get(number)))
        })
    })
}
