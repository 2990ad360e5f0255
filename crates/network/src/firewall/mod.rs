//! The one nftables table of a daemon: rules of its networks, and maps of published ports.
//!
//! The rules are installed by `nft` in one transaction whenever a network comes or goes
//! ([`ruleset`]). Publishing a port is adding an element to a map ([`elements`]), for which no
//! process is started. Changes by others are noticed ([`monitor`]).

mod attributes;
mod conntrack;
mod elements;
mod monitor;
mod nfnetlink;
mod nft;
mod ruleset;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use attributes::Messages;
pub(crate) use monitor::Monitor;
pub(crate) use nfnetlink::{NFNL_SUBSYS_NFTABLES, NLM_F_CREATE, NfNetlink};
pub(crate) use nft::foreign_drops;

use crate::error::NetworkError;
use crate::options::GatewayMode;
use crate::port::{Protocol, PublishedPort};
use crate::subnet::Subnet;

/// Longest table name taken; the kernel allows 255 bytes (`NFT_TABLE_MAXNAMELEN`).
const MAX_TABLE_NAME_BYTES: usize = 64;
/// Processes of ours whose changes are still recognised as our own.
const MAX_REMEMBERED_PROCESSES: usize = 64;

/// What the rules have to know of one family of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FamilyRules {
    /// The subnet of the containers.
    pub(crate) subnet: Subnet,
    /// The bridge's own address, which belongs to the host, if it has one.
    pub(crate) gateway: Option<std::net::IpAddr>,
    /// How packets pass.
    pub(crate) mode: GatewayMode,
    /// Source address of what leaves; `None` takes that of the device it leaves by.
    pub(crate) host_address: Option<std::net::IpAddr>,
}

/// What the rules have to know of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeRules {
    /// The device's name.
    pub(crate) device: String,
    /// Keeps the network apart from everything else.
    pub(crate) internal: bool,
    /// Lets containers of the network reach each other.
    pub(crate) icc: bool,
    /// Lets containers leave with the host's address.
    pub(crate) masquerade: bool,
    /// The host's devices from which containers are reached directly.
    pub(crate) trusted_interfaces: Vec<String>,
    /// IPv4 and IPv6.
    pub(crate) families: Vec<FamilyRules>,
}

/// A container that may reach another one's port although their network keeps containers apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllowedLink {
    /// Who may reach.
    pub from: Ipv4Addr,
    /// Whom.
    pub to: Ipv4Addr,
    /// By which protocol.
    pub protocol: Protocol,
    /// At which port.
    pub port: u16,
}

/// Everything the table is made from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// The bridges.
    pub(crate) bridges: Vec<BridgeRules>,
    /// The published ports.
    pub(crate) ports: Vec<PublishedPort>,
    /// Exceptions for networks that keep containers apart.
    pub(crate) links: Vec<AllowedLink>,
}

/// Who of ourselves changes the table: everybody else is a stranger.
#[derive(Debug, Default)]
pub(crate) struct OwnChanges {
    socket: u32,
    processes: Mutex<VecDeque<u32>>,
}

impl OwnChanges {
    fn remember(&self, process: u32) {
        let mut processes = self.lock();
        if processes.len() == MAX_REMEMBERED_PROCESSES {
            processes.pop_front();
        }
        processes.push_back(process);
    }

