//! Where builds take things from: git servers, image layouts, SSH keys; and the times and platforms that they ask for.

#![allow(clippy::disallowed_methods)]

use crate::git::{Server, git};
use crate::harness::{Client, Daemon};
use std::path::Path;
use std::process::Command;

fn wharf(d: &Daemon, arguments: &[&str]) -> String {
    d.ok(Client::Wharf, arguments)
}

/// Returns what a command says that fails.
fn refused(d: &Daemon, arguments: &[&str]) -> String {
    let called = d.call(Client::Wharf, arguments);
    let said = format!("{}{}", called.stdout, called.stderr);
    assert_eq!(called.code, 1, "{arguments:?}: {said}");
    said
}

#[test]
fn a_repository_is_a_build_context_and_gives_its_time() {
    let d = Daemon::with_busybox();
    d.write(
        "served/r.git/sub/Dockerfile",
        "FROM busybox\nCOPY f /f\nRUN grep one /f\n",
    );
    d.write("served/r.git/sub/f", "one\n");
    let repository = d.path("served/r.git");
    git(&repository, &["init", "-q"]);
    git(&repository, &["add", "-A"]);
    git(&repository, &["commit", "-q", "-m", "first"]);
    git(&repository, &["tag", "v1"]);
    let server = Server::start(&d.path("served"));
    let url = format!("git://127.0.0.1:{}/r.git#v1:sub", server.port);
    for client in [Client::Wharf, Client::Docker] {
        if client == Client::Docker && crate::harness::docker_program().is_none() {
            continue;
        }
        d.ok(client, &["build", "-t", "from-git", &url]);
        assert_eq!(wharf(&d, &["run", "--rm", "from-git", "cat", "/f"]), "one");
    }
    let epoch = "SOURCE_DATE_EPOCH=context";
    wharf(&d, &["build", "--build-arg", epoch, "-t", "timed", &url]);
    let created = wharf(&d, &["inspect", "--format", "{{.Created}}", "timed"]);
    assert_eq!(created.trim(), "2020-09-13T12:26:40Z");
    let missing = format!("git://127.0.0.1:{}/r.git#none", server.port);
    let told = refused(&d, &["build", &missing]);
    assert!(told.contains("has no branch, tag or commit none"), "{told}");
}

#[test]
fn a_stage_gives_the_time_of_what_it_adds() {
    let d = Daemon::with_busybox();
    d.write("served/r.git/f", "one\n");
    let repository = d.path("served/r.git");
    git(&repository, &["init", "-q"]);
    git(&repository, &["add", "-A"]);
    git(&repository, &["commit", "-q", "-m", "first"]);
    let server = Server::start(&d.path("served"));
    let url = format!("git://127.0.0.1:{}/r.git", server.port);
    let dockerfile = format!(
        "ARG SOURCE_DATE_EPOCH=code\nFROM scratch AS code\nADD {url} /\nFROM busybox\nARG SOURCE_DATE_EPOCH\n\
         COPY --from=code /f /f\nRUN test \"$SOURCE_DATE_EPOCH\" = 1600000000\n"
    );
    d.write("context/Dockerfile", dockerfile);
    wharf(&d, &["build", "-t", "timed", "context"]);
    let created = wharf(&d, &["inspect", "--format", "{{.Created}}", "timed"]);
    assert_eq!(created.trim(), "2020-09-13T12:26:40Z");
    d.write(
        "context/Dockerfile",
        "ARG SOURCE_DATE_EPOCH=nothing\nFROM busybox\n",
    );
    let told = refused(&d, &["build", "context"]);
    assert!(
        told.contains("invalid SOURCE_DATE_EPOCH: nothing"),
        "{told}"
    );
}

#[test]
fn a_layout_is_a_named_context() {
    let d = Daemon::with_busybox();
    d.write(
        "made/Dockerfile",
        "FROM busybox\nENV FROM_LAYOUT=yes\nRUN echo made > /made\n",
    );
    wharf(
        &d,
        &[
            "build",
            "-t",
            "made:v1",
            "-o",
            "type=oci,dest=made.tar",
            "made",
        ],
    );
    let layout = d.path("layout");
    std::fs::create_dir(&layout).unwrap();
    let unpacked = Command::new("tar")
        .arg("-xf")
        .arg(d.path("made.tar"))
        .arg("-C")
        .arg(&layout)
        .status();
    assert!(unpacked.unwrap().success());
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    let (_, digest) = index.split_once("\"digest\":\"").unwrap();
    let digest = digest.get(..71).unwrap();
    d.write(
        "context/Dockerfile",
        "FROM base\nRUN test \"$FROM_LAYOUT\" = yes && test -f /made\nCOPY --from=base /made /copied\n",
    );
    let named = format!("base=oci-layout://layout@{digest}");
    wharf(
        &d,
        &["build", "-t", "used", "--build-context", &named, "context"],
    );
    assert_eq!(
        wharf(&d, &["run", "--rm", "used", "cat", "/copied"]),
        "made"
    );
    let wrong = "base=oci-layout://layout:none";
    let told = refused(&d, &["build", "--build-context", wrong, "context"]);
    assert!(told.contains("it has no image with the tag none"), "{told}");
}

#[test]
fn keys_from_files_are_an_agent() {
    let d = Daemon::with_busybox();
    let key = d.path("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    d.write(
        "context/Dockerfile",
        "FROM busybox\nRUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\"\nRUN --mount=type=ssh,id=other,required true\n",
    );
    let told = refused(&d, &["build", "--ssh", "default=key", "context"]);
    assert!(told.contains("ssh agent other: not found"), "{told}");
    wharf(
        &d,
        &[
            "build",
            "--ssh",
            "default=key",
            "--ssh",
            "other=key",
            "context",
        ],
    );
    let told = refused(
        &d,
        &[
            "build",
            "--no-cache",
            "--ssh",
            "default=key.pub",
            "--ssh",
            "other=key",
            "context",
        ],
    );
    assert!(told.contains("key.pub cannot be used"), "{told}");
}

#[test]
fn programs_of_another_platform_are_refused_before_anything_runs() {
    let d = Daemon::with_busybox();
    if Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists() {
        crate::harness::skip("programs of s390x can be run here");
        return;
    }
    d.write(
        "context/Dockerfile",
        "FROM --platform=$BUILDPLATFORM busybox AS own\nRUN echo must-not-run\nFROM scratch\nCOPY --from=own /bin/busybox /x\nRUN [\"/x\"]\n",
    );
    let told = refused(&d, &["build", "--platform", "linux/s390x", "context"]);
    assert!(
        told.contains("programs of linux/s390x cannot be run on this"),
        "{told}"
    );
    assert!(told.contains("binfmt_misc"), "{told}");
    assert!(!told.contains("must-not-run"), "{told}");
}
