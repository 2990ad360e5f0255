//! Builds through the classic API, with both clients.

use crate::harness::{Client, Daemon, clients};

fn build(d: &Daemon, client: Client, dockerfile: &str, more: &[&str]) -> crate::harness::Called {
    d.write("context/Dockerfile", dockerfile);
    let mut arguments = vec!["build", "-t", "built"];
    arguments.extend(more);
    arguments.push("context");
    d.call(client, &arguments)
}

#[test]
fn every_instruction_and_the_cache() {
    for client in clients() {
        let mut d = Daemon::with_busybox();
        d.write("context/file.txt", "content\n");
        d.write("context/dir/inner.txt", "inner\n");
        d.write("context/ignored/secret.txt", "never\n");
        d.write("context/.dockerignore", "ignored\n");
        let dockerfile = r#"ARG BASE=busybox
FROM ${BASE} AS first
MAINTAINER someone
LABEL "a.key"="a value" b=c
ENV A=1 B="two words"
ARG WHAT=thing
RUN echo "$A $B $WHAT" > /made
WORKDIR /work
COPY file.txt dir/ ./
ADD file.txt /added/
RUN ["sh", "-c", "ls /work > /listing"]
FROM busybox
COPY --from=first /made /listing /work/inner.txt /
USER nobody
EXPOSE 80/tcp
VOLUME /data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
ENTRYPOINT ["cat"]
CMD ["/made", "/listing", "/inner.txt"]
"#;
        let first = build(
            &d,
            client,
            dockerfile,
            &["--build-arg", "WHAT=other", "--label", "c=d"],
        );
        assert_eq!(first.code, 0, "{first:?}\n{}", d.log());
        assert!(
            first.stdout.contains("Step 1/")
                && first.stdout.contains("Successfully tagged built:latest"),
            "{first:?}"
        );
        assert_eq!(
            d.ok(client, "run --rm built"),
            "1 two words other\nfile.txt\ninner.txt\ninner"
        );
        let config = d.ok(client, "inspect --format '{{.Config.User}} {{json .Config.ExposedPorts}} {{.Config.StopSignal}} {{json .Config.Labels}}' built");
        assert!(
            config.starts_with(r#"nobody {"80/tcp":{}} SIGINT"#) && config.contains(r#""c":"d""#),
            "{config}"
        );
        let id = d.ok(client, "images -q --no-trunc built");
        d.stop();
        d.launch();
        let second = build(
            &d,
            client,
            dockerfile,
            &["--build-arg", "WHAT=other", "--label", "c=d"],
        );
        assert_eq!(second.code, 0, "{second:?}");
        assert!(
            second.stdout.contains("Using cache") && !second.stdout.contains("Running in"),
            "{second:?}"
        );
        assert_eq!(
            d.ok(client, "images -q --no-trunc built"),
            id,
            "a cached build gave another image"
        );
        d.write("context/file.txt", "changed\n");
        let third = build(
            &d,
            client,
            dockerfile,
            &["--build-arg", "WHAT=other", "--label", "c=d"],
        );
        assert!(
            third.stdout.contains("Using cache") && third.stdout.contains("Running in"),
            "{third:?}"
        );
    }
}

#[test]
fn images_get_the_names_and_labels_that_are_asked_for() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let text =
            "FROM busybox AS first\nRUN echo first > /stage\nFROM first\nRUN echo last > /stage\n";
        let more = ["-t", "other/name:v2", "--label", "a=b", "--iidfile", "iid"];
        let built = build(&d, client, text, &more);
        assert_eq!(built.code, 0, "{built:?}");
        let id = std::fs::read_to_string(d.path("iid")).unwrap();
        for name in ["built:latest", "other/name:v2"] {
            let format = "{{.Id}} {{.Config.Labels.a}}";
            let shown = d.ok(client, &["inspect", "--format", format, name]);
            assert_eq!(shown, format!("{} b", id.trim()), "{client:?}");
        }
        let built = build(&d, client, text, &["--target", "first"]);
        assert_eq!(built.code, 0, "{built:?}");
        let shown = d.ok(client, "run --rm built cat /stage");
        assert_eq!(shown, "first");
        let again = build(&d, client, text, &["--no-cache"]);
        assert_eq!(again.stdout.matches("Running in").count(), 2, "{again:?}");
        assert!(!again.stdout.contains("Using cache"), "{again:?}");
        // Without a name there is only an ID.
        d.write(
            "context/Dockerfile",
            "FROM busybox\nRUN echo nameless > /n\n",
        );
        let id = d.ok(client, "build -q context");
        let dangling = ["images", "-q", "--no-trunc", "-f", "dangling=true"];
        let listed = d.ok(client, &dangling);
        assert!(listed.lines().any(|it| it == id), "{id}: {listed}");
    }
}

