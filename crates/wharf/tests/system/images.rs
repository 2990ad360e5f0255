//! Names, removal, archives and disk use, with both clients.

use crate::harness::{Client, Daemon, clients};

#[test]
fn tag_history_and_rmi() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(client, "tag busybox other/name:v1");
        assert!(
            d.ok(client, "history busybox").contains("Imported from -")
                || d.ok(client, "history busybox").contains("Imported")
        );
        let id = d.ok(client, "images -q --no-trunc busybox");
        d.fails(
            client,
            &["rmi", &id],
            1,
            "image is referenced in multiple repositories",
        );
        assert_eq!(d.ok(client, "rmi other/name:v1"), "Untagged: other/name:v1");
        d.ok(client, "run --name stopped busybox true");
        d.fails(client, "rmi busybox", 1, "must force");
        d.ok(client, "run -d --name running busybox sleep 100");
        d.fails(
            client,
            &["rmi", "-f", &id],
            1,
            "image is being used by running container",
        );
        assert_eq!(d.ok(client, "rmi -f busybox"), "Untagged: busybox:latest");
        assert_eq!(d.ok(client, "images -q --no-trunc -f dangling=true"), id);
        d.ok(client, "rm -f running stopped");
        let pruned = d.ok(client, "image prune -f");
        assert!(pruned.contains(&id), "{pruned}");
        assert_eq!(d.ok(client, "images -aq"), "");
        d.fails(client, "rmi busybox", 1, "No such image: busybox:latest");
    }
}

#[test]
fn children_keep_their_parent() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(client, "run --name cc busybox touch /x");
        d.ok(client, "commit cc child");
        d.ok(client, "rm cc");
        let id = d.ok(client, "images -q --no-trunc busybox");
        d.fails(client, &["rmi", &id], 1, "image has dependent child images");
        assert_eq!(d.ok(client, "rmi busybox"), "Untagged: busybox:latest");
        let removed = d.ok(client, "rmi child");
        assert!(
            removed.contains("Untagged: child:latest")
                && removed.contains(&format!("Deleted: {id}")),
            "{removed}"
        );
        assert_eq!(d.ok(client, "images -aq"), "");
    }
}

#[test]
fn save_and_load_give_the_same_images() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(
            client,
            "run --name cc busybox sh -c 'mkdir /d; echo x > /d/f; rm -r /home; ln -s f /d/l; ln /d/f /d/h'",
        );
        d.ok(client, "commit cc child:v1");
        d.ok(client, "save -o all.tar busybox:latest child:v1");
        let ids = |d: &Daemon| {
            d.ok(
                client,
                "images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}'",
            )
        };
        let layers = |d: &Daemon| d.ok(client, "inspect --format '{{json .RootFS}}' child:v1");
        let fresh = Daemon::start();
        let archive = d.path("all.tar");
        let loaded = fresh.ok(client, &["load", "-i", archive.to_str().unwrap()]);
        assert!(loaded.contains("Loaded image: child:v1"), "{loaded}");
        let sorted = |text: String| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(ids(&d)), sorted(ids(&fresh)));
        assert_eq!(layers(&d), layers(&fresh));
        assert_eq!(
            fresh.ok(
                client,
                "run --rm child:v1 sh -c 'cat /d/h; readlink /d/l; ls -d /home || true'"
            ),
            "x\nf"
        );
        fresh.ok(client, "save -o again.tar busybox:latest child:v1");
        let again = std::fs::read(fresh.path("again.tar")).unwrap();
        assert!(
            std::fs::read(&archive).unwrap() == again,
            "the archives differ"
        );
    }
}

#[test]
fn import_and_export() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(client, "run --name cc busybox sh -c 'echo exported > /e'");
        d.ok(client, "export -o c.tar cc");
        let id = d.ok(client, "import -m note -c 'CMD cat /e' c.tar imported:1");
        assert!(id.starts_with("sha256:"), "{id}");
        assert_eq!(d.ok(client, "run --rm imported:1"), "exported");
    }
}

#[test]
fn layers_side_by_side_and_disk_use() {
    let d = Daemon::with_busybox();
    d.ok(Client::Wharf, "run --name cc busybox touch /x");
    d.ok(Client::Wharf, "commit cc child");
    let shown = d.ok(Client::Wharf, "image layers busybox child");
    assert!(
        shown.contains("busybox") && shown.contains("child"),
        "{shown}"
    );
    for client in clients() {
        let usage = d.ok(client, "system df");
        assert!(
            usage.contains("Images")
                && usage.contains("Containers")
                && usage.contains("Local Volumes")
                && usage.contains("Build Cache"),
            "{usage}"
        );
    }
}

