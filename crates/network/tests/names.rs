//! Names in containers: the resolver at 127.0.0.11, whom it asks, and what it does when nobody answers.

// A test that cannot go on may panic; a skipped one says so.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::*;
use wharf_network::{EndpointRequest, NetworkRequest, Networks, ResolverRequest, Upstream};

fn make(host: &Host, request: NetworkRequest) -> Used<'_> {
    let config = host.create(request).unwrap();
    host.with(config)
}

/// Asks 127.0.0.11 for an A record by UDP and returns code and addresses; asks again when a packet is lost, as clients do.
fn ask_by_udp(namespace: BorrowedFd<'_>, name: &str) -> (u8, Vec<Ipv4Addr>) {
    let question = question(name);
    inside(namespace, || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut reply = [0; 1500];
        for _ in 0..3 {
            socket.send_to(&question, "127.0.0.11:53").unwrap();
            if let Ok((length, _)) = socket.recv_from(&mut reply) {
                return read_reply(&question, &reply[..length]);
            }
        }
        panic!("no answer for {name}");
    })
}

fn question(name: &str) -> Vec<u8> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    question
}

fn read_reply(question: &[u8], reply: &[u8]) -> (u8, Vec<Ipv4Addr>) {
    let answers = u16::from_be_bytes([reply[6], reply[7]]);
    // Records without other sections: a compressed name, type, class, time, length, address.
    let records = reply[question.len()..].chunks_exact(16);
    let addresses = records
        .take(answers.into())
        .map(|record| Ipv4Addr::new(record[12], record[13], record[14], record[15]))
        .collect();
    (reply[3] & 15, addresses)
}

/// Asks 127.0.0.11 for an A record by UDP and TCP and returns code and addresses.
fn resolve(namespace: BorrowedFd<'_>, name: &str) -> (u8, Vec<Ipv4Addr>) {
    let question = question(name);
    inside(namespace, || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        socket.send_to(&question, "127.0.0.11:53").unwrap();
        let mut reply = [0; 1500];
        let (length, from) = socket.recv_from(&mut reply).unwrap();
        assert_eq!(from, "127.0.0.11:53".parse().unwrap());
        let reply = &reply[..length];
        // The same question by TCP gets the same answer.
        let mut stream = TcpStream::connect("127.0.0.11:53").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let framed = [&(question.len() as u16).to_be_bytes()[..], &question].concat();
        std::io::Write::write_all(&mut stream, &framed).unwrap();
        let mut header = [0; 14];
        std::io::Read::read_exact(&mut stream, &mut header).unwrap();
        assert_eq!(header[5] & 15, reply[3] & 15);
        read_reply(&question, reply)
    })
}

fn resolver(upstream: Upstream) -> ResolverRequest {
    ResolverRequest {
        upstream,
        ndots_set: false,
        ports: None,
    }
}

fn named(host: &Host, used: &Used<'_>, names: &[&str]) -> Container {
    let wanted = EndpointRequest {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..request(&used.config)
    };
    Container::join(host, &wanted, vec![]).unwrap()
}

fn serve(
    networks: &Networks,
    container: &Container,
    request: &ResolverRequest,
) -> wharf_network::ResolverPorts {
    networks
        .serve_names(
            &container.endpoint.container_id,
            container.namespace.try_clone().unwrap(),
            request,
        )
        .unwrap()
}

/// A name server that gives every name the same address.
fn name_server(namespace: BorrowedFd<'_>, address: Ipv4Addr) {
    name_server_at(namespace, Ipv4Addr::UNSPECIFIED, address);
}

fn name_server_at(namespace: BorrowedFd<'_>, own: Ipv4Addr, address: Ipv4Addr) {
    let (udp, tcp) = inside(namespace, || {
        (
            UdpSocket::bind((own, 53)).unwrap(),
            std::net::TcpListener::bind((own, 53)).unwrap(),
        )
    });
    let reply = move |question: &[u8]| {
        let mut reply = question.to_vec();
        reply[2] |= 0x80;
        reply[7] = 1;
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
        reply.extend_from_slice(&address.octets());
        reply
    };
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&reply(&buffer[..length]), peer);
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            let mut length = [0; 2];
            if std::io::Read::read_exact(&mut stream, &mut length).is_err() {
                continue;
            }
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            let _ = std::io::Read::read_exact(&mut stream, &mut question);
            let reply = reply(&question);
            let framed = [&(reply.len() as u16).to_be_bytes()[..], &reply].concat();
            let _ = std::io::Write::write_all(&mut stream, &framed);
        }
    });
}

