//! Files that a container gets from the network room: `/etc/hosts`, `/etc/resolv.conf`.

use serde_json::{Value, json};
use wharf_network::files::{HostRecord, ResolvMode, ResolvOverrides, hosts_text};

use super::{same, strings, text};
use crate::{Document, Vector, Verdict};

/// Where the host's file is said to be.
const HOST_FILE: &str = "/etc/resolv.conf";

pub(super) fn etc_hosts(vector: &Vector, _: &Document) -> Verdict {
    let records: Vec<HostRecord> = vector.input["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| HostRecord {
            address: text(record, "ip").parse().unwrap(),
            names: text(record, "hosts").to_owned(),
        })
        .collect();
    let found = hosts_text(&records, vector.input["ipv6"].as_bool().unwrap());
    same("file", found.as_str(), text(&vector.expected, "file"))
}

pub(super) fn resolv_conf(vector: &Vector, _: &Document) -> Verdict {
    let (input, expected) = (&vector.input, &vector.expected);
    let mode = match text(input, "mode") {
        "legacy" => ResolvMode::Legacy {
            ipv6: input["ipv6"].as_bool().unwrap(),
        },
        "internal" => ResolvMode::Internal {
            required_options: strings(&input["required_options"]),
        },
        _ => ResolvMode::Plain,
    };
    let overrides = ResolvOverrides {
        nameservers: strings(&input["override_ns"])
            .iter()
            .map(|address| address.parse().unwrap())
            .collect(),
        search: strings(&input["override_search"]),
        options: strings(&input["override_options"]),
    };
    let made = wharf_network::files::resolv_conf(text(input, "host"), HOST_FILE, &mode, &overrides);
    same("file", made.text.as_str(), text(expected, "file"))?;
    let with_comments = format!("{}\n{}", made.text, made.comments);
    same(
        "comments",
        with_comments.as_str(),
        text(expected, "file_with_comments"),
    )?;
    if text(input, "mode") != "internal" {
        return Ok(());
    }
    let servers = made.external_servers.iter().map(
        |server| json!({"addr": server.nameserver.to_string(), "host_loopback": server.from_host}),
    );
    same(
        "servers",
        &Value::Array(servers.collect()),
        &expected["ext"],
    )
}
