//! A full disk.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use wharf_safefs::trusted;

use super::{container, publish, put_image, stage_files};
use crate::{NewLayer, Store, StoreError};

const ROOT_VARIABLE: &str = "WHARF_STORE_TEST_SMALL_ROOT";

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_published() {
    let directory = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    // The mount lives and dies with its own namespace.
    let script = "mount -t tmpfs -o size=6m tmpfs \"$1\" && exec \"$2\" --ignored --exact tests::space::fill --nocapture";
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .args([directory.path(), program.as_path()])
        .env(ROOT_VARIABLE, directory.path())
        .output();
    let output = match output {
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("unshare failed") => output,
        other => {
            let mut stderr = std::io::stderr();
            writeln!(stderr, "SKIP: no mount namespace here: {other:?}").unwrap();
            return;
        }
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[test]
#[ignore = "run by a_full_disk_is_told_and_leaves_nothing_half_published"]
fn fill() {
    let Some(small) = std::env::var_os(ROOT_VARIABLE) else {
        return;
    };
    let root = Path::new(&small).join("root");
    let store = Store::open(&root).unwrap();
    let kept = publish(&store, &[("a", b"kept")]);
    let image = put_image(&store, &[&kept], "kept");
    let filler = root.join("filler");
    fill_up(&filler);

    for error in [
        store.put_blob(&[1; 100_000]).unwrap_err(),
        // Smaller than a page of the database's log, too.
        full_database(&store),
    ] {
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
        assert!(error.to_string().contains("wharf system prune"), "{error}");
    }
    drop(store);
    trusted::remove_all(&filler).unwrap();
    let store = Store::open(&root).unwrap();
    store
        .write_layer_tar(&kept.diff_id, &mut std::io::sink())
        .unwrap();
    assert_eq!(store.images().unwrap()[0].id, image.id);
    assert!(store.open_report().lost_images.is_empty());
    store.wait_for_removals();
    assert!(super::list(&root.join("tmp")).is_empty());
    super::usage::assert_adds_up(&store);
}

fn fill_up(path: &Path) {
    let mut file = trusted::create_new(path, 0o600).unwrap();
    for size in [65536, 4096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

/// Publishes layers and containers until the database has no room left, either.
fn full_database(store: &Store) -> StoreError {
    for number in 0..10_000 {
        let staging = match store.stage() {
            Ok(staging) => staging,
            Err(error) => return error,
        };
        drop(staging);
        if let Err(error) =
            store.create_container(container(&format!("c{number}"), &format!("n{number}"), &[]))
        {
            return error;
        }
    }
    let staging = stage_files(store, &[]);
    let summary = wharf_layer::summarize(staging.root()).unwrap();
    store
        .publish_layer(staging, NewLayer::made_here(summary))
        .unwrap_err()
}
