//! The prune commands (engine-api.md §13).

use clap::Args;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::commands::image::names::Deleted;
use crate::error::{CliError, Result};
use crate::http::Request;
use crate::options::filter;
use crate::session::Session;
use crate::terminal;
use crate::units::human_size;

/// Remove what is not used.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Remove only what matches (until=TIME, label=KEY=VALUE)
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short = 'f', long)]
    force: bool,
}

/// Remove what is not used, or all that can be.
#[derive(Debug, Args)]
pub struct PruneAllArgs {
    #[command(flatten)]
    common: PruneArgs,
    /// Remove all that is unused, not only what has no name
    #[arg(short = 'a', long)]
    all: bool,
}

/// Remove stopped containers, unused networks and images without a name
#[derive(Debug, Args)]
pub struct SystemPruneArgs {
    #[command(flatten)]
    common: PruneArgs,
    /// Remove all unused images, not only those without a name
    #[arg(short = 'a', long)]
    all: bool,
    /// Remove unused anonymous volumes too
    #[arg(long)]
    volumes: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Report {
    containers_deleted: Option<Vec<String>>,
    networks_deleted: Option<Vec<String>>,
    volumes_deleted: Option<Vec<String>>,
    images_deleted: Option<Vec<Deleted>>,
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

/// A kind of object that can be pruned.
#[derive(Debug, Clone, Copy)]
pub enum Pruned {
    /// Stopped containers.
    Containers,
    /// Networks without a container.
    Networks,
    /// Volumes without a container.
    Volumes,
    /// Images without a container.
    Images,
    /// Build cache.
    BuildCache,
}

/// Runs the prune command of one kind; `all` is what its `--all` says.
pub async fn prune_command(
    session: &mut Session,
    what: Pruned,
    args: PruneArgs,
    all: bool,
) -> Result<()> {
    if !args.force
        && !confirmed(
            session,
            &format!("This will remove {}.", what.described(all)),
        )?
    {
        return Err(CliError::usage("prune has been cancelled"));
    }
    let report = prune(session, what, &args.filter, all).await?;
    print(session, what, &report)?;
    if !matches!(what, Pruned::Networks) {
        let label = if matches!(what, Pruned::BuildCache) {
            "Total:\t"
        } else {
            "Total reclaimed space: "
        };
        session.output.line(&format!(
            "{label}{}",
            human_size(report.space_reclaimed as f64)
        ))?;
    }
    Ok(())
}

/// Runs a prune command that has `--all`.
pub async fn prune_all_command(
    session: &mut Session,
    what: Pruned,
    args: PruneAllArgs,
) -> Result<()> {
    prune_command(session, what, args.common, args.all).await
}

/// Runs `wharf builder prune`; with a limit only the longest unused goes, until no more is kept.
pub async fn prune_cache_command(
    session: &mut Session,
    args: PruneAllArgs,
    limit_bytes: Option<i64>,
) -> Result<()> {
    let Some(limit_bytes) = limit_bytes else {
        return prune_all_command(session, Pruned::BuildCache, args).await;
    };
    let request = Request::post("/build/prune").query("max-used-space", limit_bytes.to_string());
    let report: Report = session.client.send(request).await?.json().await?;
    print(session, Pruned::BuildCache, &report)?;
    let freed = human_size(report.space_reclaimed as f64);
    session.output.line(&format!("Total:\t{freed}"))
}

/// Runs `wharf system prune`.
pub async fn system_command(session: &mut Session, args: SystemPruneArgs) -> Result<()> {
    let mut kinds = vec![Pruned::Containers, Pruned::Networks];
    if args.volumes {
        kinds.push(Pruned::Volumes);
    }
    kinds.extend([Pruned::Images, Pruned::BuildCache]);
    let has_until = args
        .common
        .filter
        .iter()
        .any(|filter| filter.starts_with("until"));
    if args.volumes && has_until {
        return Err(CliError::usage(
            "the \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    let mut warning = "This will remove:".to_owned();
    for kind in &kinds {
        warning.push_str(&format!(
            "\n  - {}",
            kind.described(args.all && matches!(kind, Pruned::Images))
        ));
    }
    warning.push('\n');
    if !args.common.force && !confirmed(session, &warning)? {
        return Err(CliError::usage("system prune has been cancelled"));
    }
    let mut total = 0;
    for kind in kinds {
        let all = args.all && matches!(kind, Pruned::Images | Pruned::BuildCache);
        match prune(session, kind, &args.common.filter, all).await {
            Ok(report) => {
                print(session, kind, &report)?;
                total += report.space_reclaimed;
            }
            // A daemon without a build cache has nothing to remove there.
            Err(error)
                if matches!(kind, Pruned::BuildCache)
                    && matches!(error.http_status(), Some(404 | 501)) => {}
            Err(error) => return Err(error),
        }
    }
    session.output.line(&format!(
        "Total reclaimed space: {}",
        human_size(total as f64)
    ))
}

async fn prune(session: &Session, what: Pruned, filters: &[String], all: bool) -> Result<Report> {
    let mut filters = filter::parse(filters)?;
    let flag = |value: &str| serde_json::json!({value: true});
    match what {
        Pruned::Images => {
            filters.insert("dangling".into(), flag(if all { "false" } else { "true" }));
        }
        Pruned::Volumes if all => {
            filters.insert("all".into(), flag("1"));
        }
        _ => {}
    }
    let request = Request::post(what.path())
        .query_flag("all", all && matches!(what, Pruned::BuildCache))
        .query_if(
            "filters",
            (!filters.is_empty()).then(|| Json::Object(filters).to_string()),
        );
    session.client.send(request).await?.json().await
}

fn print(session: &mut Session, what: Pruned, report: &Report) -> Result<()> {
    let lines: Vec<String> = match what {
        Pruned::Containers => report.containers_deleted.clone().unwrap_or_default(),
        Pruned::Networks => report.networks_deleted.clone().unwrap_or_default(),
        Pruned::Volumes => report.volumes_deleted.clone().unwrap_or_default(),
        Pruned::BuildCache => report.caches_deleted.clone().unwrap_or_default(),
        Pruned::Images => report
            .images_deleted
            .iter()
            .flatten()
            .flat_map(|item| {
                let untagged = item
                    .untagged
                    .as_ref()
                    .map(|name| format!("untagged: {name}"));
                let deleted = item.deleted.as_ref().map(|id| format!("deleted: {id}"));
                untagged.into_iter().chain(deleted)
            })
            .collect(),
    };
    if lines.is_empty() {
        return Ok(());
    }
    session
        .output
        .text(&format!("{}:\n{}\n\n", what.heading(), lines.join("\n")))
}

/// Asks on a terminal; anything but yes, and no terminal to ask on, is no.
fn confirmed(session: &mut Session, warning: &str) -> Result<bool> {
    session.output.text(&format!(
        "WARNING! {warning}\nAre you sure you want to continue? [y/N] "
    ))?;
    let answer = terminal::read_line()?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

impl Pruned {
    fn path(self) -> &'static str {
        match self {
            Self::Containers => "/containers/prune",
            Self::Networks => "/networks/prune",
            Self::Volumes => "/volumes/prune",
            Self::Images => "/images/prune",
            Self::BuildCache => "/build/prune",
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Containers => "Deleted Containers",
            Self::Networks => "Deleted Networks",
            Self::Volumes => "Deleted Volumes",
            Self::Images => "Deleted Images",
            Self::BuildCache => "Deleted build cache objects",
        }
    }

    fn described(self, all: bool) -> &'static str {
        match (self, all) {
            (Self::Containers, _) => "all stopped containers",
            (Self::Networks, _) => "all networks not used by at least one container",
            (Self::Volumes, false) => "anonymous local volumes not used by at least one container",
            (Self::Volumes, true) => "all local volumes not used by at least one container",
            (Self::Images, false) => "all dangling images",
            (Self::Images, true) => "all images without at least one container associated to them",
            (Self::BuildCache, false) => "all dangling build cache",
            (Self::BuildCache, true) => "all build cache",
        }
    }
}
