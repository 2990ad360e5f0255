//! Servers for the tests: Debian's `docker-registry`, and one that says what a test scripts.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod registry;
pub mod script;

use std::time::Duration;
use wharf_image::{Platform, Reference};
use wharf_registry::{Client, ClientOptions};

/// Returns a client that does not wait long between attempts.
pub fn client() -> Client {
    Client::new(options()).expect("client")
}

/// Returns a client that asks a mirror before Docker Hub.
pub fn client_with_mirror(url: &str) -> Client {
    let mirrors = vec![url.to_owned()];
    Client::new(ClientOptions {
        mirrors,
        ..options()
    })
    .expect("client")
}

fn options() -> ClientOptions {
    ClientOptions {
        attempts: 3,
        first_retry_delay: Duration::from_millis(10),
        read_timeout: Duration::from_secs(20),
        ..ClientOptions::default()
    }
}

/// Parses a reference.
pub fn reference(text: impl AsRef<str>) -> Reference {
    Reference::parse(text.as_ref()).expect("reference")
}

/// Returns linux/amd64 on every host.
pub fn amd64() -> Platform {
    Platform::parse("linux/amd64").expect("platform")
}
