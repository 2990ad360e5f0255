//! Names, addresses and ports over the life of a daemon, with the real kernel.

// A test that cannot go on may panic; a skipped one says so.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{network as network_request, *};
use wharf_network::{
    Endpoint, EndpointRequest, HostPorts, NetworkError, Networks, PortRequest, Protocol,
};

fn ranged(range: std::ops::RangeInclusive<u16>) -> PortRequest {
    PortRequest {
        host_ports: HostPorts::Range(range),
        ..port(80, Protocol::Tcp, 1)
    }
}

fn ephemeral(protocol: Protocol) -> PortRequest {
    PortRequest {
        host_ports: HostPorts::Ephemeral,
        ..port(80, protocol, 1)
    }
}

fn refusal(network: &Host, ports: Vec<PortRequest>) -> String {
    Container::try_start(network, ports)
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

fn host_port(container: &Container) -> u16 {
    container.ports[0].host_port
}

/// Everything of the daemon that can be left behind: ports of its bridge and map elements.
fn leftovers() -> String {
    let table = run("nft", &["list", "table", "inet", "wharf_0a1b2c3d"]);
    // Sets of networks are there while the daemon is.
    let elements = table
        .split("\n\t}")
        .filter(|set| set.contains("map published_") || set.contains("set routed"))
        .flat_map(str::lines)
        .filter(|line| line.contains("elements"));
    let links = run("ip", &["-br", "link", "show", "master", "wh0a1b2c3d"]);
    let names = links.lines().filter_map(|line| line.split('@').next());
    names.chain(elements).collect::<Vec<_>>().join("\n")
}

/// Waits until nothing but `expected` is left: interfaces go a moment after their containers.
fn assert_leftovers(expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while leftovers() != expected && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(leftovers(), expected);
}

#[test]
fn a_bridge_is_made_with_forwarding_and_the_first_pool() {
    on_private_host(|| {
        run("sh", &["-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]);
        let network = open();
        assert_eq!(network.subnet().to_string(), "172.17.0.0/16");
        assert_eq!(network.gateway(), Ipv4Addr::new(172, 17, 0, 1));
        assert_eq!(network.device(DEFAULT_ID).as_deref(), Some("wh0a1b2c3d"));
        assert_eq!(run("cat", &["/proc/sys/net/ipv4/ip_forward"]), "1\n");
        let shown = run("ip", &["addr", "show", "wh0a1b2c3d"]);
        assert!(
            shown.contains("172.17.0.1/16 brd 172.17.255.255"),
            "{shown}"
        );
        network.destroy().unwrap();
        let links = run("ip", &["-o", "link"]);
        assert!(!links.contains("wh0a1b2c3d"), "{links}");
        assert_eq!(run("nft", &["list", "ruleset"]), "");
    });
}

#[test]
fn an_endpoint_is_described_and_configured() {
    on_private_host(|| {
        let network = open();
        let container = Container::start(&network, vec![]);
        let endpoint = &container.endpoint;
        assert_eq!(container.address(), Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(endpoint.ipv4.unwrap().prefix_length, 16);
        assert_eq!(endpoint.gateway_ipv4, Some(network.gateway()));
        assert_eq!(endpoint.ipv6, None);
        assert_eq!(endpoint.mac.len(), 17);
        assert_eq!(endpoint.endpoint_id.len(), 64);
        assert!(endpoint.host_interface.starts_with("veth") && endpoint.host_interface.len() == 11);
        let json = serde_json::to_string(endpoint).unwrap();
        assert_eq!(&serde_json::from_str::<Endpoint>(&json).unwrap(), endpoint);
        inside(container.namespace.as_fd(), || {
            let shown = run("ip", &["addr"]);
            for part in [
                "eth0@",
                "172.17.0.2/16 brd 172.17.255.255",
                "mtu 1500",
                endpoint.mac.as_str(),
                "127.0.0.1/8",
            ] {
                assert!(shown.contains(part), "{part} in {shown}");
            }
            assert!(!shown.contains("fe80"), "{shown}");
            assert!(run("ip", &["route"]).contains("default via 172.17.0.1 dev eth0"));
        });
        let wanted = EndpointRequest {
            mac: Some([2, 1, 2, 3, 4, 5]),
            ..request(&network.config)
        };
        let chosen = Container::join(&network, &wanted, vec![]).unwrap();
        assert_eq!(chosen.endpoint.mac, "02:01:02:03:04:05");
        let wanted = EndpointRequest {
            ipv4: Some(Ipv4Addr::new(172, 17, 9, 9)),
            ..request(&network.config)
        };
        let refused = Container::join(&network, &wanted, vec![]).err().unwrap();
        assert!(
            matches!(refused, NetworkError::AddressNotChoosable),
            "{refused}"
        );
    });
}

#[test]
fn a_second_eth0_is_refused_and_leaves_nothing() {
    on_private_host(|| {
        let network = open();
        let container = Container::start(&network, vec![]);
        let before = leftovers();
        // Another container's, so that the same name is chosen.
        let refused = network.attach(container.namespace.as_fd(), &request(&network.config));
        assert!(
            matches!(refused, Err(NetworkError::Netlink { .. })),
            "{refused:?}"
        );
        assert_leftovers(&before);
    });
}

#[test]
fn used_subnets_are_skipped() {
    on_private_host(|| {
        run("ip", &["link", "add", "used0", "type", "bridge"]);
        run("ip", &["addr", "add", "172.17.5.1/24", "dev", "used0"]);
        run("ip", &["link", "set", "used0", "up"]);
        run("ip", &["route", "add", "172.18.0.0/15", "dev", "used0"]);
        run(
            "ip",
            &["route", "add", "blackhole", "172.20.3.0/24", "table", "77"],
        );
        run("ip", &["route", "add", "0.0.0.0/1", "dev", "used0"]);
        let network = open();
        assert_eq!(network.subnet().to_string(), "172.21.0.0/16");
        let mut taken = network_request("taken");
        taken.pools = vec![pool("172.18.9.0/24")];
        let refused = network.create(taken).unwrap_err();
        assert!(
            matches!(refused, NetworkError::SubnetInUse { .. }),
            "{refused}"
        );
        let mut taken = network_request("taken");
        taken.pools = vec![pool("172.21.9.0/24")];
        let refused = network.create(taken).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "invalid pool request: Pool overlaps with other one on this address space"
        );
        assert!(!run("ip", &["-o", "link"]).contains("br-"));
    });
}

#[test]
fn daemons_that_start_at_once_get_different_subnets() {
    on_private_host(|| {
        let host = current_namespace();
        let networks: Vec<Host> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..6)
                .map(|number| {
                    let host = host.as_fd();
                    scope.spawn(move || {
                        enter(host);
                        let name = format!("wharf{number}");
                        open_as(&name, &name)
                    })
                })
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().unwrap())
                .collect()
        });
        let subnets: HashSet<String> = networks
            .iter()
            .map(|network| network.subnet().to_string())
            .collect();
        assert_eq!(subnets.len(), 6, "{subnets:?}");
    });
}

