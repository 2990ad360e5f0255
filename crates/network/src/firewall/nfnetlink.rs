//! A blocking nfnetlink socket.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::attributes::Messages;
use crate::netlink::{MAX_DATAGRAM_BYTES, acknowledgement, receive_datagram};

/// Sequence numbers start over here, so that no exchange runs past the end of the number.
const LAST_SEQUENCE: u32 = u32::MAX / 2;
/// The subsystem of nftables (`nfnetlink.h`).
pub(crate) const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// Makes what is not there (netlink(7)).
pub(crate) const NLM_F_CREATE: u16 = 0x400;

/// A connection to the nfnetlink of the network namespace it was opened in.
///
/// Kept open for the daemon's life: closing one waits until the kernel has freed what the last
/// transactions removed (8 ms measured).
pub(crate) struct NfNetlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
    port: u32,
}

impl NfNetlink {
    /// Connects to the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<NfNetlink> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        Ok(NfNetlink {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(MAX_DATAGRAM_BYTES),
            port,
        })
    }

    /// Returns the socket's number, which the kernel names as the author of its changes.
    pub(crate) fn port_number(&self) -> u32 {
        self.port
    }

    /// Sends messages and waits until the kernel has carried them out.
    ///
    /// `build` gets the first sequence number it may use and returns the last one it used, whose
    /// message must ask for an acknowledgement. The first error wins; the kernel reports a refused
    /// batch against its parts or, as a whole, against its begin.
    pub(crate) fn exchange(
        &mut self,
        build: impl FnOnce(&mut Messages, u32) -> u32,
    ) -> io::Result<()> {
        let first = if self.sequence < LAST_SEQUENCE {
            self.sequence + 1
        } else {
            1
        };
        let mut messages = Messages::default();
        let last = build(&mut messages, first);
        self.sequence = last;
        self.socket.send(messages.as_bytes(), 0)?;
        loop {
            receive_datagram(&self.socket, &mut self.buffer)?;
            let mut offset = 0;
            while let Some((sequence, result, next)) = acknowledgement(&self.buffer, offset) {
                offset = next;
                // What an earlier, refused exchange left unread is skipped.
                if !(first..=last).contains(&sequence) {
                    continue;
                }
                result?;
                if sequence == last {
                    return Ok(());
                }
            }
        }
    }

    /// Carries out changes of nftables, all or none. `fill` must push at least one.
    pub(crate) fn transaction(&mut self, fill: impl FnOnce(&mut Batch<'_>)) -> io::Result<()> {
        let resource = (0, NFNL_SUBSYS_NFTABLES);
        self.exchange(|messages, first| {
            messages.push(
                (NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, first),
                resource,
                |_| {},
            );
            let mut batch = Batch {
                messages,
                sequence: first,
            };
            fill(&mut batch);
            let last = batch.sequence;
            messages.push((NFNL_MSG_BATCH_END, NLM_F_REQUEST, last), resource, |_| {});
            last
        })
    }
}

/// The changes of one transaction.
pub(crate) struct Batch<'a> {
    messages: &'a mut Messages,
    sequence: u32,
}

impl Batch<'_> {
    /// Adds a change of kind `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_…` for a family.
    pub(crate) fn push(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        fill: impl FnOnce(&mut Messages),
    ) {
        self.sequence += 1;
        let header = (kind, NLM_F_REQUEST | NLM_F_ACK | flags, self.sequence);
        self.messages.push(header, (family, 0), fill);
    }
}
