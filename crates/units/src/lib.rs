//! Sizes, durations, times, ports and limits as people write and read them (the conventions of docker's go-units and of
//! Go's `time` package).
//!
//! Pure: no clock, no environment; the caller says what time it is.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod duration;
mod moment;
mod port;
mod size;
mod ulimit;

pub use duration::{human_duration, parse_duration};
pub use moment::parse_moment;
pub use port::{Port, PortRange};
pub use size::{
    bytes_size, human_size, human_size_short, ram_in_bytes, significant_digits, size_in_bytes,
};
pub use ulimit::{Ulimit, parse_ulimit};

/// A value in one of the notations of this module that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(pub String);

/// Returns `count` and the singular or plural of a noun.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}
