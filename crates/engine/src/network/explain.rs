//! Explaining a published port.

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::network::PortExplanation;
use std::path::Path;
use std::sync::Arc;
use wharf_network::{Protocol, PublishedPort};
use wharf_safefs::trusted;

/// Most of a socket table that is read, in bytes.
const MAX_SOCKET_TABLE_BYTES: u64 = 4 * 1024 * 1024;
/// States of `/proc/net/tcp` and `/proc/net/udp` that take packets (`tcp_states.h`).
const TCP_LISTEN: &str = "0A";
const UDP_OPEN: &str = "07";

impl Engine {
    /// Explains where packets to a host port go and who may send them.
    ///
    /// # Errors
    /// A protocol that is none; a port that no container publishes.
    pub async fn explain_port(
        self: &Arc<Self>,
        port: u16,
        protocol: Option<&str>,
    ) -> Result<Vec<PortExplanation>> {
        let wanted = protocol
            .map(|name| {
                Protocol::from_name(&name.to_ascii_lowercase()).ok_or_else(|| {
                    EngineError::invalid(format!(
                        "invalid protocol {name:?}: expected tcp, udp or sctp"
                    ))
                })
            })
            .transpose()?;
        let ways = self
            .with_store(move |engine| Ok(engine.network.explain(port, wanted)))
            .await?;
        if ways.is_empty() {
            return Err(EngineError::not_found(format!(
                "no container publishes port {port}"
            )));
        }
        Ok(ways
            .into_iter()
            .map(|way| {
                let container = self
                    .containers
                    .find(&way.container_id)
                    .ok()
                    .map(|entry| entry.snapshot());
                PortExplanation {
                    container_name: container
                        .as_ref()
                        .map(|container| container.name.clone())
                        .unwrap_or_default(),
                    listening: container
                        .and_then(|container| is_listening(container.state.pid, &way.port)),
                    way,
                }
            })
            .collect())
    }
}

/// Tells whether a process in the container's namespace takes packets at the port.
fn is_listening(pid: u32, port: &PublishedPort) -> Option<bool> {
    let (names, state) = match port.protocol {
        Protocol::Tcp => (["tcp", "tcp6"], TCP_LISTEN),
        Protocol::Udp => (["udp", "udp6"], UDP_OPEN),
        Protocol::Sctp => return None,
    };
    let mut seen = None;
    for name in names {
        let path = format!("/proc/{pid}/net/{name}");
        let Ok(table) = trusted::read_to_string(Path::new(&path), MAX_SOCKET_TABLE_BYTES) else {
            continue;
        };
        let found = has_socket(&table, port.container_port, state);
        seen = Some(seen.unwrap_or(false) || found);
    }
    seen
}

/// Looks for `…:PORT` as local address with a state in a socket table of `/proc/net`.
fn has_socket(table: &str, port: u16, state: &str) -> bool {
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let local = columns.next().unwrap_or_default();
        let found = columns.nth(1).unwrap_or_default();
        local.ends_with(&wanted) && found == state
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_found() {
        let table = "  sl  local_address rem_address   st tx_queue\n   0: 00000000:0050 00000000:0000 0A 00000000:00000000\n   1: 0100007F:1F90 0100007F:0050 01 00000000:00000000\n";
        assert!(has_socket(table, 80, TCP_LISTEN));
        assert!(!has_socket(table, 8080, TCP_LISTEN));
        assert!(!has_socket("", 80, TCP_LISTEN));
    }
}
