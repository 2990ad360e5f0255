//! The PORTS column.

use serde::Deserialize;

/// One port of a container as `GET /containers/json` lists it (engine-api.md §6.3).
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    /// Host address, empty when the port is not published.
    #[serde(rename = "IP", default)]
    pub ip: String,
    /// Port inside the container.
    pub private_port: u16,
    /// Port on the host, 0 when not published.
    #[serde(default)]
    pub public_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type", default)]
    pub protocol: String,
}

/// A run of consecutive port numbers with the same address and protocol.
struct Run {
    ip: String,
    protocol: String,
    first: u16,
    last: u16,
}

/// Returns the ports in docker's notation: runs joined (`80-81/tcp`), mappings to another number last.
#[must_use]
pub fn displayable(ports: &[Port]) -> String {
    let mut sorted = ports.to_vec();
    sorted.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.protocol).cmp(&(
            b.private_port,
            &b.ip,
            b.public_port,
            &b.protocol,
        ))
    });
    let (mut finished, mut mappings, mut open) = (Vec::new(), Vec::new(), Vec::<Run>::new());
    for port in sorted {
        if !port.ip.is_empty() && port.public_port != port.private_port {
            let host = host_and_port(&port.ip, &port.public_port.to_string());
            mappings.push(format!("{host}->{}/{}", port.private_port, port.protocol));
            continue;
        }
        let same = open
            .iter_mut()
            .find(|run| run.ip == port.ip && run.protocol == port.protocol);
        match same {
            None => open.push(Run {
                ip: port.ip,
                protocol: port.protocol,
                first: port.private_port,
                last: port.private_port,
            }),
            Some(run) if Some(port.private_port) == run.last.checked_add(1) => {
                run.last = port.private_port
            }
            Some(run) => {
                finished.push(run.to_string());
                (run.first, run.last) = (port.private_port, port.private_port);
            }
        }
    }
    finished.extend(open.iter().map(ToString::to_string));
    finished.append(&mut mappings);
    finished.join(", ")
}

impl std::fmt::Display for Run {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let range = if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        };
        if self.ip.is_empty() {
            write!(formatter, "{range}/{}", self.protocol)
        } else {
            write!(
                formatter,
                "{}->{range}/{}",
                host_and_port(&self.ip, &range),
                self.protocol
            )
        }
    }
}

/// Returns `address:port`, with brackets around an IPv6 address.
pub fn host_and_port(ip: &str, port: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}
