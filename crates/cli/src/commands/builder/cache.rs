//! Cache mounts: `wharf builder cache …`.

use std::path::Path;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::archive;
use crate::commands::builder::history::wants_json;
use crate::commands::container::snapshot::{refuse_terminal, write_archive};
use crate::commands::targets;
use crate::error::Result;
use crate::host_files;
use crate::http::Request;
use crate::render::table;
use crate::render::text::time_ago;
use crate::session::Session;
use crate::units::human_size;

const NANOSECONDS: i64 = 1_000_000_000;
/// Characters of a name in the list.
const SHORT_NAME_CHARS: usize = 12;

/// List cache mounts
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print with all that is known ("json")
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print only names
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// Show everything about cache mounts
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// IDs, or the beginnings of names
    #[arg(required = true, value_name = "CACHE")]
    caches: Vec<String>,
}

/// Write a cache mount as a tar archive
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Write to a file instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<String>,
    /// ID, or the beginning of the name
    #[arg(value_name = "CACHE")]
    cache: String,
}

/// Replace the content of a cache mount by a tar archive's
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Read from a file instead of standard input
    #[arg(short = 'i', long, value_name = "FILE")]
    input: Option<String>,
    /// ID
    #[arg(value_name = "CACHE")]
    cache: String,
}

/// Remove cache mounts
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Remove all
    #[arg(short = 'a', long, conflicts_with = "caches")]
    all: bool,
    /// IDs, or the beginnings of names
    #[arg(required_unless_present = "all", value_name = "CACHE")]
    caches: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    mount: CacheMount,
    disk_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct CacheMount {
    name: String,
    id: String,
    created_unix_ns: i64,
    last_used_unix_ns: i64,
    use_count: u64,
}

async fn mounts(session: &mut Session) -> Result<Vec<Listed>> {
    session.client.get_json("/wharf/cache-mounts").await
}

/// Runs `wharf builder cache ls`.
pub async fn list_command(session: &mut Session, args: ListArgs) -> Result<()> {
    if wants_json(args.format.as_deref())? {
        let all: Vec<Json> = session.client.get_json("/wharf/cache-mounts").await?;
        return all
            .iter()
            .try_for_each(|mount| session.output.line(&mount.to_string()));
    }
    let mut lines = String::from("NAME\tID\tSIZE\tUSES\tLAST USED\n");
    let all = mounts(session).await?;
    for Listed { mount, disk_bytes } in &all {
        let name = mount.name.get(..SHORT_NAME_CHARS).unwrap_or(&mount.name);
        if args.quiet {
            session.output.line(name)?;
        }
        lines.push_str(&format!(
            "{name}\t{}\t{}\t{}\t{}\n",
            mount.id,
            human_size(*disk_bytes as f64),
            mount.use_count,
            time_ago(mount.last_used_unix_ns / NANOSECONDS),
        ));
    }
    if args.quiet {
        return Ok(());
    }
    session.output.text(&table::align(&lines))
}

/// Runs `wharf builder cache inspect`.
pub async fn inspect_command(session: &mut Session, args: InspectArgs) -> Result<()> {
    let mut found = Vec::new();
    for cache in &args.caches {
        let request = Request::get("/wharf/cache-mounts").query("id", cache);
        let listed: Listed = session.client.send(request).await?.json().await?;
        found.push(json!({
            "Id": listed.mount.id,
            "Name": listed.mount.name,
            "SizeBytes": listed.disk_bytes,
            "CreatedUnixNs": listed.mount.created_unix_ns,
            "LastUsedUnixNs": listed.mount.last_used_unix_ns,
            "UseCount": listed.mount.use_count,
        }));
    }
    let text = serde_json::to_string_pretty(&found).unwrap_or_default();
    session.output.line(&text)
}

/// Runs `wharf builder cache export`.
pub async fn export_command(session: &mut Session, args: ExportArgs) -> Result<()> {
    refuse_terminal(session, args.output.as_deref())?;
    let request = Request::get("/wharf/cache-mounts/archive").query("id", &args.cache);
    let response = session.client.send(request).await?;
    write_archive(session, response, args.output.as_deref()).await
}

/// Runs `wharf builder cache import`.
pub async fn import_command(session: &mut Session, args: ImportArgs) -> Result<()> {
    let upload = match args.input.as_deref().filter(|path| *path != "-") {
        Some(path) => archive::upload_reader(host_files::open(Path::new(path))?),
        None => archive::upload_reader(std::io::stdin()),
    };
    let request = Request::put("/wharf/cache-mounts/archive")
        .query("id", &args.cache)
        .upload("application/x-tar", upload);
    let mount: CacheMount = session.client.send(request).await?.json().await?;
    session.output.line(&mount.name)
}

/// Runs `wharf builder cache rm`.
pub async fn remove_command(session: &mut Session, args: RemoveArgs) -> Result<()> {
    let caches = if args.all {
        let all = mounts(session).await?;
        all.into_iter().map(|listed| listed.mount.name).collect()
    } else {
        args.caches
    };
    targets::for_each(session, &caches, async |session, cache| {
        let request = Request::delete("/wharf/cache-mounts").query("id", cache);
        let freed: Json = session.client.send(request).await?.json().await?;
        let bytes = freed["freed_bytes"].as_u64().unwrap_or_default();
        Ok(Some(format!("{cache} ({})", human_size(bytes as f64))))
    })
    .await
}
