//! The one nftables table of a daemon: rules that never change, and maps of published ports.
//!
//! The rules are installed once, by `nft`, in one transaction ([`ruleset`]). Publishing a port
//! afterwards is adding an element to a map ([`elements`]), for which no process is started.

mod attributes;
mod conntrack;
mod elements;
mod nfnetlink;
mod ruleset;

use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nfnetlink::NfNetlink;

use crate::endpoint::{Protocol, PublishedPort};
use crate::error::NetworkError;
use crate::subnet::Ipv4Subnet;

/// Map of ports published at every host address: `protocol . port` to `address . port`.
const MAP_ANY: &str = "published_any";
/// Map of ports published at one host address: `address . protocol . port` to `address . port`.
const MAP_AT: &str = "published_at";
/// Longest table name taken; the kernel allows 255 bytes (`NFT_TABLE_MAXNAMELEN`).
const MAX_TABLE_NAME_BYTES: usize = 64;

/// A published port with the container it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// The port.
    pub(crate) port: PublishedPort,
    /// The container's address.
    pub(crate) address: Ipv4Addr,
}

/// The table of one daemon.
pub(crate) struct Firewall {
    table: String,
    bridge: String,
    subnet: Ipv4Subnet,
    netfilter: Mutex<NfNetlink>,
}

impl Firewall {
    /// Describes a table; the kernel is asked for it by [`Firewall::install`].
    ///
    /// # Errors
    /// [`NetworkError::Elements`] if the kernel has no nfnetlink.
    pub(crate) fn new(
        table: &str,
        bridge: &str,
        subnet: Ipv4Subnet,
    ) -> Result<Firewall, NetworkError> {
        let netfilter = NfNetlink::open().map_err(|source| NetworkError::Elements {
            table: table.to_owned(),
            source,
        })?;
        Ok(Firewall {
            table: table.to_owned(),
            bridge: bridge.to_owned(),
            subnet,
            netfilter: Mutex::new(netfilter),
        })
    }

    /// Installs the table with exactly these published ports, in place of whatever has its name.
    ///
    /// One transaction: connections that exist go on, and no packet sees half a table.
    ///
    /// # Errors
    /// [`NetworkError::NftMissing`] or [`NetworkError::Ruleset`].
    pub(crate) fn install(&self, mappings: &[Mapping]) -> Result<(), NetworkError> {
        ruleset::run_nft(&self.table, &ruleset::table_text(self, mappings))
    }

    /// Publishes ports of one container, all or none.
    ///
    /// # Errors
    /// [`NetworkError::Elements`]; of kind `NotFound` if somebody has removed the table.
    pub(crate) fn publish(&self, mappings: &[Mapping]) -> Result<(), NetworkError> {
        elements::add(&mut self.netfilter(), &self.table, mappings)
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
    pub(crate) fn withdraw(&self, mappings: &[Mapping]) -> Result<(), NetworkError> {
        let mut netfilter = self.netfilter();
        let removed = elements::remove(&mut netfilter, &self.table, mappings);
        if let Some(mapping) = mappings
            .iter()
            .find(|mapping| mapping.port.protocol == Protocol::Udp)
        {
            // A kernel that cannot filter here (before 5.8) lets the entries time out.
            let _ = conntrack::forget_replies_from(&mut netfilter, mapping.address);
        }
        removed.map_err(|source| self.elements_error(source))
    }

    /// Removes the table; one that is gone is no failure.
    ///
    /// # Errors
    /// [`NetworkError::NftMissing`] or [`NetworkError::Ruleset`].
    pub(crate) fn remove(&self) -> Result<(), NetworkError> {
        ruleset::run_nft(&self.table, &ruleset::removal_text(&self.table))
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

/// Checks a table name against what `nft` reads as a name.
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
}
