//! What comes from the cache, and what does not.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use std::sync::atomic::Ordering;

use support::{Bench, can_mount, history, map};
use wharf_build::{BuildRequest, PruneOptions, prune};
use wharf_safefs::{Root, Timestamp};
use wharf_store::Store;

const TEXT: &str =
    "FROM base\nENV A=1\nCOPY src /src\nRUN write /made 1\nLABEL l=1\nRUN write /last 2\n";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.file("src/a", "a");
    bench.file("src/b", "b");
    bench
}

#[test]
fn the_same_build_runs_nothing_and_gives_the_same_image() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    let (first, log) = bench.try_build(&bench.request(TEXT));
    assert_eq!((log.hits(), bench.runs()), (0, 2));
    let (second, log) = bench.try_build(&bench.request(TEXT));
    assert_eq!((log.hits(), bench.runs()), (5, 2));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn records_survive_a_restart() {
    if !can_mount() {
        return;
    }
    let mut bench = bench();
    bench.build(TEXT);
    let root = bench.store.root().to_path_buf();
    // The store is held by one process and one handle: the second opening needs the first gone.
    let elsewhere = tempfile::tempdir().unwrap();
    bench.store = Store::open(&elsewhere.path().join("root")).unwrap();
    bench.store = Store::open(&root).unwrap();
    let (_, log) = bench.build(TEXT);
    assert_eq!((log.hits(), bench.runs()), (5, 2));
}

#[test]
fn a_changed_step_runs_again_with_all_below_it() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    bench.build(TEXT);
    for (text, hits) in [
        (TEXT.replace("write /last 2", "write /last 3"), 4),
        (TEXT.replace("write /made 1", "write /made 2"), 2),
        (TEXT.replace("A=1", "A=2"), 1),
        (TEXT.replace("/src\n", "/src2\n"), 1),
    ] {
        let (_, log) = bench.build(&text);
        assert_eq!(log.hits(), hits, "{text}");
    }
}

#[test]
fn a_changed_label_runs_nothing_again() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    bench.build(TEXT);
    let runs = bench.runs();
    let (image, log) = bench.build(&TEXT.replace("l=1", "l=2"));
    assert_eq!((log.hits(), bench.runs()), (4, runs));
    assert_eq!(image.config.clone().unwrap().labels["l"], "2");
    assert_eq!(history(&image)[4], "LABEL l=2 (empty)");
}

#[test]
fn copies_depend_on_content_and_modes_but_not_on_times() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    bench.file("outside", "o");
    bench.build(TEXT);
    let root = Root::open(bench.context()).unwrap();
    let time = Timestamp::from_seconds(5);
    root.set_times("src/a", time, time).unwrap();
    root.chown("src/a", 9, 9).unwrap();
    bench.file("outside", "changed");
    assert_eq!(bench.build(TEXT).1.hits(), 5);
    bench.file("src/a", "changed");
    assert_eq!(bench.build(TEXT).1.hits(), 1);
    bench.file("src/a", "a");
    assert_eq!(bench.build(TEXT).1.hits(), 5);
    root.chmod("src/a", 0o755).unwrap();
    assert_eq!(bench.build(TEXT).1.hits(), 1);
    root.chmod("src/a", 0o644).unwrap();
    root.rename("src/a", "src/c").unwrap();
    assert_eq!(bench.build(TEXT).1.hits(), 1);
    root.rename("src/c", "src/a").unwrap();
    bench.file("src/new", "");
    assert_eq!(bench.build(TEXT).1.hits(), 1);
}

#[test]
fn ignored_files_change_nothing() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    bench.file(".dockerignore", "src/log\n");
    bench.build(TEXT);
    bench.file("src/log", "1");
    assert_eq!(bench.build(TEXT).1.hits(), 5);
}

#[test]
fn arguments_count_once_they_are_declared() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    let text = "FROM base\nRUN write /before 1\nARG V=1\nRUN write /after 1\n";
    let with = |value: &str| BuildRequest {
        build_args: map(&[("V", Some(value.to_owned()))]),
        ..bench.request(text)
    };
    bench.build_request(&with("1"));
    let (_, log) = bench.build_request(&with("1"));
    assert_eq!(log.hits(), 3);
    let (_, log) = bench.build_request(&with("2"));
    assert_eq!(log.hits(), 1);
    let proxy = BuildRequest {
        build_args: map(&[("HTTP_PROXY", Some("p".to_owned()))]),
        ..bench.request(text)
    };
    assert_eq!(bench.build_request(&proxy).1.hits(), 3);
}

