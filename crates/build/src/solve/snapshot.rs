//! What a vertex led to: layers, some of which may still be hashed while later steps stand on them.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use wharf_image::{DiffId, Digest, Hasher};
use wharf_layer::summarize;
use wharf_safefs::Root;
use wharf_store::{Linked, NewLayer, PlacedLayer, Store};

use crate::BuildError;

/// The files that one output of a vertex led to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// The layers, lowest first.
    pub layers: Vec<LayerRef>,
    /// How many of them, on top, the vertex itself added.
    pub own: usize,
    /// When it was made, as RFC 3339; none where nothing was made.
    pub created: Option<String>,
    /// Stands for a vertex that changed nothing: its files are those of its input, but it was executed.
    pub unchanged_by: Option<Digest>,
}

/// A layer of a chain.
#[derive(Debug, Clone)]
pub(crate) enum LayerRef {
    /// One with a name.
    Named(DiffId),
    /// One that gets its name while it is used.
    Pending(Arc<PendingLayer>),
}

/// A layer that is being hashed.
#[derive(Debug)]
pub(crate) struct PendingLayer {
    placed: PlacedLayer,
    /// The layer that files were taken over from, if any.
    linked: Option<Linked>,
    named: Mutex<Option<Result<Named, Arc<BuildError>>>>,
    done: Condvar,
}

/// A layer's name and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// Sum of the sizes of its files.
    pub size_bytes: u64,
}

impl PendingLayer {
    /// Takes a placed directory.
    pub fn new(placed: PlacedLayer) -> Self {
        Self {
            placed,
            linked: None,
            named: Mutex::new(None),
            done: Condvar::new(),
        }
    }

    /// Notes that it has files of an earlier layer.
    pub fn with_files_of(self, linked: Option<Linked>) -> Self {
        Self { linked, ..self }
    }

    /// Hashes the directory and gives it its name; those who wait for it go on.
    pub fn name(&self, store: &Store) -> Result<Named, BuildError> {
        let named = self.hash(store).map_err(Arc::new);
        let mut slot = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(named.clone());
        self.done.notify_all();
        named.map_err(BuildError::Shared)
    }

    fn hash(&self, store: &Store) -> Result<Named, BuildError> {
        let summary = summarize(&Root::open(self.placed.files())?)?;
        let new = NewLayer {
            linked: self.linked,
            ..NewLayer::made_here(summary)
        };
        let layer = store.publish_placed(&self.placed, &new)?;
        Ok(Named {
            diff_id: layer.diff_id,
            size_bytes: layer.size_bytes,
        })
    }

    /// Returns the name as soon as there is one.
    pub fn wait(&self) -> Result<Named, BuildError> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*named {
                Some(Ok(named)) => return Ok(*named),
                Some(Err(error)) => return Err(BuildError::Shared(Arc::clone(error))),
                None => {
                    named = self
                        .done
                        .wait(named)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn known(&self) -> Option<DiffId> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.as_ref()?.as_ref().ok().map(|named| named.diff_id)
    }
}

impl LayerRef {
    /// Returns the layer's name, waiting for it.
    pub fn diff_id(&self) -> Result<DiffId, BuildError> {
        match self {
            Self::Named(diff_id) => Ok(*diff_id),
            Self::Pending(pending) => Ok(pending.wait()?.diff_id),
        }
    }

    fn known(&self) -> Option<DiffId> {
        match self {
            Self::Named(diff_id) => Some(*diff_id),
            Self::Pending(pending) => pending.known(),
        }
    }
}

impl Snapshot {
    /// Returns a chain of named layers.
    pub fn named(diff_ids: &[DiffId], own: usize, created: Option<String>) -> Self {
        Self {
            layers: diff_ids.iter().copied().map(LayerRef::Named).collect(),
            own,
            created,
            unchanged_by: None,
        }
    }

    /// Says whether there are no files at all.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Returns the names of all layers, waiting for those that are hashed still.
    pub fn diff_ids(&self) -> Result<Vec<DiffId>, BuildError> {
        self.layers.iter().map(LayerRef::diff_id).collect()
    }

    /// Returns the names of all layers unless one is hashed still.
    pub fn known_diff_ids(&self) -> Option<Vec<DiffId>> {
        self.layers.iter().map(LayerRef::known).collect()
    }

    /// Returns the name of the topmost layer that the vertex itself added, where it is known.
    pub fn own_layer(&self) -> Option<DiffId> {
        self.layers
            .last()
            .filter(|_| self.own > 0)
            .and_then(LayerRef::known)
    }

    /// Returns a key of the files themselves, however they were made: two executions with the same result
    /// have the same. None while a layer is hashed.
    pub fn result_key(&self) -> Option<Digest> {
        let mut hasher = Hasher::new();
        hasher.update(b"result\0");
        for diff_id in self.known_diff_ids()? {
            hasher.update(diff_id.as_bytes());
        }
        if let Some(vertex) = &self.unchanged_by {
            hasher.update(b"\0unchanged by\0");
            hasher.update(vertex.as_bytes());
        }
        Some(hasher.finish())
    }

    /// Returns the directories to mount, lowest first.
    pub fn dirs(&self, store: &Store) -> Result<Vec<PathBuf>, BuildError> {
        let first_pending = self
            .layers
            .iter()
            .position(|layer| layer.known().is_none())
            .unwrap_or(self.layers.len());
        let (named, rest) = self.layers.split_at(first_pending);
        let named: Vec<DiffId> =
            without_repeats(named.iter().filter_map(LayerRef::known).collect());
        let mut dirs = store.layer_dirs(&named)?;
        for layer in rest {
            match layer {
                LayerRef::Pending(pending) => dirs.push(pending.placed.files()),
                LayerRef::Named(diff_id) => dirs.extend(store.layer_dirs(&[*diff_id])?),
            }
        }
        Ok(dirs)
    }

    /// Returns the layers' directories opened, topmost first.
    pub fn lowers(&self, store: &Store) -> Result<Vec<Root>, BuildError> {
        let mut roots = Vec::new();
        for path in self.dirs(store)?.iter().rev() {
            roots.push(Root::open(path)?);
        }
        Ok(roots)
    }
}

/// Leaves out all but the topmost of equal layers: overlayfs takes no directory twice, and a layer that is there
/// again further up leaves nothing of its lower self to be seen.
pub(crate) fn without_repeats(diff_ids: Vec<DiffId>) -> Vec<DiffId> {
    let mut seen = std::collections::HashSet::new();
    let mut kept: Vec<DiffId> = diff_ids
        .into_iter()
        .rev()
        .filter(|diff_id| seen.insert(*diff_id))
        .collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::{Snapshot, without_repeats};
    use wharf_image::Digest;

    #[test]
    fn the_topmost_of_equal_layers_counts() {
        let layers = |text: &str| -> Vec<Digest> {
            text.chars()
                .map(|name| Digest::of(name.to_string()))
                .collect()
        };
        assert_eq!(without_repeats(layers("abac")), layers("bac"));
        assert_eq!(without_repeats(layers("abc")), layers("abc"));
    }

    #[test]
    fn steps_that_change_nothing_are_told_apart() {
        let base = Snapshot::named(&[Digest::of("a")], 0, None);
        let mut after = base.clone();
        after.unchanged_by = Some(Digest::of("RUN true"));
        assert_ne!(base.result_key(), after.result_key());
        assert_eq!(base.result_key(), base.clone().result_key());
    }
}