    /// Tells whether a change is ours, by the socket and the process the kernel names.
    fn is_own(&self, socket: u32, process: u32) -> bool {
        socket == self.socket || self.lock().contains(&process)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u32>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table of one daemon.
pub(crate) struct Firewall {
    table: String,
    netfilter: Mutex<NfNetlink>,
    own: Arc<OwnChanges>,
}

impl Firewall {
    /// Describes a table; the kernel is asked for it by [`Firewall::install`].
    ///
    /// # Errors
    /// [`NetworkError::Elements`] if the kernel has no nfnetlink.
    pub(crate) fn new(table: &str) -> Result<Firewall, NetworkError> {
        let netfilter = NfNetlink::open().map_err(|source| NetworkError::Elements {
            table: table.to_owned(),
            source,
        })?;
        let own = Arc::new(OwnChanges {
            socket: netfilter.port_number(),
            processes: Mutex::default(),
        });
        Ok(Firewall {
            table: table.to_owned(),
            netfilter: Mutex::new(netfilter),
            own,
        })
    }

    /// Returns the table's name.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// Watches the table for changes by others and calls `mend` after one.
    ///
    /// # Errors
    /// [`NetworkError::Elements`] if the kernel does not tell of changes.
    pub(crate) fn watch(&self, mend: impl Fn() + Send + 'static) -> Result<Monitor, NetworkError> {
        Monitor::start(&self.table, Arc::clone(&self.own), mend)
            .map_err(|source| self.elements_error(source))
    }

    /// Installs the table with exactly what `rules` says, in place of whatever has its name.
    ///
    /// One transaction: connections that exist go on, and no packet sees half a table. `rules` is
    /// asked when no port is being published or withdrawn, so that none is forgotten.
    ///
    /// # Errors
    /// [`NetworkError::NftMissing`] or [`NetworkError::Ruleset`].
    pub(crate) fn install(&self, rules: impl FnOnce() -> Rules) -> Result<(), NetworkError> {
        let _gate = self.netfilter();
        let text = ruleset::table_text(&self.table, &rules());
        nft::run_nft(&self.table, &text, &self.own)
    }

    /// Publishes ports of one container, all or none.
    ///
    /// # Errors
    /// [`NetworkError::Elements`]; of kind `NotFound` if somebody has removed the table.
    pub(crate) fn publish(&self, ports: &[PublishedPort]) -> Result<(), NetworkError> {
        if !ports.iter().any(PublishedPort::is_translated) {
            return Ok(());
        }
        elements::add(&mut self.netfilter(), &self.table, ports)
            .map_err(|source| self.elements_error(source))
    }

    /// Takes published ports of one container back; those that are gone are no failure.
    ///
    /// After a UDP port, connections the container answers are forgotten, so that a client that
    /// keeps sending reaches the port's next owner. TCP needs no such thing, and forgetting goes
    /// through every connection of the machine (10 ms measured).
    ///
    /// # Errors
    /// [`NetworkError::Elements`].
    pub(crate) fn withdraw(&self, ports: &[PublishedPort]) -> Result<(), NetworkError> {
        if !ports.iter().any(PublishedPort::is_translated) {
            return Ok(());
        }
        let mut netfilter = self.netfilter();
        let removed = elements::remove(&mut netfilter, &self.table, ports);
        let mut forgotten = Vec::new();
        for port in ports.iter().filter(|port| port.protocol != Protocol::Tcp) {
            if !forgotten.contains(&port.address) {
                forgotten.push(port.address);
                // A kernel that cannot filter here (before 5.8) lets the entries time out.
                let _ = conntrack::forget_replies_from(&mut netfilter, port.address);
            }
        }
        removed.map_err(|source| self.elements_error(source))
    }

    /// Removes the table; one that is gone is no failure.
    ///
    /// # Errors
    /// [`NetworkError::NftMissing`] or [`NetworkError::Ruleset`].
    pub(crate) fn remove(&self) -> Result<(), NetworkError> {
        let _gate = self.netfilter();
        nft::run_nft(&self.table, &ruleset::removal_text(&self.table), &self.own)
    }

    fn netfilter(&self) -> MutexGuard<'_, NfNetlink> {
        self.netfilter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn elements_error(&self, source: std::io::Error) -> NetworkError {
        NetworkError::Elements {
            table: self.table.clone(),
            source,
        }
    }
}

/// Checks a table's name against `nft`'s grammar.
///
/// # Errors
/// [`NetworkError::InvalidName`].
pub(crate) fn validate_table_name(name: &str) -> Result<(), NetworkError> {
    let invalid = |reason| {
        Err(NetworkError::InvalidName {
            kind: "nftables table",
            name: name.to_owned(),
            reason,
        })
    };
    if name.is_empty() || name.len() > MAX_TABLE_NAME_BYTES {
        return invalid("expected 1 to 64 bytes");
    }
    if !name.starts_with(|first: char| first.is_ascii_alphabetic())
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return invalid("expected a letter, then letters, digits and underscores");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_are_checked() {
        let longest = "a".repeat(MAX_TABLE_NAME_BYTES);
        let too_long = "a".repeat(MAX_TABLE_NAME_BYTES + 1);
        for good in ["wharf", "wharf_0a1b2c3d", &longest] {
            assert!(validate_table_name(good).is_ok(), "{good}");
        }
        for bad in ["", "0wharf", "a b", "a;b", "a{", "ü", &too_long] {
            assert!(validate_table_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn own_processes_are_remembered_for_a_while() {
        let own = OwnChanges {
            socket: 7,
            ..OwnChanges::default()
        };
        own.remember(100);
        assert!(own.is_own(7, 1) && own.is_own(8, 100) && !own.is_own(8, 1));
        (0..MAX_REMEMBERED_PROCESSES as u32).for_each(|process| own.remember(200 + process));
        assert!(!own.is_own(8, 100) && own.is_own(8, 200));
    }
}