#[test]
fn a_port_conflict_names_its_kind() {
    on_private_host(|| {
        let network = open();
        let _holder = Container::start(&network, vec![port(80, Protocol::Tcp, 8080)]);
        let foreign_tcp = TcpListener::bind("0.0.0.0:8081").unwrap();
        let _foreign_udp = UdpSocket::bind("127.0.0.1:8082").unwrap();
        let at = |host_ip: [u8; 4], wanted: PortRequest| PortRequest {
            host_ip: Some(host_ip.into()),
            ..wanted
        };
        for (wanted, text) in [
            (
                port(80, Protocol::Tcp, 8080),
                "Bind for 0.0.0.0:8080 failed: port is already allocated",
            ),
            (
                at([127, 0, 0, 1], port(80, Protocol::Tcp, 8080)),
                "Bind for 127.0.0.1:8080 failed: port is already allocated",
            ),
            (
                port(80, Protocol::Tcp, 8081),
                "failed to bind host port 0.0.0.0:8081/tcp: address already in use",
            ),
            (
                port(80, Protocol::Udp, 8082),
                "failed to bind host port 0.0.0.0:8082/udp: address already in use",
            ),
            (
                at([10, 1, 2, 3], port(80, Protocol::Tcp, 8083)),
                "failed to bind host port 10.1.2.3:8083/tcp: cannot assign requested address",
            ),
        ] {
            assert_eq!(
                refusal(&network, vec![port(80, Protocol::Tcp, 8099), wanted]),
                text
            );
        }
        // What a refused request had taken so far is free again, and other protocols are not held.
        Container::start(
            &network,
            vec![port(80, Protocol::Tcp, 8099), port(80, Protocol::Udp, 8080)],
        );
        drop(foreign_tcp);
        // Programs that other tests are starting may hold a copy of the socket for a moment.
        let deadline = Instant::now() + Duration::from_secs(5);
        while Container::try_start(&network, vec![port(80, Protocol::Tcp, 8081)]).is_err() {
            assert!(Instant::now() < deadline, "the port stays taken");
        }
        assert!(
            TcpListener::bind("0.0.0.0:8080").is_err(),
            "a published port is kept from others"
        );
    });
}

