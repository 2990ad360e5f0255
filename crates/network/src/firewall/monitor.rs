//! Noticing that somebody else has changed the table, such as `nft flush ruleset` of a firewall
//! service that is being reloaded.
//!
//! The kernel tells of every change of nftables (multicast group `NFNLGRP_NFTABLES`): the changes
//! of one transaction, then the generation they make with the process that made them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{EventfdFlags, PollFd, PollFlags};

use super::OwnChanges;
use super::nfnetlink::NFNL_SUBSYS_NFTABLES;
use crate::netlink::{MAX_DATAGRAM_BYTES, receive_datagram};

/// The multicast group of changes of nftables (`nfnetlink.h`).
const NFNLGRP_NFTABLES: u32 = 7;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_DELCHAIN: u16 = 5;
const NFT_MSG_DELRULE: u16 = 8;
const NFT_MSG_DELSET: u16 = 11;
const NFT_MSG_DELSETELEM: u16 = 14;
const NFT_MSG_NEWGEN: u16 = 15;
const NFTA_GEN_PROC_PID: u16 = 2;
/// In every message of a deletion the table's name is attribute 1.
const TABLE_NAME: u16 = 1;
/// Bytes of `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER_BYTES: usize = 16;
const FAMILY_HEADER_BYTES: usize = 4;
/// Time between two repairs, so that two programs that both insist do not keep the machine busy.
const REPAIR_INTERVAL: Duration = Duration::from_millis(250);

/// A thread that watches the table until it is dropped.
pub(crate) struct Monitor {
    stop: Arc<OwnedFd>,
    worker: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Watches `table` in the calling thread's network namespace; `mend` is called on the
    /// monitor's thread after a deletion in the table that none of `own` made.
    ///
    /// # Errors
    /// What the kernel says to the socket or the thread.
    pub(super) fn start(
        table: &str,
        own: Arc<OwnChanges>,
        mend: impl Fn() + Send + 'static,
    ) -> io::Result<Monitor> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(NFNLGRP_NFTABLES)?;
        socket.set_non_blocking(true)?;
        let stop = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
        let (table, stopped) = (table.to_owned(), Arc::clone(&stop));
        let worker = std::thread::Builder::new()
            .name("nft-monitor".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || watch(&socket, &stopped, &table, &own, &mend))?;
        Ok(Monitor {
            stop,
            worker: Some(worker),
        })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Writing one to an eventfd that holds zero cannot fail.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has nothing left to clean up.
            let _ = worker.join();
        }
    }
}

