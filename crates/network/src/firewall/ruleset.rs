//! The table's text for `nft`, and running `nft`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use super::{Firewall, MAP_ANY, MAP_AT, Mapping};
use crate::error::NetworkError;

/// Where `nft` is looked for: `PATH`, then where it is when `PATH` has no system directories.
const NFT_PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];
/// Most characters of `nft`'s complaint that go into an error.
const MAX_COMPLAINT_CHARS: usize = 2000;

/// Returns the whole table as one transaction that replaces an earlier one.
///
/// The rules follow spec runtime §8.2 without a userland proxy:
/// - `guard`: loopback addresses come only from `lo`, so that a port published at 127.0.0.1 is not
///   reachable from outside; container addresses are not reachable from outside at all, published
///   ports go through the host's addresses.
/// - `publish`: destinations that are the host's are looked up in the maps, from outside, from
///   containers and from the host itself.
/// - `postrouting`: containers leave with the host's address; a container that reaches another (or
///   itself) through the host's address, and the host through a loopback address, are seen as the
///   bridge, so that answers come back the same way.
/// - `forward`: what enters the bridge from elsewhere is an answer or came through a map.
pub(super) fn table_text(firewall: &Firewall, mappings: &[Mapping]) -> String {
    let Firewall {
        table,
        bridge,
        subnet,
        ..
    } = firewall;
    let gateway = subnet.gateway();
    let elements_any = elements_text(mappings, true);
    let elements_at = elements_text(mappings, false);
    format!(
        r#"add table ip {table}
delete table ip {table}
table ip {table} {{
  map {MAP_ANY} {{
    type inet_proto . inet_service : ipv4_addr . inet_service
{elements_any}  }}
  map {MAP_AT} {{
    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
{elements_at}  }}
  chain guard {{
    type filter hook prerouting priority raw; policy accept;
    iifname != "lo" ip daddr 127.0.0.0/8 drop
    iifname != {{ "lo", "{bridge}" }} ip daddr {subnet} ip daddr != {gateway} drop
  }}
  chain publish {{
    fib daddr type != local return
    meta l4proto {{ tcp, udp }} dnat ip to ip daddr . meta l4proto . th dport map @{MAP_AT}
    meta l4proto {{ tcp, udp }} dnat ip to meta l4proto . th dport map @{MAP_ANY}
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    jump publish
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    jump publish
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {subnet} oifname != "{bridge}" masquerade
    ip saddr {subnet} oifname "{bridge}" ct status dnat masquerade
    ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    oifname "{bridge}" ct state established,related accept
    oifname "{bridge}" ct status dnat accept
    oifname "{bridge}" iifname != "{bridge}" drop
  }}
}}
"#
    )
}

/// Returns the transaction that removes the table whether it exists or not.
pub(super) fn removal_text(table: &str) -> String {
    format!("add table ip {table}\ndelete table ip {table}\n")
}

/// Runs `nft -f -` on a transaction.
///
/// # Errors
/// [`NetworkError::NftMissing`] or [`NetworkError::Ruleset`] with `nft`'s complaint.
pub(super) fn run_nft(table: &str, text: &str) -> Result<(), NetworkError> {
    for program in NFT_PROGRAMS {
        match run(program, text) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ruleset_error(table, format!("cannot run nft: {error}"))),
            Ok(None) => return Ok(()),
            Ok(Some(complaint)) => return Err(ruleset_error(table, complaint)),
        }
    }
    Err(NetworkError::NftMissing)
}

/// Returns what `nft` complained about, `None` if it did not.
fn run(program: &str, text: &str) -> io::Result<Option<String>> {
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // If nft ends before it has read everything, its own message says more than the broken pipe.
    let written = child
        .stdin
        .take()
        .map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    if output.status.success() {
        return written.map(|()| None);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint: String = complaint.trim().chars().take(MAX_COMPLAINT_CHARS).collect();
    Ok(Some(if complaint.is_empty() {
        format!("nft ended with {}", output.status)
    } else {
        complaint
    }))
}

fn ruleset_error(table: &str, reason: String) -> NetworkError {
    NetworkError::Ruleset {
        table: table.to_owned(),
        reason,
    }
}

fn elements_text(mappings: &[Mapping], any: bool) -> String {
    let mut text = String::new();
    for Mapping { port, address } in mappings
        .iter()
        .filter(|mapping| mapping.port.host_ip.is_unspecified() == any)
    {
        text.push_str(if text.is_empty() {
            "    elements = { "
        } else {
            ", "
        });
        if !any {
            // Writing to a String cannot fail.
            let _ = write!(text, "{} . ", port.host_ip);
        }
        let _ = write!(
            text,
            "{} . {} : {address} . {}",
            port.protocol, port.host_port, port.container_port
        );
    }
    if !text.is_empty() {
        text.push_str(" }\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::endpoint::{Protocol, PublishedPort};

    #[test]
    fn published_ports_become_elements_of_the_right_map() {
        let mapping = |host_ip: [u8; 4], host_port| Mapping {
            port: PublishedPort {
                container_port: 80,
                protocol: Protocol::Tcp,
                host_ip: host_ip.into(),
                host_port,
            },
            address: Ipv4Addr::new(10, 9, 0, 2),
        };
        let mappings = [
            mapping([0; 4], 8080),
            mapping([0; 4], 8081),
            mapping([127, 0, 0, 1], 8082),
        ];
        assert_eq!(
            elements_text(&mappings, true),
            "    elements = { tcp . 8080 : 10.9.0.2 . 80, tcp . 8081 : 10.9.0.2 . 80 }\n"
        );
        assert_eq!(
            elements_text(&mappings, false),
            "    elements = { 127.0.0.1 . tcp . 8082 : 10.9.0.2 . 80 }\n"
        );
        assert_eq!(elements_text(&[], true), "");
    }
}