#[test]
fn ranges_and_ephemeral_ports_take_what_is_free() {
    on_private_host(|| {
        run(
            "sh",
            &[
                "-c",
                "echo '40000 40003' > /proc/sys/net/ipv4/ip_local_port_range",
            ],
        );
        run(
            "sh",
            &[
                "-c",
                "echo 40001 > /proc/sys/net/ipv4/ip_local_reserved_ports",
            ],
        );
        let network = open();
        let _foreign = TcpListener::bind("0.0.0.0:9001").unwrap();
        assert_eq!(
            host_port(&Container::start(&network, vec![ranged(9000..=9002)])),
            9000
        );
        assert_eq!(
            host_port(&Container::start(&network, vec![ranged(9000..=9002)])),
            9002
        );
        let full = refusal(&network, vec![ranged(9000..=9002)]);
        assert!(
            full.starts_with("Bind for 0.0.0.0:9000-9002 failed: all ports are allocated"),
            "{full}"
        );

        let first = Container::start(&network, vec![ephemeral(Protocol::Tcp)]);
        assert_eq!(host_port(&first), 40000);
        assert_eq!(
            host_port(&Container::start(&network, vec![ephemeral(Protocol::Tcp)])),
            40002
        );
        first.stop(&network);
        assert_eq!(
            host_port(&Container::start(&network, vec![ephemeral(Protocol::Tcp)])),
            40003
        );
        assert_eq!(
            host_port(&Container::start(&network, vec![ephemeral(Protocol::Tcp)])),
            40000
        );
        assert!(
            refusal(&network, vec![ephemeral(Protocol::Tcp)]).contains("all ports are allocated")
        );
    });
}

#[test]
fn detaching_leaves_nothing_and_can_be_repeated() {
    on_private_host(|| {
        let network = open();
        let clean = leftovers();
        let at_loopback = PortRequest {
            host_ip: Some(Ipv4Addr::LOCALHOST.into()),
            ..port(80, Protocol::Udp, 8081)
        };
        let container =
            Container::start(&network, vec![port(80, Protocol::Tcp, 8080), at_loopback]);
        assert_ne!(leftovers(), clean);
        container.stop(&network);
        assert_leftovers(&clean);
        let successor = Container::start(&network, vec![port(80, Protocol::Tcp, 8080)]);
        assert_eq!(
            successor.address(),
            Ipv4Addr::new(172, 17, 0, 2),
            "the lowest that is free"
        );
        let attached = leftovers();
        container.stop(&network);
        assert_eq!(
            leftovers(),
            attached,
            "a second detach does not touch the port's new owner"
        );
        // A namespace that is gone takes its veth pair with it.
        let Container {
            namespace,
            endpoint,
            ..
        } = successor;
        drop(namespace);
        network.withdraw(&endpoint.container_id).unwrap();
        network.detach(&endpoint);
        assert_leftovers(&clean);
        assert!(
            TcpListener::bind("0.0.0.0:8080").is_ok(),
            "the port is free for others"
        );
    });
}

