//! Contexts: named daemons, kept where docker keeps them, so that both clients share them.

mod archive;
mod choose;
mod store;

pub use archive::{export, import};
pub use choose::{Chosen, GlobalFlags, choose, configured};
pub use store::{ContextStore, Endpoint, Stored, check_name};

/// Name of the context that flags and environment make up.
pub const DEFAULT_CONTEXT: &str = "default";
