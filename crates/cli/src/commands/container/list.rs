//! `wharf ps`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::error::Result;
use crate::http::Request;
use crate::options::filter;
use crate::render::list::{Layout, Row};
use crate::render::ports::{self, Port};
use crate::render::text::{ellipsis, labels, local_time, short_id, time_ago};
use crate::session::Session;
use crate::units::human_size_short;

const COMMAND_WIDTH: usize = 20;
const MOUNT_WIDTH: usize = 15;

/// List containers
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show all containers, not only running ones
    #[arg(short = 'a', long)]
    all: bool,
    /// Show containers that match (such as status=exited, label=KEY=VALUE)
    #[arg(short = 'f', long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Print with a template, "table TEMPLATE" or "json"
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show the last N created containers, running or not
    #[arg(short = 'n', long, value_name = "N", default_value_t = -1, hide_default_value = true)]
    last: i64,
    /// Show the last created container, running or not
    #[arg(short = 'l', long)]
    latest: bool,
    /// Do not cut values short
    #[arg(long)]
    no_trunc: bool,
    /// Print only ids
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Show the containers' sizes
    #[arg(short = 's', long)]
    size: bool,
}

/// One item of `GET /containers/json` (engine-api.md §6.3).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    pub(crate) id: String,
    pub(crate) names: Option<Vec<String>>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: String,
    created: i64,
    ports: Option<Vec<Port>>,
    labels: Option<BTreeMap<String, String>>,
    state: String,
    status: String,
    network_settings: Networks,
    mounts: Option<Vec<Mount>>,
    size_rw: i64,
    size_root_fs: i64,
    image_manifest_descriptor: Option<Json>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Networks {
    networks: Option<BTreeMap<String, Json>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Mount {
    name: String,
    source: String,
    driver: String,
}

/// Runs `wharf ps`.
pub async fn list_command(session: &mut Session, args: ListArgs) -> Result<()> {
    let limit = if args.latest { 1 } else { args.last };
    let format = match args.format {
        Some(format) => format,
        None if args.quiet => String::new(),
        None => session
            .config()?
            .text("psFormat")
            .unwrap_or_default()
            .to_owned(),
    };
    if !format.is_empty() {
        if args.quiet {
            session.output.talk(
                "WARNING: Ignoring custom format, because both --format and --quiet are set.",
            );
        }
        layout(args.size).check(&format, ContainerSummary::default().row(false))?;
    }
    let wants_size = args.size || (shows_size(&format) && !args.quiet);
    let request = Request::get("/containers/json")
        .query_flag("all", args.all || args.latest)
        .query_flag("size", wants_size)
        .query_if("limit", (limit > 0).then(|| limit.to_string()))
        .query_if("filters", filter::query(&args.filter)?);
    let containers: Vec<ContainerSummary> = session.client.send(request).await?.json().await?;
    let text = render(&containers, &format, args.quiet, args.size, args.no_trunc)?;
    session.output.text(&text)
}

/// Returns whether a template shows the containers' sizes, which cost the daemon a walk: by their field, or as JSON of
/// the whole row. (docker's format `json` asks for none.)
fn shows_size(format: &str) -> bool {
    let words: String = format.split_whitespace().collect();
    let is_whole_row = |rest: &str| rest.starts_with(['}', '|', ')']);
    format.contains(".Size") || words.split("json.").skip(1).any(is_whole_row)
}

/// Returns the list in the wanted format.
pub fn render(
    containers: &[ContainerSummary],
    format: &str,
    quiet: bool,
    size: bool,
    no_trunc: bool,
) -> Result<String> {
    let rows: Vec<Row> = containers
        .iter()
        .map(|container| container.row(no_trunc))
        .collect();
    layout(size).render(format, quiet, &rows)
}

/// The lines of the format `raw`.
macro_rules! raw_lines {
    () => {
        concat!(
            "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n",
            "state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n",
            "labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n"
        )
    };
}

/// Returns what lists of containers look like.
pub(crate) fn layout(size: bool) -> Layout {
    let mut table =
        "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
            .to_owned();
    if size {
        table.push_str("\t{{.Size}}");
    }
    Layout {
        type_name: "*formatter.ContainerContext",
        table,
        quiet: "{{.ID}}",
        quiet_wins: true,
        raw: if size {
            concat!(raw_lines!(), "size: {{.Size}}\n")
        } else {
            raw_lines!()
        },
        headings: &[
            ("ID", "CONTAINER ID"),
            ("Names", "NAMES"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("CreatedAt", "CREATED AT"),
            ("RunningFor", "CREATED"),
            ("Ports", "PORTS"),
            ("State", "STATE"),
            ("Status", "STATUS"),
            ("Size", "SIZE"),
            ("Labels", "LABELS"),
            ("Mounts", "MOUNTS"),
            ("LocalVolumes", "LOCAL VOLUMES"),
            ("Networks", "NETWORKS"),
            ("Platform", "PLATFORM"),
        ],
    }
}

impl ContainerSummary {
    /// Returns the container as it is where only the space it takes itself counts.
    pub(crate) fn without_image_size(&self) -> Self {
        Self {
            size_root_fs: 0,
            ..self.clone()
        }
    }

    pub(crate) fn row(&self, no_trunc: bool) -> Row {
        let labels_of = self.labels.clone().unwrap_or_default();
        let mounts = self.mounts.as_deref().unwrap_or_default();
        let local_volumes = mounts
            .iter()
            .filter(|mount| mount.driver == "local")
            .count();
        let networks: Vec<String> = self
            .network_settings
            .networks
            .iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        let row = match self.platform() {
            Some(platform) => Row::new().with("Platform", platform),
            None => Row::new().with_nothing("Platform"),
        };
        row.with_id(&self.id, no_trunc)
            .with("Names", self.names(no_trunc))
            .with("Image", self.image(no_trunc))
            .with("Command", self.command(no_trunc))
            .with("CreatedAt", local_time(self.created))
            .with("RunningFor", time_ago(self.created))
            .with(
                "Ports",
                ports::displayable(self.ports.as_deref().unwrap_or_default()),
            )
            .with("State", self.state.as_str())
            .with("Status", self.status.as_str())
            .with("Size", self.size())
            .with("Labels", labels(&labels_of))
            .with("Mounts", mount_names(mounts, no_trunc))
            .with("LocalVolumes", local_volumes.to_string())
            .with("Networks", networks.join(","))
            .with_labels(labels_of)
    }

    /// Names without their leading slash; links of other containers, which have one more, only in full.
    pub(crate) fn names(&self, no_trunc: bool) -> String {
        let names = self
            .names
            .iter()
            .flatten()
            .map(|name| name.strip_prefix('/').unwrap_or(name));
        let shown: Vec<&str> = names
            .filter(|name| no_trunc || !name.contains('/'))
            .collect();
        shown.join(",")
    }

    /// Returns whether the container has a process, running or not.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting")
    }

    /// Returns the bytes the container itself wrote.
    pub(crate) fn own_size(&self) -> i64 {
        self.size_rw
    }

    fn image(&self, no_trunc: bool) -> String {
        if self.image.is_empty() {
            return "<no image>".to_owned();
        }
        if no_trunc {
            return self.image.clone();
        }
        if short_id(&self.image_id) == short_id(&self.image) {
            return short_id(&self.image).to_owned();
        }
        match self.image.split_once('@') {
            Some((name, _)) => name.to_owned(),
            None => self.image.clone(),
        }
    }

    fn command(&self, no_trunc: bool) -> String {
        let command = if no_trunc {
            self.command.clone()
        } else {
            ellipsis(&self.command, COMMAND_WIDTH)
        };
        go_quoted(&command)
    }

    fn size(&self) -> String {
        let own = human_size_short(self.size_rw as f64);
        if self.size_root_fs > 0 {
            format!(
                "{own} (virtual {})",
                human_size_short(self.size_root_fs as f64)
            )
        } else {
            own
        }
    }

    fn platform(&self) -> Option<String> {
        let platform = self.image_manifest_descriptor.as_ref()?.get("platform")?;
        let part = |key: &str| platform[key].as_str().unwrap_or_default();
        let parts: Vec<&str> = ["os", "architecture", "variant"]
            .into_iter()
            .map(part)
            .filter(|text| !text.is_empty())
            .collect();
        Some(parts.join("/"))
    }
}

fn mount_names(mounts: &[Mount], no_trunc: bool) -> String {
    let names: Vec<String> = mounts
        .iter()
        .map(|mount| {
            if mount.name.is_empty() {
                &mount.source
            } else {
                &mount.name
            }
        })
        .map(|name| {
            if no_trunc {
                name.clone()
            } else {
                ellipsis(name, MOUNT_WIDTH)
            }
        })
        .collect();
    names.join(",")
}

/// Quotes a text as Go's `%q` does.
fn go_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            control if control.is_ascii_control() => {
                quoted.push_str(&format!("\\x{:02x}", control as u32))
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
