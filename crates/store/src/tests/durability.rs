//! What is durable when, and what another boot finds.

use wharf_safefs::trusted;

use super::{TestStore, name, publish, put_image};
use crate::{CacheRecord, Layer};

fn sealed(test: &TestStore, layer: &Layer) -> bool {
    let connection = rusqlite::Connection::open(test.path("wharf.db")).unwrap();
    connection
        .query_row(
            "SELECT sealed FROM layers WHERE number = ?1",
            [layer.number],
            |row| row.get(0),
        )
        .unwrap()
}

fn record(key: &str, layer: &Layer) -> CacheRecord {
    CacheRecord {
        key: wharf_image::Digest::of(key),
        diff_ids: vec![layer.diff_id],
        config: Some(key.as_bytes().to_vec()),
        description: String::new(),
        explain: serde_json::Value::Null,
        size_bytes: 0,
        created_unix_ns: 0,
        last_used_unix_ns: 0,
        use_count: 0,
    }
}

/// Stands for data that a power cut lost: the file is there with its size, its blocks are not.
fn zero_file(test: &TestStore, layer: &Layer) {
    let path = test
        .path("layers")
        .join(layer.number.to_string())
        .join("fs/a");
    trusted::write_atomic(path, &[0; 4], 0o644, false).unwrap();
}

#[test]
fn invariant_2_layers_are_sealed_before_their_image_is_there() {
    let test = TestStore::new();
    let layer = publish(&test.store, &[("a", b"data")]);
    assert!(!sealed(&test, &layer));
    put_image(&test.store, &[&layer], "");
    assert!(sealed(&test, &layer));
    // Many files are synced with the whole file system.
    let names: Vec<String> = (0..100).map(|number| format!("d/{number}")).collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), name.as_bytes()))
        .collect();
    let large = publish(&test.store, &files);
    put_image(&test.store, &[&layer, &large], "");
    assert!(sealed(&test, &large));
}

#[test]
fn invariant_2_unsealed_layers_are_verified_after_a_boot() {
    let test = TestStore::new();
    let (whole, torn) = (
        publish(&test.store, &[("a", b"good")]),
        publish(&test.store, &[("a", b"torn")]),
    );
    test.store.put_cache(&record("whole", &whole)).unwrap();
    test.store.put_cache(&record("torn", &torn)).unwrap();
    zero_file(&test, &torn);

    // Within one boot the page cache still has all that was written: nothing is read again.
    let test = test.reopen();
    assert_eq!(test.store.open_report(), &crate::OpenReport::default());
    let test = test.reboot("another boot");
    let report = test.store.open_report();
    assert!(report.booted);
    // One layer and both configs.
    assert_eq!(
        (report.verified, report.lost_layers.as_slice()),
        (3, [torn.diff_id].as_slice())
    );
    assert_eq!(report.lost_cache_records, 1);
    assert!(
        test.store
            .cache(&record("torn", &torn).key)
            .unwrap()
            .is_none()
    );
    assert!(
        test.store
            .cache(&record("whole", &whole).key)
            .unwrap()
            .is_some()
    );
    test.store.wait_for_removals();
    assert_eq!(
        super::list(&test.path("layers")),
        [whole.number.to_string()]
    );
    // What was verified was on disk: the next boot does not read it again.
    let test = test.reboot("a third boot");
    assert_eq!(test.store.open_report().verified, 0);
}

#[test]
fn sealed_layers_are_not_read_again() {
    let test = TestStore::new();
    let layer = publish(&test.store, &[("a", b"data")]);
    let image = put_image(&test.store, &[&layer], "");
    test.store.tag(&name("a:1"), &image.id).unwrap();
    let test = test.reboot("another boot");
    let report = test.store.open_report();
    assert!(report.booted && report.verified == 0 && report.lost_layers.is_empty());
    assert_eq!(test.store.resolve(&name("a:1")).unwrap(), Some(image.id));
}

#[test]
fn unsealed_blobs_are_verified_after_a_boot() {
    let test = TestStore::new();
    let layer = publish(&test.store, &[("a", b"data")]);
    test.store.put_cache(&record("one", &layer)).unwrap();
    let config = wharf_image::Digest::of("one");
    trusted::write_atomic(
        test.path("blobs/sha256").join(config.hex()),
        b"\0\0\0",
        0o600,
        false,
    )
    .unwrap();
    let test = test.reboot("another boot");
    assert_eq!(test.store.open_report().lost_cache_records, 1);
    assert!(test.store.blob(&config).unwrap().is_none());
    assert!(test.store.layer(&layer.diff_id).unwrap().is_none());
}
