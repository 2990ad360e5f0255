//! Networks of users: isolation, IPv6, options, several networks a container.

// A test that cannot go on may panic; a skipped one says so.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use support::*;
use wharf_network::{EndpointRequest, NetworkError, NetworkRequest, PortRequest, Protocol};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn make(host: &Host, request: NetworkRequest) -> Used<'_> {
    let config = host.create(request).unwrap();
    host.with(config)
}

fn reaches(from: BorrowedFd<'_>, address: IpAddr, port: u16) -> bool {
    answers(from, address, port, Duration::from_secs(5))
}

/// For what must not be reached.
fn reaches_soon(from: BorrowedFd<'_>, address: IpAddr, port: u16) -> bool {
    answers(from, address, port, Duration::from_millis(500))
}

fn answers(from: BorrowedFd<'_>, address: IpAddr, port: u16, patience: Duration) -> bool {
    inside(from, || {
        let target = SocketAddr::new(address, port);
        TcpStream::connect_timeout(&target, patience)
            .and_then(|mut stream| {
                stream.set_read_timeout(Some(patience))?;
                let mut text = String::new();
                std::io::Read::read_to_string(&mut stream, &mut text)
            })
            .is_ok_and(|length| length > 0)
    })
}

fn serve6(from: BorrowedFd<'_>, port: u16) {
    let listener = inside(from, || std::net::TcpListener::bind(("::", port)).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _ = std::io::Write::write_all(&mut stream, peer.ip().to_string().as_bytes());
        }
    });
}

/// Asks again for a while: the kernel tells IPv6 of a new interface's carrier up to a second late.
fn asked6(from: BorrowedFd<'_>, target: &str) -> std::io::Result<String> {
    let target: SocketAddr = target.parse().unwrap();
    inside(from, || {
        let ask = || {
            let mut stream = TcpStream::connect_timeout(&target, Duration::from_millis(1500))?;
            stream.set_read_timeout(Some(Duration::from_millis(1500)))?;
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stream, &mut text)?;
            Ok(text)
        };
        for _ in 0..3 {
            if let Ok(text) = ask() {
                return Ok(text);
            }
        }
        ask()
    })
}

#[test]
fn networks_are_kept_apart() {
    on_private_host(|| {
        let host = open();
        let front = make(&host, network("front"));
        let back = make(&host, network("back"));
        let here = Container::on(&front, vec![]);
        let also_here = Container::on(&front, vec![]);
        let there = Container::on(&back, vec![]);
        let _here = Server::start(here.namespace.as_fd(), 80, "here");
        let _there = Server::start(there.namespace.as_fd(), 80, "there");
        assert!(ask(also_here.namespace.as_fd(), here.address(), 80).starts_with("here"));
        assert!(!reaches_soon(
            here.namespace.as_fd(),
            there.address().into(),
            80
        ));
        assert!(!reaches_soon(
            there.namespace.as_fd(),
            here.address().into(),
            80
        ));
        assert!(reaches(
            current_namespace().as_fd(),
            here.address().into(),
            80
        ));
    });
}

#[test]
fn an_internal_network_leads_nowhere() {
    on_private_host(|| {
        let other = other_host();
        let host = open();
        let inner = make(
            &host,
            NetworkRequest {
                internal: true,
                ..network("inner")
            },
        );
        let first = Container::on(&inner, vec![port(80, Protocol::Tcp, 8080)]);
        let second = Container::on(&inner, vec![]);
        assert!(first.ports.is_empty(), "nothing is published");
        let outside = Container::start(&host, vec![port(80, Protocol::Tcp, 8081)]);
        let _first = Server::start(first.namespace.as_fd(), 80, "first");
        let _outside = Server::start(outside.namespace.as_fd(), 80, "outside");
        let _other = Server::start(other.as_fd(), 7000, "other");
        assert!(reaches(
            second.namespace.as_fd(),
            first.address().into(),
            80
        ));
        // Even a container that makes itself a way out gets nowhere.
        inside(first.namespace.as_fd(), || {
            assert!(!run("ip", &["route"]).contains("default"));
            let gateway = gateway(&inner.config).to_string();
            run("ip", &["route", "add", "default", "via", &gateway]);
        });
        assert!(!reaches_soon(
            first.namespace.as_fd(),
            OTHER_HOST_ADDRESS.into(),
            7000
        ));
        assert!(!reaches_soon(
            first.namespace.as_fd(),
            outside.address().into(),
            80
        ));
        assert!(!reaches_soon(
            first.namespace.as_fd(),
            HOST_ADDRESS.into(),
            8081
        ));
        assert!(!reaches_soon(
            outside.namespace.as_fd(),
            first.address().into(),
            80
        ));
    });
}

