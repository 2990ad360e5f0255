//! `wharf volume …`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::commands::targets;
use crate::error::{CliError, Result};
use crate::http::{Request, path_part};
use crate::options::{env, filter};
use crate::render::list::{Layout, Row};
use crate::render::text::labels;
use crate::session::Session;
use crate::units::human_size_short;

/// What a list of cluster volumes looks like.
const CLUSTER_TABLE: &str = "{{.Name}}\t{{.Group}}\t{{.Driver}}\t{{.Availability}}\t{{.Status}}";

/// Create a volume
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Driver
    #[arg(short = 'd', long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// Set a label (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Option of the driver (KEY=VALUE)
    #[arg(short = 'o', long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Name (docker's old way to give it)
    #[arg(long = "name", value_name = "NAME", hide = true)]
    old_name: Option<String>,
    #[command(flatten)]
    cluster: ClusterFlags,
    /// Name; without one, the volume is anonymous
    name: Option<String>,
}

/// List volumes
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show volumes of a cluster only (there are none)
    #[arg(long)]
    cluster: bool,
    /// Show volumes that match (such as dangling=true, label=KEY=VALUE)
    #[arg(short = 'f', long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Print with a template, "table TEMPLATE" or "json"
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print only names
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// Remove volumes
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Do not fail for a volume that is not there
    #[arg(short = 'f', long)]
    force: bool,
    /// Volumes
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

/// Update a volume (of a cluster only)
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Availability in the cluster (active, pause, drain)
    #[arg(long, value_name = "STRING", default_value = "active")]
    availability: String,
    /// Volume
    volume: String,
}

/// What only volumes of a cluster have.
#[derive(Debug, Default, Args)]
struct ClusterFlags {
    /// Availability (cluster volumes only)
    #[arg(long, value_name = "STRING", hide = true)]
    availability: Option<String>,
    /// Group (cluster volumes only)
    #[arg(long, value_name = "NAME", hide = true)]
    group: Option<String>,
    /// Largest size (cluster volumes only)
    #[arg(long, value_name = "SIZE", hide = true)]
    limit_bytes: Option<String>,
    /// Least size (cluster volumes only)
    #[arg(long, value_name = "SIZE", hide = true)]
    required_bytes: Option<String>,
    /// Scope of access (cluster volumes only)
    #[arg(long, value_name = "STRING", hide = true)]
    scope: Option<String>,
    /// Secret (cluster volumes only)
    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    secret: Option<String>,
    /// Sharing of access (cluster volumes only)
    #[arg(long, value_name = "STRING", hide = true)]
    sharing: Option<String>,
    /// Where it should be (cluster volumes only)
    #[arg(long, value_name = "LIST", hide = true)]
    topology_preferred: Option<String>,
    /// Where it must be (cluster volumes only)
    #[arg(long, value_name = "LIST", hide = true)]
    topology_required: Option<String>,
    /// Type of access (cluster volumes only)
    #[arg(long = "type", value_name = "STRING", hide = true)]
    kind: Option<String>,
}

impl ClusterFlags {
    /// Fails when one was given: there are no clusters.
    fn check(&self) -> Result<()> {
        let flags = [
            ("availability", &self.availability),
            ("group", &self.group),
            ("limit-bytes", &self.limit_bytes),
            ("required-bytes", &self.required_bytes),
            ("scope", &self.scope),
            ("secret", &self.secret),
            ("sharing", &self.sharing),
            ("topology-preferred", &self.topology_preferred),
            ("topology-required", &self.topology_required),
            ("type", &self.kind),
        ];
        match flags.iter().find(|(_, value)| value.is_some()) {
            Some((flag, _)) => Err(CliError::usage(format!(
                "--{flag}: cluster volumes are not supported"
            ))),
            None => Ok(()),
        }
    }
}

/// A volume as the API gives it (engine-api.md §5.4).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    pub(crate) name: String,
    driver: String,
    scope: String,
    mountpoint: String,
    labels: Option<BTreeMap<String, String>>,
    pub(crate) usage_data: Option<Usage>,
    cluster_volume: Option<ClusterVolume>,
}

/// What volumes of a cluster have beside.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ClusterVolume {
    spec: Json,
    info: Json,
    publish_status: Option<Vec<Json>>,
}

/// What a volume takes and who uses it; -1 is unknown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Usage {
    pub(crate) size: i64,
    pub(crate) ref_count: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Volumes {
    volumes: Option<Vec<Volume>>,
    warnings: Option<Vec<String>>,
}

