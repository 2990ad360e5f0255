//! Files of a context that change while a build runs.
//!
//! A step is found again by the digests that its files had when the build began. Where one of them is another by the
//! time it is copied, the result is kept under a key of its own, which no later build finds: what was hashed is what
//! is stored, or nothing stands under that name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use wharf_image::Digest;
use wharf_llb::{Op, VertexId};
use wharf_safefs::{Metadata, Timestamp};

use super::Solver;
use super::run::{Inputs, Made, StepOutput};
use super::snapshot::Snapshot;
use crate::content::Reading;
use crate::select::Selected;
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

    /// Notes which programs counted files that are others now that they are about to be copied for a mount.
    pub(super) fn compare_users(&self, id: VertexId, reading: Reading<'_>, selected: &[Selected]) {
        let mut now: HashMap<PathBuf, &Metadata> = HashMap::new();
        for one in selected {
            let entries = one.entries.iter();
            now.extend(entries.map(|entry| (one.path.join(&entry.path), &entry.metadata)));
        }
        let is_other = |path: &Path, known: &Metadata| {
            let found = now.get(path);
            found.is_none_or(|found| reading.has_changed(known, found))
        };
        let mut state = self.lock();
        for (user, node) in &mut state.nodes {
            let vertex = self.input.graph.vertex(*user);
            if !matches!(vertex.op, Op::Exec(_)) {
                continue;
            }
            let of_context = node.contents.iter().filter(|((input, _), _)| {
                let edge = vertex.inputs.get(*input);
                edge.is_some_and(|edge| edge.vertex == id)
            });
            let changed = of_context
                .flat_map(|(_, content)| content.taken.each())
                .flat_map(|(one, _)| one.entries.iter().map(move |entry| (one, entry)))
                .map(|(one, entry)| (one.path.join(&entry.path), &entry.metadata))
                .find(|(path, known)| is_other(path, known));
            if let Some((path, _)) = changed {
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
