//! What a daemon answers to recorded requests (`tests/vectors/own`).

use wharf_vectors::{assert_area, live, own_directory};

fn run(area: &str) {
    // The daemon imports the base image that the harness makes.
    let images = crate::harness::base_image_tar("busybox");
    live::use_images(images.parent().unwrap());
    live::use_program(env!("CARGO_BIN_EXE_wharf"));
    assert_area(&own_directory(), area);
}

#[test]
fn api_status() {
    run("api-status");
}

#[test]
fn container_create() {
    run("container-create");
}
