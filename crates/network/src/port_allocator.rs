//! Host ports: which are taken by this daemon, and keeping other processes off them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::error::NetworkError;
use crate::port::{HostPorts, Protocol, PublishedPort};
use crate::sysctl::read_text;

/// Ephemeral ports when the kernel does not say (its own default).
const DEFAULT_EPHEMERAL_PORTS: RangeInclusive<u16> = 32768..=60999;

/// The host ports of one daemon. Each is held by a bound socket: packets are led to the
/// container before they get to it (spec runtime §8.3), but for those that [`crate::relay`] takes.
#[derive(Debug, Default)]
pub(crate) struct PortAllocator {
    held: HashMap<(Protocol, u16), Vec<Holder>>,
    /// The ephemeral port that was given last, by protocol and first address: each has a row of its own, as with docker.
    last_ephemeral: HashMap<(Protocol, IpAddr), u16>,
}

#[derive(Debug)]
struct Holder {
    host_ip: IpAddr,
    /// `None` for a port of a live container that another process got hold of while no daemon ran,
    /// and where the kernel has no sockets of the protocol.
    socket: Option<OwnedFd>,
}

impl Drop for Holder {
    /// Ends listening for good: a copy of the descriptor in a child process that is just being
    /// started would otherwise keep the port taken until that child has executed its program.
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // A UDP socket has nothing to shut down and says so.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }
}

/// Why one port could not be had.
enum Refusal {
    Allocated,
    Bind(io::Error),
}

impl PortAllocator {
    /// Takes one host port at all of `host_ips`: the only one, the first free of a range, or the
    /// next ephemeral one.
    ///
    /// # Errors
    /// [`NetworkError::PortAllocated`] and [`NetworkError::PortBind`] for a single port,
    /// [`NetworkError::PortsExhausted`] for several.
    pub(crate) fn reserve(
        &mut self,
        protocol: Protocol,
        host_ips: &[IpAddr],
        host_ports: &HostPorts,
    ) -> Result<u16, NetworkError> {
        match host_ports {
            HostPorts::Range(range) => self.first_free(protocol, host_ips, range.clone(), range),
            HostPorts::Ephemeral => self.ephemeral(protocol, host_ips),
        }
    }

    /// Takes the port of a container that has run on while no daemon did. A port that cannot be
    /// bound is remembered all the same: its container has it.
    pub(crate) fn adopt(&mut self, port: &PublishedPort) {
        if port.host_port == 0 {
            return;
        }
        let socket = bind(port.protocol, port.host_ip, port.host_port).ok();
        let holder = Holder {
            host_ip: port.host_ip,
            socket,
        };
        self.held
            .entry((port.protocol, port.host_port))
            .or_default()
            .push(holder);
    }

    /// Gives a port back.
    pub(crate) fn release(&mut self, port: &PublishedPort) {
        self.release_at(port.protocol, port.host_ip, port.host_port);
    }

    /// Returns another descriptor of the socket that holds a port, to take at what comes.
    pub(crate) fn descriptor(&self, port: &PublishedPort) -> Option<OwnedFd> {
        let holders = self.held.get(&(port.protocol, port.host_port))?;
        let holder = holders
            .iter()
            .find(|holder| holder.host_ip == port.host_ip)?;
        let socket = holder.socket.as_ref()?.try_clone().ok()?;
        rustix::io::ioctl_fionbio(&socket, true).ok()?;
        Some(socket)
    }

    fn release_at(&mut self, protocol: Protocol, host_ip: IpAddr, host_port: u16) {
        let key = (protocol, host_port);
        if let Some(holders) = self.held.get_mut(&key) {
            if let Some(index) = holders.iter().position(|holder| holder.host_ip == host_ip) {
                holders.swap_remove(index);
            }
            if holders.is_empty() {
                self.held.remove(&key);
            }
        }
    }

    fn ephemeral(&mut self, protocol: Protocol, host_ips: &[IpAddr]) -> Result<u16, NetworkError> {
        let range = ephemeral_range();
        let (first, last) = (*range.start(), *range.end());
        let row = host_ips.first().map(|host_ip| (protocol, *host_ip));
        let before = row.and_then(|row| self.last_ephemeral.get(&row).copied());
        let start = match before {
            Some(before) if (first..last).contains(&before) => before + 1,
            _ => first,
        };
        let reserved = reserved_ports();
        let candidates = (start..=last)
            .chain(first..start)
            .filter(|port| !reserved.iter().any(|range| range.contains(port)));
        let port = self.first_free(protocol, host_ips, candidates, &range)?;
        if let Some(row) = row {
            self.last_ephemeral.insert(row, port);
        }
        Ok(port)
    }

    fn first_free(
        &mut self,
        protocol: Protocol,
        host_ips: &[IpAddr],
        candidates: impl Iterator<Item = u16>,
        range: &RangeInclusive<u16>,
    ) -> Result<u16, NetworkError> {
        let single = range.start() == range.end();
        for host_port in candidates {
            match self.try_addresses(protocol, host_ips, host_port) {
                Ok(()) => return Ok(host_port),
                Err((host_ip, Refusal::Allocated)) if single => {
                    return Err(NetworkError::PortAllocated { host_ip, host_port });
                }
                Err((host_ip, Refusal::Bind(error))) if single || !is_in_use(&error) => {
                    let reason = bind_reason(&error);
                    return Err(NetworkError::PortBind {
                        host_ip,
                        host_port,
                        protocol,
                        reason,
                    });
                }
                Err(_) => {}
            }
        }
        Err(NetworkError::PortsExhausted {
            host_ip: host_ips
                .first()
                .copied()
                .unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
            first: *range.start(),
            last: *range.end(),
        })
    }

