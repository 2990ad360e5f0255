//! A cache config as other machines hand it over: chains of layers end and name layers that are there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_build::internals::read_cache_config;

/// Records whose layers are followed; each may be as long as an image may be deep.
const RECORDS: usize = 100;

fuzz_target!(|bytes: &[u8]| {
    let Some(read) = read_cache_config(bytes, RECORDS) else {
        return;
    };
    for chain in read.chains.iter().flatten() {
        assert!(chain.iter().all(|position| *position < read.layers));
    }
    let again = read_cache_config(&read.written, RECORDS);
    assert_eq!(again.as_ref(), Some(&read), "what was read can be written");
});
