//! Which registries may be spoken to without checked TLS.

use std::net::IpAddr;

/// Holds the registries a user lists as insecure.
#[derive(Debug, Clone, Default)]
pub(crate) struct InsecureHosts(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Host(String),
    Network { address: IpAddr, prefix_bits: u32 },
}

impl InsecureHosts {
    /// Parses `host`, `host:port` and CIDR entries (docker's `insecure-registries`). A host without
    /// port stands for the default ports only, a CIDR for literal addresses with any port.
    ///
    /// # Errors
    /// Returns the entry that is neither.
    pub(crate) fn parse(entries: &[String]) -> Result<Self, String> {
        entries
            .iter()
            .map(|entry| Rule::parse(entry).ok_or_else(|| entry.clone()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Tells whether `domain` (host with optional port) is loopback or listed.
    pub(crate) fn contains(&self, domain: &str) -> bool {
        is_loopback(domain) || self.0.iter().any(|rule| rule.matches(domain))
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        if let Some((address, prefix_bits)) = entry.split_once('/') {
            let (address, prefix_bits) =
                (address.parse::<IpAddr>().ok()?, prefix_bits.parse().ok()?);
            let most_bits = if address.is_ipv4() { 32 } else { 128 };
            return (prefix_bits <= most_bits).then_some(Self::Network {
                address,
                prefix_bits,
            });
        }
        let is_host = |character: char| {
            character.is_ascii_alphanumeric()
                || matches!(character, '.' | '-' | ':' | '[' | ']' | '_')
        };
        (!entry.is_empty() && entry.chars().all(is_host))
            .then(|| Self::Host(entry.to_ascii_lowercase()))
    }

    fn matches(&self, domain: &str) -> bool {
        match self {
            Self::Host(host) => domain.eq_ignore_ascii_case(host),
            Self::Network {
                address,
                prefix_bits,
            } => literal_address(domain).is_some_and(|candidate| {
                network_bits(candidate, *prefix_bits) == network_bits(*address, *prefix_bits)
            }),
        }
    }
}

/// Tells whether a host with optional port is this machine.
pub(crate) fn is_loopback(domain: &str) -> bool {
    let host = without_port(domain);
    host.eq_ignore_ascii_case("localhost")
        || literal_address(domain).is_some_and(|address| address.is_loopback())
}

fn literal_address(domain: &str) -> Option<IpAddr> {
    let address = without_port(domain)
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .ok()?;
    Some(address.to_canonical())
}

fn without_port(domain: &str) -> &str {
    match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => domain,
    }
}

/// Returns the family and the first `prefix_bits` of an address.
fn network_bits(address: IpAddr, prefix_bits: u32) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (
            true,
            u128::from(
                u32::from(address)
                    .checked_shr(32 - prefix_bits)
                    .unwrap_or(0),
            ),
        ),
        IpAddr::V6(address) => (
            false,
            u128::from(address)
                .checked_shr(128 - prefix_bits)
                .unwrap_or(0),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{InsecureHosts, is_loopback};

    #[test]
    fn loopback_is_known() {
        for domain in [
            "localhost",
            "LOCALHOST:5000",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]",
            "[::1]:5000",
        ] {
            assert!(is_loopback(domain), "{domain}");
        }
        for domain in [
            "docker.io",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "128.0.0.1",
            "[::2]:1",
            "",
        ] {
            assert!(!is_loopback(domain), "{domain}");
        }
    }

    #[test]
    fn listed_hosts_match() {
        let entries = [
            "reg.example.com:5000",
            "Plain.example",
            "10.1.0.0/16",
            "fd00::/8",
        ]
        .map(str::to_owned);
        let hosts = InsecureHosts::parse(&entries).expect("entries");
        for domain in [
            "reg.example.com:5000",
            "plain.example",
            "10.1.2.3",
            "10.1.2.3:80",
            "[fd12::1]:5",
            "127.0.0.1:9",
        ] {
            assert!(hosts.contains(domain), "{domain}");
        }
        for domain in [
            "reg.example.com",
            "plain.example:1",
            "10.2.0.1",
            "[fe00::1]",
            "x.plain.example",
        ] {
            assert!(!hosts.contains(domain), "{domain}");
        }
        let everything = InsecureHosts::parse(&["0.0.0.0/0".to_owned()]).expect("entry");
        assert!(everything.contains("9.9.9.9") && !everything.contains("[fd00::1]"));
    }

    #[test]
    fn malformed_entries_are_refused() {
        for entry in ["", "http://x", "10.0.0.0/33", "x/8", "a b", "::/129"] {
            assert_eq!(
                InsecureHosts::parse(&[entry.to_owned()]).err().as_deref(),
                Some(entry)
            );
        }
    }
}