#[test]
fn a_namespace_can_be_attached_again_at_once() {
    on_private_host(|| {
        let network = open();
        let namespace = network.new_namespace().unwrap();
        let wanted = request(&network.config);
        let first = network.attach(namespace.as_fd(), &wanted).unwrap();
        network.detach(&first);
        let second = network.attach(namespace.as_fd(), &wanted).unwrap();
        assert_eq!(first.ipv4, second.ipv4, "the lowest address that is free");
        network.detach(&second);
        // Unless somebody else has it by then.
        let mut wanted = network_request("own");
        wanted.pools = vec![pool("10.66.0.0/24")];
        let own = network.create(wanted).unwrap();
        let wanted = request(&own);
        let first = network.attach(namespace.as_fd(), &wanted).unwrap();
        network.detach(&first);
        let other = EndpointRequest {
            container_id: "e".repeat(64),
            ipv4: first.ipv4.map(|own| own.address),
            ..request(&own)
        };
        let namespace_of_other = network.new_namespace().unwrap();
        network.attach(namespace_of_other.as_fd(), &other).unwrap();
        let third = network.attach(namespace.as_fd(), &wanted).unwrap();
        assert_ne!(first.ipv4, third.ipv4);
    });
}

#[test]
fn a_start_after_a_crash_keeps_the_living_and_sweeps_the_rest() {
    on_private_host(|| {
        let host = current_namespace();
        run("ip", &["link", "add", "used0", "type", "bridge"]);
        run("ip", &["addr", "add", "172.17.5.1/24", "dev", "used0"]);
        let network = open();
        let subnet = network.subnet();
        let living = Container::start(
            &network,
            vec![port(80, Protocol::Tcp, 8080), port(80, Protocol::Udp, 8080)],
        );
        let dead = Container::start(&network, vec![port(80, Protocol::Tcp, 8081)]);
        let _server = Server::start(living.namespace.as_fd(), 80, "living");
        let config = network.config.clone();
        drop(network);
        run("ip", &["addr", "del", "172.17.5.1/24", "dev", "used0"]);

        let network = open_again(vec![config], &[&living]);
        assert_eq!(network.subnet(), subnet, "a bridge keeps its subnet");
        let left = leftovers();
        assert!(left.contains(&living.endpoint.host_interface), "{left}");
        assert!(!left.contains(&dead.endpoint.host_interface), "{left}");
        assert!(left.contains("8080") && !left.contains("8081"), "{left}");
        assert_eq!(
            ask(host.as_fd(), Ipv4Addr::LOCALHOST, 8080),
            format!("living {}", network.gateway())
        );
        assert_eq!(
            refusal(&network, vec![port(80, Protocol::Tcp, 8080)]),
            "Bind for 0.0.0.0:8080 failed: port is already allocated"
        );
        let next = Container::start(&network, vec![port(80, Protocol::Tcp, 8081)]);
        assert_ne!(next.address(), living.address());
        living.stop(&network);
        Container::start(&network, vec![port(80, Protocol::Tcp, 8080)]);
    });
}

#[test]
fn a_live_port_that_another_process_took_is_no_failure() {
    on_private_host(|| {
        let network = open();
        let living = Container::start(&network, vec![port(80, Protocol::Tcp, 8080)]);
        let config = network.config.clone();
        drop(network);
        let _foreign = TcpListener::bind("0.0.0.0:8080").unwrap();
        let network = open_again(vec![config], &[&living]);
        living.stop(&network);
    });
}

#[test]
fn a_device_of_another_kind_is_not_taken_over() {
    on_private_host(|| {
        run("ip", &["link", "add", "wh0a1b2c3d", "type", "ifb"]);
        let (networks, _) =
            Networks::open(options("wh0a1b2c3d", "wharf_0a1b2c3d"), vec![], &[]).unwrap();
        let refused = networks.create(default_request());
        assert!(matches!(refused, Err(NetworkError::NotABridge { .. })));
        assert!(run("ip", &["-o", "link"]).contains("wh0a1b2c3d"));
    });
}

