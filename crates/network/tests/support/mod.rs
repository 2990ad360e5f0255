//! A private "machine" per test: a network namespace of its own stands for the host, so that
//! tests run side by side and leave nothing behind even when they are killed.

// Each test program uses its own part.
#![allow(dead_code)]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wharf_network::{
    AddressPoolBase, Driver, Endpoint, EndpointRequest, HostPorts, LiveContainer, NetworkConfig,
    NetworkError, NetworkRequest, Networks, NetworksOptions, PoolRequest, PortRequest, Protocol,
    PublishedPort, Subnet, local_ipv6_pools,
};

/// How long an answer is waited for where one must come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer is waited for where none must come.
const SILENCE_TIMEOUT: Duration = Duration::from_millis(400);
/// The host's address towards the other host, and the other host's.
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub const OTHER_HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Runs a test body on a thread whose network namespace stands for the host.
pub fn on_private_host(body: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: needs root");
        return;
    }
    let outcome = std::thread::spawn(|| {
        new_namespace_here();
        run("ip", &["link", "set", "lo", "up"]);
        body();
    })
    .join();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `work` on a thread inside `namespace`.
pub fn inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                enter(namespace);
                work()
            })
            .join()
            .unwrap()
    })
}

pub fn enter(namespace: BorrowedFd<'_>) {
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(namespace, kind).unwrap();
}

pub fn current_namespace() -> OwnedFd {
    std::fs::File::open("/proc/thread-self/ns/net")
        .unwrap()
        .into()
}

fn new_namespace_here() {
    // SAFETY: only the network namespace of this thread changes.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
}

/// Runs a program in the calling thread's namespace.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes a namespace that stands for another host, with a cable to this one.
pub fn other_host() -> OwnedFd {
    let other = std::thread::spawn(|| {
        new_namespace_here();
        current_namespace()
    })
    .join()
    .unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), other.as_raw_fd());
    run(
        "ip",
        &[
            "link", "add", "cable0", "type", "veth", "peer", "name", "eth0", "netns", &path,
        ],
    );
    run(
        "ip",
        &[
            "addr",
            "add",
            &format!("{HOST_ADDRESS}/24"),
            "dev",
            "cable0",
        ],
    );
    run("ip", &["link", "set", "cable0", "up"]);
    inside(other.as_fd(), || {
        run(
            "ip",
            &[
                "addr",
                "add",
                &format!("{OTHER_HOST_ADDRESS}/24"),
                "dev",
                "eth0",
            ],
        );
        run("ip", &["link", "set", "eth0", "up"]);
    });
    other
}

pub const DEFAULT_ID: &str = "d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0";

pub fn options(device: &str, table: &str) -> NetworksOptions {
    let mut pools = AddressPoolBase::docker();
    pools.push(local_ipv6_pools([1, 2, 3, 4, 5]));
    NetworksOptions {
        default_bridge: device.into(),
        default_bridge_id: DEFAULT_ID.into(),
        default_bridge_is_users: false,
        table: table.into(),
        instance: table.into(),
        pools,
    }
}

/// A daemon's networks, one of them used where a test names none.
pub struct Host {
    pub networks: Networks,
    pub config: NetworkConfig,
}

impl std::ops::Deref for Host {
    type Target = Networks;

    fn deref(&self) -> &Networks {
        &self.networks
    }
}

impl Host {
    pub fn gateway(&self) -> Ipv4Addr {
        ipv4(gateway(&self.config))
    }

    pub fn subnet(&self) -> Subnet {
        self.config.pools[0].subnet
    }

    /// The same daemon's networks with another one used by default.
    pub fn with(&self, config: NetworkConfig) -> Used<'_> {
        Used {
            networks: &self.networks,
            config,
        }
    }
}

/// Returns the gateway of a network's first subnet.
pub fn gateway(config: &NetworkConfig) -> IpAddr {
    config.pools[0].gateway.unwrap()
}

/// A network of a daemon.
pub struct Used<'a> {
    pub networks: &'a Networks,
    pub config: NetworkConfig,
}

pub fn ipv4(address: std::net::IpAddr) -> Ipv4Addr {
    match address {
        std::net::IpAddr::V4(address) => address,
        std::net::IpAddr::V6(address) => panic!("{address} is not IPv4"),
    }
}

/// Asks for a network; identifiers are made of the name.
pub fn network(name: &str) -> NetworkRequest {
    let mut id: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    while id.len() < 64 {
        id.push('0');
    }
    id.truncate(64);
    NetworkRequest {
        id,
        name: name.into(),
        driver: Driver::Bridge,
        ipv4: true,
        ipv6: false,
        internal: false,
        pools: Vec::new(),
        options: std::collections::BTreeMap::new(),
    }
}

pub fn pool(subnet: &str) -> PoolRequest {
    PoolRequest {
        subnet: Some(subnet.parse().unwrap()),
        ..PoolRequest::default()
    }
}

pub fn option(request: NetworkRequest, key: &str, value: &str) -> NetworkRequest {
    let mut request = request;
    request.options.insert(key.into(), value.into());
    request
}

pub fn default_request() -> NetworkRequest {
    NetworkRequest {
        id: DEFAULT_ID.into(),
        ..network("bridge")
    }
}

pub fn open() -> Host {
    open_as("wh0a1b2c3d", "wharf_0a1b2c3d")
}

pub fn open_as(device: &str, table: &str) -> Host {
    let (networks, failures) = Networks::open(options(device, table), Vec::new(), &[]).unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    let config = networks.create(default_request()).unwrap();
    Host { networks, config }
}

