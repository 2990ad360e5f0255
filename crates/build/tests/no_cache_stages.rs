//! Stages whose steps run again, and what becomes of all that stands on them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use support::{Bench, can_mount};
use wharf_build::{BuildEvent, BuildRequest, Secret, StepStatus, builds};

/// The value of a secret is no part of a key: the first step leads to something else without being another.
const TEXT: &str = "\
FROM base AS a
RUN --mount=type=secret,id=s get /run/secrets/s /one
FROM a AS b
RUN write /two 2
FROM base AS c
COPY --from=a /one /one
FROM c
RUN write /three 3
COPY --from=b /two /two
";

/// The steps by their place in the list of steps that change files.
const A: usize = 0;
const COPY_OF_A: usize = 2;
const ON_COPY: usize = 3;

struct Told {
    /// What `/one` holds in the end.
    one: String,
    statuses: Vec<StepStatus>,
    causes: Vec<String>,
}

fn request(bench: &Bench, secret: &str, stages: &[&str]) -> BuildRequest {
    BuildRequest {
        secrets: support::map(&[("s", Secret::new(secret.as_bytes().to_vec()))]),
        no_cache_stages: stages.iter().map(|name| (*name).to_owned()).collect(),
        ..bench.request(TEXT)
    }
}

fn build(bench: &Bench, secret: &str, stages: &[&str]) -> Told {
    let (image, _) = bench.build_request(&request(bench, secret, stages));
    let steps = builds(&bench.store).unwrap().swap_remove(0).steps;
    let texts = |step: &wharf_build::StepRecord| {
        let causes = step.causes.iter().map(|cause| cause.text.clone());
        causes.collect::<Vec<_>>().join("; ")
    };
    Told {
        one: bench.text(&image, "one").unwrap(),
        causes: steps.iter().map(texts).collect(),
        statuses: steps.into_iter().map(|step| step.status).collect(),
    }
}

#[test]
fn a_stage_runs_again_and_what_it_changed_counts() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    build(&bench, "1", &[]);
    let cached = build(&bench, "2", &[]);
    assert_eq!(
        (cached.one.as_str(), cached.statuses.as_slice()),
        ("1", [StepStatus::Cached; 5].as_slice())
    );

    let again = build(&bench, "2", &["A"]);
    assert_eq!(
        (again.one.as_str(), again.statuses.as_slice()),
        ("2", [StepStatus::Executed; 5].as_slice())
    );
    assert_eq!(
        again.causes[A],
        "the cache was not to be used for its stage"
    );
    assert_eq!(
        again.causes[COPY_OF_A],
        "1 of 1 files changed: one (content)"
    );

    // What came out then is what the steps lead to from now on.
    let kept = build(&bench, "3", &[]);
    assert_eq!(
        (kept.one.as_str(), kept.statuses.as_slice()),
        ("2", [StepStatus::Cached; 5].as_slice())
    );
}

#[test]
fn what_came_out_as_before_changes_nothing_else() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    build(&bench, "1", &[]);
    let again = build(&bench, "1", &["a"]);
    let status = |at: usize| again.statuses[at];
    assert_eq!(
        [status(A), status(COPY_OF_A), status(ON_COPY)],
        [StepStatus::Executed, StepStatus::Cached, StepStatus::Cached]
    );
    assert_eq!(again.one, "1");
}

#[test]
fn files_as_they_were_once_are_not_taken_for_what_a_step_led_to_since() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    for secret in ["1", "2", "1", "2"] {
        let told = build(&bench, secret, &["a"]);
        assert_eq!(told.one, secret);
        assert_eq!(build(&bench, "other", &[]).one, secret);
    }
    let all = BuildRequest {
        no_cache: true,
        ..request(&bench, "3", &[])
    };
    bench.build_request(&all);
    assert_eq!(build(&bench, "2", &["a"]).one, "2");
}

#[test]
fn names_of_no_stage_are_told() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    build(&bench, "1", &[]);
    let mut warnings = Vec::new();
    let mut tell = |event| {
        if let BuildEvent::GlobalWarning { text } = event {
            warnings.push(text);
        }
    };
    // A stage without a name has no name to be found by: neither its number nor what it is called in the steps' names.
    let request = request(&bench, "2", &["stage-3", "B", "3"]);
    wharf_build::build(&bench.store, &bench.host, &request, &mut tell).unwrap();
    assert_eq!(
        warnings,
        ["no stage has the name that no-cache-filter gives: [stage-3 3]"]
    );
    assert_eq!(bench.runs(), 3 + 1);
}
