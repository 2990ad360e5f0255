//! Images and names.

use wharf_image::{Descriptor, Digest, chain_ids};

use super::{TestStore, config_of, name, publish, put_image};
use crate::{Kind, NewImage, StoreError};

fn document(text: &str) -> (Descriptor, Vec<u8>) {
    let bytes = text.as_bytes().to_vec();
    let descriptor = Descriptor {
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
        urls: Vec::new(),
        annotations: [("a".to_owned(), "b".to_owned())].into(),
        platform: None,
    };
    (descriptor, bytes)
}

#[test]
fn an_image_keeps_its_bytes_and_tells_what_it_is() {
    let test = TestStore::new();
    let base = publish(&test.store, &[("etc/a", b"one")]);
    let top = publish(&test.store, &[("etc/b", b"three")]);
    let config = config_of(&[base.diff_id, top.diff_id], "kept as it came");
    let new = NewImage {
        manifest: Some(document("{\"manifest\":1}")),
        index: Some(document("{\"index\":1}")),
        ..NewImage::of(&config)
    };
    let image = test.store.put_image(&new).unwrap();
    assert_eq!(image.id, Digest::of(&config));
    assert_eq!(image.size_bytes, 8);
    assert_eq!(image.created_unix_ns, 1_714_979_289_500_000_000);
    assert!(!image.built_here);
    assert_eq!(
        image.manifest,
        new.manifest
            .as_ref()
            .map(|(descriptor, _)| descriptor.clone())
    );
    assert_eq!(
        image.index,
        new.index.as_ref().map(|(descriptor, _)| descriptor.clone())
    );
    let test = test.reopen();
    assert_eq!(
        test.store.read_blob(&image.id, 1 << 20).unwrap().unwrap(),
        config
    );
    let again = test.store.image(&image.id).unwrap().unwrap();
    assert_eq!(
        (again.id, again.size_bytes, again.manifest),
        (image.id, 8, image.manifest)
    );
    assert_eq!(test.store.images().unwrap().len(), 1);
}

#[test]
fn every_digest_of_an_image_finds_it() {
    let test = TestStore::new();
    let (manifest, index) = (document("{\"manifest\":2}"), document("{\"index\":2}"));
    let config = config_of(&[], "empty");
    let new = NewImage {
        manifest: Some(manifest.clone()),
        index: Some(index.clone()),
        ..NewImage::of(&config)
    };
    let id = test.store.put_image(&new).unwrap().id;
    for digest in [id, manifest.0.digest, index.0.digest] {
        for length in [1, 12, 64] {
            assert_eq!(
                test.store.find_by_prefix(&digest.hex()[..length]).unwrap(),
                [id]
            );
        }
    }
    for prefix in ["", "xyz", "ABC", &format!("{}0", id.hex()), "%", "sha256:"] {
        assert!(
            test.store.find_by_prefix(prefix).unwrap().is_empty(),
            "{prefix}"
        );
    }
    assert_eq!(test.store.images_of_index(&index.0.digest).unwrap(), [id]);
}

#[test]
fn an_image_without_its_layers_is_refused() {
    let test = TestStore::new();
    let missing = Digest::of("missing");
    let error = test
        .store
        .put_image(&NewImage::of(&config_of(&[missing], "")))
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::NotFound {
                kind: Kind::Layer,
                ..
            }
        ),
        "{error}"
    );
    assert!(test.store.images().unwrap().is_empty());
}

#[test]
fn documents_that_are_not_what_they_say_are_refused() {
    let test = TestStore::new();
    let (mut descriptor, bytes) = document("{}");
    descriptor.digest = Digest::of("other");
    let config = config_of(&[], "");
    let new = NewImage {
        manifest: Some((descriptor, bytes)),
        ..NewImage::of(&config)
    };
    assert!(matches!(
        test.store.put_image(&new),
        Err(StoreError::DigestMismatch { .. })
    ));
    assert!(matches!(
        test.store.put_image(&NewImage::of(b"not json")),
        Err(StoreError::Invalid { .. })
    ));
}