/// Runs `wharf volume create`.
pub async fn create_command(session: &mut Session, args: CreateArgs) -> Result<()> {
    args.cluster.check()?;
    if args.name.is_some() && args.old_name.is_some() {
        return Err(CliError::Plain(
            "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
                .to_owned(),
        ));
    }
    let body = json!({
        "Name": args.name.or(args.old_name).unwrap_or_default(),
        "Driver": args.driver,
        "DriverOpts": env::to_map(&args.opt),
        "Labels": env::to_map(&args.label),
    });
    let volume: Volume = session
        .client
        .send(Request::post("/volumes/create").json(&body))
        .await?
        .json()
        .await?;
    session.output.line(&volume.name)
}

/// Runs `wharf volume ls`.
pub async fn list_command(session: &mut Session, args: ListArgs) -> Result<()> {
    let format = match &args.format {
        _ if args.cluster => String::new(),
        Some(format) => format.clone(),
        None if args.quiet => String::new(),
        None => session
            .config()?
            .text("volumesFormat")
            .unwrap_or_default()
            .to_owned(),
    };
    let request = Request::get("/volumes").query_if("filters", filter::query(&args.filter)?);
    let answer: Volumes = session.client.send(request).await?.json().await?;
    for warning in answer.warnings.unwrap_or_default() {
        session.output.talk(&format!("WARNING: {warning}"));
    }
    let mut volumes = answer.volumes.unwrap_or_default();
    let mut layout = layout();
    if args.cluster {
        volumes.retain(|volume| volume.cluster_volume.is_some());
        layout.table = CLUSTER_TABLE.into();
    }
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    let rows: Vec<Row> = volumes.iter().map(Volume::row).collect();
    session
        .output
        .text(&layout.render(&format, args.quiet, &rows)?)
}

/// Runs `wharf volume rm`.
pub async fn remove_command(session: &mut Session, args: RemoveArgs) -> Result<()> {
    targets::for_each(session, &args.volumes, async |session, name| {
        let request = Request::delete(format!("/volumes/{}", path_part(name)))
            .query_flag("force", args.force);
        session.client.send(request).await?;
        Ok(Some(name.to_owned()))
    })
    .await
}

/// Runs `wharf volume update`: there are no volumes that can be updated without a cluster.
pub async fn update_command(session: &mut Session, args: UpdateArgs) -> Result<()> {
    if !matches!(args.availability.as_str(), "active" | "pause" | "drain") {
        return Err(CliError::usage(format!(
            "invalid availability {:?}: expected active, pause or drain",
            args.availability
        )));
    }
    let path = format!("/volumes/{}", path_part(&args.volume));
    let _found: Volume = session
        .client
        .send(Request::get(path))
        .await?
        .json()
        .await?;
    Err(CliError::Plain(
        "can only update cluster volumes".to_owned(),
    ))
}

/// Returns what lists of volumes look like.
pub(crate) fn layout() -> Layout {
    Layout {
        type_name: "*formatter.volumeContext",
        table: "{{.Driver}}\t{{.Name}}".into(),
        quiet: "{{.Name}}",
        quiet_wins: false,
        raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
        headings: &[
            ("Name", "VOLUME NAME"),
            ("Driver", "DRIVER"),
            ("Scope", "SCOPE"),
            ("Mountpoint", "MOUNTPOINT"),
            ("Labels", "LABELS"),
            ("Links", "LINKS"),
            ("Size", "SIZE"),
            ("Availability", "AVAILABILITY"),
            ("Group", "GROUP"),
            ("Status", "STATUS"),
        ],
    }
}

impl Volume {
    pub(crate) fn row(&self) -> Row {
        let labels_of = self.labels.clone().unwrap_or_default();
        let usage =
            |show: &dyn Fn(&Usage) -> String| self.usage_data.as_ref().map_or("N/A".into(), show);
        let of_cluster = |show: &dyn Fn(&ClusterVolume) -> String| {
            self.cluster_volume.as_ref().map_or("N/A".into(), show)
        };
        Row::new()
            .with("Name", self.name.as_str())
            .with("Driver", self.driver.as_str())
            .with("Scope", self.scope.as_str())
            .with("Mountpoint", self.mountpoint.as_str())
            .with("Labels", labels(&labels_of))
            .with("Links", usage(&|usage| usage.ref_count.to_string()))
            .with("Size", usage(&|usage| human_size_short(usage.size as f64)))
            .with("Availability", of_cluster(&|it| it.text("Availability")))
            .with("Group", of_cluster(&|it| it.text("Group")))
            .with("Status", of_cluster(&ClusterVolume::status))
            .with_labels(labels_of)
    }
}

impl ClusterVolume {
    fn text(&self, key: &str) -> String {
        self.spec[key].as_str().unwrap_or_default().to_owned()
    }

    fn status(&self) -> String {
        if self.info["VolumeID"].as_str().is_none_or(str::is_empty) {
            return "pending creation".to_owned();
        }
        match self.publish_status.as_ref().map_or(0, Vec::len) {
            0 => "created".to_owned(),
            1 => "in use (1 node)".to_owned(),
            nodes => format!("in use ({nodes} nodes)"),
        }
    }
}
