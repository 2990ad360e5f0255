//! Listening at 127.0.0.11 inside a container's namespace.
//!
//! Port 53 itself stays free there for a name server of the container's own: the sockets are bound
//! to other ports, and a nat rule inside the namespace leads 127.0.0.11:53 to them (spec runtime
//! §8.4, trap 10). Message and attribute numbers: the kernel's `nf_tables.h`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;

use super::server::ResolverPorts;
use crate::error::NetworkError;
use crate::firewall::{Messages, NFNL_SUBSYS_NFTABLES, NLM_F_CREATE, NfNetlink};
use crate::namespace::{enter_namespace, on_own_thread};

/// Where containers ask.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The table inside the container's namespace.
const TABLE: &str = "wharf_dns";
const CHAIN: &str = "output";
const DNS_PORT: u16 = 53;

const SUBSYSTEM: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NLM_F_APPEND: u16 = 0x800;
const NLM_F_EXCL: u16 = 0x200;
const NFPROTO_IPV4: u8 = 2;
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_LOCAL_OUT: u32 = 3;
/// Priority of destination translation (`NF_IP_PRI_NAT_DST`).
const PRIORITY: i32 = -100;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
/// Registers of 16 bytes.
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;

/// Opens the sockets and leads questions to them; at the same ports as before if `before` says so
/// and they are free.
///
/// # Errors
/// [`NetworkError::Namespace`], [`NetworkError::Resolver`].
pub(super) fn listen(
    namespace: BorrowedFd<'_>,
    before: Option<ResolverPorts>,
) -> Result<(UdpSocket, TcpListener, ResolverPorts), NetworkError> {
    let failed = |action| move |source| NetworkError::Resolver { action, source };
    on_own_thread(|| {
        enter_namespace(namespace)?;
        let wanted = before.map(|ports| (ports.udp, ports.tcp));
        let udp = bound(wanted.map(|(udp, _)| udp), |address| {
            UdpSocket::bind(address)
        })
        .map_err(failed("open a UDP socket"))?;
        let tcp = bound(wanted.map(|(_, tcp)| tcp), |address| {
            TcpListener::bind(address)
        })
        .map_err(failed("open a TCP socket"))?;
        udp.set_nonblocking(true)
            .and_then(|()| tcp.set_nonblocking(true))
            .map_err(failed("set up the sockets"))?;
        let port = |address: io::Result<SocketAddr>| address.map(|address| address.port());
        let ports = ResolverPorts {
            udp: port(udp.local_addr()).map_err(failed("read the socket's port"))?,
            tcp: port(tcp.local_addr()).map_err(failed("read the socket's port"))?,
        };
        redirect(ports).map_err(failed("add nat rules"))?;
        Ok((udp, tcp, ports))
    })
}

/// Binds the wanted port, or any.
fn bound<T>(wanted: Option<u16>, bind: impl Fn(SocketAddrV4) -> io::Result<T>) -> io::Result<T> {
    let any = || bind(SocketAddrV4::new(ADDRESS, 0));
    match wanted {
        Some(port) => bind(SocketAddrV4::new(ADDRESS, port)).or_else(|_| any()),
        None => any(),
    }
}

/// Installs the table in the calling thread's namespace, in place of an earlier one.
fn redirect(ports: ResolverPorts) -> io::Result<()> {
    let mut netfilter = NfNetlink::open()?;
    match install(&mut netfilter, ports, false) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            install(&mut netfilter, ports, true)
        }
        other => other,
    }
}

