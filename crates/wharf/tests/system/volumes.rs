//! Volumes and mounts of every form, with both clients.

use crate::harness::{Client, Daemon, clients, eventually};

/// An image with a directory that has an owner, a mode and content of its own.
const FILLED: &str = "FROM busybox:latest
RUN mkdir -p /data/sub && echo hello > /data/file && echo inner > /data/sub/file && chown -R 1000:1001 /data && chmod 750 /data
VOLUME /declared
";

fn filled() -> Daemon {
    let d = Daemon::with_busybox();
    d.write("context/Dockerfile", FILLED);
    d.ok(Client::Wharf, "build -q -t filled context");
    d
}

/// Runs a shell command in a container that is removed at its end.
fn run(d: &Daemon, client: Client, options: &[&str], image: &str, script: &str) -> String {
    let arguments = [&["run", "--rm"], options, &[image, "sh", "-c", script]].concat();
    d.ok(client, &arguments)
}

fn run_fails(d: &Daemon, client: Client, options: &[&str], script: &str, text: &str) {
    let arguments = [&["run", "--rm"], options, &["filled", "sh", "-c", script]].concat();
    let called = d.call(client, &arguments);
    let said = format!("{}{}", called.stdout, called.stderr);
    assert!(
        called.code != 0 && said.contains(text),
        "{client:?} {options:?}: {text:?} is missing in {said}"
    );
}

#[test]
fn empty_volumes_take_over_what_the_image_has() {
    for client in clients() {
        let d = filled();
        let look = "cat /data/file /data/sub/file; stat -c '%u:%g %a' /data; stat -c %u /data/file";
        let expected = "hello\ninner\n1000:1001 750\n1000";
        assert_eq!(
            run(&d, client, &["-v", "named:/data"], "filled", look),
            expected
        );
        // It is the container's create that copies, and only once.
        run(
            &d,
            client,
            &["-v", "named:/data"],
            "filled",
            "rm /data/file",
        );
        run_fails(
            &d,
            client,
            &["-v", "named:/data"],
            "cat /data/file",
            "No such file",
        );
        let other = run(
            &d,
            client,
            &["-v", "other:/data:nocopy"],
            "filled",
            "ls /data",
        );
        assert_eq!(other, "");
        let mount = "type=volume,source=third,target=/data,volume-nocopy";
        assert_eq!(
            run(&d, client, &["--mount", mount], "filled", "ls /data"),
            ""
        );
        d.ok(client, "create --name made -v fourth:/data filled");
        d.ok(client, "cp made:/data/file copied");
        assert_eq!(
            std::fs::read_to_string(d.path("copied")).unwrap(),
            "hello\n"
        );
    }
}

#[test]
fn parts_of_volumes_never_lead_out_of_them() {
    for client in clients() {
        let d = filled();
        run(
            &d,
            client,
            &["-v", "vol:/data"],
            "filled",
            "ln -s / /data/away; ln -s sub /data/near",
        );
        let part =
            |path: &str| format!("type=volume,source=vol,target=/part,volume-subpath={path}");
        for path in ["sub", "near"] {
            let options = ["--mount", &part(path)];
            assert_eq!(
                run(&d, client, &options, "filled", "cat /part/file"),
                "inner"
            );
        }
        // The link is resolved inside the volume, which has no such directory.
        run_fails(
            &d,
            client,
            &["--mount", &part("away/etc")],
            "true",
            "no such file",
        );
        run_fails(
            &d,
            client,
            &["--mount", &part("missing")],
            "true",
            "no such file",
        );
        run_fails(&d, client, &["--mount", &part("../x")], "true", "subpath");
    }
}

