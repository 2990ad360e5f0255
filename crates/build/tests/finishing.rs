//! What is done to an image in the end, and whether it comes out the same elsewhere.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use support::{Bench, can_mount, history, map};
use wharf_build::BuildRequest;

const EPOCH: &str = "1700000000";

#[test]
fn squashing_joins_the_new_layers() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let text = "FROM base\nRUN write /a 1 && write /d/x 1\nRUN rm /a && rm /lib/old\nRUN rm /d && write /d/y 2\nENV A=1\n";
    let (plain, _) = bench.build(text);
    let request = BuildRequest {
        squash: true,
        ..bench.request(text)
    };
    let (squashed, _) = bench.build_request(&request);
    assert_eq!(
        (plain.rootfs.diff_ids.len(), squashed.rootfs.diff_ids.len()),
        (4, 2)
    );
    assert_eq!(bench.tree(&plain, ""), bench.tree(&squashed, ""));
    assert_eq!(bench.text(&squashed, "a"), None);
    assert_eq!(bench.text(&squashed, "lib/old"), None);
    let entries = history(&squashed);
    assert_eq!(
        entries
            .iter()
            .filter(|entry| !entry.ends_with("(empty)"))
            .count(),
        2
    );
}

#[test]
fn two_roots_give_the_same_image() {
    if !can_mount() {
        return;
    }
    let build = || {
        let bench = Bench::new();
        bench.file("src/a", "1");
        let request = BuildRequest {
            rewrite_timestamp: true,
            build_args: map(&[("SOURCE_DATE_EPOCH", Some(EPOCH.to_owned()))]),
            ..bench.request(
                "FROM scratch\nCOPY src /src\nRUN write /made/deep 1\nRUN rm /src/a\nENV A=1\n",
            )
        };
        let (first, _) = bench.build_request(&request);
        let (again, _) = bench.build_request(&request);
        assert_eq!(first, again);
        let view = bench.view(&first);
        assert_eq!(view.stat("made").unwrap().mtime.seconds.to_string(), EPOCH);
        first
    };
    let first = build();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(first, build());
    assert_eq!(first.created.as_deref(), Some("2023-11-14T22:13:20Z"));
}

#[test]
fn setting_times_back_needs_a_time() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let request = BuildRequest {
        rewrite_timestamp: true,
        ..bench.request("FROM base\nRUN write /a 1\n")
    };
    let error = bench.try_build(&request).0.unwrap_err().to_string();
    assert!(error.contains("SOURCE_DATE_EPOCH"), "{error}");
}
