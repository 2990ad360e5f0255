//! Garbage: one budget for all that builds keep, the longest unused first.

use std::collections::HashMap;

use wharf_image::{DiffId, Digest};
use wharf_store::{BuildPart, CacheRecord, Store};

use crate::builds::{builds, forget};
use crate::cache::remove;
use crate::solve::{cache_mounts, remove_cache_mount};
use crate::{BuildError, Pruned};

/// Share of the disk that builds may keep where nobody says: a tenth, but no more than this.
const DEFAULT_DISK_SHARE: u64 = 10;
const MAX_DEFAULT_BYTES: u64 = 100 << 30;

/// Returns the budget for a disk of a size where nobody gives one.
#[must_use]
pub fn default_cache_limit(disk_bytes: u64) -> u64 {
    (disk_bytes / DEFAULT_DISK_SHARE).min(MAX_DEFAULT_BYTES)
}

/// What can be removed, with when it was last used.
enum Item {
    Record(Digest),
    Build(String),
    Mount(Box<crate::CacheMount>),
}

/// Returns the bytes that only builds keep: steps that nothing else has, their logs, cache mounts.
///
/// # Errors
/// A store that cannot be read.
pub fn kept_bytes(store: &Store) -> Result<u64, BuildError> {
    let usage = store.disk_usage()?;
    let in_build = usage.build.iter().map(|(_, bytes)| bytes).sum::<u64>();
    Ok(usage.cache_only_bytes + in_build)
}

/// Removes what was not used for the longest time until all that only builds keep takes at most `limit_bytes`:
/// steps, their logs, and in the end cache mounts.
///
/// Layers that images or containers have are not counted: removing their records frees nothing.
///
/// # Errors
/// A store that cannot be read or written.
pub fn collect(store: &Store, limit_bytes: u64) -> Result<Pruned, BuildError> {
    let mut pruned = Pruned::default();
    // What layers have in common comes free with the last of them only: a round may free less than it seemed to.
    loop {
        let kept = kept_bytes(store)?;
        if kept <= limit_bytes {
            return Ok(pruned);
        }
        let round = remove_surplus(store, kept - limit_bytes)?;
        let is_done = round.freed_bytes == 0;
        pruned.freed_bytes += round.freed_bytes;
        pruned.keys.extend(round.keys);
        if is_done {
            return Ok(pruned);
        }
    }
}

/// Removes what was not used for the longest time until as much came free as rows tell.
fn remove_surplus(store: &Store, mut surplus: u64) -> Result<Pruned, BuildError> {
    let mut pruned = Pruned::default();
    let records = store.caches()?;
    let mut layers = LayerCounts::new(&records);
    let mut keys = Vec::new();
    for (item, bytes) in items(store, &records)? {
        if surplus == 0 {
            break;
        }
        match item {
            Item::Record(key) => {
                let record = records.iter().find(|record| record.key == key);
                let freed = record.map_or(0, |record| layers.remove(record, store));
                surplus = surplus.saturating_sub(freed);
                keys.push(key);
            }
            Item::Build(id) => {
                let freed = forget(store, &id)?;
                pruned.freed_bytes += freed;
                surplus = surplus.saturating_sub(freed);
            }
            Item::Mount(mount) => {
                // One that is in use right now is not garbage.
                if remove_cache_mount(store, &mount).is_ok() {
                    pruned.freed_bytes += bytes;
                    surplus = surplus.saturating_sub(bytes);
                }
            }
        }
    }
    pruned.freed_bytes += remove(store, &keys)?;
    pruned.freed_bytes += drop_unused_listings(store)?;
    pruned.keys = keys;
    Ok(pruned)
}

/// Returns everything in the order in which it goes: by the time of its last use, cache mounts after steps.
fn items(store: &Store, records: &[CacheRecord]) -> Result<Vec<(Item, u64)>, BuildError> {
    let mut found: Vec<(bool, i64, Item, u64)> = records
        .iter()
        .map(|record| (false, record.last_used_unix_ns, Item::Record(record.key), 0))
        .collect();
    for build in builds(store)? {
        found.push((false, build.started_unix_ns, Item::Build(build.id), 0));
    }
    for (mount, bytes) in cache_mounts(store)? {
        found.push((
            true,
            mount.last_used_unix_ns,
            Item::Mount(Box::new(mount)),
            bytes,
        ));
    }
    found.sort_by_key(|(is_mount, used, _, _)| (*is_mount, *used));
    Ok(found
        .into_iter()
        .map(|(_, _, item, bytes)| (item, bytes))
        .collect())
}

/// How many records keep each layer.
struct LayerCounts(HashMap<DiffId, usize>);

impl LayerCounts {
    fn new(records: &[CacheRecord]) -> Self {
        let mut counts = HashMap::new();
        for diff_id in records.iter().flat_map(|record| &record.diff_ids) {
            *counts.entry(*diff_id).or_default() += 1;
        }
        Self(counts)
    }

    /// Takes a record out; returns the bytes of layers that nothing keeps then.
    fn remove(&mut self, record: &CacheRecord, store: &Store) -> u64 {
        let mut freed = 0;
        for diff_id in &record.diff_ids {
            let Some(count) = self.0.get_mut(diff_id) else {
                continue;
            };
            *count -= 1;
            if *count > 0 {
                continue;
            }
            let has_other_owner = store
                .layer_owners(diff_id)
                .is_ok_and(|owners| !owners.images.is_empty() || !owners.containers.is_empty());
            if !has_other_owner && let Ok(Some(layer)) = store.layer(diff_id) {
                freed += layer.disk_bytes.unwrap_or(layer.size_bytes);
            }
        }
        freed
    }
}

/// Removes listings that no record mentions; returns the bytes that come free.
fn drop_unused_listings(store: &Store) -> Result<u64, BuildError> {
    let mentioned: String = store
        .caches()?
        .iter()
        .map(|record| record.explain.to_string())
        .collect();
    let directory = store.build_dir(BuildPart::Listings);
    let mut freed = 0;
    for entry in wharf_safefs::trusted::read_dir_sorted(&directory)? {
        let name = entry.name.to_string_lossy().into_owned();
        if !mentioned.contains(&name) {
            freed += store.discard_build_entry(BuildPart::Listings, &name)?;
        }
    }
    Ok(freed)
}

#[cfg(test)]
mod tests {
    use super::{MAX_DEFAULT_BYTES, default_cache_limit};

    #[test]
    fn budgets() {
        assert_eq!(default_cache_limit(100 << 30), 10 << 30);
        assert_eq!(default_cache_limit(1 << 50), MAX_DEFAULT_BYTES);
    }
}
