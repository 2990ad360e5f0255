//! The last touches to a built image: its new layers joined into one, their times set back.

use std::path::{Path, PathBuf};

use serde_json::json;
use wharf_image::{DiffId, HistoryEntry, ImageConfig};
use wharf_layer::{clean_upper, summarize};
use wharf_safefs::{CopyOptions, FileType, Metadata, Root, Timestamp, copy_tree};
use wharf_store::{NewLayer, Staging, Store};

use crate::BuildError;
use crate::assemble::Finished;
use crate::cache::{self, Entry as Record};
use crate::content::{Reading, Taken};
use crate::copy::{self, Attributes};
use crate::plan::{Plan, StageBase};
use crate::select::{Entry, Selected};

/// The mark of a directory that hides what lies below it (kernel, `filesystems/overlayfs.rst`).
const OPAQUE: &str = "trusted.overlay.opaque";

/// What is done to an image in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Touches {
    /// The new layers become one.
    pub squash: bool,
    /// Times that are later than this, in seconds since 1970, are set to it.
    pub latest: Option<i64>,
}

/// Applies the last touches.
pub(crate) fn finish(
    store: &Store,
    plan: &Plan,
    finished: Finished,
    touches: &Touches,
) -> Result<Finished, BuildError> {
    let Some(bytes) = &finished.config else {
        return Ok(finished);
    };
    let _lease = store.lease("finish an image")?;
    let mut config =
        ImageConfig::parse(bytes).map_err(|error| BuildError::instruction(error.to_string()))?;
    let base = base_layers(plan).min(config.rootfs.diff_ids.len());
    if touches.squash && config.rootfs.diff_ids.len() > base {
        squash(store, &mut config, base)?;
    }
    if let Some(latest) = touches.latest {
        for diff_id in config.rootfs.diff_ids.iter_mut().skip(base) {
            *diff_id = with_times(store, diff_id, latest)?;
        }
    }
    let bytes = config.to_bytes();
    Ok(Finished {
        id: wharf_image::Digest::of(&bytes),
        diff_ids: config.rootfs.diff_ids,
        history: config.history,
        config: Some(bytes),
    })
}

/// Returns how many layers the target's base image has.
fn base_layers(plan: &Plan) -> usize {
    let mut stage = plan.stages.last();
    while let Some(at) = stage {
        match &at.base {
            StageBase::Scratch => return 0,
            StageBase::Image(image) => return image.config.rootfs.diff_ids.len(),
            StageBase::Stage(index) => stage = plan.stages.get(*index),
        }
    }
    0
}

fn squash(store: &Store, config: &mut ImageConfig, base: usize) -> Result<(), BuildError> {
    let new = config.rootfs.diff_ids.split_off(base);
    let below = config.rootfs.diff_ids.clone();
    let mut layers_left = base;
    for entry in config.history.iter_mut().filter(|entry| !entry.empty_layer) {
        if layers_left == 0 {
            entry.empty_layer = true;
        } else {
            layers_left -= 1;
        }
    }
    let joined = join(store, &below, &new)?;
    let created = config
        .history
        .last()
        .and_then(|entry| entry.created.clone());
    config.history.push(HistoryEntry {
        created,
        comment: Some(format!("merge {} layers", new.len())),
        empty_layer: joined.is_none(),
        ..HistoryEntry::default()
    });
    config.rootfs.diff_ids.extend(joined);
    Ok(())
}

/// Makes one layer of several; nothing where they change nothing together.
fn join(store: &Store, below: &[DiffId], layers: &[DiffId]) -> Result<Option<DiffId>, BuildError> {
    let staging = store.stage()?;
    for path in store.layer_dirs(layers)? {
        add_layer(&Root::open(path)?, staging.root())?;
    }
    let mut lowers = Vec::new();
    for path in store.layer_dirs(below)?.iter().rev() {
        lowers.push(Root::open(path)?);
    }
    clean_upper(staging.root(), &lowers, &[])?;
    if staging.root().entries()?.is_empty() {
        return Ok(None);
    }
    publish(store, staging).map(Some)
}

