//! `wharf network …`.

mod addresses;

use std::collections::BTreeMap;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use addresses::address_config;

use crate::commands::targets;
use crate::error::{CliError, Result};
use crate::http::{Request, path_part};
use crate::options::network::NetworkAttachment;
use crate::options::{env, filter};
use crate::render::list::{Layout, Row};
use crate::render::text::{go_timestamp, labels};
use crate::session::Session;

/// Create a network
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Let containers be attached by hand
    #[arg(long)]
    attachable: bool,
    /// Address the driver keeps for itself (NAME=ADDRESS)
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// Network whose settings are taken
    #[arg(long, value_name = "NETWORK")]
    config_from: Option<String>,
    /// Only keep settings for other networks
    #[arg(long)]
    config_only: bool,
    /// Driver
    #[arg(short = 'd', long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// Gateway of a subnet
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Make the routing mesh of a swarm
    #[arg(long)]
    ingress: bool,
    /// Keep the network apart from others
    #[arg(long)]
    internal: bool,
    /// Range within a subnet that addresses are taken from
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// Driver of the address management
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    ipam_driver: String,
    /// Option of the address management (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    ipam_opt: Vec<String>,
    /// Give out IPv4 addresses
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "BOOL")]
    ipv4: Option<bool>,
    /// Give out IPv6 addresses
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "BOOL")]
    ipv6: Option<bool>,
    /// Set a label (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Option of the driver (KEY=VALUE)
    #[arg(short = 'o', long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Where the network is known: local, or swarm
    #[arg(
        long,
        value_name = "SCOPE",
        default_value = "",
        hide_default_value = true
    )]
    scope: String,
    /// Subnet
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    subnet: Vec<String>,
    /// Name
    network: String,
}

/// Connect a container to a network
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// Name in the network's DNS
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Option of the driver (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    driver_opt: Vec<String>,
    /// Priority as default gateway, the highest wins
    #[arg(long, value_name = "NUMBER")]
    gw_priority: Option<i64>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Link to another container
    #[arg(long, value_name = "NAME[:ALIAS]")]
    link: Vec<String>,
    /// Link-local address
    #[arg(long, value_name = "ADDRESS")]
    link_local_ip: Vec<String>,
    /// Network
    network: String,
    /// Container
    container: String,
}

/// Disconnect a container from a network
#[derive(Debug, Args)]
pub struct DisconnectArgs {
    /// Disconnect a container that is gone, too
    #[arg(short = 'f', long)]
    force: bool,
    /// Network
    network: String,
    /// Container
    container: String,
}

/// List networks
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show networks that match (such as driver=bridge, label=KEY=VALUE)
    #[arg(short = 'f', long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Print with a template, "table TEMPLATE" or "json"
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not cut values short
    #[arg(long)]
    no_trunc: bool,
    /// Print only ids
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// Remove networks
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Do not fail for a network that is not there
    #[arg(short = 'f', long)]
    force: bool,
    /// Networks
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Network {
    name: String,
    id: String,
    created: String,
    scope: String,
    driver: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    internal: bool,
    labels: Option<BTreeMap<String, String>>,
}

/// Runs `wharf network create`.
pub async fn create_command(session: &mut Session, args: CreateArgs) -> Result<()> {
    let mut body = json!({
        "Name": args.network,
        "Driver": args.driver,
        "Scope": args.scope,
        "Internal": args.internal,
        "Ingress": args.ingress,
        "ConfigOnly": args.config_only,
        "Attachable": args.attachable,
        "IPAM": {
            "Driver": args.ipam_driver,
            "Options": env::to_map(&args.ipam_opt),
            "Config": address_config(&args)?,
        },
        "Options": env::to_map(&args.opt),
        "Labels": env::to_map(&args.label),
    });
    if let Some(name) = &args.config_from {
        body["ConfigFrom"] = json!({"Network": name});
    }
    for (key, flag) in [("EnableIPv4", args.ipv4), ("EnableIPv6", args.ipv6)] {
        if let Some(flag) = flag {
            body[key] = flag.into();
        }
    }
    let created: Json = session
        .client
        .send(Request::post("/networks/create").json(&body))
        .await?
        .json()
        .await?;
    if let Some(warning) = created["Warning"]
        .as_str()
        .filter(|warning| !warning.is_empty())
    {
        session.output.talk(&format!("WARNING: {warning}"));
    }
    session
        .output
        .line(created["Id"].as_str().unwrap_or_default())
}

