//! Names with both clients: the resolver of networks, links, name files.

use crate::harness::{Daemon, clients, eventually, skip};
use crate::helpers::{address, exec, sleeper, web};

#[test]
fn containers_find_each_other_by_name() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(client, "network create front");
        web(
            &d,
            client,
            "web",
            &["--network", "front", "--network-alias", "www"],
        );
        let id = d.ok(client, "inspect --format {{.Id}} web");
        sleeper(
            &d,
            client,
            "asker",
            &["--network", "front", "--link", "web:site"],
        );
        eventually("the server answers", || {
            exec(&d, "asker", "wget -qO- http://web || true") == "web"
        });
        for name in ["WEB", "www", "web.front", "site", &id[..12]] {
            assert_eq!(
                exec(&d, "asker", &format!("wget -qO- http://{name}")),
                "web"
            );
        }
        let ip = address(&d, "web", "front");
        let reverse = exec(&d, "asker", &format!("nslookup {ip}"));
        assert!(reverse.contains("name = web.front"), "{reverse}");
        let resolver = exec(&d, "asker", "cat /etc/resolv.conf");
        assert!(resolver.contains("nameserver 127.0.0.11\n"), "{resolver}");
        assert!(
            resolver.contains("options") && resolver.contains("ndots:0"),
            "{resolver}"
        );
        // A known name of the other family is an empty answer, not an error.
        let other = exec(&d, "asker", "nslookup -type=aaaa web 2>&1; true");
        assert!(!other.contains("NXDOMAIN"), "{other}");
        // A private alias is nobody else's.
        let private = d.call(client, "run --rm --network front busybox nslookup site");
        assert_ne!(private.code, 0);
        d.ok(client, "rename web shop");
        assert_eq!(exec(&d, "asker", "wget -qO- http://shop"), "web");
        // Several containers share a name, and all are found.
        for name in ["one", "two", "three"] {
            web(
                &d,
                client,
                name,
                &["--network", "front", "--network-alias", "all"],
            );
        }
        let all = exec(&d, "asker", "nslookup all | grep -c 'Address: [0-9]*[.]'");
        assert_eq!(all, "3");
        d.ok(client, "rm -f one");
        let left = exec(&d, "asker", "nslookup all | grep -c 'Address: [0-9]*[.]'");
        assert_eq!(left, "2");
        // The default bridge has no names.
        d.fails(
            client,
            "run --rm --network-alias x busybox true",
            125,
            "network-scoped aliases are only supported for user-defined networks",
        );
    }
}

#[test]
fn links_on_the_default_bridge() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(
            client,
            "run -d --name db -h dbhost --expose 5432 -e USER=me busybox sleep 1000",
        );
        sleeper(&d, client, "app", &["--link", "db:database"]);
        let ip = address(&d, "db", "bridge");
        let hosts = exec(&d, "app", "cat /etc/hosts");
        assert!(
            hosts.contains(&format!("{ip}\tdatabase dbhost db\n")),
            "{hosts}"
        );
        let variables = exec(&d, "app", "env");
        for line in [
            format!("DATABASE_PORT=tcp://{ip}:5432"),
            format!("DATABASE_PORT_5432_TCP_ADDR={ip}"),
            "DATABASE_NAME=/app/database".to_owned(),
            "DATABASE_ENV_USER=me".to_owned(),
        ] {
            assert!(
                variables.lines().any(|found| found == line),
                "{line} in {variables}"
            );
        }
        // A linked container that comes back elsewhere is found there.
        d.ok(client, "stop -t 0 db");
        sleeper(&d, client, "filler", &[]);
        d.ok(client, "start db");
        let moved = address(&d, "db", "bridge");
        let hosts = exec(&d, "app", "cat /etc/hosts");
        assert!(
            hosts.contains(&format!("{moved}\tdatabase dbhost db\n")),
            "{hosts}"
        );
        // A link is a name of its own, and goes without its containers.
        let named = d.ok(client, "inspect -f {{.Name}} app/database");
        assert_eq!(named, "/db");
        let listed = d.ok(client, "ps -f name=db --no-trunc --format {{.Names}}");
        assert_eq!(listed, "db,app/database");
        let text = "Conflict, cannot remove the default link name of the container";
        d.fails(client, "rm --link app", 1, text);
        d.fails(
            client,
            "rm --link app/other",
            1,
            "No such container: app/other",
        );
        d.ok(client, "rm --link app/database");
        let hosts = exec(&d, "app", "cat /etc/hosts");
        assert!(!hosts.contains("database"), "{hosts}");
        let links = d.ok(client, "inspect -f '{{json .HostConfig.Links}}' app");
        assert_eq!(links, "null");
        d.fails(
            client,
            "run --rm --link nosuch:x busybox true",
            125,
            "could not get container for nosuch: No such container: nosuch",
        );
        d.ok(client, "stop -t 0 db");
        d.fails(
            client,
            "run --rm --link db busybox true",
            125,
            "Cannot link to a non running container: /db AS",
        );
    }
}