#[test]
fn names_are_answered_inside_containers() {
    on_private_host(|| {
        let host = open();
        let front = make(&host, network("front"));
        let web = named(&host, &front, &["web", "www"]);
        let db = named(&host, &front, &["db", "www"]);
        // The container's own name server does not get in the way.
        let _own = inside(web.namespace.as_fd(), || {
            UdpSocket::bind("0.0.0.0:53").unwrap()
        });
        let ports = serve(&host, &web, &resolver(Upstream::Container(vec![])));
        assert_eq!(
            resolve(web.namespace.as_fd(), "db"),
            (0, vec![db.address()])
        );
        assert_eq!(
            resolve(web.namespace.as_fd(), "DB.front"),
            (0, vec![db.address()])
        );
        let (_, mut both) = resolve(web.namespace.as_fd(), "www");
        both.sort();
        assert_eq!(both, [web.address(), db.address()]);
        // SERVFAIL: nobody to ask.
        assert_eq!(resolve(web.namespace.as_fd(), "example.org").0, 2);
        host.set_names(&db.endpoint.endpoint_id, vec!["database".into()]);
        assert_eq!(resolve(web.namespace.as_fd(), "db").0, 2);
        assert_eq!(
            resolve(web.namespace.as_fd(), "database"),
            (0, vec![db.address()])
        );
        db.stop(&host);
        assert_eq!(resolve(web.namespace.as_fd(), "database").0, 2);
        // A later daemon listens at the same place.
        host.stop_names(&web.endpoint.container_id);
        let again = serve(
            &host,
            &web,
            &ResolverRequest {
                ports: Some(ports),
                ..resolver(Upstream::Container(vec![]))
            },
        );
        assert_eq!(again, ports);
        assert_eq!(
            resolve(web.namespace.as_fd(), "web"),
            (0, vec![web.address()])
        );
    });
}

#[test]
fn other_names_are_asked_of_the_containers_servers_from_its_namespace() {
    on_private_host(|| {
        let host = open();
        let front = make(&host, network("front"));
        let inner = make(
            &host,
            NetworkRequest {
                internal: true,
                ..network("inner")
            },
        );
        let known = Ipv4Addr::new(192, 0, 2, 7);
        for used in [&front, &inner] {
            let server = named(&host, used, &["ns"]);
            let client = named(&host, used, &["client"]);
            name_server(server.namespace.as_fd(), known);
            let servers = vec![IpAddr::from(server.address()).into()];
            serve(&host, &client, &resolver(Upstream::Container(servers)));
            assert_eq!(
                resolve(client.namespace.as_fd(), "example.org"),
                (0, vec![known])
            );
            // The host's servers are asked only where something leads out.
            serve(&host, &client, &resolver(Upstream::Host));
            if used.config.internal {
                assert_eq!(resolve(client.namespace.as_fd(), "example.org").0, 2);
            }
        }
    });
}

/// The file of the host's servers: one of the test's own in place of the machine's.
struct HostServers(PathBuf);

impl HostServers {
    /// Puts a file in its place for the calling thread and those it starts.
    fn own() -> HostServers {
        // SAFETY: only the mount namespace of this thread and its own root and working directory change.
        unsafe {
            rustix::thread::unshare_unsafe(
                rustix::thread::UnshareFlags::NEWNS | rustix::thread::UnshareFlags::FS,
            )
        }
        .unwrap();
        run("mount", &["--make-rprivate", "/"]);
        let directory = std::env::temp_dir().join(format!("wharf-names-{}", container_id()));
        std::fs::create_dir_all(&directory).unwrap();
        run(
            "mount",
            &["-t", "tmpfs", "tmpfs", directory.to_str().unwrap()],
        );
        let file = directory.join("resolv.conf");
        std::fs::write(&file, "").unwrap();
        run(
            "mount",
            &["--bind", file.to_str().unwrap(), "/etc/resolv.conf"],
        );
        HostServers(directory)
    }

