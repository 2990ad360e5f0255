//! Builds of the past: `wharf builder ls`, `explain`, `logs`, `shell`.

use clap::Args;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::commands::build;
use crate::error::{CliError, Result};
use crate::http::Request;
use crate::render::table;
use crate::render::text::{ellipsis, time_ago};
use crate::session::Session;

const NANOSECONDS: i64 = 1_000_000_000;
/// Columns of a build's context in the list.
const PROJECT_COLUMNS: usize = 40;

/// List the builds that are remembered
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print only names
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Print with all that is known ("json")
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Say why the steps of a build ran again
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Build (default: the newest)
    #[arg(long, value_name = "BUILD")]
    build: Option<String>,
    /// Print as JSON, with all changed files that are known
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Number of a step (default: all)
    #[arg(value_name = "STEP")]
    step: Option<usize>,
}

/// Print what the steps of a build wrote
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Build (default: the newest), or a step of the newest
    #[arg(value_name = "BUILD")]
    build: Option<String>,
    /// Number of a step (default: all)
    #[arg(value_name = "STEP")]
    step: Option<usize>,
}

/// Open a shell in the files of the step that failed
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// Pass a secret as the build did (id=ID[,src=FILE|,env=NAME])
    #[arg(long, value_name = "id=ID[,src=FILE]")]
    secret: Vec<String>,
    /// Build (default: the newest)
    #[arg(value_name = "BUILD")]
    build: Option<String>,
}

#[derive(Debug, Deserialize)]
struct StepLog {
    step: Json,
    log: String,
}

/// Runs `wharf builder ls`.
pub async fn list_command(session: &mut Session, args: ListArgs) -> Result<()> {
    let builds: Vec<Json> = session.client.get_json("/wharf/builds").await?;
    let wants_json = wants_json(args.format.as_deref())?;
    let mut lines = String::from("BUILD\tSTARTED\tTOOK\tRESULT\tSTEPS\tCONTEXT\n");
    for build in &builds {
        let id = build["id"].as_str().unwrap_or_default();
        if wants_json {
            session.output.line(&build.to_string())?;
        } else if args.quiet {
            session.output.line(id)?;
        }
        lines.push_str(&row(id, build));
    }
    if args.quiet || wants_json {
        return Ok(());
    }
    session.output.text(&table::align(&lines))
}

fn row(id: &str, build: &Json) -> String {
    let started = build["started_unix_ns"].as_i64().unwrap_or_default() / NANOSECONDS;
    let took = build["took_ms"].as_u64().unwrap_or_default() as f64 / 1000.0;
    let nothing = Vec::new();
    let steps = build["steps"].as_array().unwrap_or(&nothing);
    let cached = steps.iter().filter(|step| step["status"] == "cached");
    let result = match build["image"].as_str() {
        Some(image) => image.get(7..19).unwrap_or(image).to_owned(),
        None => "failed".to_owned(),
    };
    format!(
        "{id}\t{}\t{took:.1}s\t{result}\t{} ({} cached)\t{}\n",
        time_ago(started),
        steps.len(),
        cached.count(),
        ellipsis(
            build["project"].as_str().unwrap_or_default(),
            PROJECT_COLUMNS
        ),
    )
}

/// Runs `wharf builder explain`.
pub async fn explain_command(session: &mut Session, args: ExplainArgs) -> Result<()> {
    let name = args.build.unwrap_or_default();
    if !wants_json(args.format.as_deref())? {
        return build::explain(session, &name, args.step).await;
    }
    let record = build::record(session, &name).await?;
    let nothing = Vec::new();
    for step in record["steps"].as_array().unwrap_or(&nothing) {
        if args
            .step
            .is_none_or(|wanted| step["number"].as_u64() == Some(wanted as u64))
        {
            session.output.line(&step.to_string())?;
        }
    }
    Ok(())
}

/// Runs `wharf builder logs`.
pub async fn logs_command(session: &mut Session, args: LogsArgs) -> Result<()> {
    let (build, step) = match (args.build, args.step) {
        // A short number is a step: a build's name has twelve characters.
        (Some(text), None) if text.len() < 4 && text.parse::<usize>().is_ok() => {
            (String::new(), text.parse().ok())
        }
        (build, step) => (build.unwrap_or_default(), step),
    };
    let request = Request::get("/wharf/build/logs")
        .query("build", build)
        .query_if("step", step.map(|step| step.to_string()));
    let logs: Vec<StepLog> = session.client.send(request).await?.json().await?;
    for told in &logs {
        if step.is_none() {
            let text = told.step["text"].as_str().unwrap_or_default();
            let line = format!("# step {} {text}", told.step["number"]);
            session.output.line(&line)?;
        }
        session.output.text(&told.log)?;
    }
    Ok(())
}

/// Runs `wharf builder shell`.
pub async fn shell_command(session: &mut Session, args: ShellArgs) -> Result<()> {
    build::open_shell(session, &args.build.unwrap_or_default(), &args.secret).await
}

pub(super) fn wants_json(format: Option<&str>) -> Result<bool> {
    match format {
        None => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(CliError::usage(format!(
            "invalid --format {other:?}: expected json"
        ))),
    }
}
