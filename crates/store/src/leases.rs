//! Leases: what an operation in progress needs must not be swept.
//!
//! A lease lives in memory: only one process holds the data root, and an operation ends with it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use wharf_image::{DiffId, Digest, ImageId};

use crate::db::lock;
use crate::error::Result;
use crate::images::Image;
use crate::layers::Layer;
use crate::store::{Inner, Store};

/// What a lease can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    Layer(DiffId),
    Blob(Digest),
}

/// All live leases. Whoever deletes rows keeps this table locked until the rows are gone for good, so that
/// what is held before it is looked up cannot vanish after.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    next: u64,
    live: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    purpose: String,
    held: HashSet<Held>,
}

impl LeaseTable {
    /// Has every live lease hold what was just made: one of them is the maker's.
    pub(crate) fn hold_for_all(&mut self, item: Held) {
        for entry in self.live.values_mut() {
            entry.held.insert(item);
        }
    }

    /// Says whether any live lease holds `item`.
    pub(crate) fn is_held(&self, item: Held) -> bool {
        self.live.values().any(|entry| entry.held.contains(&item))
    }
}

/// Keeps layers and blobs from being swept until it is dropped.
///
/// Whatever is put or published while a lease is live is held by it too; what is there already has to be
/// taken hold of by `hold_layer`, `hold_blob` or `hold_image`, which also say whether it still is there.
#[must_use = "a lease that is dropped holds nothing"]
pub struct Lease {
    store: Arc<Inner>,
    number: u64,
}

impl Store {
    /// Starts a lease; `purpose` tells a user later what keeps something alive ("pull alpine:3.20").
    pub fn lease(&self, purpose: &str) -> Result<Lease> {
        let mut table = lock(&self.inner.leases);
        let number = table.next;
        table.next += 1;
        table.live.insert(
            number,
            Entry {
                purpose: purpose.to_owned(),
                held: HashSet::new(),
            },
        );
        Ok(Lease {
            store: Arc::clone(&self.inner),
            number,
        })
    }

    /// Returns the purposes of the live leases that hold a layer.
    pub(crate) fn leases_of_layer(&self, diff_id: &DiffId) -> Vec<String> {
        let item = Held::Layer(*diff_id);
        let table = lock(&self.inner.leases);
        table
            .live
            .values()
            .filter(|entry| entry.held.contains(&item))
            .map(|entry| entry.purpose.clone())
            .collect()
    }
}

impl Lease {
    /// Keeps a layer; `None` when it is not there.
    pub fn hold_layer(&self, diff_id: &DiffId) -> Result<Option<Layer>> {
        self.hold(Held::Layer(*diff_id));
        self.store().layer(diff_id)
    }

    /// Keeps a blob; `false` when it is not there.
    pub fn hold_blob(&self, digest: &Digest) -> Result<bool> {
        self.hold(Held::Blob(*digest));
        self.store().has_blob(digest)
    }

    /// Keeps an image's layers, config and documents, also when the image itself is deleted; `None` when
    /// it is not there.
    pub fn hold_image(&self, id: &ImageId) -> Result<Option<Image>> {
        let store = self.store();
        let Some(image) = store.image(id)? else {
            return Ok(None);
        };
        for diff_id in &image.config.rootfs.diff_ids {
            self.hold(Held::Layer(*diff_id));
        }
        self.hold(Held::Blob(*id));
        for digest in store.document_digests(id)? {
            self.hold(Held::Blob(digest));
        }
        // Only what is there after it was taken hold of stays there.
        store.image(id)
    }

    pub(crate) fn hold(&self, item: Held) {
        if let Some(entry) = lock(&self.store.leases).live.get_mut(&self.number) {
            entry.held.insert(item);
        }
    }

    fn store(&self) -> Store {
        Store {
            inner: Arc::clone(&self.store),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.store.leases).live.remove(&self.number);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