#[test]
fn programs_are_told_what_a_build_led_to() {
    let d = Daemon::with_busybox();
    d.write("context/Dockerfile", "FROM busybox\nLABEL a=b\n");
    let told = |more: &[&str]| {
        let mut line = vec!["build", "-q", "--metadata-file", "told.json"];
        line.extend(more);
        line.push("context");
        let id = d.ok(Client::Wharf, &line);
        let text = std::fs::read_to_string(d.path("told.json")).unwrap();
        let mut told: serde_json::Value = serde_json::from_str(&text).unwrap();
        let build = told["buildx.build.ref"].take();
        assert!(!build.as_str().unwrap().is_empty());
        (id, told)
    };
    let (id, image) = told(&["-t", "one:1", "-t", "foo.example/two"]);
    assert_eq!(
        image,
        serde_json::json!({
            "buildx.build.ref": null,
            "containerimage.config.digest": id,
            "containerimage.digest": id,
            "image.name": "docker.io/library/one:1,foo.example/two",
        })
    );
    let (_, files) = told(&["-o", "files"]);
    assert_eq!(files, serde_json::json!({"buildx.build.ref": null}));
}

#[test]
fn a_cache_that_cannot_be_written_may_be_passed_over() {
    let d = Daemon::with_busybox();
    d.write("context/Dockerfile", "FROM busybox\nLABEL a=b\n");
    d.write("file", "");
    let build = |cache: &str| {
        let line = ["build", "-q", "--cache-to", cache, "context"];
        d.call(Client::Wharf, &line)
    };
    let failed = build("type=local,dest=file/cache");
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stderr.contains("file/cache"), "{failed:?}");
    let passed = build("type=local,dest=file/cache,ignore-error=true");
    assert_eq!(passed.code, 0, "{passed:?}");
    assert!(passed.stdout.starts_with("sha256:"), "{passed:?}");
    let warning = "no cache was written to file/cache";
    assert!(passed.stderr.contains(warning), "{passed:?}");
    let written = build("type=local,dest=cache,ignore-error=true");
    assert_eq!(written.code, 0, "{written:?}");
    assert!(d.path("cache/index.json").is_file());
}

#[test]
fn failing_steps_say_why_and_leave_nothing() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let failed = build(
            &d,
            client,
            "FROM busybox\nRUN echo to-be-seen && exit 7\n",
            &[],
        );
        assert_eq!(failed.code, 7, "{failed:?}");
        let said = format!("{}{}", failed.stdout, failed.stderr);
        assert!(
            said.contains("to-be-seen") && said.contains("returned a non-zero code: 7"),
            "{said}"
        );
        assert_eq!(d.ok(client, "images -q").lines().count(), 1);
        assert_eq!(d.ok(client, "ps -aq"), "");
        assert_eq!(std::fs::read_dir(d.path("root/tmp")).unwrap().count(), 0);
        assert!(d.mounts().is_empty());
    }
}

