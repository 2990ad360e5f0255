//! References, digests and platforms: what is printed is read back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_image::{AnyReference, Digest, Platform, Reference, ReferenceParts};

fuzz_target!(|text: &str| {
    if let Ok(reference) = Reference::parse(text) {
        let again = Reference::parse(&reference.to_string()).expect("its own form");
        assert_eq!(again, reference);
        let _ = reference.with_default_tag();
        let _ = reference.familiar_match(text);
        let _ = Reference::parse(&reference.familiar());
    }
    let _ = ReferenceParts::parse(text);
    let _ = AnyReference::parse(text);
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = Platform::parse(text) {
        let _ = Platform::parse(&platform.format_all());
    }
});
