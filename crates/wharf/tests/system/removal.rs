//! Docker's rules for removing images (spec image-store §15), with both clients.

use crate::harness::{Client, Daemon, clients};
use crate::helpers::id_of;

/// Makes an image on top of another by a commit, and removes the container it was made from.
fn child(d: &Daemon, client: Client, of: &str, name: &str) -> String {
    d.ok(
        client,
        &["run", "--name", "maker", of, "touch", &format!("/{name}")],
    );
    let id = d.ok(client, &["commit", "maker", name]);
    d.ok(client, "rm maker");
    id
}

fn short(id: &str) -> &str {
    &id["sha256:".len()..][..12]
}

/// Counts `Deleted:` lines of images and of layers.
fn deleted(said: &str) -> usize {
    said.lines()
        .filter(|line| line.starts_with("Deleted: sha256:"))
        .count()
}

#[test]
fn a_name_whose_image_has_more_names_is_only_untagged() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(client, "tag busybox busybox:v1");
        d.ok(client, "tag busybox other");
        d.ok(client, "run --name stopped busybox true");
        // Several repositories: no container stands in the way of a name.
        assert_eq!(
            d.ok(client, "rmi other busybox:v1"),
            "Untagged: other:latest\nUntagged: busybox:v1"
        );
        assert_eq!(d.ok(client, "images -q").lines().count(), 1);
    }
}

#[test]
fn the_only_name_of_an_image_in_use_needs_force() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let id = id_of(&d, client, "busybox");
        let container = d.ok(client, "create --name stopped busybox true");
        let refused = format!(
            "conflict: unable to remove repository reference \"busybox\" (must force) - container {} is using its referenced image {}",
            &container[..12],
            short(&id)
        );
        d.fails(client, "rmi busybox", 1, &refused);
        let by_id = format!(
            "conflict: unable to delete {} (must be forced) - image is being used by stopped container {}",
            short(&id),
            &container[..12]
        );
        d.fails(client, &["rmi", &id], 1, &by_id);
        // Force ignores a stopped container; the container stays and names its image by ID.
        let said = d.ok(client, "rmi -f busybox");
        assert!(
            said.starts_with("Untagged: busybox:latest\n")
                && said.contains(&format!("Deleted: {id}")),
            "{said}"
        );
        assert_eq!(d.ok(client, "images -aq"), "");
        assert_eq!(
            d.ok(client, "ps -a --format '{{.Names}} {{.Image}}'"),
            format!("stopped {}", short(&id))
        );
    }
}

#[test]
fn force_leaves_the_image_of_a_running_container_dangling() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let id = id_of(&d, client, "busybox");
        d.ok(client, "run -d --name runs busybox top");
        let container = d.ok(client, "ps -q");
        let refused = format!(
            "conflict: unable to delete {} (cannot be forced) - image is being used by running container {container}",
            short(&id)
        );
        d.fails(client, &["rmi", "-f", &id], 1, &refused);
        d.fails(client, &["rmi", &id], 1, &refused);
        assert_eq!(d.ok(client, "rmi -f busybox"), "Untagged: busybox:latest");
        let dangling = d.ok(client, "images -f dangling=true");
        let words: Vec<&str> = dangling
            .lines()
            .last()
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(&words[..3], &["<none>", "<none>", short(&id)]);
        // What a container uses is not pruned.
        let pruned = d.ok(client, "image prune -f");
        assert!(!pruned.contains("deleted:"), "{pruned}");
        d.ok(client, "rm -f runs");
        let pruned = d.ok(client, "image prune -f");
        assert!(pruned.contains(&format!("deleted: {id}")), "{pruned}");
        assert!(!pruned.contains("reclaimed space: 0B"), "{pruned}");
        assert_eq!(d.ok(client, "images -aq"), "");
    }
}

#[test]
fn an_id_with_names_in_several_repositories_needs_force() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let id = id_of(&d, client, "busybox");
        d.ok(client, "tag busybox busybox:v1");
        d.ok(client, "tag busybox other");
        let refused = format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            short(&id)
        );
        d.fails(client, &["rmi", short(&id)], 1, &refused);
        let said = d.ok(client, &["rmi", "-f", short(&id)]);
        let mut untagged: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("Untagged: "))
            .collect();
        untagged.sort_unstable();
        assert_eq!(
            untagged,
            [
                "Untagged: busybox:latest",
                "Untagged: busybox:v1",
                "Untagged: other:latest"
            ]
        );
        assert!(said.contains(&format!("Deleted: {id}")), "{said}");
    }
}