#[test]
fn mounts_of_images_are_read_only() {
    for client in clients() {
        let d = filled();
        let whole = ["--mount", "type=image,source=filled,target=/image"];
        let script = "cat /image/data/file; touch /image/x 2>&1";
        let called = d.call(
            client,
            &[
                &["run", "--rm"],
                &whole[..],
                &["busybox", "sh", "-c", script],
            ]
            .concat(),
        );
        assert!(called.stdout.starts_with("hello\n"), "{called:?}");
        assert!(
            called.stdout.contains("Read-only file system"),
            "{called:?}"
        );
        let part = [
            "--mount",
            "type=image,source=filled,target=/part,image-subpath=data/sub",
        ];
        assert_eq!(run(&d, client, &part, "busybox", "cat /part/file"), "inner");
        // What is mounted stays, whatever becomes of the image's name.
        let create = [
            &["create", "--name", "keeper"],
            &part[..],
            &["busybox", "cat", "/part/file"],
        ];
        d.ok(client, &create.concat());
        d.ok(client, "rmi -f filled");
        assert_eq!(d.ok(client, "start -a keeper"), "inner");
    }
}

#[test]
fn binds_and_tmpfs() {
    for client in clients() {
        let d = filled();
        d.write("host/file", "from the host\n");
        let host = d.path("host").display().to_string();
        let bind = format!("{host}:/h");
        assert_eq!(
            run(&d, client, &["-v", &bind], "busybox", "cat /h/file"),
            "from the host"
        );
        let read_only = format!("{host}:/h:ro");
        run_fails(
            &d,
            client,
            &["-v", &read_only],
            "touch /h/x",
            "Read-only file system",
        );
        let mount = format!("type=bind,source={host},target=/h,readonly");
        run_fails(
            &d,
            client,
            &["--mount", &mount],
            "touch /h/x",
            "Read-only file system",
        );
        // The short form makes a missing directory, the long form refuses it.
        let missing = d.path("missing").display().to_string();
        let mount = format!("type=bind,source={missing},target=/h");
        run_fails(
            &d,
            client,
            &["--mount", &mount],
            "true",
            "bind source path does not exist",
        );
        run(
            &d,
            client,
            &["-v", &format!("{missing}:/h")],
            "busybox",
            "touch /h/made",
        );
        assert!(d.path("missing/made").exists());
        let tmpfs = [
            "--mount",
            "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700",
        ];
        let look = "stat -c %a /t; grep ' /t ' /proc/mounts";
        let found = run(&d, client, &tmpfs, "busybox", look);
        assert!(
            found.starts_with("700\n") && found.contains("size=1024k"),
            "{found}"
        );
        let short = run(
            &d,
            client,
            &["--tmpfs", "/t:exec,size=2m"],
            "busybox",
            "grep ' /t ' /proc/mounts",
        );
        assert!(
            short.contains("size=2048k") && !short.contains("noexec"),
            "{short}"
        );
        run_fails(
            &d,
            client,
            &["--tmpfs", "/t:bogus"],
            "true",
            "invalid tmpfs option",
        );
        run_fails(
            &d,
            client,
            &["-v", &bind, "-v", "/tmp:/h"],
            "true",
            "Duplicate mount point",
        );
        let shared = format!("{host}:/h:rshared");
        let called = d.call(client, &["run", "--rm", "-v", &shared, "busybox", "true"]);
        let is_shared = called.code == 0;
        assert!(
            is_shared || called.stderr.contains("but it is not a shared mount"),
            "{called:?}"
        );
    }
}

#[test]
fn volumes_of_other_containers() {
    for client in clients() {
        let d = filled();
        d.ok(
            client,
            "create --name source -v vol:/data -v /anonymous filled",
        );
        let from = ["--volumes-from", "source"];
        run(
            &d,
            client,
            &from,
            "busybox",
            "echo x > /data/new; echo y > /anonymous/new",
        );
        let read_only = ["--volumes-from", "source:ro"];
        assert_eq!(
            run(
                &d,
                client,
                &read_only,
                "busybox",
                "cat /data/new /anonymous/new"
            ),
            "x\ny"
        );
        run_fails(
            &d,
            client,
            &read_only,
            "touch /data/z",
            "Read-only file system",
        );
        run_fails(
            &d,
            client,
            &["--volumes-from", "nosuch"],
            "true",
            "No such container",
        );
        // The container that took the volume over does not take it away.
        let count = || d.ok(client, "volume ls -q").lines().count();
        assert_eq!(count(), 3, "named, anonymous, declared");
        d.ok(client, "rm -v source");
        assert_eq!(d.ok(client, "volume ls -q"), "vol");
    }
}

