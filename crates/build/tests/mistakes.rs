//! What is said about what cannot be built.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use support::{Bench, can_mount};
use wharf_build::{About, BuildRequest, ContextSource, Question};

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
    let error = bench.fail("FROM absent\nRUN x\n");
    assert!(
        error.starts_with("pull access denied for absent\n"),
        "{error}"
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

/// Returns a message with the context's directory made the same for all.
fn shown(bench: &Bench, error: &str) -> String {
    error.replace(&bench.context().display().to_string(), "/context")
}

#[test]
fn missing_sources_name_the_context_the_rule_and_the_line() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.file("main.c", "x");
    bench.file("hidden.txt", "x");
    bench.file(".dockerignore", "# not needed\nhidden*\n");
    let fail = |text: &str| shown(&bench, &bench.fail(text));
    insta::assert_snapshot!(fail("FROM base\nCOPY hidden.txt \\\n  /x\n"), @r#"
    COPY failed: file not found in build context or excluded by .dockerignore: stat /hidden.txt: file does not exist (in build context /context; excluded by "hidden*", line 2 of .dockerignore)
     --> Dockerfile:2:1
      |
    2 | COPY hidden.txt \
      | ^^^^^^^^^^^^^^^^^
    "#);
    insta::assert_snapshot!(fail("FROM base\nCOPY mian.c /x\n"), @r"
    COPY failed: file not found in build context or excluded by .dockerignore: stat /mian.c: file does not exist (in build context /context; did you mean main.c?)
     --> Dockerfile:2:1
      |
    2 | COPY mian.c /x
      | ^^^^^^^^^^^^^^
    ");
}

#[test]
fn paths_out_of_the_context_are_named() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let fail = |text: &str| shown(&bench, &bench.fail(text));
    insta::assert_snapshot!(fail("FROM base\nADD a/../../secret /x\n"), @r"
    COPY failed: file not found in build context or excluded by .dockerignore: stat /secret: file does not exist (in build context /context)
     --> Dockerfile:2:1
      |
    2 | ADD a/../../secret /x
      | ^^^^^^^^^^^^^^^^^^^^^
    note: a/../../secret leads out of the build context, which COPY cannot leave
    ");
}

#[test]
fn missing_base_images_name_the_line_that_asks_for_them() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    insta::assert_snapshot!(bench.fail("FROM base AS a\nFROM absent:1 AS b\n"), @r"
    pull access denied for absent:1
     --> Dockerfile:2:1
      |
    2 | FROM absent:1 AS b
      | ^^^^^^^^^^^^^^^^^^
    ");
    insta::assert_snapshot!(bench.fail("FROM base\nCOPY --from=absent /a /b\n"), @r"
    pull access denied for absent
     --> Dockerfile:2:1
      |
    2 | COPY --from=absent /a /b
      | ^^^^^^^^^^^^^^^^^^^^^^^^
    ");
}

#[test]
fn findings_end_every_build() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let findings = |text: &str, build_arg: Option<&str>| {
        let mut request = bench.request(text);
        let given = build_arg.map(|value| {
            (
                "BUILDKIT_DOCKERFILE_CHECK".to_owned(),
                Some(value.to_owned()),
            )
        });
        request.build_args.extend(given);
        let (built, log) = bench.try_build(&request);
        let lines = log
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix("finding "));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        (lines, built.map(drop).map_err(|error| error.to_string()))
    };
    let maintainer = "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)";
    let text = "FROM base\nMAINTAINER me\n";
    assert_eq!(findings(text, None), (vec![maintainer.to_owned()], Ok(())));
    assert_eq!(
        findings(text, Some("skip=MaintainerDeprecated")),
        (vec![], Ok(()))
    );
    let violated = Err("lint violation found for rules: MaintainerDeprecated".to_owned());
    assert_eq!(
        findings(text, Some("error=true")),
        (vec![maintainer.to_owned()], violated)
    );
    let wrong = Err("failed to parse check options: invalid check option \"x\"".to_owned());
    assert_eq!(findings(text, Some("x")), (vec![], wrong));
    // Our own checks warn, and fail a build only where they are named.
    let text = |settings: &str| {
        format!("# check=error=true{settings}\nFROM base\nRUN [\"write\", \"/a\", \"$PATH\"]\n")
    };
    let (lines, result) = findings(&text(""), None);
    assert!(
        lines[0].starts_with("ExecFormVariable: ") && result.is_ok(),
        "{lines:?} {result:?}"
    );
    let (_, result) = findings(&text(";experimental=ExecFormVariable"), None);
    assert_eq!(
        result,
        Err("lint violation found for rules: ExecFormVariable".to_owned())
    );
}

#[test]
fn questions_are_answered_without_building() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let ask = |text: &str, question: Question| {
        let request = bench.request(text);
        wharf_build::ask(&bench.store, &bench.host, &request, question).map(|answer| answer.about)
    };
    let text = "ARG V=1\nFROM nowhere:$V AS a\nENV A=$UNKNOWN\nCOPY --chmod=99999 a /\nFROM base\nENV B=$UNKNOWN\n";
    let About::Check {
        warnings, error, ..
    } = ask(text, Question::Check).unwrap()
    else {
        panic!("no check");
    };
    // Of an image that is not here it is not known which variables it has.
    let told: Vec<String> = warnings
        .iter()
        .map(|it| format!("{} {}", it.headline(), it.line()))
        .collect();
    assert_eq!(told, ["Usage of undefined variable '$UNKNOWN' 6"]);
    assert_eq!(error, None);
    let About::Outline(outline) = ask("ARG V=1\nFROM nowhere:$V\n", Question::Outline).unwrap()
    else {
        panic!("no outline");
    };
    assert_eq!(outline.args[0].value, "1");
    let About::Targets(targets) = ask(text, Question::Targets).unwrap() else {
        panic!("no targets");
    };
    assert_eq!((targets.len(), targets[0].name.as_str()), (2, "a"));
    let About::Check { error, .. } = ask("FROM base\nRUNN x\n", Question::Check).unwrap() else {
        panic!("no check");
    };
    let error = error.unwrap();
    assert_eq!(error.lines, Some((2, 2)));
    assert!(error.message.contains("did you mean RUN?"));
    assert!(ask("FROM base\nRUNN x\n", Question::Targets).is_err());
    assert_eq!(bench.runs(), 0);
}

