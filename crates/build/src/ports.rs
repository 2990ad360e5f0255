//! The ports of EXPOSE (spec llb §6.3: `port[-port][/proto]`; host parts are accepted and dropped).

/// Ports one EXPOSE word may stand for: all there are.
const MAX_RANGE_PORTS: u32 = 65_536;

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// Returns the ports that a word stands for, as `80/tcp`.
///
/// # Errors
/// A word that is no port, range or mapping.
pub(crate) fn parse(word: &str) -> Result<Vec<String>, String> {
    let (address, protocol) = match word.split_once('/') {
        Some((address, protocol)) => (address, protocol.to_lowercase()),
        None => (word, "tcp".to_owned()),
    };
    let protocol = if protocol.is_empty() {
        "tcp".to_owned()
    } else {
        protocol
    };
    if address.is_empty() {
        return Err(format!(
            "invalid port {word:?}: expected port[-port][/protocol]"
        ));
    }
    if !PROTOCOLS.contains(&protocol.as_str()) {
        return Err(format!(
            "invalid port {word:?}: unknown protocol {protocol:?}; expected tcp, udp or sctp"
        ));
    }
    // `ip:host:container` and `host:container`: only the container's part counts.
    let container = address
        .rsplit_once(':')
        .map_or(address, |(_, container)| container);
    let (first, last) =
        range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?),
        None => {
            let port = text.parse::<u16>().ok()?;
            (port, port)
        }
    };
    let count = u32::from(last).checked_sub(u32::from(first))? + 1;
    (count <= MAX_RANGE_PORTS).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn words() {
        for (word, expected) in [
            ("80", &["80/tcp"][..]),
            ("53/UDP", &["53/udp"]),
            ("8000-8002", &["8000/tcp", "8001/tcp", "8002/tcp"]),
            ("127.0.0.1:8080:80/tcp", &["80/tcp"]),
            ("8080:80", &["80/tcp"]),
        ] {
            assert_eq!(parse(word).unwrap(), expected, "{word}");
        }
        for word in ["", "a", "80/foo", "9-8", "65536", "/tcp", "-1"] {
            assert!(parse(word).is_err(), "{word}");
        }
        assert_eq!(parse("0-65535").unwrap().len(), 65_536);
    }
}