/// Installs the table; without `replace` one that is there is an error.
fn install(netfilter: &mut NfNetlink, ports: ResolverPorts, replace: bool) -> io::Result<()> {
    netfilter.transaction(|batch| {
        let table = |message: &mut Messages| message.text(TABLE_NAME, TABLE);
        if replace {
            batch.push(DELETE_TABLE, 0, NFPROTO_IPV4, table);
        }
        batch.push(NEW_TABLE, NLM_F_CREATE | NLM_F_EXCL, NFPROTO_IPV4, table);
        batch.push(NEW_CHAIN, NLM_F_CREATE, NFPROTO_IPV4, |message| {
            message.text(CHAIN_TABLE, TABLE);
            message.text(CHAIN_NAME, CHAIN);
            message.nest(CHAIN_HOOK, |hook| {
                hook.attribute(HOOK_NUMBER, &HOOK_LOCAL_OUT.to_be_bytes());
                hook.attribute(HOOK_PRIORITY, &PRIORITY.to_be_bytes());
            });
            message.text(CHAIN_TYPE, "nat");
        });
        for (protocol, port) in [(17_u8, ports.udp), (6, ports.tcp)] {
            batch.push(
                NEW_RULE,
                NLM_F_CREATE | NLM_F_APPEND,
                NFPROTO_IPV4,
                |message| {
                    message.text(RULE_TABLE, TABLE);
                    message.text(RULE_CHAIN, CHAIN);
                    message.nest(RULE_EXPRESSIONS, |list| push_rule(list, protocol, port));
                },
            );
        }
    })
}

/// Adds `ip daddr 127.0.0.11 <protocol> dport 53 dnat to 127.0.0.11:<port>`.
fn push_rule(list: &mut Messages, protocol: u8, port: u16) {
    const NETWORK_HEADER: u32 = 1;
    const TRANSPORT_HEADER: u32 = 2;
    const DESTINATION_ADDRESS: (u32, u32) = (16, 4);
    const DESTINATION_PORT: (u32, u32) = (2, 2);
    const META_KEY_L4PROTO: u32 = 16;
    push_payload(list, NETWORK_HEADER, DESTINATION_ADDRESS);
    push_compare(list, &ADDRESS.octets());
    push_expression(list, "meta", |data| {
        data.attribute(1, &REGISTER_1.to_be_bytes());
        data.attribute(2, &META_KEY_L4PROTO.to_be_bytes());
    });
    push_compare(list, &[protocol]);
    push_payload(list, TRANSPORT_HEADER, DESTINATION_PORT);
    push_compare(list, &DNS_PORT.to_be_bytes());
    push_immediate(list, REGISTER_1, &ADDRESS.octets());
    push_immediate(list, REGISTER_2, &port.to_be_bytes());
    push_expression(list, "nat", |data| {
        const DESTINATION_NAT: u32 = 1;
        data.attribute(1, &DESTINATION_NAT.to_be_bytes());
        data.attribute(2, &u32::from(NFPROTO_IPV4).to_be_bytes());
        data.attribute(3, &REGISTER_1.to_be_bytes());
        data.attribute(5, &REGISTER_2.to_be_bytes());
    });
}

fn push_payload(list: &mut Messages, base: u32, (offset, length): (u32, u32)) {
    push_expression(list, "payload", |data| {
        for (kind, value) in [(1, REGISTER_1), (2, base), (3, offset), (4, length)] {
            data.attribute(kind, &value.to_be_bytes());
        }
    });
}

fn push_compare(list: &mut Messages, value: &[u8]) {
    const EQUAL: u32 = 0;
    push_expression(list, "cmp", |data| {
        data.attribute(1, &REGISTER_1.to_be_bytes());
        data.attribute(2, &EQUAL.to_be_bytes());
        data.nest(3, |nested| nested.attribute(DATA_VALUE, value));
    });
}

fn push_immediate(list: &mut Messages, register: u32, value: &[u8]) {
    push_expression(list, "immediate", |data| {
        data.attribute(1, &register.to_be_bytes());
        data.nest(2, |nested| nested.attribute(DATA_VALUE, value));
    });
}

fn push_expression(list: &mut Messages, name: &str, fill: impl FnOnce(&mut Messages)) {
    list.nest(LIST_ELEMENT, |expression| {
        expression.text(EXPRESSION_NAME, name);
        expression.nest(EXPRESSION_DATA, fill);
    });
}
