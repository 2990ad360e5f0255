//! A daemon that is killed: containers go on, nothing reported as done is lost, nothing is left over.

use crate::harness::{Client, Daemon, clients, eventually, skip};
use std::time::Duration;

#[test]
fn containers_and_logs_survive_the_daemon() {
    for client in clients() {
        let mut d = Daemon::with_busybox();
        d.ok(
            client,
            &[
                "run",
                "-d",
                "--name",
                "ticker",
                "busybox",
                "sh",
                "-c",
                "i=0; while :; do i=$((i+1)); echo $i; usleep 10000; done",
            ],
        );
        d.ok(
            client,
            &[
                "run",
                "-d",
                "--name",
                "ends",
                "busybox",
                "sh",
                "-c",
                "sleep 1; exit 5",
            ],
        );
        let pid = d.ok(client, &["inspect", "--format", "{{.State.Pid}}", "ticker"]);
        d.kill();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(
            std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "the container died with the daemon"
        );
        d.launch();
        assert_eq!(
            d.ok(client, &["inspect", "--format", "{{.State.Pid}}", "ticker"]),
            pid
        );
        eventually("the exit is known", || {
            d.ok(
                client,
                &[
                    "inspect",
                    "--format",
                    "{{.State.Status}} {{.State.ExitCode}}",
                    "ends",
                ],
            ) == "exited 5"
        });
        assert_eq!(d.ok(client, &["exec", "ticker", "echo", "back"]), "back");
        d.ok(client, &["stop", "-t", "0", "ticker"]);
        let numbers: Vec<u64> = d
            .ok(client, &["logs", "ticker"])
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

/// `kill -9` at random moments of build, commit, load, run and rmi: afterwards every image that was
/// reported as done is whole, nothing unreferenced is on disk, nothing is left in the kernel.
#[test]
fn killed_at_random_moments() {
    let asked = std::env::var("WHARF_TEST_KILL_ROUNDS").ok();
    let Some(rounds) = asked.and_then(|text| text.parse::<u64>().ok()) else {
        skip("kill -9 at random moments (set WHARF_TEST_KILL_ROUNDS=50)");
        return;
    };
    let mut d = Daemon::with_busybox();
    d.ok(Client::Wharf, &["save", "-o", "archive.tar", "busybox"]);
    d.write("context/Dockerfile", "FROM busybox\nARG N\nRUN echo $N > /n && dd if=/dev/zero of=/z bs=64k count=8 2>/dev/null\nCOPY Dockerfile /\nRUN rm /z\n");
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut done: Vec<String> = Vec::new();
    for round in 0..rounds {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let tag = format!("made:{round}");
        let argument = format!("N={round}");
        let script: Vec<Vec<&str>> = match round % 5 {
            0 => vec![vec![
                "build",
                "-q",
                "--build-arg",
                &argument,
                "-t",
                &tag,
                "context",
            ]],
            1 => vec![
                vec!["run", "--name", &argument[2..3], "busybox", "touch", "/x"],
                vec!["commit", &argument[2..3], &tag],
            ],
            2 => vec![
                vec!["load", "-i", "archive.tar"],
                vec!["tag", "busybox", &tag],
            ],
            3 => vec![
                vec![
                    "run",
                    "--rm",
                    "busybox",
                    "sh",
                    "-c",
                    "echo hello; usleep 50000",
                ],
                vec!["tag", "busybox", &tag],
            ],
            _ => vec![vec!["rmi", done.last().map_or("nothing", String::as_str)]],
        };
        let daemon = &d;
        let wait = Duration::from_micros(seed >> 44);
        let finished = std::thread::scope(|scope| {
            let worker = scope.spawn(move || {
                script
                    .iter()
                    .all(|arguments| daemon.call(Client::Wharf, arguments).code == 0)
            });
            std::thread::sleep(wait);
            daemon.kill_by_pid();
            worker.join().unwrap()
        });
        d.kill();
        d.launch();
        if round % 5 == 4 {
            if let Some(name) = done.pop() {
                // Removed or not: both are right when the kill came first; never half.
                if d.call(Client::Wharf, &["image", "inspect", &name]).code == 0 {
                    assert!(!finished, "{name} was reported as removed and is back");
                    d.ok(
                        Client::Wharf,
                        &["run", "--rm", "--network", "none", &name, "true"],
                    );
                }
            }
        } else if finished {
            done.push(tag);
        }
        for name in done.iter().rev().take(3) {
            d.ok(
                Client::Wharf,
                &["run", "--rm", "--network", "none", name, "true"],
            );
        }
    }
    // `save` re-makes every layer's tar and checks its DiffID.
    let mut save = vec!["save".to_owned(), "-o".to_owned(), "all.tar".to_owned()];
    save.extend(done.iter().cloned());
    d.ok(Client::Wharf, &save);
    let containers = d.ok(Client::Wharf, &["ps", "-aq"]);
    let mut remove = vec!["rm", "-f"];
    remove.extend(containers.split_whitespace());
    if remove.len() > 2 {
        d.ok(Client::Wharf, &remove);
    }
    d.ok(Client::Wharf, &["rmi", "-f", "busybox"]);
    for name in &done {
        d.call(Client::Wharf, &["rmi", "-f", name]);
    }
    d.ok(Client::Wharf, &["builder", "prune", "-af"]);
    d.ok(Client::Wharf, &["image", "prune", "-af"]);
    d.stop();
    d.launch();
    eventually("all layers are gone", || {
        std::fs::read_dir(d.path("root/layers")).unwrap().count() == 0
    });
    assert_eq!(std::fs::read_dir(d.path("root/tmp")).unwrap().count(), 0);
    assert!(d.mounts().is_empty(), "{:?}", d.mounts());
}
