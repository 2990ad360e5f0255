//! Containers, volumes, settings and documents.

use std::collections::BTreeMap;

use serde_json::json;
use wharf_image::Digest;

use super::{TestStore, container, list, publish};
use crate::{Kind, NewVolume, StoreError};

#[test]
fn a_container_has_a_directory_and_a_row() {
    let test = TestStore::new();
    let layer = publish(&test.store, &[("a", b"x")]);
    let row = container("c1", "web", &[layer.diff_id, layer.diff_id]);
    let directory = test.store.create_container(row.clone()).unwrap();
    assert_eq!(directory, test.store.container_dir("c1").unwrap());
    assert_eq!(list(&directory), ["upper", "work"]);
    assert_eq!(test.store.container("c1").unwrap(), Some(row.clone()));

    let document = json!({"state": "running", "pid": 7});
    test.store.update_container("c1", &document).unwrap();
    test.store.rename_container("c1", "db").unwrap();
    test.store.rename_container("c1", "db").unwrap();
    let test = test.reopen();
    let expected = crate::ContainerRow {
        name: "db".to_owned(),
        document,
        ..row
    };
    assert_eq!(test.store.containers().unwrap(), [expected]);

    test.store.delete_container("c1").unwrap();
    test.store.wait_for_removals();
    assert!(list(&test.path("containers")).is_empty());
    assert!(
        test.store
            .delete_container("c1")
            .unwrap_err()
            .is_not_found()
    );
    assert!(
        test.store
            .update_container("c1", &json!({}))
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn names_of_containers_are_taken_once() {
    let test = TestStore::new();
    test.store
        .create_container(container("c1", "web", &[]))
        .unwrap();
    for row in [container("c1", "other", &[]), container("c2", "web", &[])] {
        let error = test.store.create_container(row).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::AlreadyExists {
                    kind: Kind::Container,
                    ..
                }
            ),
            "{error}"
        );
    }
    test.store
        .create_container(container("c2", "db", &[]))
        .unwrap();
    let error = test.store.rename_container("c2", "web").unwrap_err();
    assert_eq!(error.to_string(), "container web exists already (c1)");
    let missing = container("c3", "x1", &[Digest::of("missing")]);
    assert!(
        test.store
            .create_container(missing)
            .unwrap_err()
            .is_not_found()
    );
    test.store.wait_for_removals();
    assert_eq!(list(&test.path("containers")), ["c1", "c2"]);
}

#[test]
fn nothing_hostile_becomes_a_path() {
    let test = TestStore::new();
    for bad in [
        "", ".", "..", "../x", "a/b", "/etc", "-a", ".a", "a b", "a\0b", "ä", "a\n",
    ] {
        assert!(
            test.store
                .create_container(container(bad, "fine", &[]))
                .is_err(),
            "{bad:?}"
        );
        assert!(test.store.container_dir(bad).is_err(), "{bad:?}");
        assert!(test.store.volume_path(bad).is_err(), "{bad:?}");
        let volume = NewVolume {
            name: bad.to_owned(),
            ..NewVolume::default()
        };
        assert!(test.store.create_volume(&volume).is_err(), "{bad:?}");
    }
    assert!(list(&test.path("containers")).is_empty());
    assert!(list(&test.path("volumes")).is_empty());
}

#[test]
fn volumes_come_and_go_with_their_files() {
    let test = TestStore::new();
    let new = NewVolume {
        name: "data".to_owned(),
        labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        options: BTreeMap::from([("o".to_owned(), "size=1".to_owned())]),
        anonymous: true,
        ..NewVolume::default()
    };
    let volume = test.store.create_volume(&new).unwrap();
    assert_eq!(
        (volume.driver.as_str(), &volume.labels),
        ("local", &new.labels)
    );
    assert!(matches!(
        test.store.create_volume(&new),
        Err(StoreError::AlreadyExists { .. })
    ));
    let files = test.store.volume_path("data").unwrap();
    wharf_safefs::trusted::write_atomic(files.join("f"), b"x", 0o644, false).unwrap();
    let test = test.reopen();
    assert_eq!(test.store.volume("data").unwrap(), Some(volume.clone()));
    assert_eq!(test.store.volumes().unwrap(), [volume]);
    test.store.delete_volume("data").unwrap();
    assert!(test.store.delete_volume("data").unwrap_err().is_not_found());
    test.store.wait_for_removals();
    assert!(list(&test.path("volumes")).is_empty());
}

#[test]
fn settings_and_documents_are_kept() {
    let test = TestStore::new();
    assert_eq!(test.store.setting("engine-id").unwrap(), None);
    test.store.set_setting("engine-id", "one").unwrap();
    test.store.set_setting("engine-id", "two").unwrap();
    test.store
        .put_document("network", "b", &json!({"subnet": 1}))
        .unwrap();
    test.store
        .put_document("network", "a", &json!([1, 2]))
        .unwrap();
    test.store.put_document("other", "a", &json!(null)).unwrap();
    let test = test.reopen();
    assert_eq!(test.store.setting("engine-id").unwrap().unwrap(), "two");
    let networks = test.store.documents("network").unwrap();
    assert_eq!(
        networks,
        [
            ("a".to_owned(), json!([1, 2])),
            ("b".to_owned(), json!({"subnet": 1}))
        ]
    );
    assert!(test.store.delete_document("network", "a").unwrap());
    assert!(!test.store.delete_document("network", "a").unwrap());
    assert_eq!(test.store.document("network", "a").unwrap(), None);
    assert_eq!(
        test.store.document("other", "a").unwrap(),
        Some(json!(null))
    );
}
