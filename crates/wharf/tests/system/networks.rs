//! Networks of users with both clients: names, several networks a container, isolation, and what is left afterwards.

use crate::harness::{Client, Daemon, clients, eventually};
use crate::helpers::{address, exec, sleeper, web};
use crate::ports::{fetch, published};

#[test]
fn containers_join_and_leave_while_they_run() {
    for client in clients() {
        let d = Daemon::with_busybox();
        for name in ["alpha", "beta"] {
            d.ok(client, &["network", "create", name]);
        }
        web(&d, client, "web", &["-p", "80"]);
        let port = published(&d, "web", "80");
        eventually("the port answers", || {
            fetch(&format!("127.0.0.1:{port}")).as_deref() == Some("web")
        });
        sleeper(&d, client, "asker", &["--network", "beta"]);
        d.ok(client, "network connect --alias www beta web");
        assert_eq!(exec(&d, "asker", "wget -qO- http://www"), "web");
        assert_eq!(published(&d, "web", "80"), port, "a port keeps its number");
        let got = fetch(&format!("127.0.0.1:{port}"));
        assert_eq!(
            got.as_deref(),
            Some("web"),
            "{}",
            exec(&d, "web", "ip route; ip addr; netstat -tn")
        );
        let beta = address(&d, "web", "beta");
        let hosts = exec(&d, "web", "cat /etc/hosts");
        assert!(hosts.contains(&format!("{beta}\tweb")), "{hosts}");
        // Joined late, it has a resolver now.
        assert_eq!(exec(&d, "web", "nslookup asker | grep -c Name:"), "1");
        d.ok(client, "network disconnect bridge web");
        let routes = exec(&d, "web", "ip route");
        assert!(
            routes.contains("default via") && routes.contains("dev eth1"),
            "{routes}"
        );
        assert_eq!(fetch(&format!("127.0.0.1:{port}")).as_deref(), Some("web"));
        d.fails(
            client,
            "network connect beta web",
            1,
            "endpoint with name web already exists in network beta",
        );
        d.fails(
            client,
            "network disconnect alpha web",
            1,
            "is not connected to network alpha",
        );
        d.fails(
            client,
            "network rm beta",
            1,
            "network beta has active endpoints",
        );
        d.ok(client, "network disconnect beta web");
        let hosts = exec(&d, "web", "cat /etc/hosts");
        assert!(!hosts.contains(&beta), "{hosts}");
        assert!(fetch(&format!("127.0.0.1:{port}")).is_none());
        // Connected while stopped, joined at the start.
        d.ok(client, "stop -t 0 web");
        d.ok(client, "network connect alpha web");
        d.ok(client, "start web");
        assert!(!address(&d, "web", "alpha").is_empty());
        // Only running containers hold a network.
        d.ok(client, "stop -t 0 web");
        d.ok(client, "network rm alpha");
        d.fails(client, "start web", 1, "network alpha not found");
    }
}

#[test]
fn a_container_is_on_several_networks_from_the_start() {
    for client in clients() {
        let d = Daemon::with_busybox();
        for name in ["alpha", "beta"] {
            d.ok(client, &["network", "create", name]);
        }
        let shown = d.ok(
            client,
            "run --rm --network name=alpha,alias=first --network name=beta,alias=second,gw-priority=5 busybox sh -c 'ip route; ip -o addr show; nslookup first; nslookup second'",
        );
        assert!(shown.contains("eth0") && shown.contains("eth1"), "{shown}");
        let gateway = d.ok(
            client,
            "network inspect --format '{{(index .IPAM.Config 0).Gateway}}' beta",
        );
        assert!(
            shown.contains(&format!("default via {gateway} dev eth0")),
            "{shown}"
        );
    }
}

