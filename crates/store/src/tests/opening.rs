//! Opening: the lock, versions, and what a crash left between directories and rows.

use std::os::unix::fs::PermissionsExt;

use wharf_image::Digest;
use wharf_safefs::trusted;

use super::{TestStore, container, list, name, publish, put_image};
use crate::{NewVolume, Store, StoreError};

/// Version 1 as it was first written; never changed.
const FIRST_VERSION: &str = include_str!("../../tests/fixtures/version-1.sql");

fn mode_of(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn others_can_list_nothing() {
    let test = TestStore::new();
    let expected = [
        ("", 0o711),
        ("blobs", 0o700),
        ("blobs/sha256", 0o700),
        ("layers", 0o700),
        ("containers", 0o700),
        ("volumes", 0o711),
        ("tmp", 0o700),
        ("wharf.db", 0o600),
        ("wharf.db-wal", 0o600),
        ("lock", 0o600),
    ];
    for (path, mode) in expected {
        assert_eq!(mode_of(&test.path(path)), mode, "{path}");
    }
    for path in ["", "layers"] {
        trusted::chmod(test.path(path), 0o777).unwrap();
    }
    let test = test.reopen();
    assert_eq!(
        (mode_of(test.store.root()), mode_of(&test.path("layers"))),
        (0o711, 0o700)
    );
}

#[test]
fn a_second_daemon_is_told_who_was_first() {
    let test = TestStore::new();
    let error = Store::open(test.store.root()).unwrap_err();
    let pid = std::process::id();
    assert_eq!(
        error.to_string(),
        format!(
            "another daemon (pid {pid}) uses {}",
            test.store.root().display()
        )
    );
    assert!(error.hint().is_some());
    test.reopen();
}

#[test]
fn the_first_version_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    trusted::create_dir_all(root.join("volumes/data/_data"), 0o755).unwrap();
    let connection = rusqlite::Connection::open(root.join("wharf.db")).unwrap();
    connection.execute_batch(FIRST_VERSION).unwrap();
    drop(connection);
    let store = Store::open(root).unwrap();
    assert_eq!(store.setting("engine-id").unwrap().unwrap(), "ABCD");
    assert_eq!(store.containers().unwrap()[0].name, "web");
    assert_eq!(store.volumes().unwrap()[0].labels["purpose"], "test");
    assert_eq!(
        store.documents("network").unwrap()[0].1["subnet"],
        "10.0.0.0/24"
    );
    // Its image's files are not there; that is told.
    assert_eq!(store.open_report().lost_images[0].1, [name("alpine:3.20")]);
    assert_eq!(store.open_report().damaged_containers, ["c1"]);
    assert_eq!(store.open_report().emptied, ["container c1"]);
}

#[test]
fn a_newer_version_is_left_alone() {
    let test = TestStore::new();
    let root = test.store.root().to_path_buf();
    let TestStore { store, directory } = test;
    drop(store);
    let connection = rusqlite::Connection::open(root.join("wharf.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Store::open(&root).unwrap_err();
    assert!(
        matches!(error, StoreError::NewerFormat { found: 99, .. }),
        "{error}"
    );
    drop(directory);
}

#[test]
fn data_without_a_database_is_not_swept() {
    let test = TestStore::new();
    publish(&test.store, &[("a", b"x")]);
    let root = test.store.root().to_path_buf();
    let TestStore { store, directory } = test;
    drop(store);
    for file in ["wharf.db", "wharf.db-wal", "wharf.db-shm"] {
        trusted::remove_all(root.join(file)).unwrap();
    }
    let error = Store::open(&root).unwrap_err();
    assert!(
        matches!(error, StoreError::DatabaseMissing { .. }),
        "{error}"
    );
    assert_eq!(list(&root.join("layers")).len(), 1);
    drop(directory);
}

#[test]
fn files_without_rows_are_removed() {
    let test = TestStore::new();
    let kept = publish(&test.store, &[("a", b"x")]);
    put_image(&test.store, &[&kept], "");
    for path in [
        "layers/77/fs",
        "layers/odd",
        "containers/gone/upper",
        "volumes/empty/_data",
        "tmp/stage-1/fs",
    ] {
        trusted::create_dir_all(test.path(path), 0o755).unwrap();
    }
    for path in [
        "blobs/sha256/odd".to_owned(),
        format!("blobs/sha256/{}", Digest::of("x").hex()),
    ] {
        trusted::write_atomic(test.path(&path), b"x", 0o600, false).unwrap();
    }
    let test = test.reopen();
    test.store.wait_for_removals();
    assert_eq!(test.store.open_report().removed_orphans, 6);
    assert_eq!(list(&test.path("layers")), [kept.number.to_string()]);
    for path in ["containers", "volumes", "tmp"] {
        assert!(list(&test.path(path)).is_empty(), "{path}");
    }
    assert_eq!(list(&test.path("blobs/sha256")).len(), 1);
    // Numbers of what was found are not used again.
    assert!(publish(&test.store, &[("b", b"x")]).number > 77);
}

#[test]
fn rows_without_files_are_told_and_dropped() {
    let test = TestStore::new();
    let (kept, lost) = (
        publish(&test.store, &[("a", b"x")]),
        publish(&test.store, &[("b", b"x")]),
    );
    let whole = put_image(&test.store, &[&kept], "whole");
    let broken = put_image(&test.store, &[&kept, &lost], "broken");
    let configless = put_image(&test.store, &[&kept], "configless");
    test.store.tag(&name("broken:1"), &broken.id).unwrap();
    test.store
        .create_container(container("c1", "web", &[lost.diff_id]))
        .unwrap();
    test.store
        .create_volume(&NewVolume {
            name: "data".to_owned(),
            ..NewVolume::default()
        })
        .unwrap();
    for path in [
        format!("layers/{}", lost.number),
        "volumes/data".to_owned(),
        format!("blobs/sha256/{}", configless.id.hex()),
    ] {
        trusted::remove_all(test.path(&path)).unwrap();
    }
    let test = test.reopen();
    let report = test.store.open_report();
    assert_eq!(report.lost_layers, [lost.diff_id]);
    let mut expected = vec![(broken.id, vec![name("broken:1")]), (configless.id, vec![])];
    expected.sort();
    assert_eq!(report.lost_images, expected);
    assert_eq!(report.damaged_containers, ["c1"]);
    assert_eq!(report.emptied, ["volume data"]);
    assert_eq!(test.store.images().unwrap().len(), 1);
    assert!(test.store.image(&whole.id).unwrap().is_some());
    assert!(
        test.store
            .layer_dirs(&[lost.diff_id])
            .unwrap_err()
            .is_not_found()
    );
    assert!(test.store.volume_path("data").unwrap().exists());
    let test = test.reopen();
    assert_eq!(test.store.open_report(), &crate::OpenReport::default());
}

#[test]
fn a_volume_with_files_is_never_swept() {
    let test = TestStore::new();
    trusted::create_dir_all(test.path("volumes/mine/_data"), 0o755).unwrap();
    trusted::write_atomic(test.path("volumes/mine/_data/f"), b"precious", 0o644, false).unwrap();
    let test = test.reopen();
    assert_eq!(test.store.open_report().adopted_volumes, ["mine"]);
    assert!(test.store.volume("mine").unwrap().is_some());
    assert!(test.path("volumes/mine/_data/f").exists());
}
