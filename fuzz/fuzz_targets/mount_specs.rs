//! The values of flags that have a grammar of their own: mounts, volumes, networks, sizes, times.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wharf_cli::internals::{env, filter, gpus, limits, misc, mount, network, template, volume};

fuzz_target!(|text: &str| {
    let _ = mount::parse(text, Path::new("/work"));
    if let Ok(spec) = volume::VolumeSpec::parse(text) {
        let _ = volume::bind_entry(text, &spec, Path::new("/work"));
    }
    let _ = network::NetworkAttachment::parse(text);
    let _ = gpus::parse(text);
    let _ = misc::extra_host(text);
    let _ = misc::restart_policy(text);
    let _ = misc::sysctl(text);
    let _ = misc::dns_search(text);
    let _ = limits::nano_cpus(text);
    let _ = limits::throttle_bytes(text);
    let _ = limits::device_weight(text);
    let _ = filter::parse(&[text.to_owned()]);
    let _ = env::parse_file(text.as_bytes(), "file", Some(&|_| None));
    let _ = wharf_units::ram_in_bytes(text);
    let _ = wharf_units::size_in_bytes(text);
    let _ = wharf_units::parse_duration(text);
    let _ = wharf_units::parse_ulimit(text);
    let data = serde_json::json!({"ID": "x", "Labels": {"a": "b"}, "List": [1, "two", null]});
    if let Ok(parsed) = template::Template::parse(text) {
        let _ = parsed.execute_json(&data, "x", template::Missing::HasNoValue);
    }
});
