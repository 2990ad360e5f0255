//! A daemon that is killed: containers go on, nothing reported as done is lost, nothing is left over.

use crate::harness::{Client, Daemon, clients, eventually};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal};
use std::os::fd::OwnedFd;
use std::time::Duration;

#[test]
fn containers_and_logs_survive_the_daemon() {
    for client in clients() {
        let mut d = Daemon::with_busybox();
        d.ok(
            client,
            "run -d --name ticker busybox sh -c 'i=0; while :; do i=$((i+1)); echo $i; usleep 10000; done'",
        );
        d.ok(client, "run -d --name ends busybox sh -c 'sleep 1; exit 5'");
        let pid = d.ok(client, "inspect --format {{.State.Pid}} ticker");
        d.kill();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(
            std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "the container died with the daemon"
        );
        d.launch();
        assert_eq!(d.ok(client, "inspect --format {{.State.Pid}} ticker"), pid);
        eventually("the exit is known", || {
            d.ok(
                client,
                "inspect --format '{{.State.Status}} {{.State.ExitCode}}' ends",
            ) == "exited 5"
        });
        assert_eq!(d.ok(client, "exec ticker echo back"), "back");
        d.ok(client, "stop -t 0 ticker");
        let numbers: Vec<u64> = d
            .ok(client, "logs ticker")
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        assert!(numbers.len() > 100, "{}", numbers.len());
        assert!(
            numbers
                .iter()
                .zip(1..)
                .all(|(number, expected)| *number == expected),
            "log lines are lost"
        );
    }
}

/// The checks of what is left over would be worth nothing if they saw nothing.
#[test]
fn what_a_container_has_in_the_kernel_is_seen() {
    let d = Daemon::with_busybox();
    d.ok(Client::Wharf, "run -d busybox sleep 1000");
    let left = d.left_of_containers().join("\n");
    for kind in [
        "master wh",
        "/sys/fs/cgroup",
        "(sleep 1000)",
        "(wharf shim)",
    ] {
        assert!(left.contains(kind), "no {kind} in\n{left}");
    }
    std::fs::create_dir(d.path("root/layers/4711")).unwrap();
    std::fs::write(d.path("root/blobs/sha256/dead"), "x").unwrap();
    assert_eq!(
        d.disowned(),
        ["layer 4711 has no owner", "blob dead has no owner"]
    );
}

/// A program that the killed daemon was about to start holds the lock and the socket until it is executed.
#[test]
fn what_a_killed_daemon_still_holds_is_waited_for() {
    let mut d = Daemon::start();
    let held = descriptors_of(d.pid());
    d.kill();
    assert!(
        std::os::unix::net::UnixStream::connect(d.socket()).is_ok(),
        "the socket went with the daemon, which shows nothing"
    );
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(700));
            drop(held);
        });
        d.launch();
    });
    assert_eq!(d.ok(Client::Wharf, "ps -q"), "");
}

/// Returns all open files of a process, as a child between `fork` and `exec` has them.
fn descriptors_of(pid: u32) -> Vec<OwnedFd> {
    let process = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let process = rustix::process::pidfd_open(process, PidfdFlags::empty()).unwrap();
    let numbers = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let numbers = numbers.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    numbers
        .filter_map(|number| {
            let number = number.parse().unwrap();
            rustix::process::pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()
        })
        .collect()
}

#[test]
fn a_shim_that_does_not_answer_is_as_it_was() {
    let mut d = Daemon::with_busybox();
    d.ok(Client::Wharf, "run -d --name stays busybox sleep 1000");
    let format = "inspect --format '{{.State.Status}} {{.State.Pid}} {{.State.StartedAt}}' stays";
    let before = d.ok(Client::Wharf, format);
    let shim = Stopped::parent_of(before.split(' ').nth(1).unwrap());
    d.kill();
    d.launch();
    assert_eq!(d.ok(Client::Wharf, format), before);
    drop(shim);
    assert_eq!(d.ok(Client::Wharf, "exec stays echo back"), "back");
}

/// A process that is stopped, until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn parent_of(pid: &str) -> Self {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let parent = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap();
        let parent = Pid::from_raw(parent.parse().unwrap()).unwrap();
        rustix::process::kill_process(parent, Signal::STOP).unwrap();
        Self(parent)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        rustix::process::kill_process(self.0, Signal::CONT).unwrap();
    }
}