#[test]
fn prune_takes_anonymous_volumes_unless_all() {
    for client in clients() {
        let d = filled();
        for volume in ["plain", "kept"] {
            d.ok(
                client,
                &[
                    "volume",
                    "create",
                    "--label",
                    &format!("is={volume}"),
                    volume,
                ],
            );
        }
        d.ok(
            client,
            "create --name user -v kept:/k -v /anonymous busybox",
        );
        d.ok(client, "volume create");
        let list = |filter: &str| d.ok(client, &["volume", "ls", "-q", "-f", filter]);
        assert_eq!(list("dangling=true").lines().count(), 2);
        assert_eq!(list("label=is=plain"), "plain");
        assert_eq!(list("name=lai"), "plain");
        let pruned = d.ok(client, "volume prune -f");
        assert!(pruned.contains("Total reclaimed space"), "{pruned}");
        assert_eq!(list("dangling=true"), "plain");
        let inspected = d.ok(
            client,
            "volume inspect -f '{{.Labels.is}} {{.Driver}}' plain",
        );
        assert_eq!(inspected, "plain local");
        d.fails(client, "volume rm kept", 1, "volume is in use");
        d.fails(client, "volume rm nosuch", 1, "no such volume");
        d.ok(client, "volume rm -f nosuch");
        d.fails(
            client,
            "volume update plain --availability drain",
            1,
            "can only update cluster volumes",
        );
        d.ok(client, "volume prune -f -a --filter label!=is=plain");
        assert_eq!(list("dangling=true"), "plain");
        d.ok(client, "volume prune -f -a");
        d.ok(client, "rm -v user");
        assert_eq!(d.ok(client, "volume ls -q"), "kept");
    }
}

fn create_tmpfs(d: &Daemon, client: Client) {
    let options = ["type=tmpfs", "device=tmpfs", "o=size=1m,mode=1777"];
    let mut create = vec!["volume", "create"];
    create.extend(options.iter().flat_map(|option| ["-o", option]));
    create.push("memory");
    d.ok(client, &create);
}

#[test]
fn driver_options_are_mounted_while_they_are_used() {
    for client in clients() {
        let mut d = filled();
        create_tmpfs(&d, client);
        d.write("elsewhere/file", "bound\n");
        let device = format!("device={}", d.path("elsewhere").display());
        let bind = [
            "volume",
            "create",
            "-o",
            "type=none",
            "-o",
            "o=bind,ro",
            "-o",
            &device,
            "bound",
        ];
        d.ok(client, &bind);
        assert_eq!(
            run(&d, client, &["-v", "bound:/b"], "busybox", "cat /b/file"),
            "bound"
        );
        run_fails(
            &d,
            client,
            &["-v", "bound:/b"],
            "touch /b/x",
            "Read-only file system",
        );
        assert_eq!(d.mounts().len(), 0, "{:?}", d.mounts());
        // Two containers see one mount, and the second still does when the daemon was away.
        d.ok(client, "run -d --name first -v memory:/m busybox sleep 600");
        d.ok(client, "exec first sh -c 'echo shared > /m/file'");
        let read = || run(&d, client, &["-v", "memory:/m"], "busybox", "cat /m/file");
        assert_eq!(read(), "shared");
        assert_eq!(d.mounts().len(), 1, "{:?}", d.mounts());
        d.kill();
        d.launch();
        assert_eq!(
            run(&d, client, &["-v", "memory:/m"], "busybox", "cat /m/file"),
            "shared"
        );
        d.ok(client, "rm -f first");
        eventually("the volume's unmount", || d.mounts().is_empty());
        d.ok(client, "volume rm memory bound");
        assert!(
            d.path("elsewhere/file").exists(),
            "what was bound is not the volume's"
        );
        let bad = ["volume", "create", "-o", "foo=bar", "bad"];
        d.fails(client, &bad, 1, "invalid option");
        d.fails(
            client,
            "volume create -o type=tmpfs bad",
            1,
            "missing required option",
        );
        d.fails(client, "volume create -d nosuch bad", 1, "plugin");
        d.ok(client, "volume create -o type=nosuchfs -o device=x broken");
        run_fails(
            &d,
            client,
            &["-v", "broken:/b"],
            "true",
            "failed to mount local volume",
        );
    }
}

