//! docker's compose, unmodified, with a project of four services.

use crate::harness::{Client, Daemon, skip};
use std::path::PathBuf;
use std::process::Stdio;

const PROJECT: &str = r#"
name: four
services:
  db:
    image: busybox
    command: sh -c 'sleep 1; touch /var/ready; while true; do echo answer | nc -l -p 5432; done'
    healthcheck:
      test: ["CMD", "test", "-e", "/var/ready"]
      interval: 200ms
      timeout: 5s
      retries: 50
    volumes: [data:/var/data]
    networks: [back]
  cache:
    image: busybox
    command: sh -c 'while true; do echo cached | nc -l -p 6379; done'
    networks: [back]
  worker:
    image: busybox
    command: sh -c 'echo "worker sees $$(cat /proc/uptime | wc -l) and $$ROLE"; exec sleep 1000'
    environment: {ROLE: a-role}
    depends_on:
      db: {condition: service_healthy}
      cache: {condition: service_started}
    networks: [back]
  web:
    build: ./web
    depends_on: [worker]
    ports: ["127.0.0.1::80"]
    networks: [front, back]
volumes:
  data: {}
networks:
  front: {}
  back: {internal: true}
"#;

const DOCKERFILE: &str = r#"FROM busybox
RUN mkdir /www && echo served > /www/index.html
CMD ["httpd", "-f", "-p", "80", "-h", "/www"]
"#;

/// Returns compose's program, where it is installed.
fn compose_program() -> Option<PathBuf> {
    let named = std::env::var_os("WHARF_TEST_COMPOSE").map(PathBuf::from);
    let usual = [
        "/usr/libexec/docker/cli-plugins/docker-compose",
        "/usr/lib/docker/cli-plugins/docker-compose",
    ];
    named
        .into_iter()
        .chain(usual.map(PathBuf::from))
        .find(|path| path.is_file())
}

#[test]
fn a_project_of_four_services() {
    let Some(program) = compose_program() else {
        skip("docker's compose is not installed (set WHARF_TEST_COMPOSE to its path)");
        return;
    };
    let d = Daemon::with_busybox();
    std::fs::create_dir_all(d.path("client-config/cli-plugins")).unwrap();
    std::os::unix::fs::symlink(program, d.path("client-config/cli-plugins/docker-compose"))
        .unwrap();
    d.write("project/compose.yaml", PROJECT);
    d.write("project/web/Dockerfile", DOCKERFILE);
    let compose = |arguments: &[&str]| {
        let output = d
            .command(Client::Wharf)
            .arg("compose")
            .args(arguments)
            .current_dir(d.path("project"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}: {said}\n{}",
            d.log()
        );
        (
            String::from_utf8_lossy(&output.stdout)
                .trim_end()
                .to_owned(),
            said,
        )
    };
    let count = |service: &str| compose(&["ps", "-q", service]).0.lines().count();

    let (_, said) = compose(&["up", "-d"]);
    let at = |text: &str| {
        said.find(text)
            .unwrap_or_else(|| panic!("{text} is missing in {said}"))
    };
    assert!(
        at("four-db-1  Healthy") < at("four-worker-1  Starting"),
        "{said}"
    );
    assert!(
        at("four-worker-1  Started") < at("four-web-1  Starting"),
        "{said}"
    );

    let (address, _) = compose(&["port", "web", "80"]);
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    std::io::Read::read_to_string(&mut stream, &mut page).unwrap();
    assert!(page.ends_with("served\n"), "{page}");

    // Services find each other by name.
    assert_eq!(
        compose(&["exec", "-T", "web", "nc", "db", "5432"]).0,
        "answer"
    );
    assert_eq!(
        compose(&["exec", "-T", "worker", "nc", "cache", "6379"]).0,
        "cached"
    );
    assert_eq!(
        compose(&["exec", "-T", "worker", "wget", "-qO-", "http://web/"]).0,
        "served"
    );
    assert!(
        compose(&["logs", "worker"])
            .0
            .contains("worker sees 1 and a-role")
    );
    assert_eq!(
        compose(&["run", "--rm", "-T", "worker", "echo", "one-off"]).0,
        "one-off"
    );

    compose(&["up", "-d", "--scale", "worker=3"]);
    assert_eq!(count("worker"), 3);
    compose(&["up", "-d"]);
    assert_eq!(count("worker"), 1);

    // What did not change is not made again, what changed is.
    let before = (
        compose(&["ps", "-q", "db"]).0,
        compose(&["ps", "-q", "cache"]).0,
    );
    d.write(
        "project/compose.yaml",
        PROJECT.replace("echo cached", "echo other"),
    );
    compose(&["up", "-d"]);
    assert_eq!(compose(&["ps", "-q", "db"]).0, before.0);
    assert_ne!(compose(&["ps", "-q", "cache"]).0, before.1);

    compose(&["exec", "-T", "db", "sh", "-c", "echo kept > /var/data/f"]);
    compose(&["down", "-t", "0"]);
    compose(&["up", "-d", "db"]);
    assert_eq!(
        compose(&["exec", "-T", "db", "cat", "/var/data/f"]).0,
        "kept"
    );
    compose(&["stop", "-t", "0"]);
    compose(&["down", "-v", "-t", "0"]);
    assert_eq!(d.ok(Client::Wharf, "ps -aq"), "");
    assert_eq!(d.ok(Client::Wharf, "volume ls -q"), "");
    assert_eq!(
        d.ok(Client::Wharf, "network ls --format {{.Name}}"),
        "bridge\nhost\nnone"
    );
}