#[test]
fn containers_started_at_once_get_different_addresses() {
    on_private_host(|| {
        let host = current_namespace();
        let network = open();
        let containers: Vec<Container> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    let (host, network) = (host.as_fd(), &network);
                    scope.spawn(move || {
                        enter(host);
                        (0..3)
                            .map(|_| Container::start(network, vec![ephemeral(Protocol::Tcp)]))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            starts
                .into_iter()
                .flat_map(|start| start.join().unwrap())
                .collect()
        });
        let addresses: HashSet<Ipv4Addr> = containers.iter().map(Container::address).collect();
        let ports: HashSet<u16> = containers.iter().map(host_port).collect();
        assert_eq!((addresses.len(), ports.len()), (24, 24));
        for container in &containers {
            container.stop(&network);
        }
        assert_leftovers("");
    });
}

#[test]
fn more_ports_than_one_batch_are_published_and_withdrawn() {
    on_private_host(|| {
        let host = current_namespace();
        let network = open();
        let ports = (20000..21100)
            .map(|number| port(80, Protocol::Udp, number))
            .collect();
        let container = Container::start(&network, ports);
        let _server = Server::start(container.namespace.as_fd(), 80, "many");
        let answer = inside(host.as_fd(), || {
            let client = UdpSocket::bind("0.0.0.0:0").unwrap();
            let target = std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 21099);
            udp_ask(&client, target, std::time::Duration::from_secs(5)).unwrap()
        });
        assert!(answer.starts_with("many "));
        container.stop(&network);
        assert_leftovers("");
    });
}

#[test]
fn counters_are_those_of_the_containers_interfaces() {
    on_private_host(|| {
        let host = current_namespace();
        let network = open();
        let container = Container::start(&network, vec![]);
        let _server = Server::start(container.namespace.as_fd(), 80, "web");
        ask(host.as_fd(), container.address(), 80);
        let mut child = inside(container.namespace.as_fd(), || {
            Command::new("sleep").arg("60").spawn().unwrap()
        });
        let counters = Networks::counters(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(counters.len(), 1);
        assert_eq!(counters[0].name, "eth0");
        assert!(counters[0].rx_bytes > 0 && counters[0].tx_packets > 0);
    });
}

/// Prints what the steps of a start cost; run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn measure_the_steps_of_a_start() {
    on_private_host(|| {
        const ROUNDS: usize = 100;
        let network = open();
        let mut columns: Vec<(&str, Vec<f64>)> = [
            "new_namespace",
            "attach",
            "detach",
            "attach with port",
            "detach with port",
            "first packet there and back",
        ]
        .map(|name| (name, Vec::new()))
        .into();
        let mut time = |column: usize, start: Instant| {
            columns[column].1.push(start.elapsed().as_secs_f64() * 1e6);
        };
        for _ in 0..ROUNDS {
            for (column, ports) in [(1, vec![]), (3, vec![port(80, Protocol::Tcp, 8080)])] {
                let start = Instant::now();
                let namespace = network.new_namespace().unwrap();
                time(0, start);
                let start = Instant::now();
                let endpoint = network
                    .attach(namespace.as_fd(), &request(&network.config))
                    .unwrap();
                network.publish(&endpoint.container_id, &ports).unwrap();
                time(column, start);
                let start = Instant::now();
                let gateway = std::net::SocketAddr::from((network.gateway(), 1));
                inside(namespace.as_fd(), || std::net::TcpStream::connect(gateway)).unwrap_err();
                time(5, start);
                let start = Instant::now();
                network.withdraw(&endpoint.container_id).unwrap();
                network.detach(&endpoint);
                time(column + 1, start);
            }
        }
        for (name, times) in &mut columns {
            times.sort_by(f64::total_cmp);
            println!(
                "{name}: median {:.0} us, p95 {:.0} us",
                times[times.len() / 2],
                times[times.len() * 95 / 100]
            );
        }
    });
}
