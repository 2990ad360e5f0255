//! Builds as wharf's own client asks for them.

use crate::harness::{Client, Daemon};
use std::time::{Duration, Instant};

const EPOCH: &str = "SOURCE_DATE_EPOCH=1700000000";

fn write(d: &Daemon, dockerfile: &str) {
    d.write("context/Dockerfile", dockerfile);
}

fn wharf(d: &Daemon, arguments: &[&str]) -> String {
    d.ok(Client::Wharf, arguments)
}

/// A build that is killed with the daemon goes on from the finished steps and gives the same image.
#[test]
fn a_killed_build_resumes_and_gives_the_same_image() {
    let dockerfile = "FROM busybox\nRUN sleep 0.2 && echo 1 > /1\nRUN sleep 0.2 && echo 2 > /2\nRUN sleep 0.2 && echo 3 > /3\n";
    let arguments = [
        "build",
        "-q",
        "--build-arg",
        EPOCH,
        "-o",
        "type=image,rewrite-timestamp=true",
        "context",
    ];
    let mut d = Daemon::with_busybox();
    write(&d, dockerfile);
    for wait_ms in [100, 450, 700] {
        std::thread::scope(|scope| {
            let daemon = &d;
            let build = scope.spawn(move || daemon.call(Client::Wharf, &arguments));
            std::thread::sleep(Duration::from_millis(wait_ms));
            daemon.kill_by_pid();
            let _killed_or_done = build.join();
        });
        d.kill();
        d.launch();
    }
    let resumed = wharf(&d, &arguments);
    let steps = wharf(&d, &["builder", "explain"]);
    assert!(steps.contains("cached"), "nothing was kept: {steps}");
    let mut whole = arguments.to_vec();
    whole.insert(1, "--no-cache");
    assert_eq!(wharf(&d, &whole), resumed);
}

#[test]
fn stages_run_at_once_and_misses_are_explained() {
    let d = Daemon::with_busybox();
    d.write("context/src/a.c", "1");
    d.write("context/run.sh", "x");
    write(
        &d,
        "FROM busybox AS a\nRUN sleep 1.5 && echo a > /a\nFROM busybox AS b\nRUN sleep 1.5 && echo b > /b\n\
         FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY src run.sh /w/\nRUN cat /a /b\n",
    );
    let began = Instant::now();
    wharf(&d, &["build", "--parallel", "2", "context"]);
    // One after the other the stages sleep three seconds.
    assert!(
        began.elapsed() < Duration::from_millis(2_900),
        "{:?}",
        began.elapsed()
    );
    d.write("context/src/a.c", "2");
    let told = wharf(&d, &["build", "--explain", "context"]);
    assert!(
        told.contains("step 8 COPY src run.sh /w/: 1 of 2 files changed: src/a.c (content)"),
        "{told}"
    );
    assert!(
        told.contains("step 9 RUN cat /a /b: its input changed (step 8)"),
        "{told}"
    );
    assert!(
        told.contains("step 2 RUN sleep 1.5 && echo a > /a: cached"),
        "{told}"
    );
    let events = wharf(&d, &["build", "--progress", "rawjson", "context"]);
    assert!(events.lines().all(|line| line.starts_with('{')), "{events}");
    assert_eq!(wharf(&d, &["builder", "logs", "9"]), "");
    let logs = wharf(&d, &["builder", "ls", "-q"]);
    let second = logs.lines().nth(1).expect("there were three builds");
    assert_eq!(wharf(&d, &["builder", "logs", second, "9"]), "a\nb");
}

#[test]
fn failed_steps_can_be_entered_and_limits_are_told() {
    let d = Daemon::with_busybox();
    write(
        &d,
        "FROM busybox\nENV GREETING=hi\nWORKDIR /w\nRUN echo kept > made && exit 3\n",
    );
    let failed = d.call(Client::Wharf, &["build", "context"]);
    assert_eq!(failed.code, 3);
    assert!(
        failed.stderr.contains("hint: `wharf builder shell "),
        "{}",
        failed.stderr
    );
    let shell = d.call_with_input(
        Client::Wharf,
        &["builder", "shell"],
        b"cat made; pwd; echo $GREETING\n",
    );
    assert_eq!(
        (shell.code, shell.stdout.as_str()),
        (0, "kept\n/w\nhi\n"),
        "{}",
        shell.stderr
    );
    write(
        &d,
        "FROM busybox\nRUN dd if=/dev/zero of=/dev/null bs=200M count=1\n",
    );
    let killed = d.call(Client::Wharf, &["build", "--memory", "50m", "context"]);
    assert_eq!(killed.code, 137);
    assert!(
        killed
            .stderr
            .contains("its limit is 50.0 MiB, its peak was"),
        "{}",
        killed.stderr
    );
}

