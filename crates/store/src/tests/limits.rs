//! Limits: at the limit and one past it.

use serde_json::json;
use wharf_image::Digest;

use super::{TestStore, container};
use crate::limits::{
    MAX_CONFIG_BYTES, MAX_DOCUMENT_BYTES, MAX_LAYERS, MAX_NAME_CHARS, MAX_SETTING_BYTES,
};
use crate::{NewImage, StoreError};

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
