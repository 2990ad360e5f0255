//! Layers and blobs.

use std::io::{Read, Write};

use wharf_image::{Digest, LayerCompression};
use wharf_layer::summarize;

use super::{TestStore, list, publish, put_image, stage_files};
use crate::{Kind, LayerBlob, NewLayer, StoreError};

#[test]
fn invariant_1_a_layer_is_named_by_what_it_holds() {
    let test = TestStore::new();
    let first = publish(&test.store, &[("a", b"same"), ("b/c", b"")]);
    let second = publish(&test.store, &[("a", b"same"), ("b/c", b"")]);
    assert_eq!(
        (first.number, first.diff_id),
        (second.number, second.diff_id)
    );
    test.store.wait_for_removals();
    assert_eq!(list(&test.path("layers")), [first.number.to_string()]);
    assert!(list(&test.path("tmp")).is_empty());
}

#[test]
fn many_threads_publish_one_layer_once() {
    let test = TestStore::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| publish(&test.store, &[("file", b"content")]));
        }
    });
    test.store.wait_for_removals();
    assert_eq!(list(&test.path("layers")).len(), 1);
    assert_eq!(test.store.layers().unwrap().len(), 1);
}

#[test]
fn a_layer_gives_back_its_tar() {
    let test = TestStore::new();
    let layer = publish(&test.store, &[("a", b"one"), ("b/c", b"two")]);
    let mut tar = Vec::new();
    let size = test
        .store
        .write_layer_tar(&layer.diff_id, &mut tar)
        .unwrap();
    assert_eq!((size, tar.len() as u64), (layer.tar_bytes, layer.tar_bytes));
    assert_eq!(Digest::of(&tar), layer.diff_id);
    let missing = test.store.write_layer_tar(&Digest::of("no"), &mut tar);
    assert!(matches!(
        missing,
        Err(StoreError::NotFound {
            kind: Kind::Layer,
            ..
        })
    ));
}

#[test]
fn a_changed_layer_is_never_passed_off_as_whole() {
    let test = TestStore::new();
    let layer = publish(&test.store, &[("a", b"one")]);
    let file = test
        .path("layers")
        .join(layer.number.to_string())
        .join("fs/a");
    wharf_safefs::trusted::write_atomic(file, b"two", 0o644, false).unwrap();
    let result = test
        .store
        .write_layer_tar(&layer.diff_id, &mut std::io::sink());
    assert!(matches!(result, Err(StoreError::DigestMismatch { .. })));
}

#[test]
fn only_the_files_of_a_staging_directory_are_published() {
    let test = TestStore::new();
    let staging = stage_files(&test.store, &[("a", b"one")]);
    wharf_safefs::trusted::create_dir(staging.path().join("work"), 0o700).unwrap();
    let summary = summarize(staging.root()).unwrap();
    let layer = test
        .store
        .publish_layer(staging, NewLayer::made_here(summary))
        .unwrap();
    assert_eq!(
        list(&test.path("layers").join(layer.number.to_string())),
        ["fs"]
    );
    let dropped = stage_files(&test.store, &[("b", b"two")]);
    drop(dropped);
    test.store.wait_for_removals();
    assert!(list(&test.path("tmp")).is_empty());
}

#[test]
fn compressed_blobs_live_as_long_as_their_layer() {
    let test = TestStore::new();
    let mut writer = test.store.blob_writer().unwrap();
    writer.write_all(b"compressed").unwrap();
    let digest = writer.commit(None).unwrap();
    let blob = LayerBlob {
        digest,
        compression: LayerCompression::Zstd,
        size_bytes: 10,
    };
    let staging = stage_files(&test.store, &[("a", b"one")]);
    let summary = summarize(staging.root()).unwrap();
    let new = NewLayer {
        blob: Some(blob.clone()),
        ..NewLayer::made_here(summary)
    };
    let layer = test.store.publish_layer(staging, new).unwrap();
    assert_eq!(
        test.store.layer_by_blob(&digest).unwrap(),
        test.store.layer(&layer.diff_id).unwrap()
    );
    assert_eq!(test.store.layer_blobs(&layer.diff_id).unwrap(), [blob]);
    let image = put_image(&test.store, &[&layer], "");
    test.store.sweep().unwrap();
    assert!(test.store.blob(&digest).unwrap().is_some());
    test.store.delete_image(&image.id).unwrap();
    assert!(test.store.blob(&digest).unwrap().is_none());
    assert!(test.store.layer_by_blob(&digest).unwrap().is_none());
}

#[test]
fn blobs_are_verified_when_written_and_read() {
    let test = TestStore::new();
    let digest = test.store.put_blob(b"bytes").unwrap();
    assert_eq!(test.store.read_blob(&digest, 5).unwrap().unwrap(), b"bytes");
    assert_eq!(test.store.blob_size(&digest).unwrap(), Some(5));
    assert!(test.store.read_blob(&digest, 4).is_err());
    let mut text = String::new();
    test.store
        .blob(&digest)
        .unwrap()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "bytes");

    let mut writer = test.store.blob_writer().unwrap();
    writer.write_all(b"other").unwrap();
    assert_eq!(writer.size_bytes(), 5);
    assert!(matches!(
        writer.commit(Some(digest)),
        Err(StoreError::DigestMismatch { .. })
    ));
    assert!(test.store.blob(&Digest::of("other")).unwrap().is_none());
    assert!(list(&test.path("tmp")).is_empty());

    let path = test.path("blobs/sha256").join(digest.hex());
    wharf_safefs::trusted::write_atomic(path, b"bytez", 0o600, false).unwrap();
    assert!(matches!(
        test.store.read_blob(&digest, 5),
        Err(StoreError::DigestMismatch { .. })
    ));
}
