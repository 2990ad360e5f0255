//! `kill -9` of the daemon at random moments: afterwards it starts, what was reported as done is whole,
//! and nothing is left over, on disk or in the kernel.

use crate::archives::{Entry, SavedImages, image_archive, tar_of};
use crate::harness::{Client, Daemon, eventually};
use crate::random::Random;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often the daemon is killed (another number: `WHARF_TEST_KILL_ROUNDS`).
const ROUNDS: u64 = 50;
/// The latest moment of a kill; what is killed takes about as long.
const LATEST_KILL: Duration = Duration::from_millis(500);

/// What is known of the images: reported as made, and reported as removed.
#[derive(Default)]
struct Known {
    made: Vec<String>,
    removed: BTreeSet<String>,
}

#[test]
fn killed_at_random_moments() {
    let asked = std::env::var("WHARF_TEST_KILL_ROUNDS").ok();
    let rounds = asked.map_or(ROUNDS, |text| text.parse().unwrap());
    let mut random = Random::from_environment("killed at random moments");
    let seed = random.seed();
    let mut d = Daemon::with_busybox();
    d.write("context/Dockerfile", "FROM busybox\nARG N\nRUN echo $N > /n && dd if=/dev/zero of=/z bs=64k count=8 2>/dev/null\nCOPY Dockerfile /\nRUN rm /z\n");
    let mut known = Known::default();
    let mut cut_short = 0;
    for round in 0..rounds {
        let tag = format!("made:{round}");
        let removed = (round % 5 == 4 && !known.made.is_empty()).then(|| {
            let index = random.below(known.made.len() as u64);
            known.made.swap_remove(usize::try_from(index).unwrap())
        });
        let script = script_of(&d, round, &tag, removed.as_deref());
        let wait = Duration::from_micros(random.below(LATEST_KILL.as_micros() as u64));
        let finished = run_and_kill(&mut d, &script, wait);
        cut_short += u64::from(!finished);
        match (finished, removed) {
            (true, Some(name)) => drop(known.removed.insert(name)),
            (true, None) => known.made.push(tag),
            // Removed or not, made or not: both are right when the kill came first; never half.
            (false, _) => {}
        }
        let moment =
            format!("WHARF_TEST_SEED={seed}, round {round}, killed after {wait:?}: {script:?}");
        check(&mut d, &mut known, &moment);
    }
    // A kill that always comes too late, or before anything was begun, would show nothing.
    assert!(
        (rounds / 10..=rounds - rounds / 10).contains(&cut_short),
        "{cut_short} of {rounds} rounds were cut short"
    );
    remove_everything(&d, &format!("WHARF_TEST_SEED={seed}"));
}

/// Returns the commands of a round; all must succeed for it to count as done.
fn script_of(d: &Daemon, round: u64, tag: &str, removed: Option<&str>) -> Vec<Vec<String>> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    match (round % 5, removed) {
        (_, Some(name)) => vec![words(&format!("rmi {name}"))],
        (0, _) => vec![words(&format!(
            "build -q --build-arg N={round} -t {tag} context"
        ))],
        (1, _) => vec![
            words(&format!("run --name c{round} busybox touch /x{round}")),
            words(&format!("commit c{round} {tag}")),
        ],
        (2, _) => {
            // Enough bytes that a kill can come in their midst.
            let content = format!("{round}").repeat(2_000_000);
            let layers = [
                tar_of(&[Entry::File("a", &content)]),
                tar_of(&[Entry::File("b", &content), Entry::Directory("c")]),
            ];
            let name = format!("archive-{round}.tar");
            d.write(&name, image_archive(tag, &layers));
            vec![words(&format!("load -i {name}"))]
        }
        _ => vec![
            words(&format!(
                "run -d --name c{round} -p 127.0.0.1::80 busybox sleep 1000"
            )),
            words(&format!("run --rm busybox touch /y{round}")),
            words(&format!("tag busybox {tag}")),
        ],
    }
}

/// Runs commands one after the other and kills the daemon after `wait`; tells whether all were done.
fn run_and_kill(d: &mut Daemon, script: &[Vec<String>], wait: Duration) -> bool {
    let daemon = &*d;
    let finished = std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            script
                .iter()
                .all(|command| daemon.call(Client::Wharf, command).code == 0)
        });
        std::thread::sleep(wait);
        daemon.kill_by_pid();
        worker.join().unwrap()
    });
    d.kill();
    finished
}

/// Starts the daemon and checks all that can be seen from outside.
fn check(d: &mut Daemon, known: &mut Known, moment: &str) {
    d.launch();
    let listed = d.ok(Client::Wharf, "images --format {{.Repository}}:{{.Tag}}");
    let present: BTreeSet<&str> = listed
        .lines()
        .filter(|name| !name.contains("<none>"))
        .collect();
    for name in &known.made {
        assert!(present.contains(name.as_str()), "{name} is lost; {moment}");
    }
    for name in &known.removed {
        assert!(!present.contains(name.as_str()), "{name} is back; {moment}");
    }
    // Every image that is there is whole, also one whose making was not reported any more.
    let mut save = vec!["save", "-o", "all.tar"];
    save.extend(&present);
    d.ok(Client::Wharf, &save);
    let whole = SavedImages::read(&d.path("all.tar")).verify();
    assert_eq!(whole.len(), present.len(), "{moment}");
    if let Some(name) = present.iter().find(|name| name.starts_with("made:")) {
        d.ok(Client::Wharf, &["image", "inspect", name]);
    }
    // What was made without a report counts from now on.
    known.made = present
        .iter()
        .filter(|name| name.starts_with("made:"))
        .map(|&name| name.to_owned())
        .collect();
    let run = ["run", "--rm", "busybox", "true"];
    d.ok(Client::Wharf, &run);
    remove_containers(d);
    let mut left = Vec::new();
    eventually(&format!("nothing is left; {moment}"), || {
        left = d.disowned();
        left.extend(d.left_of_containers());
        left.is_empty()
    });
}

fn remove_containers(d: &Daemon) {
    let containers = d.ok(Client::Wharf, "ps -aq");
    let mut remove = vec!["rm", "-f", "-v"];
    remove.extend(containers.split_whitespace());
    if remove.len() > 3 {
        d.ok(Client::Wharf, &remove);
    }
}

/// Removes all images and the build cache; then the disk holds nothing.
fn remove_everything(d: &Daemon, moment: &str) {
    d.ok(Client::Wharf, "image prune -af");
    d.ok(Client::Wharf, "builder prune -af");
    assert_eq!(d.ok(Client::Wharf, "images -aq"), "", "{moment}");
    eventually("all layers and blobs are gone", || {
        let count = |name| std::fs::read_dir(d.path(name)).unwrap().count();
        count("root/layers") == 0 && count("root/blobs/sha256") == 0 && count("root/tmp") == 0
    });
}
