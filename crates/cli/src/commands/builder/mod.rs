//! `wharf builder …`: what builds leave behind.

pub(crate) mod cache;
pub(crate) mod history;

use clap::Args;

use crate::commands::prune::{self, PruneAllArgs, Pruned};
use crate::error::Result;
use crate::session::Session;

/// Remove build cache
#[derive(Debug, Args)]
pub struct PruneCacheArgs {
    #[command(flatten)]
    common: PruneAllArgs,
}

/// Runs `wharf builder prune`.
pub async fn prune_command(session: &mut Session, args: PruneCacheArgs) -> Result<()> {
    prune::prune_all_command(session, Pruned::BuildCache, args.common).await
}