#[test]
fn dockerfile_mistakes_are_shown() {
    for client in clients() {
        let d = Daemon::with_busybox();
        for (dockerfile, text) in [
            ("FROM busybox\nRUNN true\n", "did you mean RUN?"),
            ("FROM busybox\nCOPY missing.txt /\n", "missing.txt"),
            ("FROM busybox\nCOPY ../outside /\n", "outside"),
            (
                "FROM no-such-image-anywhere.invalid/x\n",
                "no-such-image-anywhere.invalid",
            ),
            ("", "cannot be empty"),
        ] {
            let called = build(&d, client, dockerfile, &[]);
            let said = format!("{}{}", called.stdout, called.stderr);
            assert!(
                called.code != 0 && said.contains(text),
                "{client:?} {dockerfile:?}: {said}"
            );
        }
        let said = |dockerfile: &str| {
            let called = build(&d, client, dockerfile, &[]);
            assert_ne!(called.code, 0, "{client:?} {dockerfile:?}");
            format!("{}{}", called.stdout, called.stderr)
        };
        d.write("context/.dockerignore", "# not needed\nhidden*\n");
        d.write("context/hidden.txt", "x");
        let missing = said("FROM busybox\nRUN true\nCOPY hidden.txt /\n");
        // A daemon that is sent the context does not know where it was.
        let context = match client {
            Client::Wharf => format!("in build context {}", d.path("context").display()),
            Client::Docker => "in the build context".to_owned(),
        };
        for part in [
            "stat /hidden.txt: file does not exist",
            &context,
            "excluded by \"hidden*\", line 2 of .dockerignore",
            " --> Dockerfile:3:1",
            "3 | COPY hidden.txt /",
        ] {
            assert!(missing.contains(part), "{client:?} {part}: {missing}");
        }
        let outside = said("FROM busybox\nCOPY ../outside /\n");
        for part in [
            "../outside leads out of the build context",
            "2 | COPY ../outside /",
        ] {
            assert!(outside.contains(part), "{client:?} {part}: {outside}");
        }
        let base = said("FROM busybox AS a\nFROM no-such-image-anywhere.invalid/x:1\n");
        for part in [
            "no-such-image-anywhere.invalid/x:1",
            " --> Dockerfile:2:1",
            "2 | FROM no-such-image-anywhere.invalid/x:1",
        ] {
            assert!(base.contains(part), "{client:?} {part}: {base}");
        }
    }
}

/// `FROM cafe` is not whatever image has an ID that begins so.
#[test]
fn a_few_digits_of_an_id_are_a_name() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let id = d.ok(client, "images -q").trim().to_owned();
        let whole = build(&d, client, &format!("FROM {id}\nLABEL a=b\n"), &[]);
        assert_eq!(whole.code, 0, "{whole:?}");
        let few = build(&d, client, &format!("FROM {}\nLABEL a=b\n", &id[..3]), &[]);
        assert_ne!(few.code, 0, "{few:?}");
    }
}

#[test]
fn dockerfiles_outside_of_the_context() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.write("context/f", "inside\n");
        let text = "FROM busybox\nCOPY f /f\nRUN echo ü >> /f\nCMD cat /f\n";
        d.write("elsewhere/Dockerfile", text);
        let file = d.path("elsewhere/Dockerfile").display().to_string();
        d.ok(
            client,
            &["build", "-q", "-t", "outside", "-f", &file, "context"],
        );
        assert_eq!(d.ok(client, "run --rm outside"), "inside\nü");
        let piped = ["build", "-q", "-t", "piped", "-f", "-", "context"];
        let called = d.call_with_input(client, &piped, text.as_bytes());
        assert_eq!(called.code, 0, "{client:?}: {called:?}");
        assert_eq!(d.ok(client, "run --rm piped"), "inside\nü");
    }
}

