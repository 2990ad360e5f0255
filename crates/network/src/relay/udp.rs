//! Passing UDP packets on, and the answers back.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
    sockopt::Ipv6RecvPacketInfo,
};
use tokio::io::Interest;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Clients of one published port at one time; packets of others are dropped.
const MAX_FLOWS: usize = 1024;
/// How long a client and a container may be silent before they are forgotten, docker's for its proxy.
const FLOW_TIMEOUT: Duration = Duration::from_secs(90);
/// Answers that wait to be sent; more are dropped, as UDP does.
const MAX_WAITING_ANSWERS: usize = 256;
/// Largest packet.
const MAX_PACKET_BYTES: usize = 65_535;

/// Who sent a packet, and to which of the host's addresses: the answer comes from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Flow {
    client: SocketAddrV6,
    own: Ipv6Addr,
    device_index: u32,
}

/// What a flow tells.
enum Told {
    Answer(Flow, Vec<u8>),
    Ended(Flow),
}

/// Passes packets that come to `socket` on to `target`, and answers back, until it is aborted. The socket is closed then:
/// nothing else holds it.
pub(crate) async fn relay_packets(socket: UdpSocket, target: SocketAddr) {
    let told = setsockopt(&socket, Ipv6RecvPacketInfo, &true).is_ok();
    let Ok(socket) = tokio::net::UdpSocket::from_std(socket) else {
        return;
    };
    let (answers, mut waiting) = mpsc::channel(MAX_WAITING_ANSWERS);
    let mut flows: HashMap<Flow, Arc<tokio::net::UdpSocket>> = HashMap::new();
    // Dropped with this task, and everything in it with it.
    let mut tasks = JoinSet::new();
    let mut buffer = Vec::new();
    loop {
        tokio::select! {
            ready = socket.readable() => {
                if ready.is_err() || !told {
                    return;
                }
                buffer.resize(MAX_PACKET_BYTES, 0);
                let received = socket.try_io(Interest::READABLE, || receive(&socket, &mut buffer));
                let Ok((length, flow)) = received else {
                    // Another reader was faster, or an answer could not be delivered.
                    tokio::task::yield_now().await;
                    continue;
                };
                let packet = buffer.get(..length).unwrap_or_default();
                let known = flows.get(&flow).cloned();
                let to_container = match known {
                    Some(known) => known,
                    None if flows.len() >= MAX_FLOWS => continue,
                    None => {
                        let Ok(made) = connect(target).await else { continue };
                        let made = Arc::new(made);
                        flows.insert(flow, Arc::clone(&made));
                        tasks.spawn(carry_back(flow, Arc::clone(&made), answers.clone()));
                        made
                    }
                };
                // What is lost is sent again by the client. Sent past the runtime, which does not know yet that a new
                // socket can be written to.
                let _ = nix::sys::socket::send(to_container.as_raw_fd(), packet, MsgFlags::MSG_DONTWAIT);
            }
            told = waiting.recv() => match told {
                Some(Told::Answer(flow, packet)) => {
                    let _ = send(&socket, flow, &packet);
                }
                Some(Told::Ended(flow)) => {
                    flows.remove(&flow);
                }
                None => return,
            },
            Some(_ended) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
}

/// Opens a socket that speaks to the container only.
async fn connect(target: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket)
}

/// Takes a container's answers to one client until there are none for a while.
async fn carry_back(flow: Flow, from: Arc<tokio::net::UdpSocket>, answers: mpsc::Sender<Told>) {
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    while let Ok(received) = timeout(FLOW_TIMEOUT, from.recv(&mut buffer)).await {
        // The container may not listen yet: the kernel tells so, and the client asks again.
        let Ok(length) = received else { continue };
        let packet = buffer.get(..length).unwrap_or_default().to_vec();
        if answers.send(Told::Answer(flow, packet)).await.is_err() {
            return;
        }
    }
    let _nobody_waits = answers.send(Told::Ended(flow)).await;
}

fn receive(socket: &tokio::net::UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Flow)> {
    let mut space = nix::cmsg_space!(libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn6>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let client = message.address.ok_or(io::ErrorKind::InvalidData)?;
    let info = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
        _ => None,
    });
    let info = info.ok_or(io::ErrorKind::InvalidData)?;
    let flow = Flow {
        client: SocketAddrV6::new(client.ip(), client.port(), 0, client.scope_id()),
        own: Ipv6Addr::from(info.ipi6_addr.s6_addr),
        device_index: info.ipi6_ifindex,
    };
    Ok((message.bytes, flow))
}

/// Sends a packet from the address that the client spoke to.
fn send(socket: &tokio::net::UdpSocket, flow: Flow, packet: &[u8]) -> io::Result<()> {
    // Only link-local addresses belong to one device.
    let device_index = if flow.own.is_unicast_link_local() {
        flow.device_index
    } else {
        0
    };
    let info = libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr {
            s6_addr: flow.own.octets(),
        },
        ipi6_ifindex: device_index,
    };
    sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(packet)],
        &[ControlMessage::Ipv6PacketInfo(&info)],
        MsgFlags::MSG_DONTWAIT,
        Some(&SockaddrIn6::from(flow.client)),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers in capitals, and says who asked.
    async fn shouting() -> SocketAddr {
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, client)) = server.recv_from(&mut buffer).await {
                let answer = buffer[..length].to_ascii_uppercase();
                server.send_to(&answer, client).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn packets_pass_and_answers_come_from_where_they_were_sent_to() {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let port = socket.local_addr().unwrap().port();
        let relay = tokio::spawn(relay_packets(socket, shouting().await));
        let own: SocketAddr = (Ipv6Addr::LOCALHOST, port).into();
        for word in ["one", "two"] {
            let client = tokio::net::UdpSocket::bind("[::1]:0").await.unwrap();
            // A connected socket takes answers from this address only.
            client.connect(own).await.unwrap();
            client.send(word.as_bytes()).await.unwrap();
            let mut buffer = [0; 16];
            let answer = timeout(Duration::from_secs(30), client.recv(&mut buffer));
            let length = answer.await.unwrap().unwrap();
            assert_eq!(buffer[..length], *word.to_uppercase().as_bytes());
        }
        relay.abort();
        assert!(relay.await.unwrap_err().is_cancelled());
        // Nothing holds the port any more.
        UdpSocket::bind(own).unwrap();
    }
}