/// Runs `wharf network connect`.
pub async fn connect_command(session: &mut Session, args: ConnectArgs) -> Result<()> {
    let driver_options = args
        .driver_opt
        .iter()
        .map(|pair| {
            pair.split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .ok_or_else(|| {
                    CliError::usage(format!(
                        "invalid value {pair:?} for --driver-opt: expected key=value"
                    ))
                })
        })
        .collect::<Result<Vec<_>>>()?;
    let endpoint = NetworkAttachment {
        target: args.network.clone(),
        aliases: args.alias,
        driver_options,
        links: args.link,
        ipv4: args.ip.unwrap_or_default(),
        ipv6: args.ip6.unwrap_or_default(),
        link_local: args.link_local_ip,
        mac: String::new(),
        gateway_priority: args.gw_priority.unwrap_or(0),
    };
    let body = json!({"Container": args.container, "EndpointConfig": endpoint.to_json()});
    let request =
        Request::post(format!("/networks/{}/connect", path_part(&args.network))).json(&body);
    session.client.send(request).await.map(drop)
}

/// Runs `wharf network disconnect`.
pub async fn disconnect_command(session: &mut Session, args: DisconnectArgs) -> Result<()> {
    let body = json!({"Container": args.container, "Force": args.force});
    let request =
        Request::post(format!("/networks/{}/disconnect", path_part(&args.network))).json(&body);
    session.client.send(request).await.map(drop)
}

/// Runs `wharf network ls`.
pub async fn list_command(session: &mut Session, args: ListArgs) -> Result<()> {
    let format = match &args.format {
        Some(format) => format.clone(),
        None if args.quiet => String::new(),
        None => session
            .config()?
            .text("networksFormat")
            .unwrap_or_default()
            .to_owned(),
    };
    let request = Request::get("/networks").query_if("filters", filter::query(&args.filter)?);
    let mut networks: Vec<Network> = session.client.send(request).await?.json().await?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let rows: Vec<Row> = networks
        .iter()
        .map(|network| network.row(args.no_trunc))
        .collect();
    session
        .output
        .text(&layout().render(&format, args.quiet, &rows)?)
}

/// Runs `wharf network rm`.
pub async fn remove_command(session: &mut Session, args: RemoveArgs) -> Result<()> {
    targets::for_each(session, &args.networks, async |session, name| match session
        .client
        .send(Request::delete(format!("/networks/{}", path_part(name))))
        .await
    {
        Err(error) if args.force && error.http_status() == Some(404) => Ok(None),
        Err(error) => Err(error),
        Ok(_) => Ok(Some(name.to_owned())),
    })
    .await
}

fn layout() -> Layout {
    Layout {
        type_name: "*network.networkContext",
        table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}".into(),
        quiet: "{{.ID}}",
        quiet_wins: false,
        raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
        headings: &[
            ("ID", "NETWORK ID"),
            ("Name", "NAME"),
            ("Driver", "DRIVER"),
            ("Scope", "SCOPE"),
            ("IPv4", "IPV4"),
            ("IPv6", "IPV6"),
            ("Internal", "INTERNAL"),
            ("Labels", "LABELS"),
            ("CreatedAt", "CREATED AT"),
        ],
    }
}

impl Network {
    fn row(&self, no_trunc: bool) -> Row {
        let labels_of = self.labels.clone().unwrap_or_default();
        Row::new()
            .with_id(&self.id, no_trunc)
            .with("Name", self.name.as_str())
            .with("Driver", self.driver.as_str())
            .with("Scope", self.scope.as_str())
            .with("IPv4", self.enable_ipv4.to_string())
            .with("IPv6", self.enable_ipv6.to_string())
            .with("Internal", self.internal.to_string())
            .with("Labels", labels(&labels_of))
            .with("CreatedAt", go_timestamp(&self.created))
            .with_labels(labels_of)
    }
}
