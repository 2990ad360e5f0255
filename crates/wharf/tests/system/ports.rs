//! Published ports with both clients: for everybody, explained, taken, over IPv4 and IPv6.

use crate::harness::{Client, Daemon, clients, eventually};
use crate::helpers::web;

/// Returns the last line of what a web server answers.
pub fn fetch(url: &str) -> Option<String> {
    let (host, port) = url.rsplit_once(':').unwrap();
    let target: std::net::SocketAddr = format!("{host}:{port}").parse().unwrap();
    let mut stream =
        std::net::TcpStream::connect_timeout(&target, std::time::Duration::from_secs(1)).ok()?;
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(2)))
        .unwrap();
    use std::io::{Read, Write};
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().last().map(str::to_owned)
}

/// Returns the first host port of a container's port.
pub fn published(d: &Daemon, container: &str, port: &str) -> String {
    let shown = d.ok(Client::Wharf, &["port", container, port]);
    let first = shown.lines().next().unwrap();
    first.rsplit(':').next().unwrap().to_owned()
}

#[test]
fn ports_are_published_for_everybody_and_explained() {
    for client in clients() {
        let d = Daemon::with_busybox();
        web(
            &d,
            client,
            "web",
            &["-p", "80", "-p", "127.0.0.1::80", "--expose", "9000", "-P"],
        );
        let shown = d.ok(client, "port web");
        assert!(
            shown.contains("80/tcp -> 0.0.0.0:") && shown.contains("80/tcp -> [::]:"),
            "{shown}"
        );
        assert!(
            shown.contains("80/tcp -> 127.0.0.1:") && shown.contains("9000/tcp -> 0.0.0.0:"),
            "{shown}"
        );
        let port = published(&d, "web", "80");
        for target in ["127.0.0.1", "[::1]"] {
            eventually("the port answers", || {
                fetch(&format!("{target}:{port}")).as_deref() == Some("web")
            });
        }
        let explained = d.ok(Client::Wharf, &["network", "explain", &port]);
        for part in [
            "container web, network bridge",
            "map published_any4",
            "a process listens there",
            "yes  other machines",
        ] {
            assert!(explained.contains(part), "{part} in {explained}");
        }
        d.fails(
            Client::Wharf,
            "network explain 1",
            1,
            "no container publishes port 1",
        );
        d.fails(
            client,
            &[
                "run",
                "--rm",
                "-p",
                &format!("{port}:80"),
                "busybox",
                "true",
            ],
            125,
            &format!("Bind for 0.0.0.0:{port} failed: port is already allocated"),
        );
        // UDP and SCTP are published beside TCP, ranges take what is free.
        d.ok(
            client,
            &[
                "run",
                "-d",
                "--name",
                "many",
                "-p",
                &format!("{port}:5000/udp"),
                "-p",
                &format!("{port}:5000/sctp"),
                "busybox",
                "sleep",
                "1000",
            ],
        );
        let shown = d.ok(client, "port many");
        assert!(
            shown.contains(&format!("5000/udp -> 0.0.0.0:{port}")),
            "{shown}"
        );
        assert!(
            shown.contains(&format!("5000/udp -> [::]:{port}")),
            "{shown}"
        );
        assert!(
            shown.contains(&format!("5000/sctp -> 0.0.0.0:{port}")),
            "{shown}"
        );
        d.ok(client, "rm -f web");
        assert!(fetch(&format!("127.0.0.1:{port}")).is_none());
    }
}

#[test]
fn udp_reaches_containers_from_the_host() {
    let mut d = Daemon::start();
    d.import("debian");
    let echo = "use IO::Socket::INET; \
        my $s = IO::Socket::INET->new(LocalPort => 5000, Proto => 'udp') or die; \
        while (1) { my $from = $s->recv(my $text, 99); $s->send($text); }";
    d.ok(
        Client::Wharf,
        &[
            "run",
            "-d",
            "--name",
            "echo",
            "-p",
            "5000/udp",
            "debian:bookworm-slim",
            "perl",
            "-e",
            echo,
        ],
    );
    let port = published(&d, "echo", "5000/udp");
    // The container has only IPv4; what comes by IPv6 is passed on, also by the next daemon.
    for round in 0..2 {
        for (own, target) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "[::1]")] {
            let socket = std::net::UdpSocket::bind(own).unwrap();
            let patience = std::time::Duration::from_millis(300);
            socket.set_read_timeout(Some(patience)).unwrap();
            eventually(
                &format!("the answer comes from {target}, round {round}"),
                || {
                    let _refused_before = socket.send_to(b"hello", format!("{target}:{port}"));
                    let mut reply = [0; 16];
                    socket
                        .recv(&mut reply)
                        .is_ok_and(|length| &reply[..length] == b"hello")
                },
            );
        }
        d.kill();
        d.launch();
    }
}
