//! Build cache records.

use serde_json::json;
use wharf_image::{DiffId, Digest};

use super::{TestStore, publish, put_image};
use crate::{CacheRecord, Layer};

fn record(key: &str, chain: &[&Layer], config: Option<&[u8]>) -> CacheRecord {
    let diff_ids: Vec<DiffId> = chain.iter().map(|layer| layer.diff_id).collect();
    CacheRecord {
        key: Digest::of(key),
        diff_ids,
        config: config.map(<[u8]>::to_vec),
        description: format!("RUN {key}"),
        explain: json!({"instruction": key}),
        size_bytes: 3,
        created_unix_ns: 0,
        last_used_unix_ns: 0,
        use_count: 0,
    }
}

#[test]
fn a_record_is_found_by_its_key_and_counts_its_hits() {
    let test = TestStore::new();
    let layer = publish(&test.store, &[("a", b"x")]);
    let new = record("one", &[&layer], Some(b"{}"));
    test.store.put_cache(&new).unwrap();
    let found = test.store.cache(&new.key).unwrap().unwrap();
    let stored = CacheRecord {
        created_unix_ns: found.created_unix_ns,
        last_used_unix_ns: found.last_used_unix_ns,
        ..new.clone()
    };
    assert_eq!(found, stored);
    assert!(found.created_unix_ns > 0);
    assert!(test.store.cache(&Digest::of("other")).unwrap().is_none());
    let test = test.reopen();
    let listed = test.store.caches().unwrap();
    assert_eq!((listed.len(), listed[0].use_count), (1, 1));
    assert!(listed[0].last_used_unix_ns > found.created_unix_ns);
    let config = Digest::of(b"{}");
    assert_eq!(
        test.store.find_cached_config(&config.hex()[..8]).unwrap(),
        [config]
    );
}

#[test]
fn records_keep_their_layers_and_give_them_back() {
    let test = TestStore::new();
    let (base, top) = (
        publish(&test.store, &[("a", b"x")]),
        publish(&test.store, &[("b", b"y")]),
    );
    test.store
        .put_cache(&record("one", &[&base], None))
        .unwrap();
    test.store
        .put_cache(&record("two", &[&base, &top], Some(b"{}")))
        .unwrap();
    put_image(&test.store, &[&base], "");
    assert_eq!(test.store.sweep().unwrap().layers, 0);
    test.store.wait_for_removals();
    let usage = test.store.disk_usage().unwrap();
    assert_eq!(usage.cache.len(), 2);
    assert!(usage.cache_only_bytes > 0);
    let keys = [Digest::of("one"), Digest::of("two"), Digest::of("unknown")];
    let freed = test.store.delete_cache(&keys).unwrap();
    assert!(
        freed >= usage.cache_only_bytes,
        "{freed} {}",
        usage.cache_only_bytes
    );
    assert!(test.store.layer(&top.diff_id).unwrap().is_none());
    assert!(test.store.layer(&base.diff_id).unwrap().is_some());
    assert!(test.store.caches().unwrap().is_empty());
}

#[test]
fn a_record_needs_its_layers() {
    let test = TestStore::new();
    let mut new = record("one", &[], None);
    new.diff_ids.push(Digest::of("missing"));
    assert!(test.store.put_cache(&new).unwrap_err().is_not_found());
    assert!(test.store.cache(&new.key).unwrap().is_none());
}
