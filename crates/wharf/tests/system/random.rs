//! Numbers that look random, from a seed that is printed, so that a failure can be had again.

use std::time::SystemTime;

/// A cheap sequence of numbers.
pub struct Random {
    state: u64,
    seed: u64,
}

impl Random {
    /// Starts at the seed that `WHARF_TEST_SEED` names, else at the clock's; prints it.
    pub fn from_environment(what: &str) -> Self {
        let named = std::env::var("WHARF_TEST_SEED").ok();
        let seed = named.map_or_else(
            || {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                now.unwrap().as_nanos() as u64
            },
            |text| text.parse().expect("WHARF_TEST_SEED is a number"),
        );
        println!("{what}: WHARF_TEST_SEED={seed}");
        Self { state: seed, seed }
    }

    /// Returns what the sequence began with.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the next number, below `limit`.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % limit
    }
}