#[test]
fn bad_mount_options_name_the_nearest_word() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    insta::assert_snapshot!(bench.fail("FROM base\nRUN --mount=type=cahce,target=/x true\n"), @r#"
    unsupported mount type "cahce" (did you mean cache?)
     --> Dockerfile:2:13
      |
    2 | RUN --mount=type=cahce,target=/x true
      |             ^^^^^^^^^^ did you mean `cache`?
    "#);
    insta::assert_snapshot!(bench.fail("FROM base\nRUN true && \\\n  true\nRUN --mount=type=cache,taget=/x true\n"), @r"
    unexpected key 'taget' in 'taget=/x' (did you mean target?)
     --> Dockerfile:4:24
      |
    4 | RUN --mount=type=cache,taget=/x true
      |                        ^^^^^^^^ did you mean `target`?
    ");
}

#[test]
fn checks_ask_a_registry_for_configs_alone() {
    if !can_mount() {
        return;
    }
    let mut bench = Bench::new();
    let config = wharf_image::ContainerConfig {
        env: vec!["FROM_BASE=1".to_owned()],
        ..Default::default()
    };
    bench.add_image("registry:elsewhere", config, &[]);
    let request = bench.request("FROM elsewhere\nENV A=$FROM_BASE B=$UNKNOWN\n");
    let answer = wharf_build::ask(&bench.store, &bench.host, &request, Question::Check).unwrap();
    let About::Check {
        warnings, notes, ..
    } = answer.about
    else {
        panic!("no check");
    };
    let told: Vec<String> = warnings.iter().map(|it| it.headline()).collect();
    assert_eq!(told, ["Usage of undefined variable '$UNKNOWN'"]);
    assert!(notes.is_empty(), "{notes:?}");
    let unseen = bench.request("FROM nowhere\nENV A=$UNKNOWN\n");
    let answer = wharf_build::ask(&bench.store, &bench.host, &unseen, Question::Check).unwrap();
    let About::Check { notes, .. } = answer.about else {
        panic!("no check");
    };
    assert_eq!(
        notes,
        ["the checks know nothing of nowhere, which is not here: no registry answers for nowhere"]
    );
    let (built, _) = bench.try_build(&request);
    assert!(
        built
            .unwrap_err()
            .to_string()
            .starts_with("pull access denied for elsewhere")
    );
}

#[test]
fn checks_tell_all_mistakes() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let request = bench.request("FROM base\nSTOPSIGNAL nope\nEXPOSE x\n");
    let answer = wharf_build::ask(&bench.store, &bench.host, &request, Question::Check).unwrap();
    let About::Check { mistakes, .. } = answer.about else {
        panic!("no check");
    };
    let told: Vec<_> = mistakes
        .iter()
        .map(|it| (it.message.as_str(), it.lines))
        .collect();
    assert_eq!(
        told,
        [
            ("invalid signal: nope", Some((2, 2))),
            ("invalid containerPort: x", Some((3, 3)))
        ]
    );
}