#[test]
fn names_point_move_and_go() {
    let test = TestStore::new();
    let (one, two) = (
        put_image(&test.store, &[], "one"),
        put_image(&test.store, &[], "two"),
    );
    let digested = name("alpine").with_digest(Digest::of("manifest"));
    assert_eq!(test.store.tag(&name("alpine:3"), &one.id).unwrap(), None);
    assert_eq!(test.store.tag(&digested, &one.id).unwrap(), None);
    assert_eq!(
        test.store.tag(&name("alpine:3"), &two.id).unwrap(),
        Some(one.id)
    );
    assert_eq!(
        test.store
            .resolve(&name("docker.io/library/alpine:3"))
            .unwrap(),
        Some(two.id)
    );
    assert_eq!(test.store.resolve(&name("alpine:4")).unwrap(), None);
    assert_eq!(
        test.store.names_of(&one.id).unwrap(),
        std::slice::from_ref(&digested)
    );
    assert_eq!(
        test.store.names().unwrap(),
        [(name("alpine:3"), two.id), (digested.clone(), one.id)]
    );
    assert!(
        test.store
            .image(&two.id)
            .unwrap()
            .unwrap()
            .last_tag_unix_ns
            .is_some()
    );
    assert_eq!(test.store.untag(&digested).unwrap(), Some(one.id));
    assert_eq!(test.store.untag(&digested).unwrap(), None);
    assert!(matches!(
        test.store.tag(&name("alpine"), &one.id),
        Err(StoreError::Invalid { .. })
    ));
    let nobody = Digest::of("nobody");
    assert!(matches!(
        test.store.tag(&name("a:1"), &nobody),
        Err(StoreError::NotFound {
            kind: Kind::Image,
            ..
        })
    ));
}

#[test]
fn deleting_an_image_releases_what_nothing_shares() {
    let test = TestStore::new();
    let base = publish(&test.store, &[("base", b"base")]);
    let left = publish(&test.store, &[("left", b"left")]);
    let right = publish(&test.store, &[("right", b"right")]);
    let one = put_image(&test.store, &[&base, &left], "one");
    let two = put_image(&test.store, &[&base, &left, &right], "two");
    test.store.tag(&name("two:1"), &two.id).unwrap();
    let chain = chain_ids(&[base.diff_id, left.diff_id, right.diff_id]);

    let error = test.store.delete_image(&two.id).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "image {} is in use by the name docker.io/library/two:1",
            two.id.short()
        )
    );
    test.store.untag(&name("two:1")).unwrap();
    assert_eq!(test.store.delete_image(&two.id).unwrap(), [chain[2]]);
    assert!(test.store.layer(&right.diff_id).unwrap().is_none());
    assert!(test.store.layer(&left.diff_id).unwrap().is_some());
    assert_eq!(
        test.store.delete_image(&one.id).unwrap(),
        [chain[1], chain[0]]
    );
    assert!(matches!(
        test.store.delete_image(&one.id),
        Err(StoreError::NotFound { .. })
    ));
    test.store.wait_for_removals();
    for below in ["layers", "blobs/sha256", "tmp"] {
        assert!(super::list(&test.path(below)).is_empty(), "{below}");
    }
}

#[test]
fn children_know_their_parent_until_it_is_gone() {
    let test = TestStore::new();
    let parent = put_image(&test.store, &[], "parent");
    let config = config_of(&[], "child");
    let child = test
        .store
        .put_image(&NewImage {
            parent: Some(parent.id),
            ..NewImage::of(&config)
        })
        .unwrap();
    assert_eq!(test.store.children(&parent.id).unwrap(), [child.id]);
    // Putting it again without a parent (a pull) forgets nothing.
    assert_eq!(
        test.store.put_image(&NewImage::of(&config)).unwrap().parent,
        Some(parent.id)
    );
    test.store.delete_image(&parent.id).unwrap();
    assert_eq!(test.store.image(&child.id).unwrap().unwrap().parent, None);
}

