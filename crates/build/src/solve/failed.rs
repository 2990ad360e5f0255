//! What is kept of a step that failed, so that somebody can look into it.

use serde::{Deserialize, Serialize};
use wharf_image::{ContainerConfig, DiffId, Digest, ImageConfig, ImageId, Platform};
use wharf_llb::{ExecOp, MountKind, VertexId};
use wharf_safefs::{CopyOptions, Root, copy_tree};
use wharf_store::Store;

use super::Solver;
use super::snapshot::Snapshot;
use crate::cache::{self, Entry};
use crate::{BuildError, RunStep};

/// Kind of the documents that describe failed steps, by the name of their build.
const KIND: &str = "build-failed";

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStep {
    /// An image of its files as they were when it failed, with its environment, user and working directory.
    pub image: ImageId,
    /// The step as its user wrote it.
    pub step: String,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Its network.
    pub network: String,
    /// Its cache mounts: ID and destination.
    pub caches: Vec<(String, String)>,
    /// Its mounts of memory: destination and size in bytes.
    pub tmpfs: Vec<(String, u64)>,
    /// Its secrets: ID and destination, or `env:NAME`.
    pub secrets: Vec<(String, String)>,
}

impl Solver<'_> {
    /// Keeps a failed step's files as an image that can be run by its ID until the cache is pruned.
    pub(super) fn keep_failed(
        &self,
        id: VertexId,
        exec: &ExecOp,
        step: &RunStep,
        (below, upper): (&Snapshot, &Root),
    ) -> Result<(), BuildError> {
        // A copy: overlayfs' own marks in the changes are gone from it.
        let staging = self.store.stage()?;
        copy_tree(upper, staging.root(), &CopyOptions::default())?;
        let mut diff_ids: Vec<DiffId> = below.diff_ids()?;
        if let Some(layer) = self.place(staging, below, &[])? {
            diff_ids.push(layer.name(self.store)?.diff_id);
        }
        let config = failed_config(exec, step, &diff_ids);
        let image = Digest::of(&config);
        let step_text = self
            .input
            .labels
            .get(&id)
            .map_or_else(|| step.text.clone(), |label| label.text.clone());
        cache::put(
            self.store,
            Entry {
                by_result: None,
                key: cache::key_of("failed", &serde_json::json!(image)),
                diff_ids,
                created: Some(self.now()),
                config: Some(config),
                explain: serde_json::json!({ "kind": "failed", "step": step_text }),
                description: &step_text,
                size_bytes: 0,
                is_unchanged: false,
            },
        )?;
        let failed = FailedStep {
            image,
            step: step_text,
            args: step.args.clone(),
            network: step.network.clone(),
            caches: caches(exec),
            tmpfs: tmpfs(exec),
            secrets: secrets(exec),
        };
        let document = serde_json::to_value(failed).unwrap_or_default();
        Ok(self
            .store
            .put_document(KIND, &self.input.options.build, &document)?)
    }
}

/// Returns the step of a build that failed, if one did and its files were kept.
///
/// # Errors
/// A store that cannot be read.
pub fn failed_step(store: &Store, build: &str) -> Result<Option<FailedStep>, BuildError> {
    let document = store.document(KIND, build)?;
    Ok(document.and_then(|document| serde_json::from_value(document).ok()))
}

pub(crate) fn forget_failed(store: &Store, build: &str) -> Result<(), BuildError> {
    store.delete_document(KIND, build)?;
    Ok(())
}

fn failed_config(exec: &ExecOp, step: &RunStep, diff_ids: &[DiffId]) -> Vec<u8> {
    let platform = Platform::host();
    let mut config = ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        config: Some(ContainerConfig {
            // Secrets of the environment are asked for again.
            env: exec.meta.env.clone(),
            working_dir: step.cwd.clone(),
            user: step.user.clone(),
            cmd: Some(vec!["/bin/sh".to_owned()]),
            ..ContainerConfig::default()
        }),
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids = diff_ids.to_vec();
    config.to_bytes()
}

fn caches(exec: &ExecOp) -> Vec<(String, String)> {
    let mounts = exec.mounts.iter();
    mounts
        .filter_map(|mount| match &mount.kind {
            MountKind::Cache { id, .. } => Some((id.clone(), mount.destination.clone())),
            _ => None,
        })
        .collect()
}

fn tmpfs(exec: &ExecOp) -> Vec<(String, u64)> {
    let mounts = exec.mounts.iter();
    mounts
        .filter_map(|mount| match mount.kind {
            MountKind::Tmpfs { size_bytes } => {
                let size_bytes = u64::try_from(size_bytes).unwrap_or(0);
                Some((mount.destination.clone(), size_bytes))
            }
            _ => None,
        })
        .collect()
}

fn secrets(exec: &ExecOp) -> Vec<(String, String)> {
    let files = exec.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Secret(secret) => Some((secret.id.clone(), mount.destination.clone())),
        _ => None,
    });
    let variables = exec
        .secret_env
        .iter()
        .map(|secret| (secret.id.clone(), format!("env:{}", secret.name)));
    files.chain(variables).collect()
}
