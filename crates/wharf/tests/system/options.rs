//! What a container is given and denied, seen from inside, with both clients.

use crate::harness::{Client, Daemon, clients};
use serde_json::{Value, json};
use wharf_vectors::live::http;

/// Runs a shell command in a container that is removed at its end.
fn run(d: &Daemon, client: Client, options: &[&str], script: &str) -> String {
    let arguments = [&["run", "--rm"], options, &["busybox", "sh", "-c", script]].concat();
    d.ok(client, &arguments)
}

fn refused(d: &Daemon, client: Client, options: &[&str], text: &str) {
    let arguments = [&["run", "--rm"], options, &["busybox", "true"]].concat();
    d.fails(client, &arguments, 125, text);
}

/// Reads a field of `/proc/self/status` inside.
fn status(d: &Daemon, client: Client, options: &[&str], field: &str) -> String {
    let line = run(
        d,
        client,
        options,
        &format!("grep ^{field}: /proc/self/status"),
    );
    line.split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .to_owned()
}

fn is_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn limits_reach_the_control_group() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let read = |options: &[&str], v1: &str, v2: &str| {
            let file = if is_v2() { v2 } else { v1 };
            run(&d, client, options, &format!("cat /sys/fs/cgroup/{file}"))
        };
        assert_eq!(
            read(&["-m", "64m"], "memory/memory.limit_in_bytes", "memory.max"),
            "67108864"
        );
        assert_eq!(
            read(&["--pids-limit", "77"], "pids/pids.max", "pids.max"),
            "77"
        );
        let cpu = read(&["--cpus", "0.5"], "cpu/cpu.cfs_quota_us", "cpu.max");
        assert!(cpu.starts_with("50000"), "{cpu}");
        assert_eq!(
            read(&["--cpuset-cpus", "0"], "cpuset/cpuset.cpus", "cpuset.cpus"),
            "0"
        );
        let shares = read(&["--cpu-shares", "512"], "cpu/cpu.shares", "cpu.weight");
        assert_eq!(shares, if is_v2() { "59" } else { "512" });
        let reservation = ["--memory-reservation", "32m"];
        assert_eq!(
            read(
                &reservation,
                "memory/memory.soft_limit_in_bytes",
                "memory.low"
            ),
            "33554432"
        );
        let parent = format!("/wharf-parent-{}", std::process::id());
        let seen = run(
            &d,
            client,
            &["--cgroup-parent", &parent],
            "cat /proc/self/cgroup",
        );
        assert!(is_v2() || seen.contains(&parent), "{seen}");
        refused(
            &d,
            client,
            &["-m", "1m"],
            "Minimum memory limit allowed is 6MB",
        );
        refused(
            &d,
            client,
            &["--cpu-shares", "1"],
            "the minimum allowed cpu-shares is 2",
        );
        refused(
            &d,
            client,
            &["--cpuset-cpus", "4096"],
            "Requested CPUs are not available",
        );
        // Whose parent it is keeps it, as with docker.
        let groups = std::path::Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(groups).unwrap();
        for hierarchy in hierarchies.map(|entry| entry.unwrap().path()) {
            let _not_there = std::fs::remove_dir(hierarchy.join(&parent[1..]));
        }
        let _not_there = std::fs::remove_dir(groups.join(&parent[1..]));
    }
}

#[test]
fn namespaces_are_shared_as_asked_for() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let sleeper = |name: &str, options: &[&str]| {
            let arguments = [
                &["run", "-d", "--name", name],
                options,
                &["busybox", "sleep", "600"],
            ];
            d.ok(client, &arguments.concat())
        };
        sleeper(
            "shareable",
            &[
                "--ipc",
                "shareable",
                "--shm-size",
                "2m",
                "--hostname",
                "named",
            ],
        );
        d.ok(client, "exec shareable sh -c 'echo memory > /dev/shm/file'");
        let ipc = ["--ipc", "container:shareable"];
        assert_eq!(run(&d, client, &ipc, "cat /dev/shm/file"), "memory");
        let own = run(&d, client, &[], "readlink /proc/self/ns/ipc; ls /dev/shm");
        let theirs = d.ok(client, "exec shareable readlink /proc/self/ns/ipc");
        assert_ne!(own, theirs);
        assert_eq!(run(&d, client, &ipc, "readlink /proc/self/ns/ipc"), theirs);
        sleeper("private", &[]);
        refused(
            &d,
            client,
            &["--ipc", "container:private"],
            "non-shareable IPC",
        );
        assert_eq!(
            run(&d, client, &["--ipc", "none"], "ls /dev/shm 2>&1 | wc -l"),
            "1"
        );
        let processes = run(&d, client, &["--pid", "container:shareable"], "ps");
        assert!(processes.contains("sleep 600"), "{processes}");
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        assert_eq!(run(&d, client, &["--uts", "host"], "hostname"), host);
        assert_eq!(
            run(
                &d,
                client,
                &["--network", "container:shareable"],
                "hostname; cat /etc/hostname"
            ),
            "named\nnamed"
        );
        assert_eq!(run(&d, client, &["--network", "host"], "hostname"), host);
        let net = |mode: &str| {
            run(
                &d,
                client,
                &["--network", mode],
                "readlink /proc/self/ns/net",
            )
        };
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        assert_eq!(net("host"), own.to_string_lossy());
        assert_ne!(net("none"), own.to_string_lossy());
        let cgroup = run(
            &d,
            client,
            &["--cgroupns", "private"],
            "readlink /proc/self/ns/cgroup",
        );
        assert_ne!(
            cgroup,
            std::fs::read_link("/proc/self/ns/cgroup")
                .unwrap()
                .to_string_lossy()
        );
        assert_eq!(run(&d, client, &["--userns", "host"], "id -u"), "0");
        refused(
            &d,
            client,
            &["--pid", "container:nosuch"],
            "No such container",
        );
        refused(
            &d,
            client,
            &["--network", "container:nosuch"],
            "No such container",
        );
    }
}