#[test]
fn findings_break_no_script() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let text = "FROM busybox\nWORKDIR relative\nCMD echo hi\n";
        let called = build(&d, client, text, &[]);
        assert_eq!(called.code, 0, "{called:?}");
        let finding = "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 3)";
        match client {
            Client::Docker => assert!(
                called.stdout.contains(&format!("[Warning] {finding}\n")),
                "{called:?}"
            ),
            Client::Wharf => {
                assert!(!called.stdout.contains("JSONArgs"), "{called:?}");
                for part in [" 2 warnings found", finding, "3 | CMD echo hi"] {
                    assert!(called.stderr.contains(part), "{part}: {called:?}");
                }
            }
        }
        let last = called.stdout.trim_end().lines().last().unwrap_or_default();
        assert_eq!(last, "Successfully tagged built:latest", "{called:?}");
        let quiet = build(&d, client, text, &["-q"]);
        let id = quiet.stdout.trim_end();
        assert!(id.starts_with("sha256:") && !id.contains('\n'), "{quiet:?}");
        assert!(!quiet.stderr.contains("JSONArgs"), "{quiet:?}");
        let skipped = build(
            &d,
            client,
            text,
            &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"],
        );
        let all = format!("{}{}", skipped.stdout, skipped.stderr);
        assert!(
            skipped.code == 0 && !all.contains("JSONArgs"),
            "{skipped:?}"
        );
        let strict = format!("# check=error=true\n{text}");
        let failed = build(&d, client, &strict, &[]);
        let all = format!("{}{}", failed.stdout, failed.stderr);
        assert_ne!(failed.code, 0, "{failed:?}");
        assert!(
            all.contains(
                "lint violation found for rules: WorkdirRelativePath, JSONArgsRecommended"
            ),
            "{all}"
        );
        assert!(!all.contains("Step 1/"), "nothing is run: {all}");
    }
}

