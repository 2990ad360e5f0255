//! Which builds there were, and what became of their steps.

use serde::{Deserialize, Serialize};
use wharf_image::{Digest, ImageId};
use wharf_store::{BuildPart, Store};

use crate::BuildError;
use crate::cache_config::forget_used;
use crate::logs::BuildLogs;
use crate::solve::{Cause, forget_failed};

/// Kind of the documents that describe builds, by their names.
const KIND: &str = "build";
/// Builds that are remembered.
const MAX_BUILDS: usize = 100;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepStatus {
    /// It was executed.
    Executed,
    /// Its result was in the cache.
    Cached,
    /// Nothing needed it.
    NotNeeded,
    /// It failed.
    Failed,
    /// The build ended before.
    NotReached,
}

/// A step of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its number among the shown steps.
    pub number: usize,
    /// The instruction as written.
    pub text: String,
    /// Its vertex.
    pub vertex: Digest,
    /// What became of it.
    pub status: StepStatus,
    /// When it began, in milliseconds from the beginning of the build.
    pub started_ms: u64,
    /// When it was done, in milliseconds from the beginning of the build.
    pub completed_ms: u64,
    /// Why it was executed.
    pub causes: Vec<Cause>,
}

/// A build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// Its name.
    pub id: String,
    /// When it began, in nanoseconds since 1970.
    pub started_unix_ns: i64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What was built: the context.
    pub project: String,
    /// The Dockerfile.
    pub dockerfile: String,
    /// The target stage; empty for the last.
    pub target: String,
    /// Names that the image got.
    pub names: Vec<String>,
    /// The image, where the build succeeded.
    pub image: Option<ImageId>,
    /// What went wrong, where it did not.
    pub error: Option<String>,
    /// The steps that change files, in order.
    pub steps: Vec<StepRecord>,
}

impl BuildRecord {
    /// Keeps the record and forgets the oldest beyond the limit.
    pub(crate) fn keep(&self, store: &Store) -> Result<(), BuildError> {
        let document = serde_json::to_value(self).unwrap_or_default();
        store.put_document(KIND, &self.id, &document)?;
        let all = builds(store)?;
        for old in all.iter().skip(MAX_BUILDS) {
            forget(store, &old.id)?;
        }
        Ok(())
    }
}

/// Returns the builds that are remembered, newest first.
///
/// # Errors
/// A store that cannot be read.
pub fn builds(store: &Store) -> Result<Vec<BuildRecord>, BuildError> {
    let mut found: Vec<BuildRecord> = store
        .documents(KIND)?
        .into_iter()
        .filter_map(|(_, document)| serde_json::from_value(document).ok())
        .collect();
    found.sort_by(|left, right| {
        (right.started_unix_ns, &right.id).cmp(&(left.started_unix_ns, &left.id))
    });
    Ok(found)
}

/// Returns a build by the beginning of its name; the newest where the name is empty.
///
/// # Errors
/// A name that no build has, or a beginning that several have.
pub fn find_build(store: &Store, name: &str) -> Result<BuildRecord, BuildError> {
    let mut found: Vec<BuildRecord> = builds(store)?
        .into_iter()
        .filter(|build| build.id.starts_with(name))
        .collect();
    if found.len() > 1 && !name.is_empty() {
        return Err(BuildError::instruction(format!(
            "several builds start with {name}: give more of the name"
        )));
    }
    if found.is_empty() {
        return Err(BuildError::instruction(if name.is_empty() {
            "nothing was built yet".to_owned()
        } else {
            format!("no such build: {name} (`wharf builder ls` lists them)")
        }));
    }
    Ok(found.swap_remove(0))
}

/// Returns what a step of a build wrote.
///
/// # Errors
/// A log that cannot be read.
pub fn step_log(store: &Store, build: &str, vertex: &Digest) -> Result<Vec<u8>, BuildError> {
    Ok(BuildLogs::of(store, build)
        .read(vertex)?
        .unwrap_or_default())
}

/// Forgets a build with its logs; returns the bytes that come free.
///
/// # Errors
/// A store that cannot be written.
pub fn forget(store: &Store, id: &str) -> Result<u64, BuildError> {
    store.delete_document(KIND, id)?;
    forget_failed(store, id)?;
    forget_used(store, id)?;
    Ok(store.discard_build_entry(BuildPart::Logs, id)?)
}