#[test]
fn containers_without_icc_meet_only_over_links() {
    on_private_host(|| {
        let host = open();
        let apart = make(
            &host,
            option(
                network("apart"),
                "com.docker.network.bridge.enable_icc",
                "false",
            ),
        );
        let server = Container::on(&apart, vec![port(80, Protocol::Tcp, 8080)]);
        let client = Container::on(&apart, vec![]);
        let _server = Server::start(server.namespace.as_fd(), 80, "server");
        assert!(!reaches_soon(
            client.namespace.as_fd(),
            server.address().into(),
            80
        ));
        host.set_links(
            &client.endpoint.container_id,
            vec![wharf_network::AllowedLink {
                from: client.address(),
                to: server.address(),
                protocol: Protocol::Tcp,
                port: 80,
            }],
        )
        .unwrap();
        assert!(reaches(
            client.namespace.as_fd(),
            server.address().into(),
            80
        ));
        host.set_links(&client.endpoint.container_id, vec![])
            .unwrap();
        assert!(!reaches_soon(
            client.namespace.as_fd(),
            server.address().into(),
            80
        ));
        assert!(reaches(current_namespace().as_fd(), LOCALHOST.into(), 8080));
    });
}

#[test]
fn ipv6_works_between_containers_and_on_published_ports() {
    on_private_host(|| {
        run("ip", &["addr", "add", "fd77::1/64", "dev", "lo"]);
        let host = open();
        let six = make(
            &host,
            NetworkRequest {
                ipv6: true,
                ..network("six")
            },
        );
        assert_eq!(six.config.pools[1].subnet.to_string(), "fd01:203:405::/64");
        let server = Container::on(&six, vec![port(80, Protocol::Tcp, 8080)]);
        let client = Container::on(&six, vec![]);
        let shown: Vec<String> = server
            .ports
            .iter()
            .map(|port| format!("{} {}", port.host_ip, port.host_port))
            .collect();
        assert_eq!(shown, ["0.0.0.0 8080", ":: 8080"]);
        serve6(server.namespace.as_fd(), 80);
        let address = server.endpoint.ipv6.unwrap().address;
        let from = client.namespace.as_fd();
        assert_eq!(
            asked6(from, &format!("[{address}]:80")).unwrap(),
            client.endpoint.ipv6.unwrap().address.to_string()
        );
        // From the host, its loopback address too, and from a container through the host.
        let here = current_namespace();
        assert!(asked6(here.as_fd(), "[fd77::1]:8080").is_ok());
        assert!(asked6(from, "[fd77::1]:8080").is_ok());
        assert!(asked6(here.as_fd(), "[::1]:8080").is_ok());
        inside(from, || {
            let routes = run("ip", &["-6", "route"]);
            assert!(routes.contains("default via fd01:203:405::1"), "{routes}");
        });
        // A container that has only IPv4 is reached by TCP all the same, not by UDP.
        let four = Container::start(&host, vec![port(80, Protocol::Tcp, 8081)]);
        let _server = Server::start(four.namespace.as_fd(), 80, "four");
        for target in ["[::1]:8081", "[fd77::1]:8081"] {
            let answer = asked6(here.as_fd(), target).unwrap();
            assert!(answer.starts_with("four"), "{answer}");
        }
        four.stop(&host);
        assert!(asked6(here.as_fd(), "[::1]:8081").is_err());
        let four = Container::start(&host, vec![]);
        let refused = host.publish(
            &four.endpoint.container_id,
            &[PortRequest {
                host_ip: Some("fd77::1".parse().unwrap()),
                ..port(80, Protocol::Sctp, 8081)
            }],
        );
        assert!(matches!(
            refused,
            Err(NetworkError::NoAddressOfFamily { .. })
        ));
    });
}

