//! Build cache: what a step's structured key led to.
//!
//! A record has one key, made of the step and of how its inputs came to be. Other ways to the same record are
//! aliases: the step on the *contents* of its inputs, so that a step whose input was made again with an equal
//! result is still found (spec llb §3, §4).

use serde_json::{Value, json};
use wharf_image::{DiffId, Digest};
use wharf_store::{CacheRecord, Lease, Store};

use crate::BuildError;
use crate::imported::Imported;

/// Version of the keys; a new one makes all older records miss.
const KEY_VERSION: u32 = 2;
/// Where the explanation holds the time of the step.
const CREATED: &str = "created";
/// Where it says whether the step left the files as they were.
const IS_UNCHANGED: &str = "unchanged";
/// Kind of the documents that lead from an alias to a record's key.
const ALIAS_KIND: &str = "build-alias";

/// What a key led to earlier.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hit {
    /// The record's own key.
    pub key: Digest,
    /// The chain after the step, lowest first.
    pub diff_ids: Vec<DiffId>,
    /// When the step was executed, as RFC 3339.
    pub created: Option<String>,
    /// The image config after the step.
    pub config: Option<Vec<u8>>,
    /// Whether the step left the files as they were.
    pub is_unchanged: bool,
}

/// What is put on record.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'a> {
    /// The key.
    pub key: Digest,
    /// The chain after the step, lowest first.
    pub diff_ids: Vec<DiffId>,
    /// When the step was executed, as RFC 3339.
    pub created: Option<String>,
    /// The image config after the step.
    pub config: Option<Vec<u8>>,
    /// The structured key.
    pub explain: Value,
    /// The step as its user wrote it.
    pub description: &'a str,
    /// Bytes of the layers that the step added.
    pub size_bytes: u64,
    /// Whether the step left the files as they were.
    pub is_unchanged: bool,
}

/// Computes the digest of a structured key.
pub(crate) fn key_of(kind: &str, parts: &Value) -> Digest {
    // `Value` sorts nothing: the order is that of the code that made it, the same in every run.
    Digest::of(json!([KEY_VERSION, kind, parts]).to_string())
}

/// A record as it is told to other machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// The key.
    pub key: Digest,
    /// The chain after the step, lowest first.
    pub diff_ids: Vec<DiffId>,
    /// When the step was executed, as RFC 3339.
    pub created: Option<String>,
    /// Whether the step left the files as they were.
    pub is_unchanged: bool,
    /// The step as its user wrote it.
    pub description: String,
}

/// Returns what is told of the record that a key or alias leads to.
pub(crate) fn tell(store: &Store, key: &Digest) -> Result<Option<Told>, BuildError> {
    let Some(record) = record_of(store, key)? else {
        return Ok(None);
    };
    let created = record.explain.get(CREATED).and_then(Value::as_str);
    let is_unchanged = record.explain.get(IS_UNCHANGED).and_then(Value::as_bool);
    Ok(Some(Told {
        key: *key,
        created: created.map(str::to_owned),
        is_unchanged: is_unchanged.unwrap_or(false),
        description: record.description,
        diff_ids: record.diff_ids,
    }))
}

fn record_of(store: &Store, key: &Digest) -> Result<Option<CacheRecord>, BuildError> {
    if let Some(record) = store.cache(key)? {
        return Ok(Some(record));
    }
    match alias_target(store, key)? {
        Some(target) => Ok(store.cache(&target)?),
        None => Ok(None),
    }
}

/// Looks in the caches of other machines, too, where this one holds nothing.
pub(crate) fn find_anywhere(
    store: &Store,
    lease: &Lease,
    imported: &Imported,
    key: &Digest,
    parent_chain: Option<&[DiffId]>,
) -> Result<Option<Hit>, BuildError> {
    let found = find(store, lease, key, parent_chain)?;
    if found.is_some() || !imported.bring_in(store, lease, key)? {
        return Ok(found);
    }
    find(store, lease, key, parent_chain)
}

/// Returns what a key or alias led to if all of it is still there and stands on `parent_chain`; the layers
/// are held.
pub(crate) fn find(
    store: &Store,
    lease: &Lease,
    key: &Digest,
    parent_chain: Option<&[DiffId]>,
) -> Result<Option<Hit>, BuildError> {
    let Some(record) = record_of(store, key)? else {
        return Ok(None);
    };
    // The step below may have been executed again since, with another result.
    if parent_chain.is_some_and(|chain| !record.diff_ids.starts_with(chain)) {
        return Ok(None);
    }
    for diff_id in &record.diff_ids {
        if lease.hold_layer(diff_id)?.is_none() {
            return Ok(None);
        }
    }
    let created = record.explain.get(CREATED).and_then(Value::as_str);
    let is_unchanged = record.explain.get(IS_UNCHANGED).and_then(Value::as_bool);
    Ok(Some(Hit {
        key: record.key,
        created: created.map(str::to_owned),
        is_unchanged: is_unchanged.unwrap_or(false),
        diff_ids: record.diff_ids,
        config: record.config,
    }))
}

/// Records what a step led to.
pub(crate) fn put(store: &Store, entry: Entry<'_>) -> Result<(), BuildError> {
    let mut explain = entry.explain;
    if let Some(object) = explain.as_object_mut() {
        if let Some(created) = entry.created {
            object.insert(CREATED.to_owned(), Value::String(created));
        }
        if entry.is_unchanged {
            object.insert(IS_UNCHANGED.to_owned(), Value::Bool(true));
        }
    }
    Ok(store.put_cache(&CacheRecord {
        key: entry.key,
        diff_ids: entry.diff_ids,
        config: entry.config,
        description: entry.description.to_owned(),
        explain,
        size_bytes: entry.size_bytes,
        created_unix_ns: 0,
        last_used_unix_ns: 0,
        use_count: 0,
    })?)
}

/// Lets another key lead to a record, too.
pub(crate) fn put_alias(store: &Store, alias: &Digest, key: &Digest) -> Result<(), BuildError> {
    if alias == key {
        return Ok(());
    }
    Ok(store.put_document(ALIAS_KIND, &alias.hex(), &json!(key.to_string()))?)
}

fn alias_target(store: &Store, alias: &Digest) -> Result<Option<Digest>, BuildError> {
    let document = store.document(ALIAS_KIND, &alias.hex())?;
    let target = document.as_ref().and_then(Value::as_str);
    Ok(target.and_then(|target| target.parse().ok()))
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
    let freed_bytes = remove(store, &keys)?;
    Ok(Pruned { keys, freed_bytes })
}

/// Removes records with what only leads to them; returns the bytes set free on disk.
///
/// # Errors
/// A store that cannot be read or written.
pub fn remove(store: &Store, keys: &[Digest]) -> Result<u64, BuildError> {
    let freed_bytes = store.delete_cache(keys)?;
    let gone: std::collections::HashSet<String> = keys.iter().map(Digest::to_string).collect();
    for (alias, target) in store.documents(ALIAS_KIND)? {
        if target.as_str().is_none_or(|target| gone.contains(target)) {
            store.delete_document(ALIAS_KIND, &alias)?;
        }
    }
    Ok(freed_bytes)
}