#[test]
fn dockerfiles_are_checked_without_building() {
    let d = Daemon::with_busybox();
    let ask = |text: &str, arguments: &[&str]| {
        d.write("context/Dockerfile", text);
        let mut all = vec!["build"];
        all.extend(arguments);
        all.push("context");
        d.call(Client::Wharf, &all)
    };
    let text = "ARG VERSION=latest\nFROM busybox:$VERSION AS first\nRUN --mount=type=secret,id=key,required false\nCMD echo\n";
    let checked = ask(text, &["--check"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    let expected = "Check complete, 1 warning has been found!\n\nWARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\n";
    assert!(checked.stdout.starts_with(expected), "{checked:?}");
    assert!(
        checked.stdout.contains("   4 | >>> CMD echo\n"),
        "{checked:?}"
    );
    let ignored = ask(text, &["--call=check,ignorestatus=true"]);
    assert_eq!(ignored.code, 0, "{ignored:?}");
    let json = ask(text, &["--call=check,format=json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        json["warnings"][0]["location"]["ranges"][0]["start"]["line"],
        4
    );
    let clean = ask("FROM busybox\n", &["--check"]);
    assert_eq!(
        (clean.code, clean.stdout.as_str()),
        (0, "Check complete, no warnings found.\n")
    );
    let outline = ask(text, &["--call=outline"]);
    let expected = "TARGET: first\n\nBUILD ARG   VALUE    DESCRIPTION\nVERSION     latest   \n\nSECRET   REQUIRED\nkey      true\n\n";
    assert_eq!((outline.code, outline.stdout.as_str()), (0, expected));
    let targets = ask(text, &["--call=targets"]);
    assert_eq!(
        targets.stdout,
        "TARGET          DESCRIPTION\nfirst (default) \n"
    );
    let broken = ask(
        "FROM busybox\nRUNN x\nSTOPSIGNAL nope\nEXPOSE x 80 y\nCOPY a\nENV A\nLABEL a=${A:?}\n",
        &["--check"],
    );
    assert_eq!(broken.code, 1, "{broken:?}");
    assert!(
        broken.stderr.contains("did you mean RUN?") && broken.stderr.contains("5 | COPY a"),
        "{broken:?}"
    );
    assert!(!broken.stderr.contains("LABEL"), "{broken:?}");
    // What the text alone shows and what it means are told together, BuildKit's first.
    let both = |said: &str| {
        let places = [
            "invalid signal: nope",
            "invalid containerPort: x",
            "invalid containerPort: y",
            "COPY requires at least two arguments",
        ]
        .map(|text| said.find(text));
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{said}"
        );
    };
    both(&broken.stderr);
    let built = d.call(Client::Wharf, "build context");
    assert_eq!(built.code, 1, "{built:?}");
    both(&built.stderr);
    let first = "Error response from daemon: ENV must have two arguments\n";
    assert!(built.stderr.starts_with(first), "{built:?}");
    assert_eq!(
        d.ok(Client::Wharf, "images -q").lines().count(),
        1,
        "nothing was built"
    );
}

#[test]
fn contexts_are_listed_and_explained() {
    let d = Daemon::start();
    d.write("c/Dockerfile", "FROM busybox\n");
    d.write("c/large.bin", "x".repeat(5000));
    d.write("c/skipped/huge.bin", "x".repeat(50_000));
    d.write("c/.containerignore", "skipped\n");
    d.write("c/.dockerignore", "large.bin\n");
    let list = d.ok(Client::Wharf, "build context c");
    let lines: Vec<&str> = list.lines().collect();
    assert!(
        lines[1].ends_with(" large.bin") && lines[1].starts_with("5kB"),
        "{list}"
    );
    assert!(
        list.ends_with("total, ignore file .containerignore") && !list.contains("huge"),
        "{list}"
    );
    assert_eq!(
        d.ok(Client::Wharf, "build context c --explain skipped/huge.bin"),
        "skipped/huge.bin: left out: line 1 of .containerignore: skipped"
    );
    let json = d.ok(Client::Wharf, "build context --json c");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["entries"][0]["path"], "large.bin");
}

#[test]
fn contexts_from_standard_input_and_archives() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let called = d.call_with_input(
            client,
            "build -q -",
            b"FROM busybox\nRUN echo from stdin > /f\nCMD cat /f\n",
        );
        assert_eq!(called.code, 0, "{called:?}");
        assert!(called.stdout.starts_with("sha256:"), "{called:?}");
        assert_eq!(
            d.ok(client, &["run", "--rm", called.stdout.trim()]),
            "from stdin"
        );
        d.write(
            "c/Dockerfile.other",
            "FROM busybox\nADD a.tar.gz /unpacked/\nCMD cat /unpacked/f\n",
        );
        d.write("c/f", "archived\n");
        let tar = |arguments: &[&str]| {
            assert!(
                std::process::Command::new("tar")
                    .current_dir(d.path("c"))
                    .args(arguments)
                    .status()
                    .unwrap()
                    .success()
            )
        };
        tar(&["-czf", "a.tar.gz", "f"]);
        tar(&["-cf", "context.tar", "Dockerfile.other", "a.tar.gz"]);
        let context = std::fs::read(d.path("c/context.tar")).unwrap();
        let called = d.call_with_input(
            client,
            "build -q -f Dockerfile.other --iidfile iid -",
            &context,
        );
        assert_eq!(called.code, 0, "{called:?}");
        let id = std::fs::read_to_string(d.path("iid")).unwrap();
        assert_eq!(d.ok(client, &["run", "--rm", id.trim()]), "archived");
    }
}

#[test]
fn excluded_directories_are_never_read() {
    let d = Daemon::with_busybox();
    d.write("context/.dockerignore", "large\n");
    d.write("context/kept", "x");
    d.write("context/large/file", "x");
    // A FIFO without a writer hangs whoever opens it; a directory without permission would not stop root.
    assert!(
        std::process::Command::new("mkfifo")
            .arg(d.path("context/large/fifo"))
            .status()
            .unwrap()
            .success()
    );
    let called = build(
        &d,
        Client::Wharf,
        "FROM busybox\nCOPY . /all/\nCMD ls -A /all\n",
        &[],
    );
    assert_eq!(called.code, 0, "{called:?}");
    assert_eq!(
        d.ok(Client::Wharf, "run --rm built"),
        ".dockerignore\nDockerfile\nkept"
    );
}