#[test]
fn fixed_addresses_ranges_and_auxiliary_addresses_are_kept_to() {
    on_private_host(|| {
        let host = open();
        let mut wanted = network("fixed");
        wanted.pools = vec![wharf_network::PoolRequest {
            range: Some("10.88.1.128/25".parse().unwrap()),
            gateway: Some("10.88.1.254".parse().unwrap()),
            auxiliary: [("router".to_owned(), "10.88.1.128".parse().unwrap())].into(),
            ..pool("10.88.1.0/24")
        }];
        let fixed = make(&host, wanted);
        let first = Container::on(&fixed, vec![]);
        assert_eq!(first.address().to_string(), "10.88.1.129");
        inside(first.namespace.as_fd(), || {
            assert!(run("ip", &["route"]).contains("default via 10.88.1.254"));
        });
        let at = |address: &str| {
            Container::join(
                &host,
                &EndpointRequest {
                    ipv4: Some(address.parse().unwrap()),
                    ..request(&fixed.config)
                },
                vec![],
            )
        };
        assert_eq!(at("10.88.1.7").unwrap().address().to_string(), "10.88.1.7");
        for (address, text) in [
            ("10.88.1.7", "Address already in use"),
            ("10.88.1.128", "Address already in use"),
            ("10.88.2.1", "address 10.88.2.1 is not a container address"),
        ] {
            let refused = at(address).err().unwrap().to_string();
            assert!(refused.starts_with(text), "{refused}");
        }
    });
}

#[test]
fn a_container_leaves_by_its_first_network() {
    on_private_host(|| {
        let host = open();
        let alpha = make(&host, network("alpha"));
        let beta = make(&host, network("beta"));
        let routes =
            |container: &Container| inside(container.namespace.as_fd(), || run("ip", &["route"]));
        let container = Container::on(&beta, vec![port(80, Protocol::Tcp, 8080)]);
        let _server = Server::start(container.namespace.as_fd(), 80, "web");
        let join = |used: &Used<'_>, priority| EndpointRequest {
            container_id: container.endpoint.container_id.clone(),
            gateway_priority: priority,
            ..request(&used.config)
        };
        assert!(routes(&container).contains(&format!("default via {}", gateway(&beta.config))));
        // The name decides, then the priority.
        let first = host
            .attach(container.namespace.as_fd(), &join(&alpha, 0))
            .unwrap();
        assert_eq!(first.interface, "eth1");
        assert!(routes(&container).contains(&format!("default via {}", gateway(&alpha.config))));
        host.leave(container.namespace.as_fd(), &first).unwrap();
        assert!(routes(&container).contains(&format!("default via {}", gateway(&beta.config))));
        assert!(!inside(container.namespace.as_fd(), || run("ip", &["link"])).contains("eth1"));
        let gamma = make(&host, network("gamma"));
        let first = host
            .attach(container.namespace.as_fd(), &join(&gamma, 7))
            .unwrap();
        assert!(routes(&container).contains(&format!("default via {}", gateway(&gamma.config))));
        // Ports follow the gateway and keep their numbers.
        let ports = host
            .publish(
                &container.endpoint.container_id,
                &[port(80, Protocol::Tcp, 8080)],
            )
            .unwrap();
        assert_eq!(Some(ports[0].address), first.address(false));
        let here = current_namespace();
        assert!(reaches(here.as_fd(), LOCALHOST.into(), 8080));
    });
}

