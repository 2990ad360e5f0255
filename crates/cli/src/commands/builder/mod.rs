//! `wharf builder …`: what builds leave behind.

pub(crate) mod cache;
pub(crate) mod history;

use clap::Args;

use crate::commands::prune::{self, PruneAllArgs};
use crate::error::Result;
use crate::options::limits;
use crate::session::Session;

/// Remove build cache
#[derive(Debug, Args)]
pub struct PruneCacheArgs {
    #[command(flatten)]
    common: PruneAllArgs,
    /// Remove only the longest unused, until no more than this is kept
    #[arg(long, alias = "max-used-space", value_name = "SIZE")]
    keep_storage: Option<String>,
}

/// Runs `wharf builder prune`.
pub async fn prune_command(session: &mut Session, args: PruneCacheArgs) -> Result<()> {
    let limit_bytes = match &args.keep_storage {
        Some(size) => Some(limits::memory("keep-storage", size)?),
        None => None,
    };
    prune::prune_cache_command(session, args.common, limit_bytes).await
}
