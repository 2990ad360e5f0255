//! Manifests, indexes and configs of images.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_image::{Document, ImageConfig};

const TYPES: [&str; 5] = [
    "",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

fuzz_target!(|bytes: &[u8]| {
    for media_type in TYPES {
        let _ = Document::parse(media_type, bytes);
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let again = ImageConfig::parse(&config.to_bytes()).expect("its own form");
        assert_eq!(again.to_bytes(), config.to_bytes());
    }
});
