//! Where a build's files come from: addresses, and directories that the caller can read.

use crate::archives::{Entry, tar_of};
use crate::harness::{Client, Daemon, clients, program};
use crate::web::{Page, Web};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

const NOBODY: u32 = 65534;

fn page(content: impl Into<Vec<u8>>) -> Page {
    Page {
        content: content.into(),
        ..Page::default()
    }
}

#[test]
fn an_address_is_a_context() {
    let archive = tar_of(&[
        Entry::File("Dockerfile", "FROM busybox\nCOPY file /copied\n"),
        Entry::File("file", "from afar\n"),
    ]);
    let cut = archive[..600].to_vec();
    let web = Web::serve(BTreeMap::from([
        ("/context.tar".to_owned(), page(archive)),
        ("/cut.tar".to_owned(), page(cut)),
        (
            "/Dockerfile".to_owned(),
            page("FROM busybox\nRUN echo alone > /alone\n"),
        ),
    ]));
    for client in clients() {
        let d = Daemon::with_busybox();
        let build = |path: &str| d.call(client, &["build", "-t", "built", &web.at(path)]);
        let read = |file: &str| d.ok(client, &["run", "--rm", "built", "cat", file]);
        let built = build("/context.tar");
        assert_eq!(built.code, 0, "{client:?}: {built:?}");
        assert_eq!(read("/copied"), "from afar");
        let built = build("/Dockerfile");
        assert_eq!(built.code, 0, "{client:?}: {built:?}");
        assert_eq!(read("/alone"), "alone");
        let id = d.ok(client, "images -q built");
        for path in ["/missing", "/cut.tar"] {
            let failed = build(path);
            assert_ne!(failed.code, 0, "{client:?} {path}: {failed:?}");
        }
        assert_eq!(d.ok(client, "images -q built"), id);
    }
}

/// Runs our client as a user without rights who may talk to the daemon.
fn as_nobody(d: &Daemon, arguments: &[&str]) -> Output {
    Command::new(d.path("program"))
        .args(arguments)
        .env("DOCKER_HOST", format!("unix://{}", d.socket().display()))
        .env("DOCKER_CONFIG", d.path("config-of-nobody"))
        .env_remove("WHARF_HOST")
        .current_dir(d.path(""))
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap()
}

/// The daemon reads a context in place, as root; what its caller could not read stays unread.
#[test]
fn what_the_caller_may_not_read_is_no_context() {
    let d = Daemon::with_busybox();
    let open = |name: &str, mode: u32| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(d.path(name), permissions).unwrap();
    };
    open("", 0o755);
    open("wharf.sock", 0o666);
    std::fs::copy(program(), d.path("program")).unwrap();
    d.write("context/Dockerfile", "FROM busybox\nCOPY open /open\n");
    d.write("context/open", "to all\n");
    d.write("context/closed", "of root\n");
    open("context/closed", 0o600);
    d.write("context/shut/inner", "of root\n");
    open("context/shut", 0o700);
    d.write("secret", "of root\n");
    open("secret", 0o600);
    let said = |output: &Output| {
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    };
    let built = as_nobody(&d, &["build", "-t", "open", "context"]);
    assert!(built.status.success(), "{}", said(&built));
    for copied in ["closed", "shut", "shut/inner", "."] {
        d.write(
            "context/Dockerfile",
            format!("FROM busybox\nCOPY {copied} /stolen\nRUN cat /stolen || true\n"),
        );
        let refused = as_nobody(&d, &["build", "-t", "stolen", "context"]);
        let told = said(&refused);
        assert!(
            !refused.status.success() && told.contains("ermission denied"),
            "{copied}: {told}"
        );
        assert!(!told.contains("of root"), "{copied}: {told}");
    }
    // Neither through a link, nor by naming the directory itself, nor as a Dockerfile or a secret.
    std::os::unix::fs::symlink(d.path("secret"), d.path("context/link")).unwrap();
    d.write("context/Dockerfile", "FROM busybox\nCOPY link /stolen\n");
    for arguments in [
        &["build", "context"][..],
        &["build", "context/shut"],
        &["build", "-f", "secret", "context"],
        &["build", "--secret", "id=a,src=secret", "context"],
    ] {
        let refused = as_nobody(&d, arguments);
        let told = said(&refused);
        assert!(!refused.status.success(), "{arguments:?}: {told}");
        assert!(!told.contains("of root"), "{arguments:?}: {told}");
    }
    // Root reads all of it.
    d.write(
        "context/Dockerfile",
        "FROM busybox\nCOPY closed shut /all/\n",
    );
    d.ok(Client::Wharf, "build context");
}