#[test]
fn no_cache_runs_all_and_records_it() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    let request = BuildRequest {
        no_cache: true,
        ..bench.request(TEXT)
    };
    bench.build_request(&request);
    let (_, log) = bench.build_request(&request);
    assert_eq!((log.hits(), bench.runs()), (0, 4));
    let (_, log) = bench.build(TEXT);
    assert_eq!((log.hits(), bench.runs()), (5, 4));
}

#[test]
fn equal_steps_of_one_stage_both_run() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    bench.build("FROM base\nRUN nothing\nRUN nothing\n");
    assert_eq!(bench.runs(), 2);
}

#[test]
fn equal_steps_of_two_stages_run_once() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    bench.build("FROM base AS a\nRUN write /x 1\nFROM base\nRUN write /x 1\nCOPY --from=a /x /y\n");
    assert_eq!(bench.runs(), 1);
}

#[test]
fn steps_have_configs_that_can_be_found() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    let mut ids = Vec::new();
    for text in [TEXT.to_owned(), TEXT.replace("l=1", "l=2"), TEXT.to_owned()] {
        let mut add = |event| {
            if let wharf_build::BuildEvent::StepDone { id } = event {
                ids.push(id);
            }
        };
        wharf_build::build(&bench.store, &bench.host, &bench.request(&text), &mut add).unwrap();
    }
    assert_eq!(ids.len(), 18);
    assert_eq!(ids[..6], ids[12..]);
    for id in ids.iter().filter(|id| **id != bench.host.images["base"].id) {
        assert_eq!(bench.store.find_cached_config(&id.hex()).unwrap(), [*id]);
        assert!(bench.store.read_blob(id, 1 << 20).unwrap().is_some());
    }
}

#[test]
fn a_missing_layer_is_made_again() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    let (built, _) = bench.try_build(&bench.request(TEXT));
    bench.store.delete_image(&built.unwrap()).unwrap();
    let pruned = prune(
        &bench.store,
        &PruneOptions {
            all: true,
            until_unix_ns: None,
        },
    )
    .unwrap();
    // Three steps that change files, and five configs.
    assert_eq!(pruned.keys.len(), 8);
    assert!(pruned.freed_bytes > 0);
    let (_, log) = bench.build(TEXT);
    assert_eq!((log.hits(), bench.runs()), (0, 4));
}

#[test]
fn pruning_keeps_what_images_use_unless_all_goes() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    bench.build(TEXT);
    bench.build(
        "FROM base AS other\nRUN write /unused 1\nFROM base\nCOPY --from=other /unused /copied\n",
    );
    let records = bench.store.caches().unwrap().len();
    let pruned = prune(&bench.store, &PruneOptions::default()).unwrap();
    // The unused stage's step and its config.
    assert_eq!(pruned.keys.len(), 2);
    assert_eq!(bench.store.caches().unwrap().len(), records - 2);
    let none = PruneOptions {
        all: true,
        until_unix_ns: Some(0),
    };
    assert!(prune(&bench.store, &none).unwrap().keys.is_empty());
    let (_, log) = bench.build(TEXT);
    assert_eq!(log.hits(), 5);
}

#[test]
fn keys_explain_what_went_in() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    bench.build(TEXT);
    let records = bench.store.caches().unwrap();
    let copy = records
        .iter()
        .find(|record| record.description == "COPY src /src" && record.explain["kind"] == "file")
        .unwrap();
    assert_eq!(copy.explain["inputs"][1]["contents"][0]["files"], 3);
    let run = records
        .iter()
        .find(|record| record.description == "RUN write /made 1" && record.size_bytes > 0)
        .unwrap();
    assert_eq!(run.explain["parts"]["op"]["env"][2], "A=1");
    assert!(run.size_bytes > 0);
}

#[test]
fn failures_leave_the_steps_before_them() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    let text = "FROM base\nRUN write /a 1\nRUN say no && fail 3\n";
    let (built, log) = bench.try_build(&bench.request(text));
    let error = built.unwrap_err();
    assert_eq!(
        error.to_string(),
        "The command '/bin/sh -c say no && fail 3' returned a non-zero code: 3"
    );
    assert_eq!(error.exit_code(), Some(3));
    assert!(error.is_users_fault());
    assert_eq!(
        log.lines[log.lines.len() - 3..],
        ["running", "Stdout no\n", "removed"]
    );
    assert_eq!(bench.leftovers(), 0);
    let (_, log) = bench.try_build(&bench.request(text));
    assert_eq!((log.hits(), bench.runs()), (1, 3));
    assert!(
        bench
            .fail("FROM base\nRUN oom\n")
            .contains("non-zero code: 137 (a process in it was killed for lack of memory)")
    );
}

