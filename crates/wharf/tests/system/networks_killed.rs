//! `kill -9` of the daemon in the midst of making, joining, leaving and removing networks: the next one has whole
//! networks, and nothing of half ones is left in the kernel.

use crate::harness::{Client, Daemon, eventually};
use crate::helpers::{exec, sleeper};
use crate::random::Random;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

/// How often the daemon is killed (another number: `WHARF_TEST_KILL_ROUNDS`).
const ROUNDS: u64 = 30;
/// The latest moment of a kill; a round's commands take about as long.
const LATEST_KILL: Duration = Duration::from_millis(900);

#[test]
fn networks_are_whole_or_gone_after_kills() {
    let asked = std::env::var("WHARF_TEST_KILL_ROUNDS").ok();
    let rounds = asked.map_or(ROUNDS, |text| text.parse().unwrap());
    let mut random = Random::from_environment("networks killed");
    let seed = random.seed();
    let mut d = Daemon::with_busybox();
    sleeper(&d, Client::Wharf, "keeper", &[]);
    let mut cut_short = 0;
    for round in 0..rounds {
        let wait = Duration::from_micros(random.below(LATEST_KILL.as_micros() as u64));
        let finished = run_and_kill(&mut d, round, wait);
        cut_short += u64::from(!finished);
        d.launch();
        check(
            &d,
            &format!("WHARF_TEST_SEED={seed}, round {round}, killed after {wait:?}"),
        );
    }
    assert!(cut_short > 0, "every kill came too late");
    let containers = d.ok(Client::Wharf, "ps -aq");
    let mut remove = vec!["rm", "-f"];
    remove.extend(containers.lines());
    d.ok(Client::Wharf, &remove);
    d.ok(Client::Wharf, "network prune -f");
    let mut left = Vec::new();
    eventually("nothing is left of the containers", || {
        left = d.left_of_containers();
        left.is_empty()
    });
    assert_eq!(
        devices(&d),
        BTreeSet::from([default_bridge(&d)]),
        "WHARF_TEST_SEED={seed}"
    );
    d.stop();
    assert_eq!(d.left_of_daemon(), Vec::<String>::new());
}

/// Runs a round's commands and kills the daemon after `wait`; tells whether all were done.
fn run_and_kill(d: &mut Daemon, round: u64, wait: Duration) -> bool {
    let commands = [
        format!("network create --ipv6 n{round}"),
        format!("run -d --name c{round} --network n{round} -p 127.0.0.1::80 busybox sleep 1000"),
        format!("network connect n{round} keeper"),
        format!("network create --internal i{round}"),
        format!("network connect i{round} keeper"),
        format!("network disconnect n{round} keeper"),
        format!("rm -f c{round}"),
        format!("network rm n{round}"),
    ];
    let daemon = &*d;
    let finished = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            commands
                .iter()
                .all(|command| daemon.call(Client::Wharf, command.as_str()).code == 0)
        });
        std::thread::sleep(wait);
        daemon.kill_by_pid();
        worker.join().unwrap()
    });
    d.kill();
    finished
}

/// Checks that what the daemon knows is what the kernel has, and takes the round's remains away.
fn check(d: &Daemon, moment: &str) {
    let ids = d.ok(
        Client::Wharf,
        "network ls --no-trunc --filter driver=bridge --format '{{.ID}} {{.Name}}'",
    );
    let mut known = BTreeSet::new();
    let mut names = Vec::new();
    for line in ids.lines() {
        let (id, name) = line.split_once(' ').unwrap();
        if name == "bridge" {
            known.insert(default_bridge(d));
        } else {
            known.insert(format!("br-{}", &id[..12]));
            names.push(name);
        }
    }
    assert_eq!(devices(d), known, "{moment}");
    let joined = d.ok(
        Client::Wharf,
        "inspect -f '{{len .NetworkSettings.Networks}}' keeper",
    );
    // A removed host end takes its other end with it a moment later.
    eventually(
        &format!("the interfaces are those of the networks; {moment}"),
        || {
            let links = exec(d, "keeper", "ls /sys/class/net");
            let count = links.lines().filter(|name| name.starts_with("eth")).count();
            count.to_string() == joined
        },
    );
    let containers = d.ok(Client::Wharf, "ps -aq --filter name=^c");
    if !containers.is_empty() {
        let mut remove = vec!["rm", "-f"];
        remove.extend(containers.lines());
        d.ok(Client::Wharf, &remove);
    }
    for name in names {
        d.call(Client::Wharf, &["network", "disconnect", name, "keeper"]);
        d.ok(Client::Wharf, &["network", "rm", name]);
    }
    assert_eq!(devices(d), BTreeSet::from([default_bridge(d)]), "{moment}");
}

fn default_bridge(d: &Daemon) -> String {
    d.ok(
        Client::Wharf,
        "network inspect -f '{{index .Options \"com.docker.network.bridge.name\"}}' bridge",
    )
}

/// Lists the devices that this daemon has marked as its own.
fn devices(d: &Daemon) -> BTreeSet<String> {
    let suffix = default_bridge(d).replacen("wh", "", 1);
    let links = Command::new("ip").args(["-o", "link"]).output().unwrap();
    String::from_utf8_lossy(&links.stdout)
        .lines()
        .filter(|line| line.contains(&format!("alias wharf:wharf-{suffix}")))
        .filter_map(|line| line.split(": ").nth(1))
        .map(str::to_owned)
        .collect()
}