#[test]
fn networks_are_made_listed_and_removed() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let id = d.ok(
            client,
            "network create --label tier=back --attachable -o com.docker.network.driver.mtu=1400 back",
        );
        assert_eq!(id.len(), 64);
        d.ok(client, "network create --internal inner");
        let list = |filter: &str| {
            let mut names: Vec<String> = d
                .ok(
                    client,
                    &["network", "ls", "--filter", filter, "--format", "{{.Name}}"],
                )
                .lines()
                .map(str::to_owned)
                .collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(list("driver=bridge"), "back bridge inner");
        assert_eq!(list("label=tier=back"), "back");
        assert_eq!(list("type=builtin"), "bridge host none");
        assert_eq!(list("type=custom"), "back inner");
        assert_eq!(list("name=nn"), "inner");
        assert_eq!(list(&format!("id={}", &id[..10])), "back");
        assert_eq!(list("scope=local"), "back bridge host inner none");
        assert_eq!(list("dangling=true"), "back inner");
        let shown = d.ok(client, &["network", "inspect", &id[..12]]);
        for part in [
            "\"Name\": \"back\"",
            "\"Attachable\": true",
            "\"tier\": \"back\"",
            "1400",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert_eq!(
            d.ok(
                client,
                "run --rm --network back busybox cat /sys/class/net/eth0/mtu"
            ),
            "1400"
        );
        for (arguments, text) in [
            (
                vec!["network", "create", "back"],
                "network with name back already exists",
            ),
            (
                vec!["network", "create", "host"],
                "operation is not permitted on predefined host network",
            ),
            (
                vec!["network", "create", "-d", "weave", "x"],
                "plugin \"weave\" not found",
            ),
            (
                vec!["network", "create", "--subnet", "10.1.0.5/16", "x"],
                "invalid subnet 10.1.0.5/16: it should be 10.1.0.0/16",
            ),
            (
                vec!["network", "rm", "bridge"],
                "bridge is a pre-defined network and cannot be removed",
            ),
            (vec!["network", "rm", "nosuch"], "network nosuch not found"),
            (
                vec!["network", "inspect", "nosuch"],
                "network nosuch not found",
            ),
            (
                vec![
                    "network",
                    "create",
                    "-o",
                    "com.docker.network.bridge.enable_icc=maybe",
                    "x",
                ],
                "com.docker.network.bridge.enable_icc",
            ),
            (
                vec![
                    "network",
                    "create",
                    "-d",
                    "macvlan",
                    "-o",
                    "parent=nosuch0",
                    "x",
                ],
                "parent interface nosuch0 was not found",
            ),
        ] {
            d.fails(client, &arguments, 1, text);
        }
        sleeper(&d, client, "user", &["--network", "inner"]);
        let pruned = d.ok(client, "network prune -f");
        assert!(
            pruned.contains("back") && !pruned.contains("inner"),
            "{pruned}"
        );
        assert_eq!(list("type=custom"), "inner");
        assert_eq!(list("dangling=true"), "");
        // Gone as soon as its last container is.
        d.ok(client, "rm -f user");
        d.ok(client, "network rm inner");
        // Clients say "now" in whole seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let told = d.ok(
            client,
            "events --since 10m --until 0s --filter type=network --format '{{.Action}} {{.Actor.Attributes.name}}'",
        );
        for line in [
            "create back",
            "connect inner",
            "disconnect inner",
            "destroy back",
            "prune",
        ] {
            assert!(told.contains(line), "{line} in {told}");
        }
    }
}

#[test]
fn networks_keep_apart_what_is_on_them() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(client, "network create front");
        d.ok(client, "network create --internal inner");
        web(&d, client, "web", &["--network", "front", "-p", "80"]);
        web(&d, client, "hidden", &["--network", "inner", "-p", "81:80"]);
        sleeper(&d, client, "outsider", &[]);
        sleeper(&d, client, "insider", &["--network", "inner"]);
        let port = published(&d, "web", "80");
        let (web_ip, hidden_ip) = (address(&d, "web", "front"), address(&d, "hidden", "inner"));
        let reaches = |from: &str, url: &str| {
            let (host, port) = url.split_once(':').unwrap_or((url, "80"));
            let script =
                format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {host} {port} || true");
            !exec(&d, from, &script).is_empty()
        };
        eventually("the server answers", || {
            fetch(&format!("127.0.0.1:{port}")).is_some()
        });
        assert!(!reaches("outsider", &web_ip));
        assert!(!reaches("outsider", &hidden_ip));
        assert!(!reaches("insider", &web_ip));
        eventually("the hidden server answers", || reaches("insider", "hidden"));
        // Through the host's address a published port is open to containers, but not from inside
        // an internal network.
        let gateway = exec(
            &d,
            "outsider",
            "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'",
        );
        assert!(reaches("outsider", &format!("{gateway}:{port}")));
        assert!(reaches(
            "web",
            &format!(
                "{}:{port}",
                exec(
                    &d,
                    "web",
                    "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'"
                )
            )
        ));
        let inner = d.ok(
            client,
            "network inspect --format '{{(index .IPAM.Config 0).Gateway}}' inner",
        );
        assert!(!reaches("insider", &format!("{inner}:{port}")));
        assert!(!exec(&d, "insider", "ip route").contains("default"));
        // Names of the world are not asked for, ports are not published.
        let asked = d.call(client, "exec insider nslookup example.org");
        assert!(
            asked.code != 0 && asked.stdout.contains("SERVFAIL"),
            "{}",
            asked.stdout
        );
        assert_eq!(d.ok(client, "port hidden"), "");
    }
}