#[test]
fn rights_are_given_and_taken() {
    for client in clients() {
        let d = Daemon::with_busybox();
        assert_eq!(status(&d, client, &[], "CapEff"), "00000000a80425fb");
        assert_eq!(
            status(&d, client, &["--cap-drop", "all"], "CapEff"),
            "0000000000000000"
        );
        let net_admin = ["--cap-drop", "ALL", "--cap-add", "net_admin"];
        assert_eq!(status(&d, client, &net_admin, "CapEff"), "0000000000001000");
        assert_eq!(status(&d, client, &[], "NoNewPrivs"), "0");
        assert_eq!(
            status(
                &d,
                client,
                &["--security-opt", "no-new-privileges"],
                "NoNewPrivs"
            ),
            "1"
        );
        assert_eq!(status(&d, client, &[], "Seccomp"), "2");
        assert_eq!(
            status(
                &d,
                client,
                &["--security-opt", "seccomp=unconfined"],
                "Seccomp"
            ),
            "0"
        );
        assert_eq!(status(&d, client, &["--privileged"], "Seccomp"), "0");
        let profile = d.write(
            "profile.json",
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#,
        );
        let option = format!("seccomp={}", profile.display());
        let script = "mkdir /x 2>&1; touch /y && echo touched";
        let said = run(&d, client, &["--security-opt", &option], script);
        assert!(
            said.contains("Operation not permitted") && said.ends_with("touched"),
            "{said}"
        );
        let unmasked = ["--security-opt", "systempaths=unconfined"];
        let masked = "grep -c ' /proc/' /proc/mounts";
        assert_eq!(
            run(&d, client, &unmasked, &format!("{masked} || true")),
            "0"
        );
        assert_ne!(run(&d, client, &[], masked), "0");
        assert_eq!(
            run(
                &d,
                client,
                &["--privileged"],
                "test -e /dev/loop-control || test -e /dev/kmsg && echo devices"
            ),
            "devices"
        );
        assert_eq!(run(&d, client, &["--group-add", "4242"], "id -G"), "0 4242");
        assert_eq!(
            run(
                &d,
                client,
                &["--oom-score-adj", "500"],
                "cat /proc/self/oom_score_adj"
            ),
            "500"
        );
        refused(&d, client, &["--cap-add", "foo"], "unknown capability");
        refused(
            &d,
            client,
            &["--security-opt", "foo=bar"],
            "invalid --security-opt 2",
        );
        refused(
            &d,
            client,
            &["--group-add", "nosuch"],
            "unable to find group nosuch",
        );
    }
}

#[test]
fn devices_and_their_rules() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let device = ["--device", "/dev/null:/dev/mine:r"];
        assert_eq!(
            run(
                &d,
                client,
                &device,
                "cat /dev/mine | wc -c; stat -c '%t:%T' /dev/mine"
            ),
            "0\n1:3"
        );
        // A node that is made inside can be used only if a rule says so.
        let script = "mknod /node c 10 237 && (: < /node) 2>&1 && echo opened || true";
        assert!(run(&d, client, &[], script).contains("Operation not permitted"));
        let rule = ["--device-cgroup-rule", "c 10:237 rmw"];
        assert!(run(&d, client, &rule, script).contains("opened"));
        // The words "no such file" make it 127 for docker's client, and so for ours.
        let missing = ["run", "--rm", "--device", "/dev/nosuch", "busybox", "true"];
        d.fails(client, &missing, 127, "error gathering device information");
        refused(&d, client, &["--gpus", "all"], "no known GPU vendor found");
    }
}