#[test]
fn a_parent_goes_with_its_last_child_unless_told_otherwise() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let one = child(&d, client, "busybox", "one");
        let two = child(&d, client, "one", "two");
        let hard = format!(
            "conflict: unable to delete {} (cannot be forced) - image has dependent child images",
            short(&one)
        );
        d.fails(client, &["rmi", &one], 1, &hard);
        d.fails(client, &["rmi", "-f", &one], 1, &hard);
        assert_eq!(d.ok(client, "rmi one"), "Untagged: one:latest");
        // An image with children is no dangling image.
        assert_eq!(d.ok(client, "images -qf dangling=true"), "");
        let said = d.ok(client, "rmi two");
        assert!(said.starts_with("Untagged: two:latest\n"), "{said}");
        for id in [&one, &two] {
            assert!(said.contains(&format!("Deleted: {id}")), "{said}");
        }
        assert_eq!(deleted(&said), 4, "two images, two layers: {said}");
        assert_eq!(d.ok(client, "images -aq").lines().count(), 1);

        let one = child(&d, client, "busybox", "one");
        child(&d, client, "one", "two");
        d.ok(client, "rmi one");
        let said = d.ok(client, "rmi --no-prune two");
        assert_eq!(deleted(&said), 2, "{said}");
        assert_eq!(d.ok(client, "images -q --no-trunc -f dangling=true"), one);
    }
}

#[test]
fn shared_layers_stay_and_missing_images_are_told() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(client, "tag busybox kept");
        let made = child(&d, client, "busybox", "made");
        let said = d.ok(client, "rmi made");
        assert!(said.contains(&format!("Deleted: {made}")), "{said}");
        assert_eq!(deleted(&said), 2, "the base's layer is shared: {said}");
        d.fails(client, "rmi made", 1, "No such image: made:latest");
        let forced = d.call(client, "rmi -f made");
        assert_eq!(forced.code, 0, "{forced:?}");
        assert!(forced.stderr.contains("No such image"), "{forced:?}");
        // One of two fails: the other is removed, and the failure is in the exit code.
        let both = d.call(client, "rmi made kept");
        assert_eq!(both.code, 1, "{both:?}");
        assert_eq!(both.stdout, "Untagged: kept:latest\n");
    }
}

#[test]
fn prune_all_keeps_what_containers_use() {
    for client in clients() {
        let d = Daemon::with_busybox();
        child(&d, client, "busybox", "unused");
        let used = child(&d, client, "busybox", "used");
        d.ok(client, "create used true");
        let pruned = d.ok(client, "image prune -af");
        assert!(
            pruned.contains("untagged: unused:latest") && !pruned.contains(&used),
            "{pruned}"
        );
        let left = d.ok(client, "images --format {{.Repository}}");
        assert!(left.contains("used") && !left.contains("unused"), "{left}");
    }
}

#[test]
fn prune_all_takes_what_images_were_made_on() {
    for client in clients() {
        let d = Daemon::with_busybox();
        child(&d, client, "busybox", "one");
        let two = child(&d, client, "one", "two");
        d.ok(client, "tag two again");
        d.ok(client, "rmi one");
        // The one without a name has an image on it that has one.
        let pruned = d.ok(client, "image prune -f");
        assert!(!pruned.contains("deleted:"), "{pruned}");
        let pruned = d.ok(client, "image prune -af");
        for line in [
            "untagged: two:latest",
            "untagged: again:latest",
            "untagged: busybox:latest",
            &format!("deleted: {two}"),
        ] {
            assert!(pruned.lines().any(|told| told == line), "{line}: {pruned}");
        }
        let deleted = pruned.lines().filter(|line| line.starts_with("deleted: "));
        assert_eq!(deleted.count(), 6, "three images, three layers: {pruned}");
        assert!(!pruned.contains("reclaimed space: 0B"), "{pruned}");
        assert_eq!(d.ok(client, "images -aq"), "");
    }
}
