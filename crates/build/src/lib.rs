//! Building images: Dockerfile → graph → cache keys → steps → image.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)
)]

mod assemble;
mod build;
mod builds;
mod cache;
mod cache_config;
mod change;
mod checks;
mod chmod;
mod collect;
mod config;
mod content;
mod context;
mod copier;
mod copy;
mod definition;
mod dockerfile;
mod error;
mod event;
mod finish;
mod frontend;
mod graph;
mod history;
mod host;
mod imported;
#[doc(hidden)]
pub mod internals;
mod kept;
mod listing;
mod logs;
mod lower;
mod narrate;
mod owner;
mod plan;
mod ports;
mod request;
mod reuse;
mod select;
mod solve;
mod stat_cache;
mod steps;
mod unpack;

pub use build::{Built, build};
pub use builds::{BuildRecord, StepRecord, StepStatus, builds, find_build, forget, step_log};
pub use cache::{PruneOptions, Pruned, prune, remove};
pub use cache_config::{CacheBlob, ExportedCache, export_cache};
pub use change::apply_change;
pub use checks::{About, Answer, Mistake, Question, ask};
pub use collect::{collect, default_cache_limit, kept_bytes};
pub use definition::{CAPS, solve_definition};
pub use error::BuildError;
pub use event::{BuildEvent, Finding, SolveEvent};
pub use frontend::{Frontend, Lowered, lower_dockerfile, outline_dockerfile};
pub use graph::solve;
pub use host::{
    BaseImage, FetchRequest, Fetched, Host, HostError, MountSource, OutputStream, RunMount,
    RunOutcome, RunStep, Secret, SecretFile,
};
pub use imported::CacheDirectory;
pub use listing::{FileChange, ListingChange};
pub use request::{BuildRequest, ContextSource, Entitlements, NamedSource, SolveOptions};
pub use solve::{
    CacheMount, CacheSharing, Cause, FailedStep, cache_mounts, failed_step, find_cache_mount,
    import_cache_mount, remove_cache_mount,
};
