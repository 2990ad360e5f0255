//! Layer tars: nothing leaves the directory, and the recipe makes the same bytes again. Needs root.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wharf_layer::{ApplyOptions, Limits, Recipe, apply};
use wharf_safefs::Root;

/// Small limits: the file system is not what is looked at.
const LIMITS: Limits = Limits {
    max_entries: 64,
    max_tar_bytes: 1 << 20,
    max_unpacked_bytes: 1 << 16,
};

static SCENE: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let scene = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let inside = scene.path().join("layer");
    std::fs::create_dir(&inside).expect("a directory");
    (scene, inside)
});

fuzz_target!(|tar: &[u8]| {
    let (scene, inside) = &*SCENE;
    let root = Root::open(inside).expect("the directory");
    root.clear().expect("an empty directory");
    let options = ApplyOptions {
        limits: LIMITS,
        skip_devices: true,
        ..ApplyOptions::default()
    };
    if let Ok(applied) = apply(tar, &root, &options) {
        let recipe = Recipe::from_bytes(&applied.recipe.to_bytes()).expect("its own recipe");
        let mut rebuilt = Vec::new();
        recipe.rebuild(&root, &mut rebuilt).expect("the tar again");
        assert!(rebuilt == tar);
    }
    assert_eq!(
        std::fs::read_dir(scene.path()).expect("the scene").count(),
        1,
        "something got out"
    );
});