#[test]
fn events_tell_of_mounts() {
    let d = filled();
    run(
        &d,
        Client::Wharf,
        &["--name", "eventful", "-v", "vol:/data:ro"],
        "filled",
        "true",
    );
    let actions = || {
        let events = d.ok(
            Client::Wharf,
            "events --since 0 --until 0s --filter type=volume --filter volume=vol --format '{{.Action}} {{index .Actor.Attributes \"read/write\"}}'",
        );
        events
            .lines()
            .map(|line| line.trim().to_owned())
            .collect::<Vec<_>>()
    };
    eventually("all events", || actions().len() >= 3);
    assert_eq!(actions(), ["create", "mount false", "unmount"]);
}

/// Sizes are right within a hundredth however often they are asked for, and asking again walks nothing.
#[test]
fn disk_usage_is_right_and_quick() {
    let d = Daemon::with_busybox();
    let usage = || {
        let began = std::time::Instant::now();
        let answer = crate::raw::call(&d, "GET", "/v1.51/system/df", "").unwrap();
        (answer.json(), began.elapsed())
    };
    let size_of = |usage: &serde_json::Value, what: &str| {
        usage["Volumes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|volume| volume["Name"] == what)
            .map(|volume| volume["UsageData"]["Size"].as_u64().unwrap())
            .unwrap()
    };
    let within = |found: u64, expected: u64| {
        assert!(
            found.abs_diff(expected) * 100 <= expected,
            "{found} is not {expected}"
        );
    };
    let run = |script: &str| {
        d.ok(
            Client::Wharf,
            &[
                "run", "--rm", "-v", "many:/v", "busybox", "sh", "-c", script,
            ],
        );
    };
    run("mkdir /v/d; i=0; while [ $i -lt 20000 ]; do echo $i > /v/d/$i; i=$((i+1)); done");
    let on_disk = |name: &str| {
        let source = d.ok(
            Client::Wharf,
            &["volume", "inspect", "-f", "{{.Mountpoint}}", name],
        );
        let du = std::process::Command::new("du")
            .args(["-s", "--block-size=1", &source])
            .output()
            .unwrap();
        let text = String::from_utf8(du.stdout).unwrap();
        text.split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let (first, walked) = usage();
    within(size_of(&first, "many"), on_disk("many"));
    let (second, known) = usage();
    assert_eq!(size_of(&second, "many"), size_of(&first, "many"));
    println!("20,000 files: {walked:?} at first, {known:?} again");
    assert!(known < walked, "{known:?} is not less than {walked:?}");
    // A container that wrote there is seen at once.
    run("dd if=/dev/zero of=/v/big bs=1M count=50 2>/dev/null; rm -r /v/d/1*");
    let (third, _) = usage();
    within(size_of(&third, "many"), on_disk("many"));
    d.ok(Client::Wharf, "create --name many-files -v many:/v busybox");
    let file = d.write("five", vec![1; 5 << 20]);
    d.ok(
        Client::Wharf,
        &["cp", file.to_str().unwrap(), "many-files:/v/five"],
    );
    let (fourth, _) = usage();
    within(size_of(&fourth, "many"), on_disk("many"));
}