fn watch(socket: &Socket, stop: &OwnedFd, table: &str, own: &OwnChanges, mend: &impl Fn()) {
    let mut buffer = Vec::with_capacity(MAX_DATAGRAM_BYTES);
    let mut damage = Damage::default();
    let mut broken_since: Option<Instant> = None;
    let mut mended: Option<Instant> = None;
    loop {
        let wait = broken_since.map(|since| {
            let due = mended.map_or(since, |mended| since.max(mended + REPAIR_INTERVAL));
            due.saturating_duration_since(Instant::now())
        });
        if wait.is_some_and(|wait| wait.is_zero()) {
            broken_since = None;
            mended = Some(Instant::now());
            mend();
            continue;
        }
        match wait_for(socket, stop, wait) {
            Woken::Stop => return,
            Woken::TimedOut => continue,
            Woken::Message => {}
        }
        match receive_datagram(socket, &mut buffer) {
            Ok(()) => {
                if damage.read(&buffer, table, own) {
                    broken_since.get_or_insert_with(Instant::now);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Messages were lost: what they told is unknown.
            Err(_) => {
                broken_since.get_or_insert_with(Instant::now);
            }
        }
    }
}

enum Woken {
    Message,
    Stop,
    TimedOut,
}

fn wait_for(socket: &Socket, stop: &OwnedFd, wait: Option<Duration>) -> Woken {
    // SAFETY: the socket outlives this function, and nobody else closes its descriptor.
    let socket = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    let mut fds = [
        PollFd::from_borrowed_fd(socket, PollFlags::IN),
        PollFd::new(stop, PollFlags::IN),
    ];
    let timeout = wait.and_then(|wait| rustix::event::Timespec::try_from(wait).ok());
    let _interrupted_is_a_time_out = rustix::event::poll(&mut fds, timeout.as_ref());
    let [message, stop] = fds;
    if !stop.revents().is_empty() {
        Woken::Stop
    } else if !message.revents().is_empty() {
        Woken::Message
    } else {
        Woken::TimedOut
    }
}

/// Deletions in the table of the transaction that is being told of.
#[derive(Debug, Default)]
struct Damage {
    /// Sockets that deleted something of the table since the last generation.
    by_sockets: Vec<u32>,
}

impl Damage {
    /// Takes a datagram in; `true` when a transaction of somebody else's has deleted something.
    fn read(&mut self, datagram: &[u8], table: &str, own: &OwnChanges) -> bool {
        let mut broken = false;
        let mut rest = datagram;
        while let Some((message, next)) = split_message(rest) {
            rest = next;
            match message.kind {
                NFT_MSG_DELTABLE | NFT_MSG_DELCHAIN | NFT_MSG_DELRULE | NFT_MSG_DELSET
                | NFT_MSG_DELSETELEM => {
                    let name = attribute(message.attributes, TABLE_NAME).unwrap_or_default();
                    if name.strip_suffix(&[0]) == Some(table.as_bytes()) {
                        self.by_sockets.push(message.socket);
                    }
                }
                NFT_MSG_NEWGEN => {
                    let process = attribute(message.attributes, NFTA_GEN_PROC_PID)
                        .and_then(|value| value.try_into().ok())
                        .map_or(0, u32::from_be_bytes);
                    broken |= self
                        .by_sockets
                        .drain(..)
                        .any(|socket| !own.is_own(socket, process));
                }
                _ => {}
            }
        }
        broken
    }
}

struct Message<'a> {
    kind: u16,
    socket: u32,
    attributes: &'a [u8],
}

/// Splits the first nftables message off; messages of other subsystems have kind `u16::MAX`.
fn split_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let word = |at: usize| {
        let word = bytes.get(at..at + 4)?;
        word.try_into().ok().map(u32::from_ne_bytes)
    };
    let length = word(0)? as usize;
    let kind = word(4)? as u16;
    let socket = word(12)?;
    if length < HEADER_BYTES || length > bytes.len() {
        return None;
    }
    let attributes = bytes
        .get(HEADER_BYTES + FAMILY_HEADER_BYTES..length)
        .unwrap_or_default();
    let message = Message {
        kind: if kind >> 8 == NFNL_SUBSYS_NFTABLES {
            kind & 0xff
        } else {
            u16::MAX
        },
        socket,
        attributes,
    };
    Some((
        message,
        bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
    ))
}

/// Returns the value of an attribute.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Messages;
    use super::*;

    const SUBSYSTEM: u16 = NFNL_SUBSYS_NFTABLES << 8;

    fn told(kind: u16, table: &str, process: u32) -> Vec<u8> {
        let mut messages = Messages::default();
        messages.push((SUBSYSTEM | kind, 0, 1), (1, 0), |message| {
            message.text(TABLE_NAME, table);
        });
        messages.push((SUBSYSTEM | NFT_MSG_NEWGEN, 0, 1), (0, 0), |message| {
            message.attribute(1, &5_u32.to_be_bytes());
            message.attribute(NFTA_GEN_PROC_PID, &process.to_be_bytes());
        });
        messages.as_bytes().to_vec()
    }

    #[test]
    fn only_deletions_in_the_table_by_others_count() {
        let own = OwnChanges {
            socket: 7,
            ..OwnChanges::default()
        };
        own.remember(100);
        for (kind, table, process, expected) in [
            (NFT_MSG_DELTABLE, "wharf", 1, true),
            (NFT_MSG_DELRULE, "wharf", 1, true),
            (NFT_MSG_DELTABLE, "wharf", 100, false),
            (NFT_MSG_DELTABLE, "wharf_2", 1, false),
            (0, "wharf", 1, false),
        ] {
            let mut damage = Damage::default();
            assert_eq!(
                damage.read(&told(kind, table, process), "wharf", &own),
                expected,
                "{kind} {table} {process}"
            );
        }
    }

    #[test]
    fn the_generation_may_come_in_another_datagram() {
        let own = OwnChanges {
            socket: 7,
            ..OwnChanges::default()
        };
        let mut damage = Damage::default();
        let both = told(NFT_MSG_DELTABLE, "wharf", 1);
        let (_, second) = split_message(&both).unwrap();
        let first = &both[..both.len() - second.len()];
        assert!(!damage.read(first, "wharf", &own));
        assert!(damage.read(second, "wharf", &own));
        assert!(!damage.read(second, "wharf", &own));
    }

    #[test]
    fn nonsense_is_ignored() {
        let own = OwnChanges::default();
        let good = told(NFT_MSG_DELTABLE, "wharf", 1);
        for length in 0..good.len() {
            let mut bytes = good[..length].to_vec();
            Damage::default().read(&bytes, "wharf", &own);
            bytes.iter_mut().for_each(|byte| *byte = 0xff);
            Damage::default().read(&bytes, "wharf", &own);
        }
    }
}
