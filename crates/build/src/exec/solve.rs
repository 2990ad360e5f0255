//! From a vertex to its files: keys, the cache, and what it takes to make them.

use serde_json::json;
use wharf_image::Digest;
use wharf_layer::{clean_upper, summarize};
use wharf_safefs::{FileType, Root};
use wharf_store::{NewLayer, Staging};

use super::{Execution, Solved};
use crate::cache::{self, Key};
use crate::graph::{Input, Op, Source, Vertex, VertexId};
use crate::{BuildError, BuildEvent};

/// Files that a container gets from outside: a mount point for one is no change (spec llb §2.1).
const MOUNT_POINT_FILES: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];
/// Directories that a container gets from outside.
const MOUNT_POINT_DIRECTORIES: [&str; 3] = ["dev", "proc", "sys"];

impl Execution<'_> {
    /// Returns the files of an input, made or from the cache.
    pub(super) fn solve(&mut self, input: Input) -> Result<Solved, BuildError> {
        let Input::Vertex(id) = input else {
            return Ok(Solved {
                key: None,
                diff_ids: Vec::new(),
                created: None,
                is_empty: true,
                recorded_config: None,
                pending: None,
            });
        };
        if let Some(solved) = self.results.get(&id) {
            return Ok(solved.clone());
        }
        let plan = self.plan;
        let vertex = plan.graph.vertex(id);
        let solved = match &vertex.op {
            Op::Source(Source::Image { layers }) => self.image(layers)?,
            Op::Source(_) => {
                return Err(BuildError::instruction(
                    "a source of files is no state of an image",
                ));
            }
            Op::Exec(_) | Op::File(_) => self.layer(vertex)?,
        };
        self.results.insert(id, solved.clone());
        Ok(solved)
    }

    fn image(&mut self, layers: &[Digest]) -> Result<Solved, BuildError> {
        for diff_id in layers {
            if self.lease.hold_layer(diff_id)?.is_none() {
                return Err(BuildError::LayerMissing {
                    diff_id: *diff_id,
                    image: "the base image".to_owned(),
                });
            }
        }
        let key = Key::new(
            "image",
            None,
            json!({ "layers": layers, "platform": self.plan.platform.to_string() }),
            &[],
        );
        Ok(Solved {
            key: Some(key.digest),
            diff_ids: layers.to_vec(),
            created: None,
            is_empty: false,
            recorded_config: None,
            pending: None,
        })
    }

    fn layer(&mut self, vertex: &Vertex) -> Result<Solved, BuildError> {
        let parent = self.solve(vertex.inputs.first().copied().unwrap_or(Input::Scratch))?;
        let key = self.key(vertex, &parent)?;
        if !self.request.no_cache
            && let Some(hit) = cache::find(self.store, &self.lease, &key.digest, &parent.diff_ids)?
        {
            (self.events)(BuildEvent::CacheHit);
            return Ok(Solved {
                key: Some(key.digest),
                is_empty: hit.diff_ids.len() == parent.diff_ids.len(),
                diff_ids: hit.diff_ids,
                created: hit.created,
                recorded_config: hit.config,
                pending: None,
            });
        }
        let staging = self.store.stage()?;
        match &vertex.op {
            Op::Exec(exec) => self.run(exec, &parent, &key, &staging)?,
            Op::File(file) => self.change_files(file, vertex, &parent, &staging)?,
            Op::Source(_) => {}
        }
        self.check_cancelled()?;
        let mut diff_ids = parent.diff_ids.clone();
        let size_bytes = match self.publish(staging, &parent, matches!(vertex.op, Op::Exec(_)))? {
            Some((diff_id, size_bytes)) => {
                diff_ids.push(diff_id);
                size_bytes
            }
            None => 0,
        };
        Ok(Solved {
            key: Some(key.digest),
            is_empty: diff_ids.len() == parent.diff_ids.len(),
            diff_ids,
            created: Some(self.now()),
            recorded_config: None,
            pending: Some((key, size_bytes)),
        })
    }

    /// Publishes what a step changed; nothing where it changed nothing.
    fn publish(
        &self,
        staging: Staging,
        parent: &Solved,
        has_mount_points: bool,
    ) -> Result<Option<(Digest, u64)>, BuildError> {
        let mut lowers = Vec::new();
        // The topmost comes first.
        for path in self.store.layer_dirs(&parent.diff_ids)?.iter().rev() {
            lowers.push(Root::open(path)?);
        }
        let upper = staging.root();
        let exclude = if has_mount_points {
            mount_points(upper, &lowers)?
        } else {
            Vec::new()
        };
        clean_upper(upper, &lowers, &exclude)?;
        if upper.entries()?.is_empty() {
            return Ok(None);
        }
        let summary = summarize(upper)?;
        let layer = self
            .store
            .publish_layer(staging, NewLayer::made_here(summary))?;
        Ok(Some((layer.diff_id, layer.size_bytes)))
    }

    /// Returns the root of what a vertex or source offers to copy from, solved first.
    pub(super) fn vertex(&self, id: VertexId) -> &Vertex {
        self.plan.graph.vertex(id)
    }
}

/// Returns the mount points that running a container left behind: empty, and not in the image.
fn mount_points(upper: &Root, lowers: &[Root]) -> Result<Vec<std::path::PathBuf>, BuildError> {
    let is_below = |path: &str| {
        lowers.iter().any(|lower| {
            lower
                .lstat_optional(path)
                .is_ok_and(|found| found.is_some())
        })
    };
    let mut found = Vec::new();
    for path in MOUNT_POINT_FILES {
        let is_empty = upper
            .lstat_optional(path)?
            .is_some_and(|file| file.file_type == FileType::File && file.size_bytes == 0);
        if is_empty && !is_below(path) {
            found.push(path.into());
        }
    }
    for path in MOUNT_POINT_DIRECTORIES {
        let is_dir = upper
            .lstat_optional(path)?
            .is_some_and(|directory| directory.is_dir());
        if is_dir && !is_below(path) && upper.read_dir(path)?.is_empty() {
            found.push(path.into());
        }
    }
    Ok(found)
}
