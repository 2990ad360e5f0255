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
/// Where it holds the key by what the inputs held.
const BY_RESULT: &str = "by_result";
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
    /// The key of the step on what its inputs held, where that is another.
    pub by_result: Option<Digest>,
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
    let Some(alias) = alias(store, key)? else {
        return Ok(None);
    };
    let record = store.cache(&alias.record)?;
    // The step may have been executed again since, on other inputs: then the record is no more what the alias means.
    Ok(
        record.filter(|record| match (&alias.by_result, by_result(record)) {
            (Some(meant), Some(found)) => *meant == found,
            _ => true,
        }),
    )
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
        if let Some(by_result) = entry.by_result {
            object.insert(BY_RESULT.to_owned(), json!(by_result));
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

/// Another way to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Alias {
    /// Key of the record.
    record: Digest,
    /// What the record's inputs have to have held.
    by_result: Option<Digest>,
}

impl Alias {
    /// Reads the document of an alias; those of earlier versions hold only the record's key.
    fn of(document: &Value) -> Option<Self> {
        let digest = |value: &Value| value.as_str()?.parse().ok();
        match document {
            Value::String(_) => Some(Self {
                record: digest(document)?,
                by_result: None,
            }),
            _ => Some(Self {
                record: digest(&document["record"])?,
                by_result: digest(&document[BY_RESULT]),
            }),
        }
    }

    fn keep(&self, store: &Store, alias: &Digest) -> Result<(), BuildError> {
        let document = json!({ "record": self.record, BY_RESULT: self.by_result });
        Ok(store.put_document(ALIAS_KIND, &alias.hex(), &document)?)
    }
}

/// Lets the key of a step on what its inputs hold lead to a record, too.
pub(crate) fn lead_to_record(
    store: &Store,
    by_result: &Digest,
    record: &Digest,
) -> Result<(), BuildError> {
    if by_result == record {
        return Ok(());
    }
    let alias = Alias {
        record: *record,
        by_result: Some(*by_result),
    };
    alias.keep(store, by_result)
}

/// Lets a key lead to the record that was found for a step on what its inputs hold. What the key led to before had other
/// inputs: it goes.
pub(crate) fn lead_to_result(
    store: &Store,
    key: &Digest,
    by_result: &Digest,
) -> Result<(), BuildError> {
    let Some(record) = record_of(store, by_result)? else {
        return Ok(());
    };
    if record.key == *key {
        return Ok(());
    }
    if store.cache(key)?.is_some() {
        store.delete_cache(&[*key])?;
    }
    let alias = Alias {
        record: record.key,
        by_result: Some(*by_result),
    };
    alias.keep(store, key)
}

fn alias(store: &Store, key: &Digest) -> Result<Option<Alias>, BuildError> {
    let document = store.document(ALIAS_KIND, &key.hex())?;
    Ok(document.as_ref().and_then(Alias::of))
}

/// Returns the key of a record's step on what its inputs held; none where that is not known.
fn by_result(record: &CacheRecord) -> Option<Digest> {
    record.explain.get(BY_RESULT)?.as_str()?.parse().ok()
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
    let gone: std::collections::HashSet<&Digest> = keys.iter().collect();
    for (name, document) in store.documents(ALIAS_KIND)? {
        if Alias::of(&document).is_none_or(|alias| gone.contains(&alias.record)) {
            store.delete_document(ALIAS_KIND, &name)?;
        }
    }
    Ok(freed_bytes)
}
