//! `wharf network explain`.

use clap::Args;
use serde::Deserialize;

use crate::error::{CliError, Result};
use crate::http::Request;
use crate::session::Session;

/// Explain where packets to a published port go and who may send them
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Print as JSON
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
    /// Port on the host
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Explanation {
    host_ip: String,
    host_port: u16,
    protocol: String,
    container_id: String,
    container_name: String,
    container_address: String,
    container_port: u16,
    network: String,
    listening: Option<bool>,
    path: Vec<String>,
    reachable: Vec<Reachable>,
    foreign_chains: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reachable {
    from: String,
    allowed: bool,
    because: String,
}

/// Runs `wharf network explain`.
pub async fn explain_command(session: &mut Session, args: ExplainArgs) -> Result<()> {
    let (port, protocol) = match args.port.split_once('/') {
        Some((port, protocol)) => (port, Some(protocol)),
        None => (args.port.as_str(), None),
    };
    let number: u16 = port.parse().map_err(|_| {
        CliError::usage(format!(
            "invalid port {port:?}: expected a number from 1 to 65535"
        ))
    })?;
    let request = Request::get(format!("/wharf/ports/{number}")).query_if("protocol", protocol);
    let answer = session.client.send(request).await?;
    if args.format.is_some() {
        let document: serde_json::Value = answer.json().await?;
        return session.output.line(&document.to_string());
    }
    let explained: Vec<Explanation> = answer.json().await?;
    let texts: Vec<String> = explained.iter().map(Explanation::text).collect();
    session.output.text(&texts.join("\n"))
}

impl Explanation {
    fn text(&self) -> String {
        let mut text = format!(
            "{} -> {} ({})\n",
            self.place(),
            self.target(),
            self.network_and_container()
        );
        text.push_str("\npath of a packet:\n");
        for (number, step) in (1..).zip(&self.path) {
            text.push_str(&format!("  {number}. {step}\n"));
        }
        match self.listening {
            Some(true) => text.push_str("  a process listens there\n"),
            Some(false) => text.push_str(&format!(
                "  no process listens at port {} in the container: connections are refused\n",
                self.container_port
            )),
            None => {}
        }
        text.push_str("\nwho gets through:\n");
        for one in &self.reachable {
            let verdict = if one.allowed { "yes" } else { "no " };
            text.push_str(&format!("  {verdict}  {}: {}\n", one.from, one.because));
        }
        if !self.foreign_chains.is_empty() {
            text.push_str("\nrules of others that may drop what passes here:\n");
            for chain in &self.foreign_chains {
                text.push_str(&format!("  {chain}\n"));
            }
        }
        text
    }

    fn place(&self) -> String {
        if self.host_port == 0 {
            return format!("routed {}/{}", self.container_port, self.protocol);
        }
        format!(
            "{}/{}",
            socket(&self.host_ip, self.host_port),
            self.protocol
        )
    }

    fn target(&self) -> String {
        socket(&self.container_address, self.container_port)
    }

    fn network_and_container(&self) -> String {
        let name = if self.container_name.is_empty() {
            self.container_id.get(..12).unwrap_or(&self.container_id)
        } else {
            &self.container_name
        };
        format!("container {name}, network {}", self.network)
    }
}

fn socket(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_reads_from_top_to_bottom() {
        let explained = Explanation {
            host_ip: "::".into(),
            host_port: 8080,
            protocol: "tcp".into(),
            container_id: "c".repeat(64),
            container_name: String::new(),
            container_address: "172.17.0.2".into(),
            container_port: 80,
            network: "bridge".into(),
            listening: Some(false),
            path: vec!["arrives".into(), "enters".into()],
            reachable: vec![Reachable {
                from: "other machines".into(),
                allowed: false,
                because: "so".into(),
            }],
            foreign_chains: vec!["table ip filter chain FORWARD".into()],
        };
        assert_eq!(
            explained.text(),
            "[::]:8080/tcp -> 172.17.0.2:80 (container cccccccccccc, network bridge)\n\
             \npath of a packet:\n  1. arrives\n  2. enters\n  \
             no process listens at port 80 in the container: connections are refused\n\
             \nwho gets through:\n  no   other machines: so\n\
             \nrules of others that may drop what passes here:\n  table ip filter chain FORWARD\n"
        );
    }
}
