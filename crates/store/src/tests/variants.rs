//! Layers that depend on what lies below them (design §3).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use wharf_image::{DiffId, Digest};
use wharf_layer::summarize;

use super::{TestStore, publish, stage_files, write_file};
use crate::{Layer, NewLayer, StoreError};

struct Parts<'a> {
    files: &'a [(&'a str, &'a [u8])],
    implied: &'a [&'a str],
    links: &'a [(&'a str, &'a str)],
}

fn publish_parts(test: &TestStore, parts: &Parts<'_>) -> Layer {
    let staging = stage_files(&test.store, parts.files);
    let mut summary = summarize(staging.root()).unwrap();
    // Its tar has more or less than the directory.
    summary.diff_id = Digest::of(format!(
        "{} {:?} {:?}",
        summary.diff_id, parts.implied, parts.links
    ));
    let new = NewLayer {
        implied_dirs: parts.implied.iter().map(PathBuf::from).collect(),
        pending_links: parts
            .links
            .iter()
            .map(|(link, target)| (link.into(), target.into()))
            .collect(),
        ..NewLayer::made_here(summary)
    };
    test.store.publish_layer(staging, new).unwrap()
}

/// A layer whose directory `path` has an entry of its own with this mode.
fn publish_directory(test: &TestStore, path: &str, mode: u32) -> Layer {
    let staging = test.store.stage().unwrap();
    staging.root().mkdir_all(path, 0o755, None).unwrap();
    staging.root().chmod(path, mode).unwrap();
    staging
        .root()
        .set_xattr(path, "trusted.test", b"value")
        .unwrap();
    let mut summary = summarize(staging.root()).unwrap();
    summary.diff_id = Digest::of(format!("{path} {mode:o}"));
    test.store
        .publish_layer(staging, NewLayer::made_here(summary))
        .unwrap()
}

fn plain(test: &TestStore, layer: &Layer) -> PathBuf {
    test.path("layers")
        .join(layer.number.to_string())
        .join("fs")
}

fn chain(layers: &[&Layer]) -> Vec<DiffId> {
    layers.iter().map(|layer| layer.diff_id).collect()
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn the_common_case_is_untouched() {
    let test = TestStore::new();
    let base = publish(&test.store, &[("usr/bin/a", b"a")]);
    let top = publish_parts(
        &test,
        &Parts {
            files: &[("usr/bin/b", b"b")],
            implied: &["usr", "usr/bin"],
            links: &[],
        },
    );
    let dirs = test.store.layer_dirs(&chain(&[&base, &top])).unwrap();
    assert_eq!(dirs, [plain(&test, &base), plain(&test, &top)]);
    assert_eq!(
        test.store.layer_dirs(&chain(&[&top])).unwrap(),
        [plain(&test, &top)]
    );
    assert_eq!(super::list(&test.path("layers")).len(), 2);
}

#[test]
fn an_implied_directory_takes_what_the_layers_below_give_it() {
    let test = TestStore::new();
    let private = publish_directory(&test, "var/spool", 0o1770);
    let top = publish_parts(
        &test,
        &Parts {
            files: &[("var/spool/job", b"x")],
            implied: &["var", "var/spool"],
            links: &[],
        },
    );
    let dirs = test.store.layer_dirs(&chain(&[&private, &top])).unwrap();
    assert_eq!(dirs[0], plain(&test, &private));
    assert_ne!(dirs[1], plain(&test, &top));
    let metadata = std::fs::metadata(dirs[1].join("var/spool")).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o1770);
    let root = wharf_safefs::Root::open(&dirs[1]).unwrap();
    assert_eq!(
        root.xattr("var/spool", "trusted.test").unwrap().unwrap(),
        b"value"
    );
    // Files are shared, the layer itself is as it was.
    assert_eq!(
        inode(&dirs[1].join("var/spool/job")),
        inode(&plain(&test, &top).join("var/spool/job"))
    );
    assert_eq!(
        std::fs::metadata(plain(&test, &top).join("var/spool"))
            .unwrap()
            .mode()
            & 0o7777,
        0o755
    );
    // Another chain, another variant; the same chain, the same one, also after opening again.
    let other = publish_directory(&test, "var/spool", 0o2775);
    let others = test.store.layer_dirs(&chain(&[&other, &top])).unwrap();
    assert_ne!(others[1], dirs[1]);
    let test = test.reopen();
    // Nothing owned the layers.
    assert!(super::list(&test.path("layers")).is_empty());
}

#[test]
fn variants_are_kept_with_their_layer_and_counted() {
    let test = TestStore::new();
    let private = publish_directory(&test, "var/spool", 0o700);
    let top = publish_parts(
        &test,
        &Parts {
            files: &[("var/spool/job", b"x")],
            implied: &["var", "var/spool"],
            links: &[],
        },
    );
    let diff_ids = chain(&[&private, &top]);
    test.store
        .create_container(super::container("c1", "web", &diff_ids))
        .unwrap();
    let dirs = test.store.layer_dirs(&diff_ids).unwrap();
    super::usage::assert_adds_up(&test.store);
    let test = test.reopen();
    assert_eq!(test.store.layer_dirs(&diff_ids).unwrap(), dirs);
    assert_eq!(super::list(&test.path("layers")).len(), 3);
    // After a boot nothing is mounted; a variant is made anew rather than verified.
    let test = mark_sealed(test).reboot("another boot");
    assert_eq!(super::list(&test.path("layers")).len(), 2);
    assert_ne!(test.store.layer_dirs(&diff_ids).unwrap(), dirs);
    test.store.delete_container("c1").unwrap();
    test.store.wait_for_removals();
    assert!(super::list(&test.path("layers")).is_empty());
}