/// Returns what `du` says of a directory's files, in bytes on disk.
fn on_disk(path: &std::path::Path) -> u64 {
    let du = std::process::Command::new("du")
        .args(["-s", "--block-size=1"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(du.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Each row of `system df` is what `du` says of its directory, within a hundredth, and the rows together are the root.
#[test]
fn sizes_add_up_to_what_du_says() {
    let d = Daemon::with_busybox();
    let call = |arguments: &[&str]| d.ok(Client::Wharf, arguments);
    for (name, mib) in [("one", 40), ("two", 30)] {
        let dockerfile = format!(
            "FROM busybox\nRUN head -c {mib}m /dev/urandom > /{name}\n\
             RUN --mount=type=cache,target=/kept head -c 20m /dev/urandom > /kept/{name}\n"
        );
        d.write("context/Dockerfile", dockerfile);
        call(&["build", "-t", name, "context"]);
    }
    // Of this one only the cache is left.
    call(&["rmi", "two"]);
    let script = "head -c 30m /dev/urandom > /own; head -c 50m /dev/urandom > /data/file";
    call(&[
        "run",
        "--name",
        "made",
        "-v",
        "data:/data",
        "one",
        "sh",
        "-c",
        script,
    ]);
    let sums = || {
        let usage = crate::raw::call(&d, "GET", "/v1.51/system/df", "").unwrap();
        let usage = usage.json();
        let sum = |list: &str, size: &dyn Fn(&serde_json::Value) -> u64| -> u64 {
            usage[list].as_array().into_iter().flatten().map(size).sum()
        };
        [
            usage["LayersSize"].as_u64().unwrap(),
            sum("Containers", &|it| it["SizeRw"].as_u64().unwrap()),
            sum("Volumes", &|it| it["UsageData"]["Size"].as_u64().unwrap()),
            sum("BuildCache", &|it| match it["Shared"].as_bool() {
                Some(true) => 0,
                _ => it["Size"].as_u64().unwrap(),
            }),
        ]
    };
    let [layers, containers, volumes, cache] = sums();
    let close = |what: &str, reported: u64, found: u64| {
        assert!(
            reported.abs_diff(found) * 100 <= found,
            "{what}: {reported} bytes are reported, du says {found}"
        );
    };
    close(
        "containers",
        containers,
        on_disk(&d.path("root/containers")),
    );
    close("volumes", volumes, on_disk(&d.path("root/volumes")));
    let shared = on_disk(&d.path("root/layers")) + on_disk(&d.path("root/build"));
    close("layers and build cache", layers + cache, shared);
    let all = layers + containers + volumes + cache;
    let found = on_disk(&d.path("root"));
    close("everything", all, found);

    // What pruning says comes free does; cache mounts stay.
    let pruned = crate::raw::call(&d, "POST", "/v1.51/build/prune?all=true", "").unwrap();
    let said = pruned.json()["SpaceReclaimed"].as_u64().unwrap();
    crate::harness::eventually("what was pruned is gone", || {
        on_disk(&d.path("root/layers")) < 60 << 20
    });
    assert!(said > 30 << 20, "{said}");
    close("pruned", said, found - on_disk(&d.path("root")));
    call(&["builder", "cache", "rm", "/kept"]);
    call(&["rm", "made"]);
    call(&["volume", "prune", "-af"]);
    call(&["image", "prune", "-af"]);
    call(&["builder", "prune", "-af"]);
    assert_eq!(sums(), [0; 4]);
    crate::harness::eventually("the disk is empty", || on_disk(&d.path("root")) < 4 << 20);
}

/// An image is of one platform: what asks for another is told so, in the words that clients look for.
#[test]
fn a_platform_that_an_image_is_not_of_is_refused() {
    let d = Daemon::with_busybox();
    let choose = |architecture: &str| {
        format!("%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22{architecture}%22%7D")
    };
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let expected = format!(
        "image with reference busybox was found but its platform (linux/{own}) does not match the specified platform (linux/s390x)"
    );
    for (method, path, key) in [
        ("GET", "/images/busybox/json", "platform"),
        ("GET", "/images/busybox/history", "platform"),
        ("GET", "/images/busybox/get", "platform"),
        ("DELETE", "/images/busybox", "platforms"),
    ] {
        let ask = |platform: &str| {
            let path = format!("/v1.51{path}?{key}={platform}");
            crate::raw::call(&d, method, &path, "").unwrap()
        };
        let refused = ask(&choose("s390x"));
        assert_eq!(refused.status, 404, "{path}");
        assert_eq!(refused.json()["message"], expected, "{path}");
        assert_eq!(ask("linux").status, 400, "{path}");
        assert_eq!(ask("%7B%22os%22%3A%22linux%22%7D").status, 400, "{path}");
        if method == "GET" {
            assert_eq!(ask(&choose(own)).status, 200, "{path}");
        }
    }
    let platform = ["--platform", "linux/s390x"];
    let archive = d.path("busybox.tar");
    let archive = archive.to_str().unwrap();
    d.ok(Client::Wharf, &["save", "-o", archive, "busybox"]);
    d.ok(Client::Wharf, "rmi busybox");
    let load = ["load", "-i", archive];
    let said = "does not match the specified platform";
    d.fails(Client::Wharf, &[&load[..], &platform].concat(), 1, said);
    assert_eq!(d.ok(Client::Wharf, "images -q"), "");
    d.ok(Client::Wharf, &load);
    let run = ["run", "--pull", "never", "--platform", "linux/s390x"];
    let run = [&run[..], &["busybox", "true"]].concat();
    d.fails(Client::Wharf, &run, 125, said);
}