/// Opens the networks again, as the next daemon does.
pub fn open_again(configs: Vec<NetworkConfig>, live: &[&Container]) -> Host {
    let live: Vec<LiveContainer> = live
        .iter()
        .map(|container| LiveContainer {
            endpoints: vec![container.endpoint.clone()],
            ports: container.ports.clone(),
        })
        .collect();
    let config = configs[0].clone();
    let (networks, failures) =
        Networks::open(options("wh0a1b2c3d", "wharf_0a1b2c3d"), configs, &live).unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    Host { networks, config }
}

/// Returns an identifier that no other container of this program has.
pub fn container_id() -> String {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    format!("{:064x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn request(config: &NetworkConfig) -> EndpointRequest {
    EndpointRequest {
        network_id: config.id.clone(),
        container_id: container_id(),
        ..EndpointRequest::default()
    }
}

pub fn port(container_port: u16, protocol: Protocol, host_port: u16) -> PortRequest {
    let host_ports = HostPorts::Range(host_port..=host_port);
    PortRequest {
        container_port,
        protocol,
        host_ip: None,
        host_ports,
    }
}

/// A container: its namespace, its place on a network, its published ports.
pub struct Container {
    pub namespace: OwnedFd,
    pub endpoint: Endpoint,
    pub ports: Vec<PublishedPort>,
}

impl Container {
    pub fn start(host: &Host, ports: Vec<PortRequest>) -> Container {
        Container::try_start(host, ports).unwrap()
    }

    pub fn try_start(host: &Host, ports: Vec<PortRequest>) -> Result<Container, NetworkError> {
        Container::join(&host.networks, &request(&host.config), ports)
    }

    pub fn on(used: &Used<'_>, ports: Vec<PortRequest>) -> Container {
        Container::join(used.networks, &request(&used.config), ports).unwrap()
    }

    pub fn join(
        networks: &Networks,
        request: &EndpointRequest,
        ports: Vec<PortRequest>,
    ) -> Result<Container, NetworkError> {
        let namespace = networks.new_namespace()?;
        let endpoint = networks.attach(namespace.as_fd(), request)?;
        let ports = match networks.publish(&endpoint.container_id, &ports) {
            Ok(ports) => ports,
            Err(error) => {
                networks.detach(&endpoint);
                return Err(error);
            }
        };
        Ok(Container {
            namespace,
            endpoint,
            ports,
        })
    }

    pub fn stop(&self, networks: &Networks) {
        networks.withdraw(&self.endpoint.container_id).unwrap();
        networks.detach(&self.endpoint);
    }

    pub fn address(&self) -> Ipv4Addr {
        self.endpoint.ipv4.unwrap().address
    }
}

/// A TCP and a UDP server on one port; each answers with `label`, a space and the client's address.
pub struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub fn start(namespace: BorrowedFd<'_>, port: u16, label: &'static str) -> Server {
        let (listener, socket) = inside(namespace, || {
            let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
            (
                TcpListener::bind(address).unwrap(),
                UdpSocket::bind(address).unwrap(),
            )
        });
        listener.set_nonblocking(true).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (for_tcp, for_udp) = (Arc::clone(&stop), Arc::clone(&stop));
        let tcp = std::thread::spawn(move || {
            while !for_tcp.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, peer)) => {
                        let _ = write!(stream, "{label} {}", peer.ip());
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        let udp = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !for_udp.load(Ordering::Relaxed) {
                if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(format!("{label} {}", peer.ip()).as_bytes(), peer);
                }
            }
        });
        Server {
            stop,
            threads: vec![tcp, udp],
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn tcp_answer(address: SocketAddrV4, timeout: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(address), timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub fn udp_ask(socket: &UdpSocket, address: SocketAddrV4, timeout: Duration) -> io::Result<String> {
    socket.set_read_timeout(Some(timeout))?;
    socket.send_to(b"?", address)?;
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer)?;
    assert_eq!(
        from,
        SocketAddr::V4(address),
        "the answer comes from where the question went"
    );
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn udp_answer(address: SocketAddrV4, timeout: Duration) -> io::Result<String> {
    udp_ask(&UdpSocket::bind("0.0.0.0:0")?, address, timeout)
}

/// Asks by TCP and by UDP from `namespace`; both answers must be the same, and are returned.
pub fn ask(namespace: BorrowedFd<'_>, address: Ipv4Addr, port: u16) -> String {
    inside(namespace, || {
        let address = SocketAddrV4::new(address, port);
        let tcp = tcp_answer(address, ANSWER_TIMEOUT)
            .unwrap_or_else(|error| panic!("tcp {address}: {error}"));
        let udp = udp_answer(address, ANSWER_TIMEOUT)
            .unwrap_or_else(|error| panic!("udp {address}: {error}"));
        assert_eq!(tcp, udp);
        tcp
    })
}

/// Checks that neither TCP nor UDP gets an answer from `namespace`.
pub fn assert_silent(namespace: BorrowedFd<'_>, address: Ipv4Addr, port: u16) {
    inside(namespace, || {
        let address = SocketAddrV4::new(address, port);
        assert!(
            tcp_answer(address, SILENCE_TIMEOUT).is_err(),
            "tcp {address} answers"
        );
        assert!(
            udp_answer(address, SILENCE_TIMEOUT).is_err(),
            "udp {address} answers"
        );
    });
}
