//! Bad input: a clear error, nothing lost.

use crate::harness::{Client, Daemon, clients};
use std::process::{Command, Stdio};

#[test]
fn ports_in_use() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let binding = format!("127.0.0.1:{}:80", taken.local_addr().unwrap().port());
        d.fails(
            client,
            &[
                "run", "-d", "--name", "xx", "-p", &binding, "busybox", "sleep", "9",
            ],
            125,
            "address already in use",
        );
        assert_eq!(
            d.ok(client, "ps -a --format '{{.Names}} {{.State}}'"),
            "xx created"
        );
        drop(taken);
        d.ok(client, "start xx");
        d.fails(
            client,
            &["run", "-d", "-p", &binding, "busybox", "sleep", "9"],
            125,
            "port is already allocated",
        );
    }
}

#[test]
fn a_second_daemon_on_the_same_root() {
    let d = Daemon::start();
    let second = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["daemon", "--socket"])
        .arg(d.path("second.sock"))
        .arg("--root")
        .arg(d.path("root"))
        .arg("--run-dir")
        .arg(d.path("run2"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        !second.status.success() && said.contains("another daemon"),
        "{said}"
    );
    d.ok(Client::Wharf, "images");
}

#[test]
fn a_socket_without_permission() {
    let d = Daemon::start();
    // An unprivileged user cannot even reach the directory: open it up, the socket itself is 0660.
    for name in ["", "wharf.sock"] {
        let path = d.path(name);
        let mode = if name.is_empty() { 0o755 } else { 0o660 };
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
    }
    let binary = d.path("wharf");
    std::fs::copy(env!("CARGO_BIN_EXE_wharf"), &binary).unwrap();
    let mut command = Command::new(binary);
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    std::os::unix::process::CommandExt::gid(&mut command, 65534);
    let output = command
        .arg("ps")
        .env(
            "DOCKER_HOST",
            format!("unix://{}", d.path("wharf.sock").display()),
        )
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("permission denied"),
        "{said}"
    );
}

#[test]
fn missing_and_malformed_names() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.fails(client, "inspect nothing", 1, "nothing");
        d.fails(client, "rm nothing", 1, "No such container: nothing");
        d.fails(client, "run --rm Upper/Case", 125, "must be lowercase");
        d.fails(
            client,
            "run --name ! busybox true",
            125,
            "Invalid container name",
        );
        d.ok(client, "run --name one busybox true");
        d.fails(
            client,
            "run --name one busybox true",
            125,
            "is already in use by container",
        );
        d.fails(
            client,
            "run --network mine busybox true",
            125,
            "network mine not found",
        );
        d.fails(
            client,
            "run -m 1m busybox true",
            125,
            "Minimum memory limit allowed is 6MB",
        );
    }
}

/// Runs a script beside a daemon whose data root is a small file system with `busybox`, in a mount namespace of
/// their own that takes all down with it. The script has the directory, the program, a tar of busybox and
/// `arguments`; returns whether it succeeded and what it wrote.
fn on_a_small_disk(script: &str, arguments: &[&std::ffi::OsStr]) -> (bool, String, String) {
    const BEFORE: &str = r#"
set -e
mount -t tmpfs -o size=24m none "$1"
"$2" daemon --socket "$1/s" --root "$1/root" --run-dir "$1/run" >"$1/log" 2>&1 &
daemon=$!
trap 'kill $daemon; wait $daemon || true' EXIT
export DOCKER_HOST=unix://$1/s
for i in $(seq 200); do [ -S "$1/s" ] && break; sleep 0.05; done
"$2" import "$3" busybox >/dev/null
"#;
    let directory = tempfile::Builder::new()
        .prefix("wharf-full-")
        .tempdir_in("/var/tmp")
        .unwrap();
    let output = Command::new("unshare")
        .args(["-m", "--propagation", "private", "bash", "-c"])
        .arg([BEFORE, script].concat())
        .arg("test")
        .arg(directory.path())
        .arg(env!("CARGO_BIN_EXE_wharf"))
        .arg(crate::harness::base_image_tar("busybox"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Images that do not fit are neither half there nor under a name, and what they took comes back.
#[test]
fn what_does_not_fit_on_a_full_disk_leaves_nothing() {
    let big = Daemon::with_busybox();
    let made = "dd if=/dev/urandom of=/big bs=1M count=32 2>/dev/null";
    big.ok(
        Client::Wharf,
        &["run", "--name", "made", "busybox", "sh", "-c", made],
    );
    big.ok(Client::Wharf, "commit made big");
    let archive = big.path("big.tar");
    big.ok(
        Client::Wharf,
        &["save", "-o", archive.to_str().unwrap(), "big"],
    );
    let registry = crate::registry::Registry::start();
    let remote = registry.as_ref().map(|registry| registry.at("big:v1"));
    if let Some(name) = &remote {
        big.ok(Client::Wharf, &["tag", "big", name]);
        big.ok(Client::Wharf, &["push", name]);
    }
    let script = r#"
used() { df --output=used -k "$1" | tail -1; }
before=$(used "$1")
check() {
  if "$@" >"$out" 2>&1; then echo "it fitted: $*" >&2; exit 1; fi
  cat "$out" >&2
  grep -qi 'no space left' "$out" || { echo "no reason is told: $*" >&2; exit 1; }
  for i in $(seq 100); do
    after=$(used "$dir")
    [ $((after - before)) -lt 1024 ] && break
    sleep 0.05
  done
  [ $((after - before)) -lt 1024 ] || { echo "$*: $before KiB before, $after after" >&2; find "$dir/root" -size +100k >&2; exit 1; }
  [ "$("$wharf" images -aq | wc -l)" = 1 ] || { echo "$*: an image is left" >&2; "$wharf" images -a >&2; exit 1; }
}
dir=$1 wharf=$2 out=$4.out
check "$2" load -i "$4"
[ -z "$5" ] || check "$2" pull "$5"
mkdir "$1/context"
printf 'FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=64\n' >"$1/context/Dockerfile"
check "$2" build --no-cache -t half "$1/context"
mkdir "$4.context"
cp "$4" "$4.context/big"
printf 'FROM busybox\nCOPY big /big\n' >"$4.context/Dockerfile"
check "$2" build --no-cache -t half "$4.context"
"$2" run --rm --network none busybox echo still-works
"#;
    let name = remote.unwrap_or_default();
    let (succeeded, stdout, stderr) =
        on_a_small_disk(script, &[archive.as_os_str(), name.as_ref()]);
    assert!(
        succeeded && stdout.contains("still-works"),
        "stdout: {stdout}\nstderr: {stderr}"
    );
}

#[test]
fn a_full_disk_loses_nothing() {
    let script = r#"
if "$2" run --name filler --network none busybox sh -c 'dd if=/dev/zero of=/big bs=1M count=64'; then echo "the disk did not fill" >&2; exit 1; fi
if "$2" commit filler big; then echo "commit fitted" >&2; exit 1; fi
"$2" rm filler >/dev/null
"$2" run --rm --network none busybox echo still-works
"$2" images -q | wc -l
"#;
    let (succeeded, stdout, stderr) = on_a_small_disk(script, &[]);
    assert!(
        succeeded && stdout.contains("still-works\n1"),
        "stdout: {stdout}\nstderr: {stderr}"
    );
}