    /// Takes a port at all addresses or at none.
    fn try_addresses(
        &mut self,
        protocol: Protocol,
        host_ips: &[IpAddr],
        host_port: u16,
    ) -> Result<(), (IpAddr, Refusal)> {
        for (index, host_ip) in host_ips.iter().enumerate() {
            if let Err(refusal) = self.try_port(protocol, *host_ip, host_port) {
                for taken in host_ips.iter().take(index) {
                    self.release_at(protocol, *taken, host_port);
                }
                return Err((*host_ip, refusal));
            }
        }
        Ok(())
    }

    fn try_port(
        &mut self,
        protocol: Protocol,
        host_ip: IpAddr,
        host_port: u16,
    ) -> Result<(), Refusal> {
        let holders = self
            .held
            .get(&(protocol, host_port))
            .map(Vec::as_slice)
            .unwrap_or_default();
        let overlaps = |holder: &Holder| {
            holder.host_ip.is_ipv6() == host_ip.is_ipv6()
                && (host_ip.is_unspecified()
                    || holder.host_ip.is_unspecified()
                    || holder.host_ip == host_ip)
        };
        if holders.iter().any(overlaps) {
            return Err(Refusal::Allocated);
        }
        let socket = match bind(protocol, host_ip, host_port) {
            Ok(socket) => Some(socket),
            // Nobody can take a port of a protocol that the kernel has no sockets of.
            Err(error)
                if protocol == Protocol::Sctp
                    && matches!(
                        error.raw_os_error(),
                        Some(libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT)
                    ) =>
            {
                None
            }
            Err(error) => return Err(Refusal::Bind(error)),
        };
        self.held
            .entry((protocol, host_port))
            .or_default()
            .push(Holder { host_ip, socket });
        Ok(())
    }
}

/// Binds a port so that no other process can.
///
/// TCP must listen: a socket that is only bound does not keep off one that sets `SO_REUSEADDR`,
/// and `SO_REUSEADDR` is needed here to get past connections in TIME_WAIT (socket(7), tcp(7)).
fn bind(protocol: Protocol, host_ip: IpAddr, host_port: u16) -> io::Result<OwnedFd> {
    let family = if host_ip.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(rustix::net::ipproto::SCTP)),
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, number)?;
    if host_ip.is_ipv6() {
        // IPv4 has a socket of its own.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    let address = SocketAddr::new(host_ip, host_port);
    match protocol {
        Protocol::Tcp | Protocol::Sctp => {
            sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &address)?;
            // The daemon takes what comes at IPv6 addresses only.
            rustix::net::listen(&socket, if host_ip.is_ipv6() { 128 } else { 1 })?;
        }
        Protocol::Udp => {
            rustix::net::bind(&socket, &address)?;
            if !host_ip.is_ipv6() {
                // Nobody reads: the kernel's smallest buffer is enough.
                sockopt::set_socket_recv_buffer_size(&socket, 1)?;
            }
        }
    }
    Ok(socket)
}

fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Returns the kernel's answer in the words docker's clients know (spec runtime §8.3).
fn bind_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string().to_lowercase(),
    }
}

fn ephemeral_range() -> RangeInclusive<u16> {
    let text = read_text("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    parse_port_pair(&text).unwrap_or(DEFAULT_EPHEMERAL_PORTS)
}

fn parse_port_pair(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_ascii_whitespace();
    let first: u16 = words.next()?.parse().ok()?;
    let last = words.next()?.parse().ok()?;
    (first > 0 && first <= last).then_some(first..=last)
}

fn reserved_ports() -> Vec<RangeInclusive<u16>> {
    parse_reserved(&read_text("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default())
}

/// Parses `ip_local_reserved_ports`: ports and ranges separated by commas (kernel doc ip-sysctl).
fn parse_reserved(text: &str) -> Vec<RangeInclusive<u16>> {
    text.trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_port_lists_are_parsed() {
        assert_eq!(parse_port_pair("32768\t60999\n"), Some(32768..=60999));
        for bad in ["", "1", "x 2", "9 3", "0 5"] {
            assert_eq!(parse_port_pair(bad), None, "{bad}");
        }
        assert_eq!(parse_reserved("\n"), []);
        assert_eq!(parse_reserved("80,1000-1010\n"), [80..=80, 1000..=1010]);
    }

    #[test]
    fn error_texts_are_those_clients_know() {
        let host_ip = IpAddr::from([0, 0, 0, 0]);
        let known = NetworkError::PortAllocated {
            host_ip,
            host_port: 8080,
        };
        assert_eq!(
            known.to_string(),
            "Bind for 0.0.0.0:8080 failed: port is already allocated"
        );
        let reason = bind_reason(&io::Error::from_raw_os_error(libc::EADDRINUSE));
        let foreign = NetworkError::PortBind {
            host_ip,
            host_port: 8080,
            protocol: Protocol::Tcp,
            reason,
        };
        assert_eq!(
            foreign.to_string(),
            "failed to bind host port 0.0.0.0:8080/tcp: address already in use"
        );
        let ipv6 = NetworkError::PortAllocated {
            host_ip: "::".parse().unwrap(),
            host_port: 8080,
        };
        assert!(ipv6.to_string().starts_with("Bind for [::]:8080 failed"));
    }
}