/// The made-up DiffIDs here would not pass verification.
fn mark_sealed(test: TestStore) -> TestStore {
    let connection = rusqlite::Connection::open(test.path("wharf.db")).unwrap();
    connection
        .execute("UPDATE layers SET sealed = 1", [])
        .unwrap();
    test
}

#[test]
fn a_pending_link_leads_to_the_file_below() {
    let test = TestStore::new();
    let base = publish(&test.store, &[("bin/tool", b"old")]);
    let middle = publish(&test.store, &[("bin/tool", b"new")]);
    let top = publish_parts(
        &test,
        &Parts {
            files: &[("etc/x", b"x")],
            implied: &["etc"],
            links: &[("bin/alias", "bin/tool"), ("top", "/bin/tool")],
        },
    );
    let dirs = test
        .store
        .layer_dirs(&chain(&[&base, &middle, &top]))
        .unwrap();
    assert_eq!(dirs[..2], [plain(&test, &base), plain(&test, &middle)]);
    for link in ["bin/alias", "top"] {
        assert_eq!(inode(&dirs[2].join(link)), inode(&dirs[1].join("bin/tool")));
    }
    let on_base = test.store.layer_dirs(&chain(&[&base, &top])).unwrap();
    assert_eq!(
        inode(&on_base[1].join("top")),
        inode(&on_base[0].join("bin/tool"))
    );
    super::usage::assert_adds_up(&test.store);
}

#[test]
fn links_through_several_layers_are_followed_upwards() {
    let test = TestStore::new();
    let base = publish(&test.store, &[("a", b"x")]);
    let middle = publish_parts(
        &test,
        &Parts {
            files: &[],
            implied: &[],
            links: &[("b", "a")],
        },
    );
    let top = publish_parts(
        &test,
        &Parts {
            files: &[],
            implied: &[],
            links: &[("c", "b")],
        },
    );
    let dirs = test
        .store
        .layer_dirs(&chain(&[&base, &middle, &top]))
        .unwrap();
    assert_eq!(inode(&dirs[2].join("c")), inode(&dirs[0].join("a")));
}

#[test]
fn what_is_hidden_below_is_no_target() {
    let test = TestStore::new();
    let base = publish(&test.store, &[("dir/file", b"x")]);
    let hidden_by: [&dyn Fn(&wharf_safefs::Root); 4] = [
        &|root| {
            root.mkdir("dir", 0o755).unwrap();
            root.mknod("dir/file", wharf_safefs::FileType::CharDevice, 0, (0, 0))
                .unwrap();
        },
        &|root| {
            root.mknod("dir", wharf_safefs::FileType::CharDevice, 0, (0, 0))
                .unwrap()
        },
        &|root| {
            root.mkdir("dir", 0o755).unwrap();
            root.set_xattr("dir", "trusted.overlay.opaque", b"y")
                .unwrap();
        },
        &|root| write_file(root, "dir", b"a file"),
    ];
    let top = publish_parts(
        &test,
        &Parts {
            files: &[],
            implied: &[],
            links: &[("link", "dir/file")],
        },
    );
    for (number, hide) in hidden_by.iter().enumerate() {
        let staging = test.store.stage().unwrap();
        hide(staging.root());
        let mut summary = summarize(staging.root()).unwrap();
        summary.diff_id = Digest::of(format!("hiding {number}"));
        let middle = test
            .store
            .publish_layer(staging, NewLayer::made_here(summary))
            .unwrap();
        let error = test
            .store
            .layer_dirs(&chain(&[&base, &middle, &top]))
            .unwrap_err();
        assert!(
            matches!(error, StoreError::LinkTargetMissing { .. }),
            "case {number}: {error}"
        );
    }
    assert!(test.store.layer_dirs(&chain(&[&top])).is_err());
    assert!(test.store.layer_dirs(&chain(&[&base, &top])).is_ok());
}

#[test]
fn layers_below_one_that_hides_all_are_left_out() {
    let test = TestStore::new();
    let base = publish_directory(&test, "d", 0o700);
    let staging = stage_files(&test.store, &[("d/f", b"x")]);
    let summary = summarize(staging.root()).unwrap();
    let new = NewLayer {
        opaque_root: true,
        implied_dirs: vec!["d".into()],
        ..NewLayer::made_here(summary)
    };
    let hiding = test.store.publish_layer(staging, new).unwrap();
    let top = publish(&test.store, &[("g", b"x")]);
    let dirs = test
        .store
        .layer_dirs(&chain(&[&base, &hiding, &top]))
        .unwrap();
    assert_eq!(dirs, [plain(&test, &hiding), plain(&test, &top)]);
}