/// Puts a layer on top of what a directory in overlay form holds.
fn add_layer(layer: &Root, into: &Root) -> Result<(), BuildError> {
    let found = walk(layer)?;
    let (mut hidden, mut opaque) = (Vec::new(), Vec::new());
    for (path, metadata) in &found {
        let before = into.lstat_optional(path)?;
        if metadata.is_whiteout() {
            hidden.push(path.clone());
            into.remove_all(path)?;
        } else if metadata.is_dir() {
            let is_opaque = is_opaque(layer, path)?;
            let covers = before.is_some_and(|before| !before.is_dir());
            if is_opaque || covers {
                into.remove_all(path)?;
                opaque.push(path.clone());
            }
        }
    }
    let top = Entry {
        path: PathBuf::new(),
        metadata: layer.metadata()?,
    };
    let kept = found
        .into_iter()
        .filter(|(_, metadata)| !metadata.is_whiteout())
        .map(|(path, metadata)| Entry { path, metadata });
    let all = Selected {
        path: PathBuf::new(),
        name: std::ffi::OsString::new(),
        entries: std::iter::once(top).chain(kept).collect(),
    };
    let attributes = Attributes {
        keep_owner: true,
        contents_only: true,
        replaces: true,
        ..Attributes::default()
    };
    let all = Taken::unhashed(vec![all]);
    copy::copy(Reading::own(layer), &all, into.into(), "/", &attributes)?;
    for path in hidden {
        into.mknod(&path, FileType::CharDevice, 0, (0, 0))?;
    }
    for path in opaque {
        into.set_xattr(&path, std::ffi::OsStr::new(OPAQUE), b"y")?;
    }
    Ok(())
}

fn is_opaque(layer: &Root, path: &Path) -> Result<bool, BuildError> {
    let mark = layer.xattr(path, std::ffi::OsStr::new(OPAQUE))?;
    Ok(mark.is_some_and(|mark| mark == b"y"))
}

/// Lists a tree, parents first.
fn walk(root: &Root) -> Result<Vec<(PathBuf, Metadata)>, BuildError> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        for entry in root.read_dir(&directory)? {
            let path = directory.join(&entry.name);
            let metadata = root.lstat(&path)?;
            if metadata.is_dir() {
                open.push(path.clone());
            }
            found.push((path, metadata));
        }
    }
    found.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(found)
}

/// Returns the layer with no time later than `latest`: itself, or one that is made of it once.
fn with_times(store: &Store, diff_id: &DiffId, latest: i64) -> Result<DiffId, BuildError> {
    let key = cache::key_of("times", &json!([diff_id, latest]));
    let lease = store.lease("set times back")?;
    if let Some(hit) = cache::find(store, &lease, &key, None)?
        && let [known] = hit.diff_ids.as_slice()
    {
        return Ok(*known);
    }
    let dirs = store.layer_dirs(&[*diff_id])?;
    let Some(path) = dirs.first() else {
        return Ok(*diff_id);
    };
    let layer = Root::open(path)?;
    let files = walk(&layer)?;
    let is_late = |metadata: &Metadata| metadata.mtime.seconds > latest && !metadata.is_whiteout();
    if !files.iter().any(|(_, metadata)| is_late(metadata)) {
        return Ok(*diff_id);
    }
    let staging = store.stage()?;
    copy_tree(&layer, staging.root(), &CopyOptions::default())?;
    let time = Timestamp::from_seconds(latest);
    // Children before parents: nothing is written in a directory after its time is set.
    for (path, _) in files.iter().rev().filter(|(_, metadata)| is_late(metadata)) {
        staging.root().set_times(path, time, time)?;
    }
    let made = publish(store, staging)?;
    let record = Record {
        key,
        by_result: None,
        diff_ids: vec![made],
        created: None,
        config: None,
        explain: json!({ "kind": "times" }),
        description: "times set back",
        size_bytes: 0,
        is_unchanged: false,
    };
    cache::put(store, record)?;
    Ok(made)
}

fn publish(store: &Store, staging: Staging) -> Result<DiffId, BuildError> {
    let summary = summarize(staging.root())?;
    let layer = store.publish_layer(staging, NewLayer::made_here(summary))?;
    Ok(layer.diff_id)
}
