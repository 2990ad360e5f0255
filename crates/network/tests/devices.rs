//! The devices of networks: whose they are, what becomes of addresses that move, and of what somebody else removes.

// A test that cannot go on may panic; a skipped one says so.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use support::*;
use wharf_network::{
    Driver, EndpointRequest, NetworkError, NetworkRequest, Networks, PoolRequest, Protocol,
};

fn make(host: &Host, request: NetworkRequest) -> Used<'_> {
    let config = host.create(request).unwrap();
    host.with(config)
}

/// Returns who answers at an address.
fn answer_at(from: BorrowedFd<'_>, address: IpAddr) -> std::io::Result<String> {
    let limit = Duration::from_secs(4);
    inside(from, || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, 80), limit)?;
        stream.set_read_timeout(Some(limit))?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text)?;
        Ok(text)
    })
}

/// Answers connections at both families with a label.
fn serve(container: &Container, label: &'static str) {
    let listener = inside(container.namespace.as_fd(), || {
        std::net::TcpListener::bind("[::]:80").unwrap()
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = std::io::Write::write_all(&mut stream, label.as_bytes());
        }
    });
}

/// The next container gets the address of the one before, with another hardware address: who knew the old one finds
/// the new one at once, although the old interface is still there.
#[test]
fn an_address_that_moves_is_found_at_once() {
    on_private_host(|| {
        let host = open();
        let used = make(
            &host,
            NetworkRequest {
                ipv6: true,
                ..network("both")
            },
        );
        let here = current_namespace();
        let neighbour = Container::on(&used, vec![]);
        let first = Container::on(&used, vec![]);
        let addresses: Vec<IpAddr> = first.endpoint.addresses().collect();
        assert_eq!(addresses.len(), 2);
        serve(&first, "first");
        for &address in &addresses {
            for from in [&here, &neighbour.namespace] {
                // The kernel tells IPv6 of a new interface's carrier up to a second late.
                let asked = (0..5).find_map(|_| answer_at(from.as_fd(), address).ok());
                assert_eq!(asked.as_deref(), Some("first"), "{address}");
            }
        }
        first.stop(&host);
        let second = Container::on(&used, vec![]);
        assert_eq!(second.endpoint.addresses().collect::<Vec<_>>(), addresses);
        assert_ne!(second.endpoint.mac, first.endpoint.mac);
        serve(&second, "second");
        for address in addresses {
            for from in [&here, &neighbour.namespace] {
                let asked = (0..2).find_map(|_| answer_at(from.as_fd(), address).ok());
                assert_eq!(asked.as_deref(), Some("second"), "{address}");
            }
        }
    });
}

/// Hardware addresses are drawn, and no two containers have the same.
#[test]
fn hardware_addresses_are_each_containers_own() {
    on_private_host(|| {
        let host = open();
        let chosen = EndpointRequest {
            mac: Some([2, 0x42, 172, 17, 0, 3]),
            ..request(&host.config)
        };
        let mut macs = HashSet::new();
        let mut containers = vec![Container::join(&host, &chosen, vec![]).unwrap()];
        containers.extend((0..30).map(|_| Container::start(&host, vec![])));
        for container in &containers {
            let endpoint = &container.endpoint;
            assert!(macs.insert(endpoint.mac.clone()), "{} twice", endpoint.mac);
            let inside = inside(container.namespace.as_fd(), || run("ip", &["link"]));
            assert!(
                inside.contains(&endpoint.mac),
                "{} in {inside}",
                endpoint.mac
            );
        }
        let before = containers[1].endpoint.mac.clone();
        containers[1].stop(&host);
        let again = EndpointRequest {
            container_id: containers[1].endpoint.container_id.clone(),
            ..request(&host.config)
        };
        let again = Container::join(&host, &again, vec![]).unwrap();
        assert_ne!(again.endpoint.mac, before, "another one at each start");
        assert_eq!(again.endpoint.ipv4, containers[1].endpoint.ipv4);
    });
}