#[test]
fn files_and_kernel_parameters() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let read_only = ["--read-only", "--tmpfs", "/t"];
        let script = "touch /x 2>&1; touch /t/x && touch /dev/shm/x && echo elsewhere";
        let said = run(&d, client, &read_only, script);
        assert!(
            said.contains("Read-only file system") && said.ends_with("elsewhere"),
            "{said}"
        );
        let size = run(
            &d,
            client,
            &["--shm-size", "1m"],
            "grep ' /dev/shm ' /proc/mounts",
        );
        assert!(size.contains("size=1024k"), "{size}");
        let limit = ["--ulimit", "nofile=100:200"];
        assert_eq!(
            run(&d, client, &limit, "ulimit -Sn; ulimit -Hn"),
            "100\n200"
        );
        let sysctl = [
            "--sysctl",
            "net.ipv4.ip_forward=1",
            "--sysctl",
            "kernel.msgmax=4096",
        ];
        let values = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax";
        assert_eq!(run(&d, client, &sysctl, values), "1\n4096");
        refused(&d, client, &["--sysctl", "kernel.foo=1"], "is not allowed");
        refused(
            &d,
            client,
            &["--network", "host", "--sysctl", "net.ipv4.ip_forward=1"],
            "not allowed in host network namespace",
        );
        refused(&d, client, &["--ulimit", "nofile=300:200"], "nofile");
        let init = run(&d, client, &["--init"], "cat /proc/1/comm; echo $$");
        assert!(
            !init.starts_with("sh\n") && !init.ends_with("\n1"),
            "{init}"
        );
        refused(
            &d,
            client,
            &["--storage-opt", "size=1g"],
            "--storage-opt is supported only",
        );
        refused(
            &d,
            client,
            &["--runtime", "none-such"],
            "unknown or invalid runtime name: none-such",
        );
        let annotated = [
            "create",
            "--annotation",
            "a=b",
            "--stop-signal",
            "INT",
            "--stop-timeout",
            "3",
            "busybox",
        ];
        if client == Client::Docker {
            let id = d.ok(client, &annotated);
            let shown =
                "{{.HostConfig.Annotations.a}} {{.Config.StopSignal}} {{.Config.StopTimeout}}";
            assert_eq!(d.ok(client, &["inspect", "-f", shown, &id]), "b INT 3");
        }
    }
}

