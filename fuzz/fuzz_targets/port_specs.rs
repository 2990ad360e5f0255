//! Published and exposed ports: a line a value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_cli::internals::port::{self, PortMap};
use wharf_units::{Port, PortRange};

fuzz_target!(|text: &str| {
    let _ = PortMap::parse(text.lines());
    for line in text.lines() {
        let _ = port::expose(line);
        if let Ok(port) = Port::parse(line) {
            assert_eq!(Port::parse(&port.to_string()), Ok(port));
        }
        if let Ok(range) = PortRange::parse(line) {
            assert_eq!(PortRange::parse(&range.to_string()), Ok(range));
        }
    }
});
