//! The page is what the code says, and the record is what docker's client says.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;

use wharf_compatibility::{BUILDX_BUILD, DOCKER_COMMANDS, page, page_path, record};
use wharf_safefs::trusted;

#[test]
fn the_page_is_not_stale() {
    let found = trusted::read_to_string(page_path(), 16 << 20).unwrap();
    assert!(
        found == page().unwrap(),
        "docs/compatibility.md is stale: run cargo xtask compatibility"
    );
}

#[test]
fn the_record_is_dockers() {
    let Some(docker) = std::env::var_os("WHARF_TEST_DOCKER") else {
        println!("SKIP: WHARF_TEST_DOCKER names no docker client");
        return;
    };
    let recorded = record::record(Path::new(&docker)).unwrap();
    assert!(
        recorded == DOCKER_COMMANDS,
        "docker's help is not what data/docker-cli-28.5.txt holds"
    );
}

#[test]
fn the_record_is_buildxs() {
    let Some(plugin) = std::env::var_os("WHARF_TEST_BUILDX") else {
        println!("SKIP: WHARF_TEST_BUILDX names no buildx plugin");
        return;
    };
    let recorded = record::record_buildx(Path::new(&plugin)).unwrap();
    assert!(
        recorded == BUILDX_BUILD,
        "buildx's help is not what data/buildx-build-0.29.txt holds"
    );
}
