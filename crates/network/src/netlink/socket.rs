//! A blocking rtnetlink socket: requests that are acknowledged, and dumps.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Largest datagram taken from the kernel; dumps come in pieces of at most 32 KiB
/// (`NLMSG_GOODSIZE` and `netlink_dump` in the kernel).
pub(crate) const MAX_DATAGRAM_BYTES: usize = 64 * 1024;
/// Most messages of one dump; a machine with more routes or devices is refused with an error.
const MAX_DUMP_MESSAGES: usize = 1_000_000;

/// A connection to the rtnetlink of the network namespace it was opened in.
///
/// The socket keeps speaking to that namespace whatever thread uses it later.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Connects to the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // A refused request is answered with its header only: peers and dumps stay small.
        socket.set_cap_ack(true)?;
        Ok(Netlink {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(MAX_DATAGRAM_BYTES),
        })
    }

    /// Sends a request with extra `flags` and waits until the kernel has carried it out.
    pub(crate) fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        loop {
            for answer in self.receive()? {
                if let NetlinkPayload::Error(error) = answer {
                    return if error.code.is_some() {
                        Err(error.to_io())
                    } else {
                        Ok(())
                    };
                }
            }
        }
    }

    /// Sends a dump request and returns all messages of the answer.
    pub(crate) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(message, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut messages = Vec::new();
        loop {
            for answer in self.receive()? {
                match answer {
                    NetlinkPayload::InnerMessage(message) => messages.push(message),
                    NetlinkPayload::Done(_) => return Ok(messages),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    _ => {}
                }
            }
            if messages.len() > MAX_DUMP_MESSAGES {
                return Err(io::Error::other(
                    "more devices, addresses or routes than can be read",
                ));
            }
        }
    }

    /// Sends a request for one object and returns the answer.
    pub(crate) fn get(&mut self, message: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        self.send(message, NLM_F_REQUEST)?;
        loop {
            for answer in self.receive()? {
                match answer {
                    NetlinkPayload::InnerMessage(message) => return Ok(message),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        Ok(())
    }

    /// Receives one datagram and returns those of its messages that answer the latest request.
    fn receive(&mut self) -> io::Result<Vec<NetlinkPayload<RouteNetlinkMessage>>> {
        receive_datagram(&self.socket, &mut self.buffer)?;
        let mut answers = Vec::new();
        let mut rest = self.buffer.as_slice();
        while rest.len() >= 16 {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = (message.header.length as usize).next_multiple_of(4);
            if message.header.sequence_number == self.sequence {
                answers.push(message.payload);
            }
            rest = rest.get(length.max(16)..).unwrap_or_default();
        }
        Ok(answers)
    }
}

/// Receives one datagram into `buffer`, in place of what was there.
pub(crate) fn receive_datagram(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    loop {
        match socket.recv(buffer, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => return received.map(drop),
        }
    }
}

/// Reads one acknowledgement from a raw netlink datagram at `offset`: its sequence number, its
/// result and the offset of the next message. `None` at the datagram's end.
///
/// Layout: `struct nlmsghdr` (length, type, flags, sequence, port), then `struct nlmsgerr` whose
/// first word is a negative errno or 0 (netlink(7)).
pub(crate) fn acknowledgement(
    datagram: &[u8],
    offset: usize,
) -> Option<(u32, io::Result<()>, usize)> {
    const NLMSG_ERROR: u16 = 2;
    let word = |at: usize| {
        let bytes = datagram.get(offset + at..offset + at + 4)?;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    };
    let length = word(0)? as usize;
    let kind = word(4)? as u16;
    let sequence = word(8)?;
    let result = match word(16) {
        Some(code) if kind == NLMSG_ERROR && code != 0 => {
            Err(io::Error::from_raw_os_error((code as i32).wrapping_neg()))
        }
        _ => Ok(()),
    };
    Some((
        sequence,
        result,
        offset + length.max(16).next_multiple_of(4),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_read_one_after_another() {
        let mut datagram = Vec::new();
        for (sequence, code) in [(7_u32, 0_i32), (8, -libc::ENOENT)] {
            for word in [36_u32, 2, sequence, 0, code as u32, 0, 0, 0, 0] {
                datagram.extend_from_slice(&word.to_ne_bytes());
            }
        }
        let (sequence, result, next) = acknowledgement(&datagram, 0).unwrap();
        assert!(sequence == 7 && result.is_ok() && next == 36);
        let (sequence, result, next) = acknowledgement(&datagram, next).unwrap();
        assert_eq!(
            (sequence, result.unwrap_err().raw_os_error()),
            (8, Some(libc::ENOENT))
        );
        assert!(acknowledgement(&datagram, next).is_none());
        assert!(acknowledgement(&[1, 2, 3], 0).is_none());
    }

    #[test]
    fn the_loopback_device_is_found() {
        let mut netlink = Netlink::open().unwrap();
        assert!(netlink.link_by_name("lo").unwrap().is_some());
        assert!(netlink.link_by_name("no-such-device").unwrap().is_none());
        assert!(
            netlink
                .links()
                .unwrap()
                .iter()
                .any(|link| link.name == "lo")
        );
    }
}
