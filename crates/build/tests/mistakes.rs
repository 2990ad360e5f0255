//! What is said about what cannot be built.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use support::{Bench, can_mount};
use wharf_build::{BuildRequest, ContextSource};

#[test]
fn dockerfiles_that_are_not_there() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let fail = |request: BuildRequest| bench.try_build(&request).0.unwrap_err().to_string();
    let plain = BuildRequest {
        context: ContextSource::Directory(bench.context()),
        ..BuildRequest::default()
    };
    assert_eq!(
        fail(plain.clone()),
        "Cannot locate specified Dockerfile: Dockerfile"
    );
    bench.file("Dockerfile.dev", "FROM base\n");
    let named = BuildRequest {
        dockerfile_name: "Dockerfile.dve".to_owned(),
        ..plain.clone()
    };
    assert_eq!(
        fail(named),
        "Cannot locate specified Dockerfile: Dockerfile.dve (did you mean Dockerfile.dev?)"
    );
    bench.file("Dockerfile", "");
    assert_eq!(
        fail(plain.clone()),
        "the Dockerfile (Dockerfile) cannot be empty"
    );
    bench.file("Dockerfile", [0xff, 0xfe]);
    assert!(fail(plain.clone()).starts_with("cannot read Dockerfile: it is not UTF-8 text"));
    bench.file("Dockerfile", "# nothing\n");
    assert!(fail(plain).starts_with("file with no instructions"));
    let absent = BuildRequest {
        context: ContextSource::Directory("/absent/context".into()),
        ..BuildRequest::default()
    };
    assert!(fail(absent).starts_with("cannot read build context /absent/context"));
    assert_eq!(
        fail(BuildRequest::default()),
        "Cannot locate specified Dockerfile: Dockerfile"
    );
}

#[test]
fn mistakes_show_the_source() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    for (text, first_line, shown) in [
        (
            "FROM base\nRUNN x\n",
            "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
            "RUNN x",
        ),
        (
            "FROM base\nSTOPSIGNAL nope\n",
            "invalid signal: nope",
            "STOPSIGNAL nope",
        ),
        (
            "FROM base\nEXPOSE x\n",
            "invalid containerPort: x",
            "EXPOSE x",
        ),
        (
            "ARG B\nFROM $B\n",
            "base name ($B) should not be blank",
            "FROM $B",
        ),
        (
            "FROM base AS a\nCOPY --from=a /x /y\n",
            "circular dependency detected on stage: a",
            "COPY --from=a",
        ),
        (
            "FROM base\nCOPY --from=$X /x /y\n",
            "variable expansion is not supported for --from",
            "COPY --from=$X",
        ),
        (
            "FROM base\nRUN --mount=type=cache,target=/ x\n",
            "invalid mount target \"/\"",
            "RUN --mount",
        ),
        ("FROM base\nCOPY a ${X\n", "failed to process", "COPY a"),
    ] {
        let error = bench.fail(text);
        assert!(error.starts_with(first_line), "{text}: {error}");
        assert!(
            error.contains(" --> Dockerfile:") && error.contains(shown),
            "{text}: {error}"
        );
        assert_eq!(bench.runs(), 0);
    }
}

#[test]
fn nothing_runs_before_the_whole_file_makes_sense() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.fail("FROM base\nRUN write /a 1\nSTOPSIGNAL nope\n");
    assert_eq!(bench.runs(), 0);
    assert_eq!(
        bench.fail("FROM absent\nRUN x\n"),
        "pull access denied for absent"
    );
}

#[test]
fn options_that_are_not_there_yet_are_refused_or_said() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let cache_from = BuildRequest {
        cache_from: vec!["x".to_owned()],
        ..bench.request("FROM base\n")
    };
    let (built, log) = bench.try_build(&cache_from);
    assert!(built.is_ok());
    assert!(log.lines[0].starts_with("WARNING cache-from"));
}
