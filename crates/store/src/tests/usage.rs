//! Every byte has an owner.

use wharf_safefs::trusted;

use super::{TestStore, container, publish, put_image};
use crate::{NewVolume, Store};

/// Says that what is reported is what `du` says, within 1 %.
pub(super) fn assert_adds_up(store: &Store) {
    store.wait_for_removals();
    let reported = store.disk_usage().unwrap().total_bytes();
    let found = trusted::disk_usage(store.root()).unwrap().disk_bytes;
    assert!(
        reported.abs_diff(found) * 100 <= found,
        "reported {reported}, du says {found}"
    );
}

#[test]
fn invariant_3_sizes_add_up_to_what_du_says() {
    let test = TestStore::new();
    let big = vec![7_u8; 300_000];
    let base = publish(
        &test.store,
        &[("a", &big), ("b/c", b"small"), ("d/e/f", &big)],
    );
    let top = publish(&test.store, &[("g", &big)]);
    let loose = publish(&test.store, &[("h", &big)]);
    put_image(&test.store, &[&base, &top], "one");
    put_image(&test.store, &[&base], "two");
    test.store.put_blob(&big).unwrap();
    let directory = test
        .store
        .create_container(container("c1", "web", &[base.diff_id]))
        .unwrap();
    trusted::write_atomic(directory.join("upper/log"), &big, 0o644, false).unwrap();
    test.store
        .create_volume(&NewVolume {
            name: "data".to_owned(),
            ..NewVolume::default()
        })
        .unwrap();
    trusted::write_atomic(
        test.store.volume_path("data").unwrap().join("x"),
        &big,
        0o644,
        false,
    )
    .unwrap();
    assert_adds_up(&test.store);
    let usage = test.store.disk_usage().unwrap();
    assert!(usage.containers[0].1 >= 300_000 && usage.volumes[0].1 >= 300_000);
    let shared: Vec<bool> = usage
        .images
        .iter()
        .map(|image| image.shared_bytes >= 600_000)
        .collect();
    assert_eq!(shared, [true, true]);
    let exclusive: u64 = usage.images.iter().map(|image| image.exclusive_bytes).sum();
    assert!((300_000..340_000).contains(&exclusive), "{exclusive}");

    let staging = super::stage_files(&test.store, &[("staged", &big)]);
    assert_adds_up(&test.store);
    drop(staging);
    let freed = test.store.sweep().unwrap();
    assert!(freed.bytes >= 600_000, "{freed:?}");
    assert!(test.store.layer(&loose.diff_id).unwrap().is_none());
    assert_adds_up(&test.store);
    assert_adds_up(&test.reopen().store);
}

#[test]
fn layers_are_measured_soon_after_they_are_published() {
    let test = TestStore::new();
    let layer = publish(&test.store, &[("a", &[1; 10_000])]);
    test.store.wait_for_removals();
    let disk_bytes = test
        .store
        .layer(&layer.diff_id)
        .unwrap()
        .unwrap()
        .disk_bytes
        .unwrap();
    assert!((10_000..60_000).contains(&disk_bytes), "{disk_bytes}");
}
