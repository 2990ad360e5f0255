//! Looking at a container and keeping what it is: top, diff, port, export, commit.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use clap::Args;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::commands::image::names::repository_and_tag;
use crate::error::{CliError, Result};
use crate::host_files;
use crate::http::{Request, Response, path_part};
use crate::render::ports::host_and_port;
use crate::render::table;
use crate::session::Session;

/// Show a container's processes
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Container, then options for ps
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "CONTAINER [PS-OPTION]"
    )]
    container_and_options: Vec<String>,
}

/// Show what a container changed in its file system
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Container
    container: String,
}

/// Show a container's published ports
#[derive(Debug, Args)]
pub struct PortArgs {
    /// Container
    container: String,
    /// One port inside the container (PORT[/PROTOCOL])
    port: Option<String>,
}

/// Write a container's file system as a tar archive
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Write to a file instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<String>,
    /// Container
    container: String,
}

/// Make an image from a container's changes
#[derive(Debug, Args)]
pub struct CommitArgs {
    /// Author
    #[arg(short = 'a', long, value_name = "AUTHOR")]
    author: Option<String>,
    /// Apply a Dockerfile instruction to the image
    #[arg(short = 'c', long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Message
    #[arg(short = 'm', long, value_name = "TEXT")]
    message: Option<String>,
    /// Pause the container meanwhile
    #[arg(short = 'p', long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pause: bool,
    /// Container
    container: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Processes {
    titles: Vec<String>,
    processes: Option<Vec<Vec<String>>>,
}

/// Runs `wharf top`.
pub async fn top_command(session: &mut Session, args: TopArgs) -> Result<()> {
    let Some((container, options)) = args.container_and_options.split_first() else {
        return Err(CliError::usage("top needs a container"));
    };
    let request = Request::get(format!("/containers/{}/top", path_part(container)))
        .query_if("ps_args", (!options.is_empty()).then(|| options.join(" ")));
    let answer: Processes = session.client.send(request).await?.json().await?;
    let mut text = answer.titles.join("\t");
    text.push('\n');
    for process in answer.processes.unwrap_or_default() {
        text.push_str(&process.join("\t"));
        text.push('\n');
    }
    session.output.text(&table::align_with(&text, 20, 3))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    path: String,
    kind: u8,
}

/// Runs `wharf diff`.
pub async fn diff_command(session: &mut Session, args: DiffArgs) -> Result<()> {
    let path = format!("/containers/{}/changes", path_part(&args.container));
    let changes: Option<Vec<Change>> = session.client.get_json(path).await?;
    for change in changes.unwrap_or_default() {
        let letter = match change.kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        session.output.line(&format!("{letter} {}", change.path))?;
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PortBinding {
    host_ip: String,
    host_port: String,
}

/// Runs `wharf port`.
pub async fn port_command(session: &mut Session, args: PortArgs) -> Result<()> {
    let path = format!("/containers/{}/json", path_part(&args.container));
    let container: Json = session.client.get_json(path).await?;
    let ports: BTreeMap<String, Option<Vec<PortBinding>>> =
        serde_json::from_value(container["NetworkSettings"]["Ports"].clone()).unwrap_or_default();
    let address = |binding: &PortBinding| host_and_port(&binding.host_ip, &binding.host_port);
    let Some(wanted) = args.port else {
        let mut lines: Vec<String> = Vec::new();
        for (port, bindings) in &ports {
            lines.extend(
                bindings
                    .iter()
                    .flatten()
                    .map(|binding| format!("{port} -> {}", address(binding))),
            );
        }
        lines.sort_by(|a, b| natural_port(a).cmp(&natural_port(b)).then_with(|| a.cmp(b)));
        return lines.iter().try_for_each(|line| session.output.line(line));
    };
    let key = if wanted.contains('/') {
        wanted.clone()
    } else {
        format!("{wanted}/tcp")
    };
    match ports.get(&key) {
        Some(Some(bindings)) if !bindings.is_empty() => bindings
            .iter()
            .try_for_each(|binding| session.output.line(&address(binding))),
        _ => Err(CliError::usage(format!(
            "no public port '{wanted}' published for {}",
            args.container
        ))),
    }
}

fn natural_port(line: &str) -> u32 {
    line.split('/')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Runs `wharf export`.
pub async fn export_command(session: &mut Session, args: ExportArgs) -> Result<()> {
    refuse_terminal(session, args.output.as_deref())?;
    let path = format!("/containers/{}/export", path_part(&args.container));
    let response = session.client.send(Request::get(path)).await?;
    write_archive(session, response, args.output.as_deref()).await
}

/// Fails when an archive would be written to a terminal.
pub fn refuse_terminal(session: &Session, output: Option<&str>) -> Result<()> {
    if output.is_none() && session.output.is_terminal() {
        return Err(CliError::usage(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    Ok(())
}

/// Writes an answer's body to a file, which appears only once it is complete, or to standard output.
pub async fn write_archive(
    session: &mut Session,
    mut response: Response,
    path: Option<&str>,
) -> Result<()> {
    let Some(path) = path.filter(|path| *path != "-") else {
        while let Some(chunk) = response.chunk().await? {
            session.output.bytes(&chunk)?;
        }
        return Ok(());
    };
    let path = Path::new(path);
    // A device or pipe is written to as it is; only a regular file can be replaced in one step.
    let in_place = host_files::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    let target = if in_place {
        path.to_owned()
    } else {
        path.with_extension(format!("tmp{}", std::process::id()))
    };
    let file = host_files::create_for(&target, path)?;
    let written = write_chunks(&mut response, file, path).await;
    let finished = match written {
        Ok(()) if !in_place => host_files::rename(&target, path),
        other => other,
    };
    if finished.is_err() && !in_place {
        host_files::remove(&target);
    }
    finished
}

async fn write_chunks(response: &mut Response, mut file: File, path: &Path) -> Result<()> {
    while let Some(chunk) = response.chunk().await? {
        file.write_all(&chunk)
            .map_err(|error| CliError::io(format!("cannot write {}", path.display()), error))?;
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Committed {
    id: String,
}

/// Runs `wharf commit`.
pub async fn commit_command(session: &mut Session, args: CommitArgs) -> Result<()> {
    let (repository, tag) = match &args.reference {
        Some(reference) => repository_and_tag(reference)?,
        None => (String::new(), String::new()),
    };
    let mut request = Request::post("/commit")
        .query("container", &args.container)
        .query("repo", repository)
        .query("tag", tag)
        .query_if("comment", args.message.as_ref())
        .query_if("author", args.author.as_ref())
        .query("pause", if args.pause { "1" } else { "0" });
    for change in &args.change {
        request = request.query("changes", change);
    }
    let committed: Committed = session.client.send(request).await?.json().await?;
    session.output.line(&committed.id)
}