#[test]
fn shared_and_missing_networks_have_their_rules() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(client, "network create front");
        web(&d, client, "web", &["--network", "front"]);
        sleeper(&d, client, "none", &["--network", "none"]);
        let shared = d.ok(
            client,
            "run --rm --network container:web busybox sh -c 'cat /etc/hosts; wget -qO- http://127.0.0.1'",
        );
        assert!(
            shared.contains("\tweb") && shared.ends_with("web"),
            "{shared}"
        );
        assert_eq!(exec(&d, "none", "ip -o link | wc -l"), "1");
        d.fails(
            client,
            "network connect front none",
            1,
            "private (none) mode",
        );
        d.fails(
            client,
            "network connect host web",
            1,
            "cannot connect container to host network",
        );
        d.fails(
            client,
            "run --rm --network nosuch busybox true",
            125,
            "network nosuch not found",
        );
        d.fails(
            client,
            "run --rm -p 80 --network container:web busybox true",
            125,
            "conflicting options: port publishing and the container type network mode",
        );
        d.ok(client, "run --rm --network host busybox true");
    }
}

/// Lists what a daemon has in the kernel: its devices with host ends, and its nftables elements.
fn in_kernel(table: &str, devices: &[String]) -> String {
    let run = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program)
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut shown = String::new();
    for device in devices {
        let ports = run("ip", &["-o", "link", "show", "master", device]);
        shown.push_str(&format!("{device} {}\n", ports.lines().count()));
    }
    shown.push_str(&run(
        "nft",
        &["list", "map", "inet", table, "published_any4"],
    ));
    shown
}

#[test]
fn a_killed_daemon_takes_its_networks_up_again_and_nothing_leaks() {
    let client = Client::Wharf;
    let mut d = Daemon::with_busybox();
    let id = d.ok(client, "network create --ipv6 front");
    let bridge = d.ok(
        client,
        "network inspect --format '{{index .Options \"com.docker.network.bridge.name\"}}' bridge",
    );
    let table = bridge.replacen("wh", "wharf_", 1);
    let devices = [format!("br-{}", &id[..12]), bridge];
    let empty = in_kernel(&table, &devices);
    web(&d, client, "web", &["--network", "front", "-p", "80"]);
    sleeper(&d, client, "asker", &["--network", "front"]);
    let (port, ip) = (published(&d, "web", "80"), address(&d, "web", "front"));
    eventually("the name answers", || {
        exec(&d, "asker", "wget -qO- http://web || true") == "web"
    });
    let running = in_kernel(&table, &devices);
    for round in 0..3 {
        d.kill();
        assert_eq!(
            fetch(&format!("127.0.0.1:{port}")).as_deref(),
            Some("web"),
            "ports work while no daemon does"
        );
        d.launch();
        assert_eq!(in_kernel(&table, &devices), running, "round {round}");
        assert_eq!(exec(&d, "asker", "wget -qO- http://web"), "web");
        assert_eq!(fetch(&format!("127.0.0.1:{port}")).as_deref(), Some("web"));
        assert_eq!(fetch(&format!("[::1]:{port}")).as_deref(), Some("web"));
        assert_eq!(address(&d, "web", "front"), ip);
    }
    // A new container gets another address and finds the old ones.
    let found = d.ok(
        client,
        "run --rm --network front busybox wget -qO- http://web",
    );
    assert_eq!(found, "web");
    // Rules that somebody flushes come back.
    let flushed = std::process::Command::new("nft")
        .args(["flush", "table", "inet", &table])
        .status()
        .unwrap();
    assert!(flushed.success());
    eventually("the rules are mended", || {
        in_kernel(&table, &devices) == running
    });
    d.ok(client, "rm -f web asker");
    eventually("nothing is left of the containers", || {
        in_kernel(&table, &devices) == empty
    });
    d.ok(client, "network rm front");
    assert!(!std::path::Path::new(&format!("/sys/class/net/{}", devices[0])).exists());
    d.stop();
    d.launch();
    assert!(!d.ok(client, "network ls").contains("front"));
}

#[test]
fn builds_use_networks_too() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(client, "network create front");
        web(&d, client, "web", &["--network", "front"]);
        eventually("the server answers", || {
            d.call(
                client,
                "run --rm --network front busybox wget -qO- http://web",
            )
            .code
                == 0
        });
        d.write(
            "context/Dockerfile",
            "FROM busybox\nRUN wget -qO /got http://web && cat /got\n",
        );
        d.ok(client, "build --network front -t made context");
        assert_eq!(d.ok(client, "run --rm made cat /got"), "web");
    }
}
