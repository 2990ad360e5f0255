//! Starts that are cut off because the daemon is killed, and shims that are killed: a removal leaves nothing,
//! and neither does the next start of the daemon.

use crate::harness::{Client, Daemon, PATIENCE, eventually};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An OCI runtime that makes the container's control group, hangs until the file `go-on` is there, and fails.
const STUCK: &str = r#"#!/bin/sh
case " $* " in *" create "*) ;; *) exit 0 ;; esac
group=$(sed 's/.*"cgroupsPath":"\([^"]*\)".*/\1/' config.json)
hierarchy=/sys/fs/cgroup
[ ! -d $hierarchy/pids ] || hierarchy=$hierarchy/pids
mkdir -p "$hierarchy$group"
touch "${0%/*}/hangs"
while [ ! -e "${0%/*}/go-on" ]; do sleep 0.02; done
exit 1
"#;

/// A control group that containers are put below, removed with all below it.
pub struct Parent(pub String);

/// Returns the directories of a control group, one a hierarchy.
fn directories(group: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).unwrap();
    hierarchies
        .map(|entry| entry.unwrap().path())
        .chain([root.to_owned()])
        .map(|hierarchy| hierarchy.join(group.trim_start_matches('/')))
        .filter(|directory| directory.is_dir())
        .collect()
}

impl Drop for Parent {
    fn drop(&mut self) {
        for directory in directories(&self.0) {
            for below in std::fs::read_dir(&directory)
                .into_iter()
                .flatten()
                .flatten()
            {
                let _is_a_file = std::fs::remove_dir(below.path());
            }
            let _not_there = std::fs::remove_dir(&directory);
        }
    }
}

impl Parent {
    fn is_empty(&self) -> bool {
        directories(&self.0).iter().all(|directory| {
            let mut entries = std::fs::read_dir(directory).unwrap().flatten();
            !entries.any(|entry| entry.path().is_dir())
        })
    }
}

fn launch(d: &mut Daemon) {
    let file = d.path("daemon.json").display().to_string();
    d.launch_with(&["--config-file", &file]);
}

/// Starts a daemon that has the runtime `stuck`.
fn prepared() -> Daemon {
    let mut d = Daemon::prepared();
    let program = d.write("stuck", STUCK);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let settings = serde_json::json!({ "runtimes": { "stuck": { "path": program } } });
    d.write("daemon.json", settings.to_string());
    launch(&mut d);
    d.import("busybox");
    d
}

/// Kills the daemon while the runtime program is making the container `cut`.
fn cut_off(d: &mut Daemon) {
    let daemon = &*d;
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| daemon.call(Client::Wharf, "start cut"));
        eventually("the start is under way", || daemon.path("hangs").exists());
        daemon.kill_by_pid();
        assert_ne!(starting.join().unwrap().code, 0);
    });
    d.kill();
}

fn go_on(d: &Daemon) {
    d.write("go-on", "");
}

fn assert_nothing_left(d: &Daemon) {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = d.left_of_containers();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{left:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_start_that_was_cut_off_goes_with_its_container() {
    let parent = Parent(format!("/wharf-cut-{}", std::process::id()));
    for group in ["", &parent.0] {
        let mut d = prepared();
        let create = [
            "create",
            "--name",
            "cut",
            "--runtime",
            "stuck",
            "-p",
            "80",
            "--cgroup-parent",
            group,
        ];
        d.ok(Client::Wharf, &[&create[..], &["busybox", "true"]].concat());
        cut_off(&mut d);
        // The shim hangs still when the next daemon starts, and is waited for by the removal.
        launch(&mut d);
        assert_eq!(d.ok(Client::Wharf, "ps -a --format {{.State}}"), "created");
        std::thread::scope(|scope| {
            let removing = scope.spawn(|| d.call(Client::Wharf, "rm cut"));
            std::thread::sleep(Duration::from_millis(200));
            go_on(&d);
            let removed = removing.join().unwrap();
            assert_eq!(removed.code, 0, "{}", removed.stderr);
        });
        assert_nothing_left(&d);
        assert!(parent.is_empty());
    }
}

#[test]
fn a_start_that_was_cut_off_is_swept_by_the_next_daemon() {
    let parent = Parent(format!("/wharf-swept-{}", std::process::id()));
    for group in ["", &parent.0] {
        let mut d = prepared();
        let create = [
            "create",
            "--name",
            "cut",
            "--runtime",
            "stuck",
            "--cgroup-parent",
            group,
        ];
        d.ok(Client::Wharf, &[&create[..], &["busybox", "true"]].concat());
        cut_off(&mut d);
        // As a build that was cut off leaves it.
        let secret = d.write("run/secret-0123-0", "secret");
        go_on(&d);
        launch(&mut d);
        assert_nothing_left(&d);
        assert!(parent.is_empty());
        assert!(!secret.exists());
        d.ok(Client::Wharf, "rm cut");
    }
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let d = prepared();
    go_on(&d);
    d.fails(
        Client::Wharf,
        "run --name cut --runtime stuck busybox true",
        125,
        "failed to create task for container",
    );
    assert_nothing_left(&d);
}

#[test]
fn a_shim_that_is_killed_leaves_nothing_for_the_next_daemon() {
    let mut d = Daemon::with_busybox();
    let id = d.ok(Client::Wharf, "run -d --name cc -p 80 busybox sleep 1000");
    d.kill();
    let state = std::fs::read(d.path(&format!("run/containers/{id}/shim.json"))).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let shim = i32::try_from(state["shim_pid"].as_i64().unwrap()).unwrap();
    let process = rustix::process::Pid::from_raw(shim).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    eventually("the shim ends", || {
        !Path::new(&format!("/proc/{shim}")).exists()
    });
    d.launch();
    assert_eq!(
        d.ok(
            Client::Wharf,
            "inspect -f '{{.State.Status}} {{.State.ExitCode}}' cc"
        ),
        "exited 255"
    );
    assert_nothing_left(&d);
}

#[test]
fn a_build_that_was_killed_leaves_no_group_below_a_named_parent() {
    let parent = Parent(format!("/wharf-built-{}", std::process::id()));
    let mut d = Daemon::with_busybox();
    d.write("context/Dockerfile", "FROM busybox\nRUN sleep 1000\n");
    let mut build = d
        .command(Client::Wharf)
        .args(["build", "--cgroup-parent", &parent.0, "context"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the step's group", || {
        !directories(&parent.0).is_empty() && !parent.is_empty()
    });
    d.kill();
    build.wait().unwrap();
    assert!(!parent.is_empty());
    d.launch();
    assert!(parent.is_empty());
    assert!(
        std::fs::read_dir(d.path("run/build-groups"))
            .unwrap()
            .next()
            .is_none()
    );
}