#[test]
fn results_go_where_they_are_asked_to() {
    let d = Daemon::with_busybox();
    write(
        &d,
        "FROM busybox AS b\nRUN mkdir /out && echo made > /out/f\nFROM scratch\nCOPY --from=b /out /\n",
    );
    let files = d.path("files");
    let tar = d.path("result.tar");
    let archive = d.path("image.tar");
    let local = format!("type=local,dest={}", files.display());
    let plain = format!("type=tar,dest={}", tar.display());
    let docker = format!("type=docker,dest={}", archive.display());
    wharf(
        &d,
        &[
            "build", "-o", &local, "-o", &plain, "-o", &docker, "context",
        ],
    );
    assert_eq!(
        std::fs::read_to_string(files.join("f")).expect("the file"),
        "made\n"
    );
    assert!(std::fs::metadata(&tar).is_ok_and(|tar| tar.len() > 0));
    // Nobody asked for an image to be kept.
    assert!(
        !wharf(&d, &["images", "-aq"])
            .lines()
            .any(|id| id != wharf(&d, &["images", "-q", "busybox"]).trim())
    );
    wharf(&d, &["load", "-i", &archive.to_string_lossy()]);
    let squashed = wharf(&d, &["build", "-q", "--squash", "context"]);
    wharf(&d, &["image", "inspect", squashed.trim()]);
    write(
        &d,
        "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /when\n",
    );
    let differs = d
        .call(Client::Wharf, &["build", "--verify", "context"])
        .stderr;
    assert!(
        differs.contains("/when differs in its content"),
        "{differs}"
    );
}

#[test]
fn steps_see_their_mounts_and_copies_keep_to_their_flags() {
    let d = Daemon::with_busybox();
    d.write("context/a/b/file", "text");
    d.write("context/a/skipped", "");
    let secret = d.write("secret", "s3cret");
    write(
        &d,
        "FROM busybox AS other\nRUN mkdir /made && echo other > /made/file\n\
         FROM busybox\n\
         COPY --exclude=skipped a /excluded/\n\
         COPY --link a/b/file /linked/file\n\
         COPY --parents a/./b/file /parents/\n\
         RUN --mount=type=secret,id=one cat /run/secrets/one && test ! -e /excluded/skipped && cat /linked/file /parents/b/file\n\
         RUN --mount=type=bind,source=a,target=/bound --mount=type=tmpfs,target=/fast \\\n\
           grep ' /fast tmpfs' /proc/mounts && cat /bound/b/file && ! touch /bound/x\n\
         RUN --mount=type=bind,from=other,source=/made,target=/made,rw echo lost > /made/file && cat /made/file\n\
         RUN --mount=type=cache,target=/kept echo one >> /kept/file\n\
         RUN --mount=type=cache,target=/kept echo two >> /kept/file && test \"$(wc -l < /kept/file)\" = 2\n\
         RUN test -z \"$(ls /kept /bound /fast /made /run/secrets 2>/dev/null)\"\n\
         RUN <<SCRIPT\n#!/usr/bin/awk -f\nBEGIN { print \"from a script\" }\nSCRIPT\n",
    );
    let from_file = format!("id=one,src={}", secret.display());
    let told = wharf(
        &d,
        &[
            "build",
            "--progress",
            "plain",
            "--secret",
            &from_file,
            "-t",
            "mounted",
            "context",
        ],
    );
    assert!(told.contains("from a script"), "{told}");
    // What was mounted is no part of the image, and the other stage's files are as they were.
    let gone = wharf(&d, &["run", "--rm", "mounted", "ls", "/"]);
    assert!(!gone.contains("s3cret"), "{gone}");
    let mounts = wharf(&d, &["builder", "cache", "ls"]);
    assert!(mounts.contains("kept"), "{mounts}");
}

#[test]
fn what_steps_may_not_have_is_refused_before_anything_runs() {
    let d = Daemon::with_busybox();
    for (line, text) in [
        ("RUN --security=insecure true", "--allow security.insecure"),
        ("RUN --device=vendor.com/device=one true", "get no devices"),
    ] {
        write(&d, &format!("FROM busybox\nRUN echo ran\n{line}\n"));
        let failed = d.call(Client::Wharf, &["build", "context"]);
        assert_ne!(failed.code, 0);
        assert!(failed.stderr.contains(text), "{}", failed.stderr);
        assert!(!failed.stdout.contains("ran\n"), "{}", failed.stdout);
    }
}
