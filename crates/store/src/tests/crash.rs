//! Killed at any moment, the store is whole when it is opened again.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use wharf_image::DiffId;
use wharf_safefs::trusted;

use super::{config_of, container, list, name, publish};
use crate::{CacheRecord, NewImage, NewVolume, Store};

const ROOT_VARIABLE: &str = "WHARF_STORE_TEST_CRASH_ROOT";
const SEED_VARIABLE: &str = "WHARF_STORE_TEST_CRASH_SEED";
const ROUNDS: u64 = 60;

/// A small generator (Marsaglia, "Xorshift RNGs", 2003): the same seed, the same operations.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn killed_at_any_moment_the_store_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut survived_images = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "tests::crash::work_until_killed"])
            .env(ROOT_VARIABLE, &root)
            .env(SEED_VARIABLE, (round + 1).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let moment = Duration::from_micros(5_000 + random.below(90_000));
        while started.elapsed() < moment && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            status.code(),
            None,
            "round {round}: the worker failed by itself"
        );
        survived_images += check(&root, round);
    }
    assert!(survived_images > 0, "no round got as far as an image");
}

/// Opens the store and says that all of it is whole; returns the number of images.
fn check(root: &Path, round: u64) -> usize {
    let store = Store::open(root).unwrap_or_else(|error| panic!("round {round}: {error}"));
    let report = store.open_report();
    // Within one boot nothing that was published is ever lost.
    assert!(
        report.lost_layers.is_empty() && report.lost_images.is_empty(),
        "round {round}: {report:?}"
    );
    let images = store.images().unwrap();
    for image in &images {
        assert_eq!(
            store
                .read_blob(&image.id, 1 << 20)
                .unwrap()
                .map(wharf_image::Digest::of),
            Some(image.id)
        );
        for diff_id in &image.config.rootfs.diff_ids {
            store
                .write_layer_tar(diff_id, &mut std::io::sink())
                .unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
        store.layer_dirs(&image.config.rootfs.diff_ids).unwrap();
    }
    for (_, id) in store.names().unwrap() {
        assert!(
            store.image(&id).unwrap().is_some(),
            "round {round}: a name points at nothing"
        );
    }
    store.wait_for_removals();
    let rows: BTreeSet<String> = store
        .layers()
        .unwrap()
        .iter()
        .map(|layer| layer.number.to_string())
        .collect();
    let found: BTreeSet<String> = list(&root.join("layers")).into_iter().collect();
    assert_eq!(rows, found, "round {round}");
    assert!(
        list(&root.join("tmp")).is_empty(),
        "round {round}: {:?}",
        list(&root.join("tmp"))
    );
    let containers: BTreeSet<String> = store
        .containers()
        .unwrap()
        .into_iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(
        containers,
        list(&root.join("containers")).into_iter().collect(),
        "round {round}"
    );
    let volumes: BTreeSet<String> = store
        .volumes()
        .unwrap()
        .into_iter()
        .map(|volume| volume.name)
        .collect();
    assert_eq!(
        volumes,
        list(&root.join("volumes")).into_iter().collect(),
        "round {round}"
    );
    assert_eq!(
        store.sweep().unwrap(),
        crate::SweepReport::default(),
        "round {round}"
    );
    super::usage::assert_adds_up(&store);
    assert!(trusted::exists(root.join("wharf.db")).unwrap());
    images.len()
}

#[test]
#[ignore = "run and killed by killed_at_any_moment_the_store_is_whole"]
fn work_until_killed() {
    let (Some(root), Ok(seed)) = (
        std::env::var_os(ROOT_VARIABLE),
        std::env::var(SEED_VARIABLE),
    ) else {
        return;
    };
    let store = Store::open(Path::new(&root)).unwrap();
    let seed: u64 = seed.parse().unwrap();
    std::thread::scope(|scope| {
        for thread in 1..=2 {
            let store = &store;
            scope.spawn(move || {
                let mut random = Random(
                    seed.wrapping_mul(0x2545_f491_4f6c_dd1d)
                        .wrapping_add(thread),
                );
                loop {
                    one_operation(store, &mut random);
                }
            });
        }
    });
}

fn one_operation(store: &Store, random: &mut Random) {
    match random.below(12) {
        0..=4 => put_random_image(store, random),
        5 | 6 => delete_random_image(store, random),
        7 => create_random_container(store, random),
        8 => drop(store.delete_container(&format!("c{}", random.below(5)))),
        9 => put_random_record(store, random),
        10 => {
            let volume = NewVolume {
                name: format!("v{}", random.below(4)),
                ..NewVolume::default()
            };
            if store.create_volume(&volume).is_err() {
                drop(store.delete_volume(&volume.name));
            }
        }
        _ => drop(store.sweep().unwrap()),
    }
}

/// Publishes one to three layers; some are shared by many images.
fn random_chain(store: &Store, random: &mut Random) -> Vec<DiffId> {
    (0..=random.below(3))
        .map(|_| {
            let content = vec![random.below(7) as u8; 20_000];
            publish(
                store,
                &[
                    ("etc/a", &content),
                    ("usr/share/b", b"b"),
                    ("c", &content[..100]),
                ],
            )
            .diff_id
        })
        .collect()
}

fn put_random_image(store: &Store, random: &mut Random) {
    let _lease = store.lease("build").unwrap();
    let chain = random_chain(store, random);
    let config = config_of(&chain, &random.below(10).to_string());
    // The other thread may delete it at any moment.
    let Ok(image) = store.put_image(&NewImage::of(&config)) else {
        return;
    };
    drop(store.tag(&name(&format!("image:{}", random.below(6))), &image.id));
}

fn delete_random_image(store: &Store, random: &mut Random) {
    let images = store.images().unwrap();
    if images.is_empty() {
        return;
    }
    let image = &images[random.below(images.len() as u64) as usize];
    for reference in store.names_of(&image.id).unwrap() {
        store.untag(&reference).unwrap();
    }
    drop(store.delete_image(&image.id));
}

fn create_random_container(store: &Store, random: &mut Random) {
    let _lease = store.lease("create").unwrap();
    let (id, name) = (
        format!("c{}", random.below(5)),
        format!("n{}", random.below(5)),
    );
    drop(store.create_container(container(&id, &name, &random_chain(store, random))));
}

fn put_random_record(store: &Store, random: &mut Random) {
    let _lease = store.lease("build").unwrap();
    let key = wharf_image::Digest::of(random.below(5).to_string());
    if random.below(3) == 0 {
        store.delete_cache(&[key]).unwrap();
        return;
    }
    let record = CacheRecord {
        key,
        diff_ids: random_chain(store, random),
        config: Some(random.below(5).to_string().into_bytes()),
        description: "RUN true".to_owned(),
        explain: json!({}),
        size_bytes: 1,
        created_unix_ns: 0,
        last_used_unix_ns: 0,
        use_count: 0,
    };
    store.put_cache(&record).unwrap();
}
