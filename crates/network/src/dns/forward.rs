//! Asking other servers what the directory does not know.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::answer::{Question, Transport, response_code};
use super::server::Upstream;
use crate::files::{Nameserver, nameservers};
use crate::namespace::{enter_namespace, on_own_thread};
use crate::sysctl::read_text;

/// Servers that are asked one after another (spec runtime §8.4, resolv.conf(5)).
const MAX_SERVERS: usize = 3;
/// How long one server has.
const SERVER_TIMEOUT: Duration = Duration::from_secs(4);
/// Port of name servers.
const DNS_PORT: u16 = 53;
/// Largest message.
const MAX_MESSAGE_BYTES: usize = 65_535;
/// The file that names the host's servers.
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";

/// Asks the container's servers in order and returns the first answer that is one.
///
/// The host's servers are those its resolver file names at this moment, asked from the host's
/// namespace: a server on the host's loopback, such as systemd-resolved's, is reached too.
/// Servers of the container's own are asked from its namespace.
pub(super) async fn forward(
    question: &Question,
    transport: Transport,
    upstream: &Upstream,
    namespace: Option<&Arc<OwnedFd>>,
    may_leave: bool,
) -> Option<Vec<u8>> {
    let servers = match upstream {
        Upstream::Host if !may_leave => return None,
        Upstream::Host => nameservers(&read_text(HOST_RESOLV_CONF).unwrap_or_default()),
        Upstream::Container(servers) => servers.clone(),
    };
    let inside = match upstream {
        Upstream::Host => None,
        Upstream::Container(_) => namespace,
    };
    for server in servers.iter().take(MAX_SERVERS) {
        let asked = timeout(SERVER_TIMEOUT, ask(question, transport, server, inside)).await;
        let Ok(Ok(reply)) = asked else { continue };
        let failed = [ResponseCode::ServFail, ResponseCode::Refused]
            .map(|code| code.low())
            .map(Some)
            .contains(&response_code(&reply));
        if !failed {
            return Some(reply);
        }
    }
    None
}

async fn ask(
    question: &Question,
    transport: Transport,
    server: &Nameserver,
    inside: Option<&Arc<OwnedFd>>,
) -> io::Result<Vec<u8>> {
    let address = socket_address(server)?;
    match transport {
        Transport::Udp => {
            let socket = match inside {
                None => udp_here(address)?,
                Some(namespace) => dial_inside(namespace, move || udp_here(address)).await?,
            };
            let socket = UdpSocket::from_std(socket)?;
            socket.send(&question.bytes).await?;
            let mut reply = vec![0; MAX_MESSAGE_BYTES];
            loop {
                let length = socket.recv(&mut reply).await?;
                let reply = reply.get(..length).unwrap_or_default();
                if question.is_answered_by(reply) {
                    return Ok(reply.to_vec());
                }
            }
        }
        Transport::Tcp => {
            let mut stream = match inside {
                None => TcpStream::connect(address).await?,
                Some(namespace) => TcpStream::from_std(
                    dial_inside(namespace, move || {
                        let stream =
                            std::net::TcpStream::connect_timeout(&address, SERVER_TIMEOUT)?;
                        stream.set_nonblocking(true)?;
                        Ok(stream)
                    })
                    .await?,
                )?,
            };
            send_framed(&mut stream, &question.bytes).await?;
            let reply = receive_framed(&mut stream).await?;
            if question.is_answered_by(&reply) {
                Ok(reply)
            } else {
                Err(io::Error::from(io::ErrorKind::InvalidData))
            }
        }
    }
}

/// Sends a message with its length in front (RFC 1035 §4.2.2).
pub(super) async fn send_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length =
        u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

/// Receives a message with its length in front.
pub(super) async fn receive_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

fn udp_here(server: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Opens a socket on a thread inside the container's namespace.
async fn dial_inside<T: Send + 'static>(
    namespace: &Arc<OwnedFd>,
    dial: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let namespace = Arc::clone(namespace);
    let dialled = tokio::task::spawn_blocking(move || {
        on_own_thread(|| {
            enter_namespace(namespace.as_fd())?;
            Ok(dial())
        })
    });
    match dialled.await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => Err(io::Error::other(error.to_string())),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn socket_address(server: &Nameserver) -> io::Result<SocketAddr> {
    match (server.address, &server.zone) {
        (IpAddr::V6(address), Some(zone)) => {
            let scope = match zone.parse() {
                Ok(number) => number,
                Err(_) => {
                    let socket = rustix::net::socket(
                        rustix::net::AddressFamily::INET6,
                        rustix::net::SocketType::DGRAM,
                        None,
                    )?;
                    rustix::net::netdevice::name_to_index(&socket, zone)?
                }
            };
            Ok(SocketAddrV6::new(address, DNS_PORT, 0, scope).into())
        }
        (address, _) => Ok(SocketAddr::new(address, DNS_PORT)),
    }
}
