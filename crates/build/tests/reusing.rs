//! Copies that take files over from the layer that the same step made before.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;

use support::{Bench, can_mount};
use wharf_build::{ContextSource, PruneOptions, prune};
use wharf_image::{DiffId, ImageConfig};
use wharf_safefs::{Root, trusted};

const TEXT: &str = "FROM base\nCOPY src /lib/src\n";
const FILES: usize = 400;

/// A context of many files; some have two names.
fn bench() -> Bench {
    let bench = Bench::new();
    for number in 0..FILES {
        bench.file(
            &format!("src/{}/{number}", number % 7),
            format!("{number}").repeat(1000),
        );
    }
    let root = Root::open(bench.context()).unwrap();
    root.hard_link("src/0/0", "src/1/same").unwrap();
    bench
}

fn top(image: &ImageConfig) -> DiffId {
    *image.rootfs.diff_ids.last().unwrap()
}

/// Returns the inodes of a layer's files by path.
fn inodes(bench: &Bench, layer: &DiffId) -> BTreeMap<String, u64> {
    let dirs = bench.store.layer_dirs(&[*layer]).unwrap();
    let root = Root::open(&dirs[0]).unwrap();
    let mut found = BTreeMap::new();
    for directory in root.read_dir("lib/src").unwrap() {
        let path = format!("lib/src/{}", directory.name.display());
        for file in root.read_dir(&path).unwrap() {
            found.insert(format!("{path}/{}", file.name.display()), file.ino);
        }
    }
    found
}

/// Returns what a store takes on disk without what changes by itself, after its own account was compared with it.
fn on_disk(bench: &Bench) -> u64 {
    bench.store.wait_for_removals();
    let usage = bench.store.disk_usage().unwrap();
    let found = trusted::disk_usage(bench.store.root()).unwrap().disk_bytes;
    let reported = usage.total_bytes();
    assert!(
        reported.abs_diff(found) * 100 <= found,
        "reported {reported}, du says {found}"
    );
    usage.layers_bytes + usage.blobs_bytes
}

/// Changes files in all ways that count.
fn change(bench: &Bench) {
    let root = Root::open(bench.context()).unwrap();
    bench.file("src/3/3", "changed");
    bench.file("src/3/new", "new");
    root.chmod("src/4/4", 0o755).unwrap();
    root.remove_file("src/5/5").unwrap();
    root.rename("src/6/6", "src/6/renamed").unwrap();
    let time = wharf_safefs::Timestamp::from_seconds(1_000_000_000);
    root.set_times("src/2/2", time, time).unwrap();
    // What was one file is two now.
    root.remove_file("src/1/same").unwrap();
    bench.file("src/1/same", "0".repeat(1000));
    let first = root.lstat("src/0/0").unwrap();
    root.set_times("src/1/same", first.atime, first.mtime)
        .unwrap();
    root.set_times("src/1", time, time).unwrap();
}

#[test]
fn a_changed_tree_shares_what_did_not_change_and_is_the_same_as_one_made_anew() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    let (first, _) = bench.build(TEXT);
    change(&bench);
    let (second, _) = bench.build(TEXT);
    let (old, new) = (inodes(&bench, &top(&first)), inodes(&bench, &top(&second)));
    let is_shared = |path: &str| old.get(path).is_some_and(|ino| new.get(path) == Some(ino));
    let shared = new.keys().filter(|path| is_shared(path)).count();
    assert!(shared > FILES - 10, "{shared}");
    for path in ["3/3", "3/new", "4/4", "2/2", "6/renamed"] {
        let path = format!("lib/src/{path}");
        assert!(!is_shared(&path) && new.contains_key(&path), "{path}");
    }
    // Two files of equal content stay two, whatever they were.
    assert_ne!(new["lib/src/0/0"], new["lib/src/1/same"]);

    let anew = Bench::new();
    let request = wharf_build::BuildRequest {
        context: ContextSource::Directory(bench.context()),
        ..anew.request(TEXT)
    };
    let (built, log) = anew.try_build(&request);
    let image = anew
        .store
        .image(&built.unwrap_or_else(|error| panic!("{error} {log:?}")));
    let config = image.unwrap().unwrap().config;
    assert_eq!(top(&config), top(&second));
    assert_eq!(
        anew.tree(&config, "lib/src"),
        bench.tree(&second, "lib/src")
    );

    // The earlier layer still is what its name says.
    let written = bench
        .store
        .write_layer_tar(&top(&first), &mut std::io::sink());
    assert!(written.is_ok(), "{written:?}");
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn common_files_count_once_and_what_comes_free_is_told() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    let one = bench.try_build(&bench.request(TEXT)).0.unwrap();
    let alone = on_disk(&bench);
    bench.file("src/3/3", "changed");
    let two = bench.try_build(&bench.request(TEXT)).0.unwrap();
    let both = on_disk(&bench);
    assert!(both < alone + alone / 2, "{alone} {both}");
    bench.file("src/4/4", "changed, too");
    let three = bench.try_build(&bench.request(TEXT)).0.unwrap();
    on_disk(&bench);

    let all = PruneOptions {
        all: true,
        ..PruneOptions::default()
    };
    // First the one in the middle, then the newest, then the oldest.
    let mut before = on_disk(&bench);
    for image in [two, three, one] {
        bench.store.delete_image(&image).unwrap();
        let unused = PruneOptions::default();
        let options = if image == one { &all } else { &unused };
        let pruned = prune(&bench.store, options).unwrap();
        let after = on_disk(&bench);
        assert_eq!(pruned.freed_bytes, before - after, "{image}");
        before = after;
    }
}

#[test]
fn without_the_cache_nothing_is_taken_over() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    let (first, _) = bench.build(TEXT);
    bench.file("src/3/3", "changed");
    let mut request = bench.request(TEXT);
    request.no_cache = true;
    let (second, _) = bench.build_request(&request);
    let (old, new) = (inodes(&bench, &top(&first)), inodes(&bench, &top(&second)));
    assert!(new.values().all(|ino| !old.values().any(|old| old == ino)));
}
