//! A blocking nfnetlink socket.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::attributes::Messages;
use crate::netlink::{MAX_DATAGRAM_BYTES, acknowledgement, receive_datagram};

/// Sequence numbers start over here, so that no exchange runs past the end of the number.
const LAST_SEQUENCE: u32 = u32::MAX / 2;

/// A connection to the nfnetlink of the network namespace it was opened in.
///
/// Kept open for the daemon's life: closing one waits until the kernel has freed what the last
/// transactions removed (8 ms measured).
pub(super) struct NfNetlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl NfNetlink {
    /// Connects to the calling thread's network namespace.
    pub(super) fn open() -> io::Result<NfNetlink> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        Ok(NfNetlink {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(MAX_DATAGRAM_BYTES),
        })
    }

    /// Sends messages and waits until the kernel has carried them out.
    ///
    /// `build` gets the first sequence number it may use and returns the last one it used, whose
    /// message must ask for an acknowledgement. The first error wins; the kernel reports a refused
    /// batch against its parts or, as a whole, against its begin.
    pub(super) fn exchange(
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
}
