//! What runs at once, what runs once, and what does not run.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use support::{Bench, can_mount};
use wharf_build::{BuildRequest, StepStatus, builds, step_log};

const STAGES: &str = "FROM base AS a\nRUN sleep 400 && write /a 1\nFROM base AS b\nRUN sleep 400 && write /b 1\n\
    FROM base AS c\nRUN sleep 400 && write /c 1\nFROM base AS d\nRUN sleep 400 && write /d 1\n\
    FROM base\nCOPY --from=a /a /a\nCOPY --from=b /b /b\nCOPY --from=c /c /c\nCOPY --from=d /d /d\n";

#[test]
fn independent_stages_run_at_once() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let request = BuildRequest {
        parallel: 4,
        ..bench.request(STAGES)
    };
    let began = Instant::now();
    let (image, log) = bench.build_request(&request);
    let took = began.elapsed();
    // One after the other they sleep 1.6 seconds.
    assert!(took < Duration::from_millis(1_200), "{took:?}");
    assert_eq!(bench.text(&image, "d").unwrap(), "1");
    // Whatever runs first, it is told in the order of the file.
    let steps: Vec<&String> = log
        .lines
        .iter()
        .filter(|line| line.contains('/') && line.contains(' '))
        .collect();
    assert!(steps[0].starts_with("1/13 FROM base AS a"), "{log:#?}");
    assert!(steps[7].starts_with("8/13 RUN sleep"), "{log:#?}");
    let narrow = BuildRequest {
        parallel: 1,
        no_cache: true,
        ..bench.request(STAGES)
    };
    let began = Instant::now();
    bench.build_request(&narrow);
    assert!(began.elapsed() > Duration::from_millis(1_600));
}

#[test]
fn a_failure_stops_what_runs_beside_it_and_is_told() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let request = BuildRequest {
        parallel: 2,
        ..bench.request(
            "FROM base AS slow\nRUN sleep 20000\nFROM base AS bad\nRUN say broken && fail 4\nFROM base\nCOPY --from=slow / /s\nCOPY --from=bad / /b\n",
        )
    };
    let began = Instant::now();
    let (built, log) = bench.try_build(&request);
    assert_eq!(built.unwrap_err().exit_code(), Some(4));
    assert!(began.elapsed() < Duration::from_secs(10));
    let end = &log.lines[log.lines.len() - 4..];
    assert_eq!(
        end,
        [
            "4/7 RUN say broken && fail 4",
            "running",
            "Stdout broken\n",
            "removed"
        ],
        "{log:#?}"
    );
    let record = &builds(&bench.store).unwrap()[0];
    assert_eq!(record.steps[1].status, StepStatus::Failed);
    let kept = step_log(&bench.store, &record.id, &record.steps[1].vertex).unwrap();
    assert_eq!(kept, b"broken\n");
}

#[test]
fn equal_steps_of_builds_at_the_same_time_run_once() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let text = "FROM base\nRUN say hello && sleep 300 && write /x 1\nRUN write /y 1\n";
    let images: Vec<_> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(|| bench.build(text))).collect();
        builds
            .into_iter()
            .map(|build| build.join().unwrap())
            .collect()
    });
    assert_eq!(bench.runs(), 2);
    for (image, log) in &images {
        assert_eq!(image.rootfs, images[0].0.rootfs);
        let saw_it = log
            .lines
            .iter()
            .any(|line| line == "Stdout hello\n" || line == "hit");
        assert!(saw_it, "{log:#?}");
    }
}

#[test]
fn a_cancelled_build_does_not_take_others_down() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let text = "FROM base\nRUN sleep 300 && write /x 1\n";
    let other = bench.other_host();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| bench.try_build_with(&other, &bench.request(text)));
        while other.runs.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let second = scope.spawn(|| bench.build(text));
        std::thread::sleep(Duration::from_millis(50));
        other.cancelled.store(true, Ordering::SeqCst);
        assert_eq!(
            first.join().unwrap().0.unwrap_err().to_string(),
            "build cancelled"
        );
        second.join().unwrap();
    });
    assert_eq!((other.runs.load(Ordering::SeqCst), bench.runs()), (1, 1));
}

#[test]
fn what_nothing_needs_does_not_run() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.build("FROM base AS unused\nRUN fail 1\nFROM base\nRUN write /x 1\n");
    assert_eq!(bench.runs(), 1);
}

#[test]
fn an_equal_result_of_another_step_is_found() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let text = |stage: &str| {
        format!(
            "FROM base AS a\nRUN write /made same{stage}\nFROM base\nCOPY --from=a /made /x\nRUN write /last 1\n"
        )
    };
    bench.build(&text(""));
    assert_eq!(bench.runs(), 2);
    // The stage runs again and makes the same file: what copies it, and all after it, is in the cache.
    let (_, log) = bench.build(&text(" && nothing"));
    assert_eq!((log.hits(), bench.runs()), (2, 3), "{log:#?}");
    // From now on that is known without running anything.
    let (_, log) = bench.build(&text(" && nothing"));
    assert_eq!((log.hits(), bench.runs()), (3, 3), "{log:#?}");
}

#[test]
fn a_pruned_stage_is_not_made_again_for_what_is_there() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let text = "FROM base AS a\nRUN write /made 1\nFROM base\nCOPY --from=a /made /x\n";
    let (first, _) = bench.build(text);
    let of_stage = bench.store.caches().unwrap();
    let keys: Vec<_> = of_stage
        .iter()
        .filter(|record| record.description == "RUN write /made 1")
        .map(|record| record.key)
        .collect();
    wharf_build::remove(&bench.store, &keys).unwrap();
    let (second, log) = bench.build(text);
    assert_eq!(bench.runs(), 1);
    assert!(log.lines.contains(&"not needed".to_owned()), "{log:#?}");
    assert_eq!(first, second);
}

#[test]
fn misses_are_explained() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.file("src/a.c", "1");
    bench.file("run.sh", "x");
    let text = "FROM base\nARG VERSION=1\nCOPY . /w/\nRUN write /made 1\n";
    let build = |text: &str, version: &str| {
        let request = BuildRequest {
            project: "p".to_owned(),
            build_args: support::map(&[("VERSION", Some(version.to_owned()))]),
            ..bench.request(text)
        };
        bench.build_request(&request);
        let record = builds(&bench.store).unwrap().swap_remove(0);
        let steps = record.steps.into_iter();
        let told = steps.map(|step| {
            let causes: Vec<String> = step.causes.into_iter().map(|cause| cause.text).collect();
            format!("{} {:?}: {}", step.number, step.status, causes.join("; "))
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(
        build(text, "1"),
        [
            "3 Executed: it was never built before",
            "4 Executed: it was never built before"
        ]
    );
    assert_eq!(build(text, "1"), ["3 Cached: ", "4 Cached: "]);
    bench.file("src/a.c", "2");
    wharf_safefs::Root::open(bench.context())
        .unwrap()
        .chmod("run.sh", 0o755)
        .unwrap();
    assert_eq!(
        build(text, "1"),
        [
            "3 Executed: 2 of 4 files changed: run.sh (mode 0644 → 0755), src/a.c (content)",
            "4 Executed: its input changed (step 3)"
        ]
    );
    assert_eq!(
        build(text, "2"),
        ["3 Cached: ", "4 Executed: ARG VERSION 1 → 2"]
    );
    assert_eq!(
        build(&text.replace("made 1", "made 2"), "2"),
        [
            "3 Cached: ",
            "4 Executed: the instruction changed: it was RUN write /made 1"
        ]
    );
}
