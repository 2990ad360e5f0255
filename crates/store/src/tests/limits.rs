//! Limits: at the limit and one past it.

use std::path::PathBuf;

use serde_json::json;
use wharf_image::{Descriptor, Digest};

use super::{TestStore, container};
use crate::limits::{
    MAX_CONFIG_BYTES, MAX_DOCUMENT_BYTES, MAX_LAYER_PATHS_BYTES, MAX_LAYERS, MAX_MANIFEST_BYTES,
    MAX_NAME_CHARS, MAX_SETTING_BYTES,
};
use crate::{NewImage, NewLayer, StoreError};

#[test]
fn configs_have_a_limit() {
    let test = TestStore::new();
    let mut fitting =
        br#"{"architecture":"a","os":"l","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec();
    fitting.resize(MAX_CONFIG_BYTES as usize, b' ');
    let image = test.store.put_image(&NewImage::of(&fitting)).unwrap();
    assert!(test.store.image(&image.id).unwrap().is_some());
    let longer = [fitting.as_slice(), b" "].concat();
    let error = test.store.put_image(&NewImage::of(&longer)).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::TooLarge {
                limit: MAX_CONFIG_BYTES,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn documents_and_settings_have_a_limit() {
    let test = TestStore::new();
    // Two quotes are part of the JSON text.
    let text = |bytes: u64| json!("x".repeat(bytes as usize - 2));
    test.store
        .put_document("k", "a", &text(MAX_DOCUMENT_BYTES))
        .unwrap();
    assert!(matches!(
        test.store
            .put_document("k", "a", &text(MAX_DOCUMENT_BYTES + 1)),
        Err(StoreError::TooLarge { .. })
    ));
    let value = "x".repeat(MAX_SETTING_BYTES as usize);
    test.store.set_setting("k", &value).unwrap();
    assert!(matches!(
        test.store.set_setting("k", &(value + "x")),
        Err(StoreError::TooLarge { .. })
    ));
}

#[test]
fn chains_and_names_have_a_limit() {
    let test = TestStore::new();
    let layer = super::publish(&test.store, &[("a", b"x")]);
    let mut chain = vec![layer.diff_id; MAX_LAYERS];
    assert_eq!(test.store.layer_dirs(&chain).unwrap().len(), MAX_LAYERS);
    chain.push(Digest::of("one more"));
    assert!(matches!(
        test.store.layer_dirs(&chain),
        Err(StoreError::Invalid { .. })
    ));
    let name = "n".repeat(MAX_NAME_CHARS);
    test.store
        .create_container(container("c1", &name, &[]))
        .unwrap();
    assert!(
        test.store
            .create_container(container("c2", &(name + "n"), &[]))
            .is_err()
    );
}

#[test]
fn manifests_have_a_limit() {
    let test = TestStore::new();
    let config = super::config_of(&[], "");
    let put = |size: u64| {
        let bytes = vec![b' '; size as usize];
        let descriptor = Descriptor {
            media_type: String::new(),
            digest: Digest::of(&bytes),
            size,
            urls: Vec::new(),
            annotations: Default::default(),
            platform: None,
        };
        let new = NewImage {
            manifest: Some((descriptor, bytes)),
            ..NewImage::of(&config)
        };
        test.store.put_image(&new)
    };
    put(MAX_MANIFEST_BYTES).unwrap();
    let error = put(MAX_MANIFEST_BYTES + 1).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::TooLarge {
                what: "manifest",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn the_paths_of_a_layer_have_a_limit() {
    let test = TestStore::new();
    let publish = |bytes: u64| {
        let staging = super::stage_files(&test.store, &[("a", bytes.to_string().as_bytes())]);
        let summary = wharf_layer::summarize(staging.root()).unwrap();
        // Each path takes one byte more, its separator.
        let path = PathBuf::from("p".repeat(bytes as usize - 1));
        test.store.publish_layer(
            staging,
            NewLayer {
                implied_dirs: vec![path],
                ..NewLayer::made_here(summary)
            },
        )
    };
    publish(MAX_LAYER_PATHS_BYTES).unwrap();
    let error = publish(MAX_LAYER_PATHS_BYTES + 1).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
}
