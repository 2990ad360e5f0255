//! Bodies and filters of Engine API requests.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wharf_api::internals::read_bodies(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = wharf_api::internals::parse_filters(text);
        let _ = wharf_api::internals::parse_unix_timestamp(text);
        let _ = wharf_api::normalize_listen_url(text, "/run/x.sock", 2375);
    }
});