#[test]
fn routed_and_unprotected_networks_are_reached_by_their_own_addresses() {
    on_private_host(|| {
        let other = other_host();
        let host = open();
        let mode = "com.docker.network.bridge.gateway_mode_ipv4";
        let routed = make(&host, option(network("routed"), mode, "routed"));
        let open_ = make(&host, option(network("open"), mode, "nat-unprotected"));
        let closed = make(&host, network("closed"));
        inside(other.as_fd(), || {
            for used in [&routed, &open_, &closed] {
                let subnet = used.config.pools[0].subnet.to_string();
                run(
                    "ip",
                    &["route", "add", &subnet, "via", &HOST_ADDRESS.to_string()],
                );
            }
        });
        let published = || vec![port(80, Protocol::Tcp, 8080)];
        let routed = Container::on(&routed, published());
        assert_eq!(routed.ports[0].host_port, 0);
        let open_ = Container::on(&open_, vec![]);
        let closed = Container::on(&closed, published());
        let servers = [&routed, &open_, &closed]
            .map(|container| Server::start(container.namespace.as_fd(), 80, "web"));
        let _more = Server::start(routed.namespace.as_fd(), 81, "unpublished");
        assert!(reaches(other.as_fd(), routed.address().into(), 80));
        assert!(!reaches_soon(other.as_fd(), routed.address().into(), 81));
        assert!(reaches(other.as_fd(), open_.address().into(), 80));
        assert!(!reaches_soon(other.as_fd(), closed.address().into(), 80));
        drop(servers);
    });
}

#[test]
fn networks_come_and_go_and_leave_nothing() {
    on_private_host(|| {
        let host = open();
        let rules = || run("nft", &["list", "ruleset"]);
        let (links, before) = (run("ip", &["-o", "link"]).lines().count(), rules());
        let named = make(
            &host,
            option(network("named"), "com.docker.network.bridge.name", "mine0"),
        );
        assert_eq!(host.device(&named.config.id).as_deref(), Some("mine0"));
        let taken = host.create(option(
            network("other"),
            "com.docker.network.bridge.name",
            "mine0",
        ));
        assert!(matches!(taken, Err(NetworkError::BridgeNameTaken { .. })));
        let container = Container::on(&named, vec![]);
        assert!(matches!(
            host.remove(&named.config.id),
            Err(NetworkError::NetworkInUse { .. })
        ));
        container.stop(&host);
        host.remove(&named.config.id).unwrap();
        host.remove(&named.config.id).unwrap();
        assert_eq!(run("ip", &["-o", "link"]).lines().count(), links);
        assert_eq!(rules(), before);
        // A bridge that was there before stays.
        run("ip", &["link", "add", "theirs0", "type", "bridge"]);
        run("ip", &["addr", "add", "10.99.0.9/24", "dev", "theirs0"]);
        let mut wanted = option(
            network("theirs"),
            "com.docker.network.bridge.name",
            "theirs0",
        );
        wanted.pools = vec![pool("10.98.0.0/24")];
        let theirs = make(&host, wanted);
        host.remove(&theirs.config.id).unwrap();
        let shown = run("ip", &["addr", "show", "theirs0"]);
        assert!(
            shown.contains("10.99.0.9") && !shown.contains("10.98.0"),
            "{shown}"
        );
    });
}

#[test]
fn the_next_daemon_finds_its_networks_again() {
    on_private_host(|| {
        let host = open();
        let front = make(
            &host,
            NetworkRequest {
                ipv6: true,
                ..network("front")
            },
        );
        let gone = make(&host, network("gone"));
        let gone_device = host.device(&gone.config.id).unwrap();
        let container = Container::on(&front, vec![port(80, Protocol::Tcp, 8080)]);
        let _server = Server::start(container.namespace.as_fd(), 80, "web");
        let configs = vec![host.config.clone(), front.config.clone()];
        let front = front.config.clone();
        drop(host);
        // Meanwhile somebody took everything away.
        run("nft", &["flush", "ruleset"]);
        let device = format!("br-{}", &front.id[..12]);
        run("ip", &["link", "del", &device]);
        let host = open_again(configs, &[&container]);
        assert!(!run("ip", &["-o", "link"]).contains(&gone_device));
        assert!(reaches(current_namespace().as_fd(), LOCALHOST.into(), 8080));
        let next = Container::on(&host.with(front), vec![]);
        assert_ne!(next.address(), container.address());
        assert!(reaches(
            next.namespace.as_fd(),
            container.address().into(),
            80
        ));
    });
}
