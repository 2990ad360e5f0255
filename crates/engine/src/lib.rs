//! The use cases: containers, images, volumes, networks, builds and events.
//!
//! One [`Engine`] serves one data root. It knows no wire format: callers hand in and get the types
//! of [`model`]. Reads are answered from snapshots in memory and never wait for a container, a disk
//! or a network (DESIGN invariant 6); everything that can block runs on blocking threads.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::disallowed_methods))]

mod apparmor;
mod build;
mod byte_stream;
mod change;
mod clock;
mod container;
mod engine;
mod error;
mod events;
mod exec;
mod fetch;
mod filters;
mod host;
mod identity;
mod image;
pub mod log_tag;
pub mod model;
pub mod mount_syntax;
mod name_pattern;
mod network;
mod prune;
mod remote;
mod restore;
mod settings;
mod sizes;
mod system;
pub mod values;
mod volume_mounts;
mod volumes;

pub use build::{CancellableBuild, FailedStepView};
pub use byte_stream::ByteStream;
pub use container::archive::ArchivePut;
pub use container::log_options::DRIVERS as LOG_DRIVERS;
pub use engine::{DEFAULT_ROOT, Engine, EngineOptions, instance_name};
pub use error::{EngineError, ErrorKind, Result};
pub use exec::ClaimedExec;
pub use network::NetworkSettings;
pub use settings::{DEFAULT_LOG_DRIVER, SeccompDefault, Settings};
pub use wharf_build::{
    About, Answer, BuildRecord, CacheDirectory, CacheMount, ContextSource, FailedStep, Mistake,
    NamedSource, Question, Secret, SolveEvent, StepRecord,
};
pub use wharf_dockerfile::lint::Rule;
pub use wharf_dockerfile::{Diagnostic, Outline, OutlineArg, OutlineNeed, Target};
pub use wharf_runtime::ExternalRuntime;
