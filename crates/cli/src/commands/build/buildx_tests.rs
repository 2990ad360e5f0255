//! Every flag of buildx's `build`, by its recorded help: each changes what is asked for or what comes out, or is refused by
//! name.

use std::collections::BTreeSet;

use crate::fake_daemon::{FakeDaemon, Rule};
use crate::flow_tests::run;

const RECORDED: &str =
    include_str!("../../../../../tests/compatibility/data/buildx-build-0.29.txt");

/// What becomes of a flag.
enum Fate {
    /// The request of the build holds this.
    Sent(&'static str),
    /// The build fails with this before anything is asked.
    Refused(&'static str),
    /// A file of this name is written.
    Written(&'static str),
    /// This is on standard output.
    Printed(&'static str),
    /// It asks for what is done anyway.
    Usual,
}

use Fate::{Printed, Refused, Sent, Usual, Written};

/// The flags, each with what it is given; `$DIR` is the test's directory.
const CASES: &[(&str, &[&str], Fate)] = &[
    (
        "add-host",
        &["--add-host", "a:1.2.3.4,b:5.6.7.8"],
        Sent("extrahosts=b%3A5.6.7.8"),
    ),
    (
        "allow",
        &["--allow", "network.host"],
        Sent("\"allow\":[\"network.host\"]"),
    ),
    (
        "allow",
        &["--allow", "device"],
        Refused("invalid entitlement: device"),
    ),
    (
        "annotation",
        &["--annotation", "a=b"],
        Refused("--annotation is not supported"),
    ),
    (
        "attest",
        &["--attest", "type=sbom"],
        Refused("--attest is not supported"),
    ),
    (
        "attest",
        &["--attest", "type=provenance,disabled=true"],
        Usual,
    ),
    (
        "build-arg",
        &["--build-arg", "A=b"],
        Sent("%22A%22%3A%22b%22"),
    ),
    (
        "build-context",
        &["--build-context", "n=docker-image://x"],
        Sent("\"n\":{\"reference\":\"docker-image://x\"}"),
    ),
    (
        "cache-from",
        &["--cache-from", "img:1"],
        Sent("cachefrom=%5B%22img%3A1%22%5D"),
    ),
    (
        "cache-from",
        &["--cache-from", "type=registry,ref=x"],
        Refused("is not supported yet"),
    ),
    (
        "cache-to",
        &["--cache-to", "type=inline"],
        Sent("\"inline_cache\":true"),
    ),
    (
        "cache-to",
        &["--cache-to", "type=gha"],
        Refused("is not supported yet"),
    ),
    ("call", &["--call", "targets"], Sent("\"call\":\"targets\"")),
    (
        "call",
        &["--call", "nonsense"],
        Refused("invalid --call nonsense"),
    ),
    (
        "cgroup-parent",
        &["--cgroup-parent", "/p"],
        Sent("cgroupparent=%2Fp"),
    ),
    ("check", &["--check"], Sent("\"call\":\"check\"")),
    ("file", &["-f", "$DIR/Other"], Sent("Other")),
    ("iidfile", &["--iidfile", "$DIR/iid"], Written("iid")),
    (
        "label",
        &["--label", "k=v"],
        Sent("labels=%7B%22k%22%3A%22v%22%7D"),
    ),
    ("load", &["--load"], Usual),
    (
        "metadata-file",
        &["--metadata-file", "$DIR/meta"],
        Written("meta"),
    ),
    ("network", &["--network", "none"], Sent("networkmode=none")),
    ("no-cache", &["--no-cache"], Sent("nocache=1")),
    (
        "no-cache-filter",
        &["--no-cache-filter", "a,b", "--no-cache-filter", "c"],
        Sent("\"no_cache_filter\":[\"a\",\"b\",\"c\"]"),
    ),
    (
        "no-cache-filter",
        &["--no-cache", "--no-cache-filter", "a"],
        Refused("cannot be used together"),
    ),
    ("output", &["-o", "type=image,name=n:1"], Sent("t=n%3A1")),
    (
        "output",
        &["-o", "type=image,compression=zstd"],
        Refused("\"compression=zstd\" is not supported"),
    ),
    (
        "platform",
        &["--platform", "linux/arm64", "--platform", "linux/arm64"],
        Sent("platform=linux%2Farm64"),
    ),
    (
        "platform",
        &["--platform", "linux/arm64,linux/amd64"],
        Refused("several platforms cannot be built at once"),
    ),
    (
        "progress",
        &["--progress", "plain"],
        Printed("Step 1/1 : FROM scratch"),
    ),
    (
        "progress",
        &["--progress", "loud"],
        Refused("invalid --progress"),
    ),
    (
        "provenance",
        &["--provenance", "mode=max"],
        Refused("--provenance is not supported"),
    ),
    ("provenance", &["--provenance", "false"], Usual),
    ("pull", &["--pull"], Sent("pull=1")),
    (
        "push",
        &["--push"],
        Refused("tag is needed when pushing to registry"),
    ),
    ("quiet", &["-q"], Sent("q=1")),
    (
        "sbom",
        &["--sbom", "true"],
        Refused("--sbom is not supported"),
    ),
    (
        "secret",
        &["--secret", "id=s,src=$DIR/Other"],
        Sent("\"secrets\":{\"s\":"),
    ),
    ("shm-size", &["--shm-size", "1m"], Sent("shmsize=1048576")),
    ("ssh", &["--ssh", "k=$DIR/Other"], Sent("\"ssh\":{\"k\":[")),
    ("tag", &["-t", "name:1"], Sent("t=name%3A1")),
    ("target", &["--target", "st"], Sent("target=st")),
    ("ulimit", &["--ulimit", "nofile=1:2"], Sent("nofile")),
    ("builder", &["--builder", "default"], Usual),
    (
        "builder",
        &["--builder", "other"],
        Refused("no builder \"other\""),
    ),
    ("debug", &["--debug"], Usual),
];

/// An answer of a daemon that has built something.
fn built(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn daemon() -> FakeDaemon {
    let ping =
        b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nWharf-Build: 1\r\nContent-Length: 2\r\n\r\nOK";
    let lines = "{\"stream\":\"Step 1/1 : FROM scratch\\n\"}\n{\"aux\":{\"ID\":\"sha256:abc\"}}\n{\"stream\":\"Successfully built abc\\n\"}\n";
    FakeDaemon::start(vec![
        Rule::raw("GET /_ping", ping),
        Rule::raw("HEAD /_ping", ping),
        Rule::raw(
            "POST /v1.51/wharf/build/release",
            b"HTTP/1.1 204 No Content\r\n\r\n",
        ),
        Rule::raw("POST /v1.51/wharf/build", &built(lines)),
    ])
}

#[test]
fn every_flag_of_buildx_works_or_is_refused() {
    let recorded: BTreeSet<&str> = RECORDED
        .lines()
        .filter(|line| line.starts_with("  "))
        .filter_map(|line| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix("--"))
        })
        .filter(|flag| *flag != "help")
        .collect();
    let known: BTreeSet<&str> = CASES.iter().map(|(flag, ..)| *flag).collect();
    assert_eq!(recorded, known, "a case for each flag");
    for (flag, given, fate) in CASES {
        let daemon = daemon();
        let directory = daemon.directory();
        for name in ["Dockerfile", "Other"] {
            crate::host_files::write(&directory.join(name), b"FROM scratch\n").unwrap();
        }
        let place = directory.to_string_lossy().into_owned();
        let given: Vec<String> = given
            .iter()
            .map(|word| word.replace("$DIR", &place))
            .collect();
        // A flag of the whole client stands before the command, as all of them.
        let (before, given) = match *flag {
            "debug" => (given, Vec::new()),
            _ => (Vec::new(), given),
        };
        let mut line: Vec<&str> = before.iter().map(String::as_str).collect();
        line.push("build");
        line.extend(given.iter().map(String::as_str));
        line.push(&place);
        let done = run(&daemon, &line);
        let told = format!("{flag}: {} {}{}", done.status, done.stdout, done.stderr);
        let requests = daemon.requests();
        let asked = requests
            .iter()
            .find(|request| request.contains("/wharf/build "));
        match fate {
            Refused(text) => {
                assert!(done.status != 0 && done.stderr.contains(text), "{told}");
                assert!(asked.is_none(), "{told}");
            }
            Sent(text) => assert!(
                asked.is_some_and(|asked| asked.contains(text)),
                "{told} {requests:?}"
            ),
            Written(name) => {
                let read = crate::host_files::read(&directory.join(name), 4096).unwrap();
                assert!(
                    String::from_utf8_lossy(&read).contains("sha256:abc"),
                    "{told}"
                );
            }
            Printed(text) => assert!(done.stdout.contains(text), "{told}"),
            Usual => assert!(done.status == 0 && asked.is_some(), "{told}"),
        }
    }
}