/// Where the host has no address on the bridge, the first address is a container's, unless the user named a gateway.
#[test]
fn isolated_networks_have_no_gateway() {
    on_private_host(|| {
        let host = open();
        let isolated = |name: &str, pool| {
            let mut wanted = option(
                network(name),
                "com.docker.network.bridge.gateway_mode_ipv4",
                "isolated",
            );
            wanted.internal = true;
            wanted.pools = vec![pool];
            make(&host, wanted)
        };
        let free = isolated("free", pool("10.66.0.0/24"));
        assert_eq!(free.config.pools[0].gateway, None);
        let container = Container::on(&free, vec![]);
        assert_eq!(container.address(), Ipv4Addr::new(10, 66, 0, 1));
        assert_eq!(container.endpoint.gateway_ipv4, None);
        let reserved = isolated(
            "reserved",
            PoolRequest {
                gateway: Some([10, 67, 0, 1].into()),
                ..pool("10.67.0.0/24")
            },
        );
        let container = Container::on(&reserved, vec![]);
        assert_eq!(container.address(), Ipv4Addr::new(10, 67, 0, 2));
    });
}

fn with_bridge(device: &str) -> wharf_network::NetworksOptions {
    wharf_network::NetworksOptions {
        default_bridge_is_users: true,
        ..options(device, "wharf_0a1b2c3d")
    }
}

/// A bridge of the user's keeps its addresses and the ports that others have on it.
#[test]
fn a_bridge_of_the_users_stays_as_it_is() {
    on_private_host(|| {
        run("ip", &["link", "add", "br7", "type", "bridge"]);
        run("ip", &["link", "set", "br7", "up"]);
        run("ip", &["addr", "add", "10.66.0.5/24", "dev", "br7"]);
        run(
            "ip",
            &[
                "link",
                "add",
                "veth-other",
                "type",
                "veth",
                "peer",
                "name",
                "elsewhere",
            ],
        );
        run("ip", &["link", "set", "veth-other", "master", "br7"]);
        let addresses = wharf_network::addresses_of_bridge("br7").unwrap();
        assert_eq!(addresses, [("10.66.0.5".parse().unwrap(), 24)]);
        let wanted = || {
            let mut wanted = default_request();
            wanted.pools = vec![PoolRequest {
                gateway: Some([10, 66, 0, 5].into()),
                ..pool("10.66.0.0/24")
            }];
            wanted
        };
        let (networks, failures) = Networks::open(with_bridge("br7"), vec![], &[]).unwrap();
        assert!(failures.is_empty());
        let config = networks.create(wanted()).unwrap();
        let ask = request(&config);
        let left = Container::join(&networks, &ask, vec![]).unwrap();
        assert_eq!(left.address(), Ipv4Addr::new(10, 66, 0, 1));
        assert_eq!(
            left.endpoint.gateway_ipv4,
            Some(Ipv4Addr::new(10, 66, 0, 5))
        );
        let ports = || run("ip", &["-br", "link", "show", "master", "br7"]);
        assert!(ports().contains(&left.endpoint.host_interface));
        // The next daemon finds a host end of a container that is gone, and one that is not its own.
        drop(networks);
        let (networks, failures) =
            Networks::open(with_bridge("br7"), vec![config.clone()], &[]).unwrap();
        assert!(failures.is_empty());
        assert!(
            !ports().contains(&left.endpoint.host_interface),
            "{}",
            ports()
        );
        assert!(ports().contains("veth-other"), "{}", ports());
        networks.destroy().unwrap();
        assert!(ports().contains("veth-other"), "{}", ports());
        let shown = run("ip", &["-br", "addr", "show", "br7"]);
        assert!(shown.contains("10.66.0.5/24"), "{shown}");
        // One that is not there is not made.
        let (networks, _) = Networks::open(with_bridge("br8"), vec![], &[]).unwrap();
        let refused = networks.create(wanted()).unwrap_err();
        assert!(
            matches!(refused, NetworkError::NoDevice { .. }),
            "{refused}"
        );
        assert!(matches!(
            wharf_network::addresses_of_bridge("lo8"),
            Err(NetworkError::NoDevice { .. })
        ));
    });
}

