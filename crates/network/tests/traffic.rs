//! What gets through and what does not, with real sockets and the real kernel.

// A test that cannot go on may panic; a skipped one says so.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use support::*;
use wharf_network::{PortRequest, Protocol};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn both(container_port: u16, host_port: u16) -> Vec<PortRequest> {
    vec![
        port(container_port, Protocol::Tcp, host_port),
        port(container_port, Protocol::Udp, host_port),
    ]
}

fn both_at(host_ip: Ipv4Addr, container_port: u16, host_port: u16) -> Vec<PortRequest> {
    both(container_port, host_port)
        .into_iter()
        .map(|port| PortRequest {
            host_ip: Some(host_ip.into()),
            ..port
        })
        .collect()
}

#[test]
fn containers_reach_each_other_by_address() {
    on_private_host(|| {
        let network = open();
        let first = Container::start(&network, vec![]);
        let second = Container::start(&network, vec![]);
        let _server = Server::start(second.namespace.as_fd(), 7000, "second");
        let answer = ask(first.namespace.as_fd(), second.address(), 7000);
        assert_eq!(answer, format!("second {}", first.address()));
        let host = current_namespace();
        let answer = ask(host.as_fd(), second.address(), 7000);
        assert_eq!(answer, format!("second {}", network.gateway()));
    });
}

#[test]
fn containers_reach_other_hosts_with_the_hosts_address() {
    on_private_host(|| {
        let other = other_host();
        let network = open();
        let container = Container::start(&network, vec![]);
        let _server = Server::start(other.as_fd(), 7000, "other");
        let answer = ask(container.namespace.as_fd(), OTHER_HOST_ADDRESS, 7000);
        assert_eq!(answer, format!("other {HOST_ADDRESS}"));
    });
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    on_private_host(|| {
        let other = other_host();
        let host = current_namespace();
        let network = open();
        let gateway = network.gateway();
        let container = Container::start(&network, both(80, 8080));
        let neighbour = Container::start(&network, vec![]);
        let _server = Server::start(container.namespace.as_fd(), 80, "web");
        // From the host itself, whatever address it uses.
        assert_eq!(ask(host.as_fd(), LOCALHOST, 8080), format!("web {gateway}"));
        assert_eq!(
            ask(host.as_fd(), Ipv4Addr::new(127, 9, 9, 9), 8080),
            format!("web {gateway}")
        );
        assert_eq!(
            ask(host.as_fd(), HOST_ADDRESS, 8080),
            format!("web {HOST_ADDRESS}")
        );
        assert_eq!(ask(host.as_fd(), gateway, 8080), format!("web {gateway}"));
        // From another host: the client's own address is seen.
        assert_eq!(
            ask(other.as_fd(), HOST_ADDRESS, 8080),
            format!("web {OTHER_HOST_ADDRESS}")
        );
        // From another container and from itself, through the host's addresses.
        for from in [&neighbour, &container] {
            assert_eq!(
                ask(from.namespace.as_fd(), HOST_ADDRESS, 8080),
                format!("web {gateway}")
            );
            assert_eq!(
                ask(from.namespace.as_fd(), gateway, 8080),
                format!("web {gateway}")
            );
        }
    });
}