#[test]
fn a_damaged_config_hides_one_image_not_the_list() {
    let test = TestStore::new();
    let bad = put_image(&test.store, &[], "bad");
    let good = put_image(&test.store, &[], "good");
    let path = test.path("blobs/sha256").join(bad.id.hex());
    wharf_safefs::trusted::write_atomic(&path, b"{}", 0o600, false).unwrap();
    let test = test.reopen();
    let listed: Vec<_> = test
        .store
        .images()
        .unwrap()
        .iter()
        .map(|image| image.id)
        .collect();
    assert_eq!(listed, [good.id]);
    let error = test.store.image(&bad.id).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    test.store.delete_image(&bad.id).unwrap();
}

#[test]
fn putting_an_image_again_changes_only_what_is_new() {
    let test = TestStore::new();
    let config = config_of(&[], "again");
    let first = test.store.put_image(&NewImage::of(&config)).unwrap();
    let with_manifest = NewImage {
        manifest: Some(document("{\"m\":1}")),
        built_here: true,
        ..NewImage::of(&config)
    };
    for new in [&with_manifest, &with_manifest, &NewImage::of(&config)] {
        let image = test.store.put_image(new).unwrap();
        assert_eq!((image.id, image.built_here), (first.id, true));
        assert_eq!(image.manifest, Some(document("{\"m\":1}").0));
    }
    let second = NewImage {
        manifest: Some(document("{\"m\":2}")),
        ..NewImage::of(&config)
    };
    assert_eq!(
        test.store.put_image(&second).unwrap().manifest,
        Some(document("{\"m\":2}").0)
    );
    // Both digests name it.
    for text in ["{\"m\":1}", "{\"m\":2}"] {
        let hex = Digest::of(text).hex();
        assert_eq!(test.store.find_by_prefix(&hex).unwrap(), [first.id]);
    }
}

#[test]
fn many_images_go_in_one_transaction() {
    let test = TestStore::new();
    let base = publish(&test.store, &[("base", b"base")]);
    let top = publish(&test.store, &[("top", b"top")]);
    let parent = put_image(&test.store, &[&base], "parent");
    let config = config_of(&[base.diff_id, top.diff_id], "child");
    let child = test
        .store
        .put_image(&NewImage {
            parent: Some(parent.id),
            ..NewImage::of(&config)
        })
        .unwrap();
    let other = put_image(&test.store, &[&base], "other");
    for (text, image) in [("named:1", &child), ("named:2", &child), ("other", &other)] {
        let name = name(text).with_default_tag();
        test.store.tag(&name, &image.id).unwrap();
    }
    let named = vec![name("named:1"), name("named:2")];
    let syncs = || {
        let count = |connection: &rusqlite::Connection| {
            let sql = "SELECT coalesce(max(value), '0') FROM settings WHERE key = 'store.syncs'";
            let count: String = connection.query_row(sql, [], |row| row.get(0))?;
            Ok(count.parse::<u64>().unwrap())
        };
        test.store.inner.database.read("count", count).unwrap()
    };
    let used = || {
        let usage = test.store.layer_usage().unwrap();
        usage.layers_bytes + usage.blobs_bytes
    };
    let (syncs_before, used_before) = (syncs(), used());
    let images = [
        // Another image was made on it, still.
        (parent.id, Vec::new()),
        (child.id, vec![name("named:1")]),
        (child.id, named.clone()),
        (child.id, named),
        // It has a name.
        (other.id, Vec::new()),
        (parent.id, Vec::new()),
    ];
    let (released, report) = test.store.delete_images(&images).unwrap();
    let chain = chain_ids(&[base.diff_id, top.diff_id]);
    assert_eq!(
        released,
        [
            None,
            None,
            Some(vec![chain[1]]),
            None,
            None,
            Some(Vec::new())
        ]
    );
    assert_eq!(syncs() - syncs_before, 1, "however many there are");
    assert_eq!((report.layers, report.blobs), (1, 2));
    assert_eq!(report.bytes, used_before - used());
    let left: Vec<_> = test.store.images().unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id, other.id);
    assert!(test.store.resolve(&name("named:1")).unwrap().is_none());
    test.store.wait_for_removals();
    assert!(super::list(&test.path("tmp")).is_empty());
    assert_eq!(super::list(&test.path("layers")).len(), 1);
    assert_eq!(super::list(&test.path("blobs/sha256")), [other.id.hex()]);
    let test = test.reopen();
    assert_eq!(test.store.images().unwrap().len(), 1);
}
