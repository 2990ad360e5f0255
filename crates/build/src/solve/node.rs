//! What is known of one vertex while a graph is solved.

use wharf_image::Digest;

use super::explain::Cause;
use super::key::Taking;
use super::snapshot::Snapshot;
use crate::content::ContentDigest;

/// What became of a vertex.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Outcome {
    /// Nothing asks for it.
    #[default]
    NotNeeded,
    /// It waits or runs.
    Pending,
    /// Its result was in the cache.
    Cached,
    /// It was executed.
    Executed,
    /// It failed.
    Failed,
}

/// One vertex.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// How its inputs count.
    pub takings: Vec<Taking>,
    /// Its key by how its inputs came to be; none where that is not known before they are solved.
    pub key: Option<Digest>,
    /// Contents of inputs that are counted by it, as far as they are known: by input and number of the mount or action.
    pub contents: Vec<((usize, usize), ContentDigest)>,
    /// Whether it stands on something that is executed again whatever the cache holds: what its key led to earlier may have
    /// had other inputs.
    pub stands_on_rerun: bool,
    /// A file that is no more what those contents say: the result is not what the key stands for.
    pub changed: Option<std::path::PathBuf>,
    /// Its results, by number of the output.
    pub snapshots: Vec<Snapshot>,
    /// What became of it.
    pub outcome: Outcome,
    /// Inputs that are not solved yet.
    pub waits_for: usize,
    /// Vertices that wait for it.
    pub users: Vec<wharf_llb::VertexId>,
    /// What is told of it afterwards.
    pub report: Report,
}

impl Node {
    /// Lets go of the contents of files that were kept for a copy that will not be made.
    pub fn forget_kept(&self) {
        for (_, content) in &self.contents {
            drop(content.taken.take_kept());
        }
    }
}

/// What is told of a vertex after the build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Report {
    /// What became of it.
    pub outcome: Outcome,
    /// Milliseconds from the beginning of the build to its own.
    pub started_ms: u64,
    /// Milliseconds from the beginning of the build to its end.
    pub completed_ms: u64,
    /// Why it was executed.
    pub causes: Vec<Cause>,
}