/// Packets to an IPv6 address reach a container that has only IPv4; the answer comes from where they were sent to.
#[test]
fn udp_at_ipv6_reaches_a_container_that_has_only_ipv4() {
    on_private_host(|| {
        let network = open();
        let gateway = network.gateway();
        run("ip", &["addr", "add", "fd00:77::1/64", "dev", "lo"]);
        let at_one = PortRequest {
            host_ip: Some("fd00:77::1".parse().unwrap()),
            ..port(80, Protocol::Udp, 8081)
        };
        let container = Container::start(&network, vec![port(80, Protocol::Udp, 8080), at_one]);
        let published: Vec<String> = container
            .ports
            .iter()
            .map(|port| std::net::SocketAddr::new(port.host_ip, port.host_port).to_string())
            .collect();
        assert_eq!(
            published,
            ["0.0.0.0:8080", "[::]:8080", "[fd00:77::1]:8081"]
        );
        let _server = Server::start(container.namespace.as_fd(), 80, "web");
        let ask = |target: &str| {
            let socket = std::net::UdpSocket::bind("[::]:0").unwrap();
            socket
                .set_read_timeout(Some(std::time::Duration::from_secs(20)))
                .unwrap();
            // A connected socket takes answers from there only.
            socket.connect(target).unwrap();
            socket.send(b"?").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        for target in ["[::1]:8080", "[fd00:77::1]:8080", "[fd00:77::1]:8081"] {
            assert_eq!(ask(target), format!("web {gateway}"), "{target}");
        }
        container.stop(&network);
        // The port is free for others when the container is gone.
        std::net::UdpSocket::bind("[::]:8080").unwrap();
    });
}

#[test]
fn a_port_at_a_loopback_address_is_reached_from_the_host_only() {
    on_private_host(|| {
        let other = other_host();
        let host = current_namespace();
        let network = open();
        let container = Container::start(&network, both_at(LOCALHOST, 80, 8080));
        let neighbour = Container::start(&network, vec![]);
        let _server = Server::start(container.namespace.as_fd(), 80, "web");
        assert_eq!(
            ask(host.as_fd(), LOCALHOST, 8080),
            format!("web {}", network.gateway())
        );
        assert_silent(host.as_fd(), HOST_ADDRESS, 8080);
        assert_silent(other.as_fd(), HOST_ADDRESS, 8080);
        assert_silent(neighbour.namespace.as_fd(), network.gateway(), 8080);
        // A neighbour on the same cable or bridge that sends to 127.0.0.1 through this host.
        inside(other.as_fd(), || {
            run(
                "sh",
                &["-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet"],
            );
            run(
                "ip",
                &[
                    "route",
                    "add",
                    "127.0.0.1/32",
                    "via",
                    &HOST_ADDRESS.to_string(),
                ],
            );
        });
        assert_silent(other.as_fd(), LOCALHOST, 8080);
        inside(neighbour.namespace.as_fd(), || {
            run("ip", &["link", "set", "lo", "down"]);
            run(
                "sh",
                &["-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet"],
            );
            run(
                "ip",
                &[
                    "route",
                    "add",
                    "127.0.0.1/32",
                    "via",
                    &network.gateway().to_string(),
                ],
            );
        });
        assert_silent(neighbour.namespace.as_fd(), LOCALHOST, 8080);
    });
}

#[test]
fn a_port_at_one_host_address_is_reached_at_that_address_only() {
    on_private_host(|| {
        let other = other_host();
        let host = current_namespace();
        let network = open();
        let container = Container::start(&network, both_at(HOST_ADDRESS, 80, 8080));
        let _server = Server::start(container.namespace.as_fd(), 80, "web");
        assert_eq!(
            ask(other.as_fd(), HOST_ADDRESS, 8080),
            format!("web {OTHER_HOST_ADDRESS}")
        );
        assert_silent(host.as_fd(), LOCALHOST, 8080);
    });
}

#[test]
fn containers_are_not_reached_directly_from_other_hosts() {
    on_private_host(|| {
        let other = other_host();
        let network = open();
        let container = Container::start(&network, both(80, 8080));
        let _server = Server::start(container.namespace.as_fd(), 80, "web");
        inside(other.as_fd(), || {
            let subnet = network.subnet().to_string();
            run(
                "ip",
                &["route", "add", &subnet, "via", &HOST_ADDRESS.to_string()],
            );
        });
        assert_silent(other.as_fd(), container.address(), 80);
    });
}

#[test]
fn two_daemons_do_not_disturb_each_other() {
    on_private_host(|| {
        let host = current_namespace();
        let first = open();
        let second = open_as("wharf0", "wharf");
        let here = Container::start(&first, both(80, 8080));
        let there = Container::start(&second, both(80, 8081));
        let _here = Server::start(here.namespace.as_fd(), 80, "here");
        let _there = Server::start(there.namespace.as_fd(), 80, "there");
        assert_eq!(
            ask(host.as_fd(), LOCALHOST, 8080),
            format!("here {}", first.gateway())
        );
        assert_eq!(
            ask(host.as_fd(), LOCALHOST, 8081),
            format!("there {}", second.gateway())
        );
        assert!(ask(here.namespace.as_fd(), first.gateway(), 8081).starts_with("there "));
        assert_silent(here.namespace.as_fd(), there.address(), 80);
        second.destroy().unwrap();
        assert_eq!(
            ask(host.as_fd(), LOCALHOST, 8080),
            format!("here {}", first.gateway())
        );
    });
}

#[test]
fn a_client_that_keeps_sending_reaches_the_next_owner_of_a_port() {
    on_private_host(|| {
        let other = other_host();
        let network = open();
        let target = SocketAddrV4::new(HOST_ADDRESS, 8080);
        let client = inside(other.as_fd(), || UdpSocket::bind("0.0.0.0:0").unwrap());
        for label in ["first", "second"] {
            let container = Container::start(&network, both(80, 8080));
            let _server = Server::start(container.namespace.as_fd(), 80, label);
            let answer = udp_ask(&client, target, Duration::from_secs(5)).unwrap();
            assert_eq!(answer, format!("{label} {OTHER_HOST_ADDRESS}"));
            container.stop(&network);
        }
    });
}

/// Waits until an answer comes, as after a repair.
fn eventually_answers(from: std::os::fd::BorrowedFd<'_>, port: u16) -> Duration {
    let start = std::time::Instant::now();
    inside(from, || {
        let target = std::net::SocketAddr::from((LOCALHOST, port));
        while std::net::TcpStream::connect_timeout(&target, Duration::from_millis(50))
            .and_then(|mut stream| {
                // Until the rules are back the socket that holds the port takes the connection.
                stream.set_read_timeout(Some(Duration::from_millis(50)))?;
                let mut text = String::new();
                std::io::Read::read_to_string(&mut stream, &mut text)
            })
            .unwrap_or_default()
            == 0
        {
            assert!(start.elapsed() < Duration::from_secs(5), "no answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    start.elapsed()
}

#[test]
fn a_flushed_firewall_is_mended_at_once() {
    on_private_host(|| {
        let host = current_namespace();
        let network = open();
        let first = Container::start(&network, both(80, 8080));
        let _first = Server::start(first.namespace.as_fd(), 80, "first");
        for damage in [
            vec!["flush", "ruleset"],
            vec!["delete", "table", "inet", "wharf_0a1b2c3d"],
            vec!["flush", "chain", "inet", "wharf_0a1b2c3d", "publish"],
            vec!["flush", "map", "inet", "wharf_0a1b2c3d", "published_any4"],
        ] {
            run("nft", &damage);
            let took = eventually_answers(host.as_fd(), 8080);
            println!("{damage:?}: mended after {took:?}");
        }
        // Publishing while nobody has mended yet mends too.
        run("nft", &["flush", "ruleset"]);
        let second = Container::start(&network, both(80, 8081));
        let _second = Server::start(second.namespace.as_fd(), 80, "second");
        assert_eq!(
            ask(host.as_fd(), LOCALHOST, 8080),
            format!("first {}", network.gateway())
        );
        assert_eq!(
            ask(host.as_fd(), LOCALHOST, 8081),
            format!("second {}", network.gateway())
        );
    });
}
