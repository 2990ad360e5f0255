//! Build cache: what a step's structured key led to.

use serde_json::{Value, json};
use wharf_image::{DiffId, Digest};
use wharf_store::{CacheRecord, Lease, Store};

use crate::BuildError;

/// Version of the keys; a new one makes all older records miss.
const KEY_VERSION: u32 = 1;
/// Where the explanation holds the time of the step.
const CREATED: &str = "created";

/// A step's structured key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    /// Digest of the key.
    pub digest: Digest,
    /// The key with what explains a later miss.
    explain: Value,
}

/// What a key led to earlier.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hit {
    /// The chain after the step, lowest first.
    pub diff_ids: Vec<DiffId>,
    /// When the step was executed, as RFC 3339.
    pub created: Option<String>,
    /// The image config after the step.
    pub config: Option<Vec<u8>>,
}

impl Key {
    /// Makes a key of its parts; `files` only explain and are in `parts` by their digest.
    pub fn new(
        kind: &str,
        parent: Option<&Digest>,
        parts: Value,
        files: &[(String, Digest)],
    ) -> Self {
        let parent = parent.map(Digest::to_string);
        let mut explain =
            json!({ "version": KEY_VERSION, "kind": kind, "parent": parent, "parts": parts });
        // `Value` sorts nothing: the order is that of the code here, the same in every run.
        let digest = Digest::of(explain.to_string());
        if let Some(object) = explain.as_object_mut()
            && !files.is_empty()
        {
            let files = files
                .iter()
                .map(|(path, digest)| (path.clone(), Value::String(digest.hex())));
            object.insert("files".to_owned(), Value::Object(files.collect()));
        }
        Self { digest, explain }
    }
}

/// Returns what a key led to if all of it is still there and stands on `parent_chain`; the layers are held.
pub(crate) fn find(
    store: &Store,
    lease: &Lease,
    key: &Digest,
    parent_chain: &[DiffId],
) -> Result<Option<Hit>, BuildError> {
    let Some(record) = store.cache(key)? else {
        return Ok(None);
    };
    // The step below may have been executed again since, with another result.
    if !record.diff_ids.starts_with(parent_chain) {
        return Ok(None);
    }
    for diff_id in &record.diff_ids {
        if lease.hold_layer(diff_id)?.is_none() {
            return Ok(None);
        }
    }
    let created = record
        .explain
        .get(CREATED)
        .and_then(Value::as_str)
        .map(str::to_owned);
    Ok(Some(Hit {
        diff_ids: record.diff_ids,
        created,
        config: record.config,
    }))
}

/// Records what a step led to.
pub(crate) fn put(
    store: &Store,
    key: &Key,
    result: Hit,
    description: &str,
    size_bytes: u64,
) -> Result<(), BuildError> {
    let mut explain = key.explain.clone();
    if let (Some(object), Some(created)) = (explain.as_object_mut(), result.created) {
        object.insert(CREATED.to_owned(), Value::String(created));
    }
    store.put_cache(&CacheRecord {
        key: key.digest,
        diff_ids: result.diff_ids,
        config: result.config,
        description: description.to_owned(),
        explain,
        size_bytes,
        created_unix_ns: 0,
        last_used_unix_ns: 0,
        use_count: 0,
    })?;
    Ok(())
}

/// Which records to remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// Also those whose layers an image has.
    pub all: bool,
    /// Only those last used before this moment, in nanoseconds since 1970.
    pub until_unix_ns: Option<i64>,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Keys of the removed records.
    pub keys: Vec<Digest>,
    /// Bytes set free on disk.
    pub freed_bytes: u64,
}

/// Removes build cache records: all, or those that keep layers which no image has.
///
/// # Errors
/// A store that cannot be read or written.
pub fn prune(store: &Store, options: &PruneOptions) -> Result<Pruned, BuildError> {
    let images = store.images()?;
    let held: std::collections::HashSet<DiffId> = images
        .iter()
        .flat_map(|image| image.config.rootfs.diff_ids.iter().copied())
        .collect();
    let is_chosen = |record: &CacheRecord| {
        let is_used = record.diff_ids.iter().all(|diff_id| held.contains(diff_id));
        (options.all || !is_used)
            && options
                .until_unix_ns
                .is_none_or(|until| record.last_used_unix_ns < until)
    };
    let keys: Vec<Digest> = store
        .caches()?
        .iter()
        .filter(|record| is_chosen(record))
        .map(|record| record.key)
        .collect();
    let freed_bytes = store.delete_cache(&keys)?;
    Ok(Pruned { keys, freed_bytes })
}