#[test]
fn name_files_follow_the_options() {
    for client in clients() {
        let d = Daemon::with_busybox();
        d.ok(client, "network create front");
        let options = [
            "--dns",
            "192.0.2.53",
            "--dns-search",
            "example.org",
            "--dns-option",
            "timeout:1",
        ];
        let resolv = |network: &str| {
            let mut arguments = vec!["run", "--rm", "--network", network];
            arguments.extend(options);
            arguments.extend(["busybox", "cat", "/etc/resolv.conf"]);
            d.ok(client, &arguments)
        };
        let plain = resolv("bridge");
        assert!(plain.contains("nameserver 192.0.2.53\n"), "{plain}");
        let internal = resolv("front");
        assert!(internal.contains("nameserver 127.0.0.11\n"), "{internal}");
        assert!(
            internal.contains("# ExtServers: [192.0.2.53]"),
            "{internal}"
        );
        for text in [&plain, &internal] {
            assert!(text.contains("search example.org\n"), "{text}");
            assert!(text.contains("timeout:1"), "{text}");
        }
        let gateway = d.ok(
            client,
            "network inspect --format '{{(index .IPAM.Config 0).Gateway}}' bridge",
        );
        let hosts = d.ok(
            client,
            "run --rm --network front --add-host me:host-gateway --add-host you:192.0.2.9 -h web --domainname example.org busybox cat /etc/hosts",
        );
        assert!(
            hosts.contains(&format!("{gateway}\tme\n192.0.2.9\tyou\n")),
            "{hosts}"
        );
        assert!(hosts.contains("\tweb.example.org web"), "{hosts}");
    }
}

/// Two services of a compose project talk by name, over two networks, scaled, and leave nothing.
#[test]
fn services_of_a_compose_project_find_each_other() {
    let Some(compose) = std::env::var_os("WHARF_TEST_COMPOSE") else {
        skip("docker-compose is not installed (set WHARF_TEST_COMPOSE to its path)");
        return;
    };
    let d = Daemon::with_busybox();
    d.write(
        "project/compose.yaml",
        r#"
services:
  web:
    image: busybox
    command: sh -c "mkdir -p /w; echo compose > /w/index.html; exec httpd -f -h /w -p 80"
    networks: {front: {aliases: [www]}, back: {}}
    ports: ["80"]
  worker:
    image: busybox
    command: sh -c "until wget -qO- http://web; do sleep 0.2; done; exec sleep 1000"
    networks: [front]
    depends_on: [web]
networks:
  front: {}
  back: {internal: true}
"#,
    );
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(&compose)
            .args(arguments)
            .current_dir(d.path("project"))
            .env(
                "DOCKER_HOST",
                format!("unix://{}", d.path("wharf.sock").display()),
            )
            .env("DOCKER_CONFIG", d.path("client-config"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };
    run(&["up", "-d"]);
    eventually("the worker reaches the web server", || {
        run(&["logs", "worker"]).contains("compose")
    });
    assert!(run(&["port", "web", "80"]).starts_with("0.0.0.0:"));
    run(&["up", "-d", "--scale", "worker=3"]);
    let found = run(&["exec", "-T", "web", "nslookup", "worker"]);
    assert_eq!(found.matches("Name:").count(), 3, "{found}");
    assert_eq!(
        run(&["exec", "-T", "worker", "wget", "-qO-", "http://www"]),
        "compose\n"
    );
    run(&["down", "-v", "-t", "0"]);
    let left = d.ok(
        crate::harness::Client::Wharf,
        &["network", "ls", "-q", "--filter", "type=custom"],
    );
    assert_eq!(left, "");
}