/// Creates a container from what inspect showed of another, as tools that renew containers do.
#[test]
fn what_inspect_shows_can_be_created() {
    let d = Daemon::with_busybox();
    let options = [
        "-v",
        "named:/n:ro",
        "-v",
        "/anonymous",
        "--mount",
        "type=tmpfs,target=/t,tmpfs-size=1m",
        "--tmpfs",
        "/u:size=1m",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--cap-add",
        "NET_ADMIN",
        "--device",
        "/dev/null:/dev/mine:rw",
        "--ulimit",
        "nofile=100:200",
        "-p",
        "127.0.0.1::80",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--label",
        "a=b",
        "-e",
        "A=1",
        "--restart",
        "on-failure:2",
        "--init",
        "--security-opt",
        "no-new-privileges",
        "--add-host",
        "other:10.0.0.1",
        "--dns",
        "10.0.0.2",
        "--group-add",
        "4242",
        "--read-only",
        "--hostname",
        "named",
        "--log-opt",
        "max-size=1m",
        "--pids-limit",
        "50",
        "--shm-size",
        "2m",
        "--stop-signal",
        "INT",
    ];
    let create = [
        &["create", "--name", "old"],
        &options[..],
        &["busybox", "sh", "-c", "echo ran"],
    ];
    let id = d.ok(Client::Wharf, &create.concat());
    let socket = d.path("wharf.sock");
    let ask = |method: &str, path: &str, body: &Value| {
        let headers = [("Content-Type", "application/json")];
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        http::exchange(
            &socket,
            &http::request(method, path, &headers, body.as_bytes()),
        )
        .unwrap()
    };
    let inspect =
        |id: &str| ask("GET", &format!("/v1.51/containers/{id}/json"), &Value::Null).json();
    let old = inspect(&id);
    let mut body = old["Config"].clone();
    body["HostConfig"] = old["HostConfig"].clone();
    body["NetworkingConfig"] = json!({ "EndpointsConfig": old["NetworkSettings"]["Networks"] });
    let reply = ask("POST", "/v1.51/containers/create?name=new", &body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let id = reply.json()["Id"].as_str().unwrap().to_owned();
    let new = inspect(&id);
    assert_eq!(new["HostConfig"], old["HostConfig"]);
    assert_eq!(new["Config"], old["Config"]);
    assert_eq!(
        new["Mounts"].as_array().unwrap().len(),
        old["Mounts"].as_array().unwrap().len()
    );
    assert_eq!(d.ok(Client::Wharf, "start -a new"), "ran");
}

#[test]
fn images_have_nothing_of_what_containers_get_from_outside() {
    let d = Daemon::with_busybox();
    let names = ["--hostname", "web.local", "--domainname", "test"];
    let seen = run(&d, Client::Wharf, &names, "cat /etc/hosts");
    assert!(seen.ends_with("\tweb.local.test web"), "{seen}");

    d.ok(Client::Wharf, "run --name first busybox true");
    assert_eq!(d.ok(Client::Wharf, "diff first"), "");
    d.ok(Client::Wharf, "commit first second");
    let layers = ["image", "inspect", "-f", "{{len .RootFS.Layers}} {{.Size}}"];
    let described = |image| d.ok(Client::Wharf, &[&layers[..], &[image]].concat());
    let (base, made) = (described("busybox"), described("second"));
    let size = |text: &str| text.split(' ').nth(1).map(str::to_owned);
    assert_eq!(size(&base), size(&made));
}

#[test]
fn a_container_may_talk_to_the_daemon() {
    let d = Daemon::with_busybox();
    let auths = r#"{"auths":{"reg.example":{"auth":"dTpw"}},"psFormat":"{{.ID}}"}"#;
    d.write("client-config/config.json", auths);
    let look = "test -S /var/run/docker.sock && stat -c '%a %u' $DOCKER_CONFIG/config.json && cat $DOCKER_CONFIG/config.json";
    let seen = run(&d, Client::Wharf, &["--use-api-socket"], look);
    let (file, config) = seen.split_once('\n').unwrap();
    assert_eq!(file, "600 0");
    let config: Value = serde_json::from_str(config).unwrap();
    assert_eq!(config, json!({"auths": {"reg.example": {"auth": "dTpw"}}}));
    // It is the daemon's own socket.
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(d.socket()).unwrap());
    let ask = "stat -c %i /var/run/docker.sock";
    let seen = run(&d, Client::Wharf, &["--use-api-socket"], ask);
    assert_eq!(seen, inode.to_string());
    // A configuration of its own is left alone, and without credentials there is none.
    let own = ["--use-api-socket", "-e", "DOCKER_CONFIG=/own"];
    let seen = run(
        &d,
        Client::Wharf,
        &own,
        "echo $DOCKER_CONFIG; ls /run/secrets 2>&1; true",
    );
    assert!(seen.starts_with("/own\n"), "{seen}");
    assert!(seen.contains("No such file"), "{seen}");
    d.write("client-config/config.json", "{}");
    let seen = run(
        &d,
        Client::Wharf,
        &["--use-api-socket"],
        "echo :$DOCKER_CONFIG:",
    );
    assert_eq!(seen, "::");
    let far = [
        "-H",
        "tcp://127.0.0.1:1",
        "run",
        "--use-api-socket",
        "busybox",
    ];
    d.fails(
        Client::Wharf,
        &far,
        125,
        "--use-api-socket needs a daemon at a unix socket",
    );
}

#[test]
fn what_has_no_effect_is_said() {
    let d = Daemon::with_busybox();
    let made = d.call(
        Client::Wharf,
        &["create", "--kernel-memory", "4m", "busybox"],
    );
    assert_eq!(made.code, 0, "{made:?}");
    assert!(
        made.stderr.contains("--kernel-memory has no effect"),
        "{made:?}"
    );
    for client in clients() {
        // The daemon drops it, as docker's does.
        let id = d
            .call(client, &["create", "--kernel-memory", "4m", "busybox"])
            .stdout;
        let shown = d.ok(
            client,
            &["inspect", "-f", "{{json .HostConfig}}", id.trim()],
        );
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert!(shown["KernelMemory"].as_i64().unwrap_or(0) == 0, "{shown}");
    }
    d.write("context/Dockerfile", "FROM busybox\nCOPY file /\n");
    d.write("context/file", "x");
    let built = d.call(Client::Wharf, "build --compress -t read context");
    assert_eq!(built.code, 0, "{built:?}");
    assert!(
        built
            .stderr
            .contains("--compress has no effect: the daemon reads"),
        "{built:?}"
    );
    let archive = crate::archives::tar_of(&[
        crate::archives::Entry::File("Dockerfile", "FROM busybox\nCOPY file /\n"),
        crate::archives::Entry::File("file", "sent"),
    ]);
    let built = d.call_with_input(Client::Wharf, "build --compress -t sent -", &archive);
    assert_eq!(built.code, 0, "{built:?}");
    assert!(!built.stderr.contains("--compress"), "{built:?}");
    assert_eq!(d.ok(Client::Wharf, "run --rm sent cat /file"), "sent");
}
