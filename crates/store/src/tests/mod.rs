//! Tests of the store as a whole, and what they share.

mod cache;
mod containers;
mod crash;
mod durability;
mod foreign;
mod images;
mod layers;
mod leases;
mod limits;
mod opening;
mod space;
mod usage;
mod variants;

use std::io::Write;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use wharf_image::{DiffId, Reference};
use wharf_layer::summarize;
use wharf_safefs::Root;

use crate::{ContainerRow, Image, Layer, NewImage, NewLayer, Staging, Store};

/// A store in a directory of its own, removed with it.
pub(super) struct TestStore {
    pub(super) store: Store,
    pub(super) directory: TempDir,
}

impl TestStore {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("root")).unwrap();
        Self { store, directory }
    }

    pub(super) fn path(&self, below: &str) -> std::path::PathBuf {
        self.store.root().join(below)
    }

    /// Lets go of the root and opens it again.
    pub(super) fn reopen(self) -> Self {
        let Self { store, directory } = self;
        let root = store.root().to_path_buf();
        drop(store);
        Self {
            store: Store::open(&root).unwrap(),
            directory,
        }
    }

    /// Opens the root again as after another boot.
    pub(super) fn reboot(self, boot_id: &str) -> Self {
        let Self { store, directory } = self;
        let root = store.root().to_path_buf();
        drop(store);
        Self {
            store: Store::open_at_boot(&root, boot_id).unwrap(),
            directory,
        }
    }
}

pub(super) fn write_file(root: &Root, path: &str, content: &[u8]) {
    if let Some(parent) = Path::new(path).parent()
        && !parent.as_os_str().is_empty()
    {
        root.mkdir_all(parent, 0o755, None).unwrap();
    }
    root.create_new(path, 0o644)
        .unwrap()
        .write_all(content)
        .unwrap();
}

pub(super) fn stage_files(store: &Store, files: &[(&str, &[u8])]) -> Staging {
    let staging = store.stage().unwrap();
    for (path, content) in files {
        write_file(staging.root(), path, content);
    }
    staging
}

/// Publishes a layer of these files.
pub(super) fn publish(store: &Store, files: &[(&str, &[u8])]) -> Layer {
    let staging = stage_files(store, files);
    let summary = summarize(staging.root()).unwrap();
    store
        .publish_layer(staging, NewLayer::made_here(summary))
        .unwrap()
}

pub(super) fn config_of(diff_ids: &[DiffId], marker: &str) -> Vec<u8> {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-05-06T07:08:09.5Z",
        "author": marker,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

pub(super) fn put_image(store: &Store, layers: &[&Layer], marker: &str) -> Image {
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
    store
        .put_image(&NewImage {
            built_here: true,
            ..NewImage::of(&config_of(&diff_ids, marker))
        })
        .unwrap()
}

pub(super) fn container(id: &str, name: &str, diff_ids: &[DiffId]) -> ContainerRow {
    ContainerRow {
        id: id.to_owned(),
        name: name.to_owned(),
        image: None,
        diff_ids: diff_ids.to_vec(),
        document: json!({"state": "created"}),
    }
}

pub(super) fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// Names of what lies in a directory, sorted.
pub(super) fn list(path: &Path) -> Vec<String> {
    let entries = wharf_safefs::trusted::read_dir_sorted(path).unwrap();
    entries
        .into_iter()
        .map(|entry| entry.name.to_string_lossy().into_owned())
        .collect()
}