#[test]
fn cancelled_builds_leave_nothing() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    let images = bench.store.images().unwrap().len();
    let (built, _) =
        bench.try_build(&bench.request("FROM base\nRUN write /a 1 && cancel\nRUN write /b 1\n"));
    assert_eq!(built.unwrap_err().to_string(), "build cancelled");
    assert_eq!((bench.runs(), bench.leftovers()), (1, 0));
    assert_eq!(bench.store.images().unwrap().len(), images);
    assert!(bench.store.caches().unwrap().is_empty());
    bench.host.cancelled.store(false, Ordering::SeqCst);
    bench.build("FROM base\nRUN write /a 1\n");
    assert_eq!(bench.runs(), 2);
}

#[test]
fn a_budget_takes_the_longest_unused_and_tells_what_comes_free() {
    if !can_mount() {
        return;
    }
    let bench = bench();
    let text = |number: u32| format!("FROM base\nCOPY big{number} /\nRUN write /made{number} 1\n");
    for number in 0..4 {
        bench.file(&format!("big{number}"), number.to_string().repeat(200_000));
        let (built, _) = bench.try_build(&bench.request(&text(number)));
        bench.store.delete_image(&built.unwrap()).unwrap();
    }
    bench.build(&text(0));
    bench.store.wait_for_removals();
    let kept = |bench: &Bench| {
        let usage = bench.store.disk_usage().unwrap();
        let in_build = usage.build.iter().map(|(_, bytes)| bytes).sum::<u64>();
        (usage.cache_only_bytes + in_build, usage.blobs_bytes)
    };
    let (before, blobs_before) = kept(&bench);
    assert!(
        wharf_build::collect(&bench.store, before)
            .unwrap()
            .keys
            .is_empty()
    );
    let pruned = wharf_build::collect(&bench.store, before - 300_000).unwrap();
    bench.store.wait_for_removals();
    let (after, blobs_after) = kept(&bench);
    // The configs of the steps come free, too.
    assert_eq!(
        before - after + blobs_before - blobs_after,
        pruned.freed_bytes
    );
    assert!(after <= before - 300_000);
    // The first one was used last: it stays, and its image does.
    let runs = bench.runs();
    bench.build(&text(0));
    assert_eq!(bench.runs(), runs);
    bench.build(&text(1));
    assert_eq!(bench.runs(), runs + 1);
}

/// Whoever goes on working while a build runs does not spoil the cache: what was hashed is what is found again.
#[test]
fn files_that_change_while_a_build_runs_are_not_found_by_what_they_were() {
    if !can_mount() {
        return;
    }
    let old = "o".repeat(20_000);
    for copy in ["COPY f dir /", "COPY f /"] {
        let bench = Bench::new();
        bench.file("f", &old);
        bench.file("dir/other", "other");
        let f = bench.context().join("f").display().to_string();
        let changing = format!("FROM base\nRUN outside {f} new\n{copy}\nRUN write /last 1\n");
        let (image, log) = bench.build(&changing);
        assert_eq!(bench.text(&image, "f").as_deref(), Some("new"));
        let told = log.lines.concat();
        assert!(
            told.contains("warning: f changed while the build ran"),
            "{told}"
        );
        bench.file("f", &old);
        // The first step comes from the cache this time.
        let (image, log) = bench.build(&changing);
        assert_eq!(bench.text(&image, "f"), Some(old.clone()));
        let (repeated, told) = bench.build(&changing);
        assert_eq!(repeated, image);
        assert_eq!((log.hits(), told.hits()), (1, 3));
    }
}

/// Small files are those that were there when the build began.
#[test]
fn small_files_are_copied_as_they_were_hashed() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.file("f", "old");
    let f = bench.context().join("f").display().to_string();
    let text = format!("FROM base\nRUN outside {f} new\nCOPY f /\n");
    let (image, log) = bench.build(&text);
    assert_eq!(bench.text(&image, "f").as_deref(), Some("old"));
    assert!(!log.lines.concat().contains("warning"), "{log:?}");
    bench.file("f", "old");
    let (again, log) = bench.build(&text);
    assert_eq!((again, log.hits()), (image, 2));
}

/// The same through a mount, whatever comes first: the copy for the mount or the change.
#[test]
fn files_that_change_before_they_are_mounted_are_seen_as_they_are_or_as_they_were() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.file("f", "old");
    let f = bench.context().join("f").display().to_string();
    let text =
        format!("FROM base\nRUN outside {f} new\nRUN --mount=type=bind,target=/m get /m/f /seen\n");
    bench.build(&text);
    bench.file("f", "old");
    let (image, _) = bench.build(&text);
    assert_eq!(bench.text(&image, "seen").as_deref(), Some("old"));
}