    fn are(&self, servers: &[&str]) {
        let lines = servers
            .iter()
            .map(|server| format!("nameserver {server}\n"));
        std::fs::write(
            Path::new(&self.0).join("resolv.conf"),
            lines.collect::<String>(),
        )
        .unwrap();
    }
}

impl Drop for HostServers {
    fn drop(&mut self) {
        run("umount", &[self.0.to_str().unwrap()]);
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Servers on the host's loopback, as systemd-resolved's, are reached; the file is read for every question; a server
/// that is not there or does not answer is passed over, and holds nobody else up.
#[test]
fn the_hosts_servers_are_those_of_this_moment() {
    on_private_host(|| {
        let servers = HostServers::own();
        let host = open();
        let front = make(&host, network("front"));
        let inner = make(
            &host,
            NetworkRequest {
                internal: true,
                ..network("inner")
            },
        );
        let client = named(&host, &front, &["client"]);
        let kept_in = named(&host, &inner, &["kept-in"]);
        for container in [&client, &kept_in] {
            serve(&host, container, &resolver(Upstream::Host));
        }
        let here = current_namespace();
        let (one, two) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        name_server_at(here.as_fd(), Ipv4Addr::new(127, 0, 0, 53), one);
        name_server_at(here.as_fd(), Ipv4Addr::new(127, 0, 0, 54), two);
        let ask = |name: &str| resolve(client.namespace.as_fd(), name);
        // SERVFAIL: nobody to ask.
        assert_eq!(ask("example.org").0, 2);
        servers.are(&["127.0.0.53"]);
        assert_eq!(ask("example.org"), (0, vec![one]));
        servers.are(&["127.0.0.54", "127.0.0.53"]);
        assert_eq!(ask("example.org"), (0, vec![two]));
        assert_eq!(resolve(kept_in.namespace.as_fd(), "example.org").0, 2);
        // Nobody listens at the first.
        servers.are(&["127.0.0.55", "127.0.0.53"]);
        assert_eq!(ask("example.org"), (0, vec![one]));
        // The first takes questions and says nothing.
        let _silent = UdpSocket::bind("127.0.0.56:53").unwrap();
        servers.are(&["127.0.0.56", "127.0.0.53"]);
        let answered = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| {
                let (code, addresses) = ask_by_udp(client.namespace.as_fd(), "slow.example.org");
                answered.store(true, Ordering::Relaxed);
                (code, addresses)
            });
            assert_eq!(
                ask_by_udp(client.namespace.as_fd(), "client"),
                (0, vec![client.address()])
            );
            assert!(!answered.load(Ordering::Relaxed), "the slow one is slow");
            assert_eq!(slow.join().unwrap(), (0, vec![one]));
        });
    });
}

/// A thousand questions at once, half of which others have to be asked for.
#[test]
fn many_questions_at_once_are_all_answered() {
    const THREADS: usize = 20;
    const QUESTIONS: usize = 50;
    on_private_host(|| {
        let servers = HostServers::own();
        let host = open();
        let front = make(&host, network("front"));
        let client = named(&host, &front, &["client"]);
        let db = named(&host, &front, &["db"]);
        serve(&host, &client, &resolver(Upstream::Host));
        let known = Ipv4Addr::new(192, 0, 2, 1);
        let here = current_namespace();
        name_server_at(here.as_fd(), Ipv4Addr::new(127, 0, 0, 53), known);
        servers.are(&["127.0.0.53"]);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (client, db) = (&client, &db);
                scope.spawn(move || {
                    for number in 0..QUESTIONS {
                        let (name, expected) = match number % 2 {
                            0 => ("db".to_owned(), db.address()),
                            _ => (format!("n{thread}-{number}.example.org"), known),
                        };
                        let answer = ask_by_udp(client.namespace.as_fd(), &name);
                        assert_eq!(answer, (0, vec![expected]), "{name}");
                    }
                });
            }
        });
    });
}
