//! Running `nft`, and what it tells of the tables of others.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use crate::error::NetworkError;
use crate::firewall::OwnChanges;

/// Where `nft` is looked for: `PATH`, then where it is when `PATH` has no system directories.
const NFT_PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];
/// Most characters of `nft`'s complaint that go into an error.
const MAX_COMPLAINT_CHARS: usize = 2000;

/// Runs `nft -f -` on a transaction.
///
/// # Errors
/// [`NetworkError::NftMissing`] or [`NetworkError::Ruleset`] with `nft`'s complaint.
pub(super) fn run_nft(table: &str, text: &str, own: &OwnChanges) -> Result<(), NetworkError> {
    for program in NFT_PROGRAMS {
        match run(program, text, own) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ruleset_error(table, format!("cannot run nft: {error}"))),
            Ok(None) => return Ok(()),
            Ok(Some(complaint)) => return Err(ruleset_error(table, complaint)),
        }
    }
    Err(NetworkError::NftMissing)
}

/// Returns the chains of other tables that drop forwarded packets unless a rule of theirs accepts
/// them: what passes here may still end there.
pub(crate) fn foreign_drops(table: &str) -> Vec<String> {
    for program in NFT_PROGRAMS {
        let Ok(output) = Command::new(program)
            .args(["-j", "list", "chains"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
        else {
            continue;
        };
        return parse_foreign_drops(&output.stdout, table);
    }
    Vec::new()
}

/// Returns what `nft` complained about, `None` if it did not.
fn run(program: &str, text: &str, own: &OwnChanges) -> io::Result<Option<String>> {
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // It changes nothing before it has read everything.
    own.remember(child.id());
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

fn parse_foreign_drops(json: &[u8], table: &str) -> Vec<String> {
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(json) else {
        return Vec::new();
    };
    let chains = document
        .get("nftables")
        .and_then(|list| list.as_array())
        .map(Vec::as_slice)
        .unwrap_or_default();
    let text = |chain: &serde_json::Value, key: &str| {
        chain
            .get(key)
            .and_then(|value| value.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    chains
        .iter()
        .filter_map(|entry| entry.get("chain"))
        .filter(|chain| {
            text(chain, "hook") == "forward"
                && text(chain, "policy") == "drop"
                && text(chain, "table") != table
        })
        .map(|chain| {
            format!(
                "table {} {} chain {}",
                text(chain, "family"),
                text(chain, "table"),
                text(chain, "name")
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_others_are_found() {
        let json = br#"{"nftables": [{"metainfo": {}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "t", "name": "x", "hook": "forward", "policy": "drop"}}]}"#;
        assert_eq!(
            parse_foreign_drops(json, "t"),
            ["table ip filter chain FORWARD"]
        );
        assert!(parse_foreign_drops(b"nonsense", "t").is_empty());
    }
}
