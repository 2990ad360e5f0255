//! Layers from outside: unpacked from tars, mounted on any chain, given back byte for byte.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use wharf_image::{Digest, LayerCompression};
use wharf_layer::{ApplyOptions, apply};
use wharf_safefs::trusted;

use super::{TestStore, put_image};
use crate::{Layer, LayerBlob, NewLayer, Store, StoreError};

const DIRECTORY: u8 = b'5';
const FILE: u8 = b'0';
const HARD_LINK: u8 = b'1';

/// One entry of a tar: kind, name, mode, content or link target.
type Entry<'a> = (u8, &'a str, u32, &'a str);

/// Makes a plain ustar archive (POSIX.1-1988, "ustar Interchange Format").
fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (kind, name, mode, text) in entries {
        let content = if *kind == FILE { text.as_bytes() } else { b"" };
        let link = if *kind == HARD_LINK { text } else { "" };
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[136..148].copy_from_slice(b"14000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = *kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend(header);
        tar.extend(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    // Longer padding than any canonical writer makes.
    tar.resize(tar.len() + 4096, 0);
    tar
}

fn unpack(store: &Store, tar: &[u8], blob: Option<LayerBlob>) -> Layer {
    let staging = store.stage().unwrap();
    let applied = apply(tar, staging.root(), ApplyOptions::default()).unwrap();
    store
        .publish_layer(staging, NewLayer::unpacked(applied, blob))
        .unwrap()
}

fn assert_gives_back(store: &Store, layer: &Layer, tar: &[u8]) {
    let mut again = Vec::new();
    assert_eq!(
        store.write_layer_tar(&layer.diff_id, &mut again).unwrap(),
        tar.len() as u64
    );
    assert!(
        again == tar,
        "the tar of layer {} is another one",
        layer.number
    );
}

#[test]
fn a_foreign_tar_comes_back_byte_for_byte() {
    let test = TestStore::new();
    let tar = tar_of(&[
        (FILE, "z", 0o600, "last first"),
        (DIRECTORY, "etc/", 0o755, ""),
        (FILE, "etc/passwd", 0o644, "root"),
        (HARD_LINK, "etc/again", 0o644, "etc/passwd"),
    ]);
    let layer = unpack(&test.store, &tar, None);
    assert_eq!(layer.diff_id, Digest::of(&tar));
    assert_gives_back(&test.store, &layer, &tar);
    put_image(&test.store, &[&layer], "");
    let test = test.reopen();
    assert_gives_back(&test.store, &layer, &tar);

    let file = test
        .path("layers")
        .join(layer.number.to_string())
        .join("fs/z");
    trusted::write_atomic(file, b"LAST FIRST", 0o600, false).unwrap();
    let result = test
        .store
        .write_layer_tar(&layer.diff_id, &mut std::io::sink());
    assert!(
        matches!(result, Err(StoreError::DigestMismatch { .. })),
        "{result:?}"
    );
}

#[test]
fn a_tar_of_our_own_needs_no_recipe() {
    let test = TestStore::new();
    let made = super::publish(&test.store, &[("a/b", b"content")]);
    let mut tar = Vec::new();
    test.store.write_layer_tar(&made.diff_id, &mut tar).unwrap();
    let other = TestStore::new();
    let loaded = unpack(&other.store, &tar, None);
    assert_eq!(loaded.diff_id, made.diff_id);
    assert_eq!(
        super::list(&other.path("layers").join(loaded.number.to_string())),
        ["fs"]
    );
    assert_gives_back(&other.store, &loaded, &tar);
}

/// Design §3: a directory that the tar only implies does not change what the layers below give it.
#[test]
fn an_implied_directory_keeps_the_mode_of_the_layers_below() {
    let test = TestStore::new();
    let base = tar_of(&[
        (DIRECTORY, "tmp/", 0o1777, ""),
        (DIRECTORY, "srv/", 0o755, ""),
    ]);
    let top = tar_of(&[
        (FILE, "tmp/x/file", 0o644, "x"),
        (FILE, "srv/file", 0o644, "y"),
    ]);
    let (base, top) = (
        unpack(&test.store, &base, None),
        unpack(&test.store, &top, None),
    );
    let dirs = test.store.layer_dirs(&[base.diff_id, top.diff_id]).unwrap();
    let mode = |path: &str| std::fs::metadata(dirs[1].join(path)).unwrap().mode() & 0o7777;
    assert_eq!(
        (mode("tmp"), mode("tmp/x"), mode("srv")),
        (0o1777, 0o755, 0o755)
    );
    let alone = test.store.layer_dirs(&[top.diff_id]).unwrap();
    assert_eq!(
        std::fs::metadata(alone[0].join("tmp")).unwrap().mode() & 0o7777,
        0o755
    );
    // The tar is made of the layer itself, whatever variants there are.
    test.store
        .write_layer_tar(&top.diff_id, &mut std::io::sink())
        .unwrap();
}

/// Design §3: a hard link whose target lies in a lower layer.
#[test]
fn a_link_to_a_lower_layer_is_made_on_the_chain() {
    let test = TestStore::new();
    let base = tar_of(&[
        (DIRECTORY, "bin/", 0o755, ""),
        (FILE, "bin/tool", 0o755, "tool"),
    ]);
    let top_tar = tar_of(&[
        (HARD_LINK, "bin/alias", 0o755, "bin/tool"),
        (FILE, "other", 0o644, "x"),
    ]);
    let (base, top) = (
        unpack(&test.store, &base, None),
        unpack(&test.store, &top_tar, None),
    );
    let dirs = test.store.layer_dirs(&[base.diff_id, top.diff_id]).unwrap();
    let inode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().ino();
    assert_eq!(
        inode(dirs[1].join("bin/alias")),
        inode(dirs[0].join("bin/tool"))
    );
    assert!(dirs[1].join("other").exists());
    assert!(matches!(
        test.store.layer_dirs(&[top.diff_id]),
        Err(StoreError::LinkTargetMissing { .. })
    ));
    assert_gives_back(&test.store, &top, &top_tar);
}

#[test]
fn compressed_blobs_can_be_evicted_and_stay_known() {
    let test = TestStore::new();
    let tar = tar_of(&[(FILE, "file", 0o644, "content")]);
    let mut writer = test.store.blob_writer().unwrap();
    writer.write_all(&tar).unwrap();
    let digest = writer.commit(None).unwrap();
    let blob = LayerBlob {
        digest,
        compression: LayerCompression::None,
        size_bytes: tar.len() as u64,
    };
    let layer = unpack(&test.store, &tar, Some(blob.clone()));
    put_image(&test.store, &[&layer], "");
    let report = test.store.evict_layer_blobs().unwrap();
    assert_eq!((report.blobs, report.layers), (1, 0));
    assert!(test.store.blob(&digest).unwrap().is_none());
    assert_eq!(test.store.layer_blobs(&layer.diff_id).unwrap(), [blob]);
    assert_gives_back(&test.store, &layer, &tar);
    super::usage::assert_adds_up(&test.store);
    assert_eq!(test.store.evict_layer_blobs().unwrap().blobs, 0);
}

#[test]
fn a_layer_that_only_its_blob_can_give_back_keeps_it() {
    let test = TestStore::new();
    let tar = tar_of(&[(FILE, "file", 0o644, "content")]);
    let mut compressed = Vec::new();
    wharf_layer::compress(
        tar.as_slice(),
        &mut compressed,
        wharf_layer::Compression::Gzip,
        1,
    )
    .unwrap();
    let digest = test.store.put_blob(&compressed).unwrap();
    let blob = LayerBlob {
        digest,
        compression: LayerCompression::Gzip,
        size_bytes: compressed.len() as u64,
    };
    let layer = unpack(&test.store, &tar, Some(blob));
    put_image(&test.store, &[&layer], "");
    let connection = rusqlite::Connection::open(test.path("wharf.db")).unwrap();
    connection
        .execute("UPDATE layers SET tar_source = 'blob'", [])
        .unwrap();
    assert_gives_back(&test.store, &layer, &tar);
    assert_eq!(test.store.evict_layer_blobs().unwrap().blobs, 0);
    trusted::remove_all(test.path("blobs/sha256").join(digest.hex())).unwrap();
    let error = test
        .store
        .write_layer_tar(&layer.diff_id, &mut std::io::sink())
        .unwrap_err();
    assert!(error.to_string().contains("pull it again"), "{error}");
}
