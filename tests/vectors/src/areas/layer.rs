//! Stacks of layers, and differences of trees.
//!
//! `layer-apply` holds what an unpacker gives that puts all layers one after the other into the same
//! directory. This one unpacks each layer by itself and lets overlayfs merge.

use std::path::Path;

use serde_json::Value;
use wharf_layer::{Applied, ApplyOptions, ChangeKind, apply, changes};
use wharf_safefs::{FileType, FsError, Root};

use self::common::{Item, Scene, look, tar_of};
use crate::{Document, Vector, Verdict};

// The room's own tests make their scenes with the same helpers.
#[path = "../../../../crates/layer/tests/common/mod.rs"]
mod common;

fn item(entry: &Value) -> Item {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let kind = match entry["Type"].as_str().unwrap() {
        "file" => b'0',
        "dir" => b'5',
        "symlink" => b'2',
        "hardlink" => b'1',
        "fifo" => b'6',
        other => panic!("unknown type {other}"),
    };
    Item {
        mode: entry["Mode"].as_u64().unwrap() as u32,
        uid: entry["Uid"].as_u64().unwrap_or(0),
        gid: entry["Gid"].as_u64().unwrap_or(0),
        content: text("Content").into_bytes(),
        link: text("Link").into_bytes(),
        ..Item::new(kind, text("Name"))
    }
}

fn items(layer: &Value) -> Vec<Item> {
    layer
        .as_array()
        .map(|entries| entries.iter().map(item).collect())
        .unwrap_or_default()
}

/// Puts a layer on a merged tree, as overlayfs shows it.
fn merge(layer: &Root, applied: &Applied, merged: &Root) -> Result<(), String> {
    if applied.opaque_root {
        merged.clear().unwrap();
    }
    for seen in look(layer) {
        let path = &seen.path;
        let below = merged.lstat_optional(path).unwrap();
        if seen.file_type == FileType::CharDevice && seen.rdev == 0 {
            merged.remove_all(path).unwrap();
            continue;
        }
        if seen.file_type != FileType::Directory {
            merged.remove_all(path).unwrap();
            layer.hard_link_to(path, merged, path).unwrap();
            continue;
        }
        let opaque = layer
            .xattr(path, "trusted.overlay.opaque")
            .unwrap()
            .is_some();
        let is_dir = below.is_some_and(|below| below.is_dir());
        if !is_dir || opaque {
            merged.remove_all(path).unwrap();
            merged.mkdir(path, seen.mode).unwrap();
        } else if !applied.implied_dirs.contains(path) {
            merged.chmod(path, seen.mode).unwrap();
        }
    }
    for (link, target) in &applied.pending_links {
        let linked: Result<(), FsError> = merged
            .remove_all(link)
            .and_then(|()| merged.hard_link(target, link));
        linked.map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn stack(layers: &Value) -> Result<Value, (usize, String)> {
    let scene = Scene::new();
    let merged = scene.root("merged");
    for (index, layer) in layers.as_array().unwrap().iter().enumerate() {
        let directory = scene.root(&index.to_string());
        let applied = apply(
            tar_of(&items(layer)).as_slice(),
            &directory,
            ApplyOptions::default(),
        )
        .map_err(|error| (index, error.to_string()))?;
        rebuilds(&items(layer), &applied, &directory);
        merge(&directory, &applied, &merged).map_err(|error| (index, error))?;
    }
    let tree = look(&merged).into_iter().map(|seen| {
        let kind = match seen.file_type {
            FileType::File => "file",
            FileType::Directory => "dir",
            FileType::Symlink => "symlink",
            FileType::Fifo => "fifo",
            other => panic!("{other:?}"),
        };
        let mut value = serde_json::json!({ "path": seen.path.to_str().unwrap(), "type": kind });
        let content = String::from_utf8(seen.content).unwrap();
        match kind {
            "symlink" => value["link"] = content.into(),
            _ => value["mode"] = format!("{:04o}", seen.mode).into(),
        }
        if kind == "file" {
            value["content"] = String::from_utf8(merged.read(&seen.path, 1000).unwrap())
                .unwrap()
                .into();
        }
        value
    });
    Ok(Value::Array(tree.collect()))
}

/// Whatever the layer was, its recipe makes the same tar.
fn rebuilds(items: &[Item], applied: &Applied, directory: &Root) {
    let recipe = wharf_layer::Recipe::from_bytes(&applied.recipe.to_bytes()).unwrap();
    let mut rebuilt = Vec::new();
    recipe.rebuild(directory, &mut rebuilt).unwrap();
    assert!(rebuilt == tar_of(items));
}

pub(super) fn layers_stack(vector: &Vector, _: &Document) -> Verdict {
    let expected = &vector.expected;
    let found = stack(&vector.input["layers"]);
    let same = match (&found, expected.get("tree")) {
        (Ok(tree), Some(expected)) => same_tree(tree, expected),
        (Err((layer, _)), None) => expected["failed_layer"].as_u64() == Some(*layer as u64),
        _ => false,
    };
    if same {
        Ok(())
    } else {
        Err(format!("found {found:?}"))
    }
}

fn same_tree(found: &Value, expected: &Value) -> bool {
    let (Some(found), Some(expected)) = (found.as_array(), expected.as_array()) else {
        return found.as_array().is_some_and(Vec::is_empty) && expected.is_null();
    };
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            found.as_object().unwrap().iter().all(|(key, value)| {
                expected.get(key).unwrap_or(&Value::String(String::new())) == value
            })
        })
}

pub(super) fn differences(vector: &Vector, _: &Document) -> Verdict {
    let found = tree_differences(&vector.input);
    let same = match (&found, vector.expected.get("error")) {
        (Ok(found), None) => *found == super::strings(&vector.expected["changes"]),
        (Err(_), Some(_)) => true,
        _ => false,
    };
    if same {
        Ok(())
    } else {
        Err(format!("found {found:?}"))
    }
}

/// Takes the whole new tree as an upper directory that hides everything below.
fn tree_differences(input: &Value) -> Result<Vec<String>, String> {
    let scene = Scene::new();
    let trees = ["old", "new"].map(|name| {
        let root = scene.root(name);
        apply(
            tar_of(&items(&input[name])).as_slice(),
            &root,
            ApplyOptions::default(),
        )
        .map_err(|error| error.to_string())
        .and_then(|applied| {
            if applied.pending_links.is_empty() {
                Ok(())
            } else {
                Err("missing target".to_owned())
            }
        })
        .map(|()| root)
    });
    let [old, new] = trees;
    let (old, new) = (old?, new?);
    new.set_xattr("", "trusted.overlay.opaque", b"y").unwrap();
    for seen in look(&new) {
        if seen.file_type == FileType::Directory {
            new.set_xattr(&seen.path, "trusted.overlay.opaque", b"y")
                .unwrap();
        }
    }
    let found = changes(&new, &[old], &[]).unwrap();
    Ok(found
        .iter()
        .map(|change| {
            let kind = match change.kind {
                ChangeKind::Modified => 'C',
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
            };
            format!("{kind} {}", Path::new(&change.path).display())
        })
        .collect())
}
