//! Random identifiers and made-up names.

use crate::error::{EngineError, Result};

/// Returns 64 random hexadecimal characters that do not look like a decimal number in their first
/// twelve, since a short ID must never read as one (docker's rule).
///
/// # Errors
/// Fails when the kernel gives no randomness.
pub fn random_id() -> Result<String> {
    loop {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes)
            .map_err(|e| EngineError::internal(format!("no random bytes from the kernel: {e}")))?;
        let id = hex::encode(bytes);
        if !id.bytes().take(12).all(|b| b.is_ascii_digit()) {
            return Ok(id);
        }
    }
}

/// Tells whether `name` is a legal container or volume name (spec engine-api §4).
pub fn is_valid_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() >= 2
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Makes up a name such as `calm_harbour`; `attempt` above 0 adds a digit.
///
/// # Errors
/// Fails when the kernel gives no randomness.
pub fn made_up_name(attempt: u32) -> Result<String> {
    let mut bytes = [0u8; 3];
    getrandom::fill(&mut bytes)
        .map_err(|e| EngineError::internal(format!("no random bytes from the kernel: {e}")))?;
    let left = QUALITIES[usize::from(bytes[0]) % QUALITIES.len()];
    let right = PLACES[usize::from(bytes[1]) % PLACES.len()];
    Ok(if attempt == 0 {
        format!("{left}_{right}")
    } else {
        format!("{left}_{right}{}", bytes[2] % 10)
    })
}

const QUALITIES: [&str; 32] = [
    "able", "amber", "brave", "bright", "brisk", "calm", "clear", "coastal", "deep", "eager",
    "early", "fair", "fleet", "gentle", "golden", "grand", "happy", "honest", "keen", "kind",
    "lively", "lucky", "mellow", "nimble", "patient", "proud", "quick", "quiet", "steady", "sunny",
    "swift", "tidy",
];

const PLACES: [&str; 32] = [
    "anchor", "bay", "beacon", "berth", "bollard", "breeze", "bridge", "buoy", "canal", "capstan",
    "cove", "crane", "current", "delta", "dock", "ferry", "fjord", "gangway", "harbour", "hawser",
    "jetty", "keel", "lagoon", "lantern", "mooring", "pier", "quay", "reef", "rudder", "sail",
    "sextant", "tide",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, valid) in [
            ("ab", true),
            ("a", false),
            ("-a", false),
            ("a.b-c_d", true),
            ("a b", false),
            ("", false),
            ("ä1", false),
        ] {
            assert_eq!(is_valid_name(name), valid, "{name}");
        }
    }

    #[test]
    fn ids_differ() {
        assert_ne!(random_id().unwrap(), random_id().unwrap());
        assert!(is_valid_name(&made_up_name(1).unwrap()));
    }
}