/// What somebody removes under a running daemon comes back: a bridge with the containers on it when the next one
/// joins, a container's own interface when it is connected again.
#[test]
fn removed_devices_are_made_again() {
    on_private_host(|| {
        let host = open();
        let first = Container::start(&host, vec![port(80, Protocol::Tcp, 8080)]);
        let _server = Server::start(first.namespace.as_fd(), 80, "first");
        run("ip", &["link", "del", "wh0a1b2c3d"]);
        let second = Container::start(&host, vec![]);
        assert_ne!(second.address(), first.address());
        let reached = ask(second.namespace.as_fd(), first.address(), 80);
        assert!(reached.starts_with("first "), "{reached}");
        let here = current_namespace();
        let published = answer_at_port(here.as_fd(), 8080);
        assert!(published.starts_with("first "), "{published}");
        run("ip", &["link", "del", &second.endpoint.host_interface]);
        host.leave(second.namespace.as_fd(), &second.endpoint)
            .unwrap();
        let again = EndpointRequest {
            container_id: second.endpoint.container_id.clone(),
            ..request(&host.config)
        };
        let endpoint = host.attach(second.namespace.as_fd(), &again).unwrap();
        assert_eq!(endpoint.ipv4, second.endpoint.ipv4);
        let reached = ask(second.namespace.as_fd(), first.address(), 80);
        assert!(reached.starts_with("first "), "{reached}");
    });
}

fn answer_at_port(from: BorrowedFd<'_>, port: u16) -> String {
    inside(from, || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        text
    })
}

#[test]
fn macvlan_containers_are_on_the_parents_wire() {
    on_private_host(|| {
        let other = other_host();
        let host = open();
        let mut wanted = option(network("wire"), "parent", "cable0");
        wanted.driver = Driver::Macvlan;
        wanted.pools = vec![wharf_network::PoolRequest {
            gateway: Some(OTHER_HOST_ADDRESS.into()),
            range: Some("10.77.0.128/25".parse().unwrap()),
            ..pool("10.77.0.0/24")
        }];
        let wire = make(&host, wanted);
        let container = Container::on(&wire, vec![port(80, Protocol::Tcp, 8080)]);
        assert!(container.ports.is_empty());
        let _server = Server::start(container.namespace.as_fd(), 80, "macvlan");
        let _other = Server::start(other.as_fd(), 7000, "other");
        assert!(answer_at(other.as_fd(), container.address().into()).is_ok());
        assert_eq!(
            ask(container.namespace.as_fd(), OTHER_HOST_ADDRESS, 7000),
            format!("other {}", container.address())
        );
        let mut missing = option(network("missing"), "parent", "nosuch0");
        missing.driver = Driver::Macvlan;
        assert!(matches!(
            host.create(missing),
            Err(NetworkError::NoParent { .. })
        ));
        container.stop(&host);
        host.remove(&wire.config.id).unwrap();
        assert!(run("ip", &["-o", "link"]).contains("cable0"));
    });
}

#[test]
fn ipvlan_says_when_the_kernel_has_none() {
    on_private_host(|| {
        let _other = other_host();
        let host = open();
        let mut wanted = option(network("wire"), "parent", "cable0");
        wanted.driver = Driver::Ipvlan;
        wanted.pools = vec![pool("10.77.0.0/24")];
        let wire = make(&host, wanted);
        match Container::join(&host, &request(&wire.config), vec![]) {
            Ok(container) => {
                assert!(container.endpoint.mac.is_empty());
            }
            Err(NetworkError::Netlink { source, .. }) => {
                assert_eq!(source.raw_os_error(), Some(libc::EOPNOTSUPP));
                println!("SKIP: the kernel has no ipvlan");
            }
            Err(error) => panic!("{error}"),
        }
    });
}

#[test]
fn interfaces_take_names_addresses_and_settings() {
    on_private_host(|| {
        let host = open();
        let net = make(
            &host,
            option(
                option(network("net"), "com.docker.network.driver.mtu", "1400"),
                "com.docker.network.container_iface_prefix",
                "lan",
            ),
        );
        let wanted = EndpointRequest {
            mac: Some([2, 1, 2, 3, 4, 5]),
            link_local: vec!["169.254.7.7".parse().unwrap()],
            sysctls: vec![("net/ipv4/conf/IFNAME/log_martians".into(), "1".into())],
            ..request(&net.config)
        };
        let container = Container::join(&host, &wanted, vec![]).unwrap();
        assert_eq!(container.endpoint.interface, "lan0");
        inside(container.namespace.as_fd(), || {
            let shown = run("ip", &["addr", "show", "lan0"]);
            for part in ["mtu 1400", "02:01:02:03:04:05", "169.254.7.7/16"] {
                assert!(shown.contains(part), "{part} in {shown}");
            }
            let setting = run("cat", &["/proc/sys/net/ipv4/conf/lan0/log_martians"]);
            assert_eq!(setting.trim(), "1");
        });
    });
}
