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
            d.ok(client, &["run", "--rm", "built"]),
            "1 two words other\nfile.txt\ninner.txt\ninner"
        );
        let config = d.ok(client, &["inspect", "--format", "{{.Config.User}} {{json .Config.ExposedPorts}} {{.Config.StopSignal}} {{json .Config.Labels}}", "built"]);
        assert!(
            config.starts_with(r#"nobody {"80/tcp":{}} SIGINT"#) && config.contains(r#""c":"d""#),
            "{config}"
        );
        let id = d.ok(client, &["images", "-q", "--no-trunc", "built"]);
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
            d.ok(client, &["images", "-q", "--no-trunc", "built"]),
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
        assert_eq!(d.ok(client, &["images", "-q"]).lines().count(), 1);
        assert_eq!(d.ok(client, &["ps", "-aq"]), "");
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
        d.write("context/.dockerignore", "hidden*\n");
        d.write("context/hidden.txt", "x");
        let called = build(&d, client, "FROM busybox\nCOPY hidden.txt /\n", &[]);
        let said = format!("{}{}", called.stdout, called.stderr);
        assert!(called.code != 0 && said.contains("hidden.txt"), "{said}");
        if client == Client::Wharf {
            assert!(
                said.contains(".dockerignore") && said.contains("hidden*"),
                "{said}"
            );
        }
    }
}

#[test]
fn contexts_from_standard_input_and_archives() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let called = d.call_with_input(
            client,
            &["build", "-q", "-"],
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
            &[
                "build",
                "-q",
                "-f",
                "Dockerfile.other",
                "--iidfile",
                "iid",
                "-",
            ],
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
        d.ok(Client::Wharf, &["run", "--rm", "built"]),
        ".dockerignore\nDockerfile\nkept"
    );
}
