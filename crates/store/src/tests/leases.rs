//! What a sweep takes and what it leaves.

use wharf_image::Digest;

use super::{TestStore, container, publish, put_image};
use crate::{LayerOwners, SweepReport};

#[test]
fn a_sweep_takes_what_nothing_owns() {
    let test = TestStore::new();
    let owned = publish(&test.store, &[("a", b"owned")]);
    let of_container = publish(&test.store, &[("a", b"container")]);
    let loose = publish(&test.store, &[("a", b"loose")]);
    let blob = test.store.put_blob(b"loose").unwrap();
    put_image(&test.store, &[&owned], "");
    test.store
        .create_container(container("c1", "name", &[of_container.diff_id]))
        .unwrap();
    test.store.wait_for_removals();
    let report = test.store.sweep().unwrap();
    assert_eq!((report.layers, report.blobs), (1, 1));
    assert!(report.bytes > 0);
    assert!(test.store.layer(&loose.diff_id).unwrap().is_none());
    assert!(test.store.blob(&blob).unwrap().is_none());
    for layer in [&owned, &of_container] {
        assert!(test.store.layer(&layer.diff_id).unwrap().is_some());
    }
    assert_eq!(test.store.sweep().unwrap(), SweepReport::default());
    test.store.delete_container("c1").unwrap();
    assert!(test.store.layer(&of_container.diff_id).unwrap().is_none());
}

#[test]
fn a_lease_keeps_what_is_made_or_held_under_it() {
    let test = TestStore::new();
    let before = publish(&test.store, &[("a", b"before")]);
    let lease = test.store.lease("pull alpine").unwrap();
    assert_eq!(
        lease.hold_layer(&before.diff_id).unwrap().unwrap().number,
        before.number
    );
    assert!(lease.hold_layer(&Digest::of("no")).unwrap().is_none());
    let made = publish(&test.store, &[("a", b"made")]);
    let blob = test.store.put_blob(b"made").unwrap();
    assert!(lease.hold_blob(&blob).unwrap());
    let owners = test.store.layer_owners(&made.diff_id).unwrap();
    assert_eq!(
        owners,
        LayerOwners {
            leases: vec!["pull alpine".to_owned()],
            ..LayerOwners::default()
        }
    );
    assert_eq!(test.store.sweep().unwrap(), SweepReport::default());
    drop(lease);
    let report = test.store.sweep().unwrap();
    assert_eq!((report.layers, report.blobs), (2, 1));
}

#[test]
fn a_held_image_outlives_its_deletion() {
    let test = TestStore::new();
    let layer = publish(&test.store, &[("a", b"x")]);
    let image = put_image(&test.store, &[&layer], "");
    let lease = test.store.lease("save").unwrap();
    assert!(lease.hold_image(&image.id).unwrap().is_some());
    assert_eq!(test.store.delete_image(&image.id).unwrap(), [layer.diff_id]);
    test.store
        .write_layer_tar(&layer.diff_id, &mut std::io::sink())
        .unwrap();
    assert!(test.store.read_blob(&image.id, 1 << 20).unwrap().is_some());
    drop(lease);
    assert_eq!(test.store.sweep().unwrap().layers, 1);
}

#[test]
fn sweeps_and_operations_run_beside_each_other() {
    let test = TestStore::new();
    std::thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            for _ in 0..200 {
                test.store.sweep().unwrap();
            }
        });
        for thread in 0..3 {
            let store = &test.store;
            scope.spawn(move || {
                for round in 0..15 {
                    let _lease = store.lease("build").unwrap();
                    let shared = publish(store, &[("shared", b"shared")]);
                    let own = publish(store, &[("own", format!("{thread} {round}").as_bytes())]);
                    let image = put_image(store, &[&shared, &own], "");
                    for layer in [&shared, &own] {
                        store
                            .write_layer_tar(&layer.diff_id, &mut std::io::sink())
                            .unwrap();
                    }
                    store.delete_image(&image.id).unwrap();
                }
            });
        }
        sweeper.join().unwrap();
    });
    test.store.sweep().unwrap();
    assert!(test.store.layers().unwrap().is_empty());
    test.store.wait_for_removals();
    assert!(super::list(&test.path("layers")).is_empty());
    assert!(super::list(&test.path("blobs/sha256")).is_empty());
}
