//! `/etc/hosts` and `/etc/hostname`.

use std::fmt::Write;
use std::net::IpAddr;

/// The lines every IPv6-capable container gets (spec runtime §5).
const IPV6_LINES: &str = "::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// One line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecord {
    /// The address.
    pub address: IpAddr,
    /// Its names, separated by spaces, the canonical one first.
    pub names: String,
}

/// Returns the text of `/etc/hosts`: localhost, then `records` in order.
///
/// Without `ipv6` the IPv6 lines and records are left out (spec runtime §5).
pub fn hosts_text(records: &[HostRecord], ipv6: bool) -> String {
    let mut text = "127.0.0.1\tlocalhost\n".to_owned();
    if ipv6 {
        text.push_str(IPV6_LINES);
    }
    for record in records
        .iter()
        .filter(|record| ipv6 || record.address.is_ipv4())
    {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}\t{}", record.address, record.names);
    }
    text
}

/// Returns the text of `/etc/hostname`.
pub fn hostname_text(hostname: &str) -> String {
    format!("{hostname}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostname_ends_with_a_newline() {
        assert_eq!(hostname_text("web"), "web\n");
    }
}
