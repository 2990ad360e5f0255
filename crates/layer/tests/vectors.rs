//! The recorded vectors: stacks of layers, and differences of trees.
//!
//! `layer-apply` holds what an unpacker gives that puts all layers one after the other into the same
//! directory. This one unpacks each layer by itself and lets overlayfs merge, so some answers differ
//! on purpose; each of those is listed with its reason.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::path::Path;

use common::{Item, Scene, is_root_user, look, tar_of};
use serde_json::Value;
use wharf_layer::{Applied, ApplyOptions, ChangeKind, apply, changes};
use wharf_safefs::{FileType, FsError, Root};

/// An entry lies below a name that a lower layer has as a symlink or file: unpacked by itself, the layer has a
/// directory there, which replaces what is below.
const IMPLIED_OVER_LOWER: &[&str] = &["layer-apply-00332", "layer-apply-00333"];

/// A whiteout follows an entry of its own name in the same layer: it hides lower layers only.
const WHITEOUT_AFTER_ENTRY: &[&str] = &[
    "layer-apply-00008",
    "layer-apply-00017",
    "layer-apply-00043",
    "layer-apply-00045",
    "layer-apply-00055",
    "layer-apply-00066",
    "layer-apply-00103",
    "layer-apply-00108",
    "layer-apply-00128",
    "layer-apply-00171",
    "layer-apply-00178",
    "layer-apply-00190",
    "layer-apply-00205",
    "layer-apply-00212",
    "layer-apply-00234",
    "layer-apply-00253",
    "layer-apply-00278",
    "layer-apply-00314",
];

/// A later entry of the same layer replaces or deletes a directory or link target. The recorded unpacker then fails
/// when it sets the directory's time, or looks for the target, at the end; the tar itself is sound.
const REPLACED_IN_SAME_LAYER: &[&str] = &[
    "layer-apply-00009",
    "layer-apply-00011",
    "layer-apply-00012",
    "layer-apply-00035",
    "layer-apply-00063",
    "layer-apply-00087",
    "layer-apply-00157",
    "layer-apply-00164",
    "layer-apply-00200",
    "layer-apply-00221",
    "layer-apply-00242",
    "layer-apply-00244",
    "layer-apply-00280",
    "layer-diff-00012",
    "layer-diff-00018",
    "layer-diff-00021",
    "layer-diff-00033",
    "layer-diff-00040",
    "layer-diff-00044",
    "layer-diff-00045",
    "layer-diff-00051",
    "layer-diff-00053",
    "layer-diff-00079",
    "layer-diff-00085",
    "layer-diff-00092",
    "layer-diff-00102",
    "layer-diff-00109",
    "layer-diff-00121",
    "layer-diff-00156",
    "layer-diff-00166",
    "layer-diff-00180",
    "layer-diff-00237",
];

fn vectors(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

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

#[test]
fn layers_stack_as_recorded() {
    if !is_root_user() {
        return;
    }
    let mut wrong = Vec::new();
    for vector in vectors(include_str!("vectors/layer-apply.json")) {
        let id = vector["id"].as_str().unwrap();
        let expected = &vector["expected"];
        let found = stack(&vector["input"]["layers"]);
        let same = match (&found, expected.get("tree")) {
            (Ok(tree), Some(expected)) => same_tree(tree, expected),
            (Err((layer, _)), None) => expected["failed_layer"].as_u64() == Some(*layer as u64),
            _ => false,
        };
        let listed = [
            IMPLIED_OVER_LOWER,
            WHITEOUT_AFTER_ENTRY,
            REPLACED_IN_SAME_LAYER,
        ]
        .concat()
        .contains(&id);
        if same == listed {
            wrong.push(format!(
                "{id}: listed {listed}\n  expected {expected}\n  found {found:?}\n  input {}",
                vector["input"]
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
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

#[test]
fn differences_are_as_recorded() {
    if !is_root_user() {
        return;
    }
    let mut wrong = Vec::new();
    for vector in vectors(include_str!("vectors/layer-diff.json")) {
        let id = vector["id"].as_str().unwrap();
        let found = differences(&vector["input"]);
        let same = match (&found, vector["expected"].get("error")) {
            (Ok(found), None) => {
                let expected = vector["expected"]["changes"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                *found
                    == expected
                        .iter()
                        .map(|line| line.as_str().unwrap().to_owned())
                        .collect::<Vec<_>>()
            }
            (Err(_), Some(_)) => true,
            _ => false,
        };
        if same == REPLACED_IN_SAME_LAYER.contains(&id) {
            wrong.push(format!(
                "{id}\n  expected {}\n  found {found:?}\n  input {}",
                vector["expected"], vector["input"]
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Takes the whole new tree as an upper directory that hides everything below.
fn differences(input: &Value) -> Result<Vec<String>, String> {
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
