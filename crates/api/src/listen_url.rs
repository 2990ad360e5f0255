//! Addresses to listen on, as people write them.

/// What is listened on without a host.
const LOOPBACK: &str = "localhost";

/// Returns the full form of a listening address: `unix://PATH`, `tcp://HOST:PORT` or `fd://NAME`.
///
/// A text without a scheme is a TCP address; what is left out is filled in with `default_socket` and `default_port`
/// (docker's rules for `--host`).
///
/// # Errors
/// An unknown scheme, a path behind a TCP address, a port that is no number.
pub fn normalize_listen_url(
    text: &str,
    default_socket: &str,
    default_port: u16,
) -> Result<String, String> {
    let invalid = |why: &str| format!("invalid bind address ({text}): {why}");
    let (scheme, address) = match text.split_once("://") {
        Some(parts) => parts,
        None if text.is_empty() => ("", ""),
        None => ("tcp", text),
    };
    match scheme {
        "unix" if address.is_empty() => Ok(format!("unix://{default_socket}")),
        "unix" | "fd" => Ok(format!("{scheme}://{address}")),
        "tcp" => tcp(address, default_port).map_err(|why| invalid(&why)),
        other => Err(invalid(&format!("unsupported proto '{other}'"))),
    }
}

fn tcp(address: &str, default_port: u16) -> Result<String, String> {
    // Who the caller is has no meaning where one listens.
    let address = address
        .rsplit_once('@')
        .map_or(address, |(_, address)| address);
    if address.contains('/') {
        return Err("should not contain a path element".to_owned());
    }
    let is_bare_v6 = address.starts_with('[') && address.ends_with(']');
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !is_bare_v6 => (host, port),
        _ => (address, ""),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("the port {port:?} is no number"));
    }
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let host = if host.is_empty() { LOOPBACK } else { host };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    if port.is_empty() {
        return Ok(format!("tcp://{host}:{default_port}"));
    }
    Ok(format!("tcp://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::normalize_listen_url;

    #[test]
    fn fills_in_what_is_left_out() {
        for (text, expected) in [
            ("unix://", "unix:///run/x.sock"),
            ("tcp://", "tcp://localhost:1"),
            ("tcp://:99", "tcp://localhost:99"),
            ("tcp://[::1]", "tcp://[::1]:1"),
            ("h:2", "tcp://h:2"),
        ] {
            assert_eq!(
                normalize_listen_url(text, "/run/x.sock", 1).as_deref(),
                Ok(expected)
            );
        }
        for text in ["", "npipe://x", "tcp://h/x", "h:x"] {
            assert!(
                normalize_listen_url(text, "/run/x.sock", 1).is_err(),
                "{text}"
            );
        }
    }
}
