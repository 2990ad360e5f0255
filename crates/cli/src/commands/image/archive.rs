//! Images as archives: save, load, import.

use std::path::Path;

use clap::Args;

use crate::archive;
use crate::commands::container::snapshot::{refuse_terminal, write_archive};
use crate::commands::image::names::{platform_json, repository_and_tag};
use crate::error::{CliError, Result};
use crate::host_files;
use crate::http::Request;
use crate::progress;
use crate::session::Session;
use crate::terminal;

/// Write images as a tar archive
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// Write to a file instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<String>,
    /// Write only this platform
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Read images from a tar archive
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Read from a file instead of standard input
    #[arg(short = 'i', long, value_name = "FILE")]
    input: Option<String>,
    /// Read only this platform
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Show no progress
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// Make an image from a tar archive of a file system
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Apply a Dockerfile instruction to the image
    #[arg(short = 'c', long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Message
    #[arg(short = 'm', long, value_name = "TEXT")]
    message: Option<String>,
    /// Platform of the image
    #[arg(
        long,
        value_name = "PLATFORM",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    platform: Option<String>,
    /// File, URL, or "-" for standard input
    #[arg(value_name = "FILE|URL|-")]
    source: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

/// Runs `wharf save`.
pub async fn save_command(session: &mut Session, args: SaveArgs) -> Result<()> {
    refuse_terminal(session, args.output.as_deref())?;
    let mut request = Request::get("/images/get").query_if(
        "platform",
        args.platform.as_deref().map(platform_json).transpose()?,
    );
    for image in &args.images {
        request = request.query("names", image);
    }
    let response = session.client.send(request).await?;
    write_archive(session, response, args.output.as_deref()).await
}

/// Runs `wharf load`.
pub async fn load_command(session: &mut Session, args: LoadArgs) -> Result<()> {
    let upload = match &args.input {
        Some(path) => archive::upload_reader(host_files::open(Path::new(path))?),
        None if terminal::stdin_is_terminal() => {
            return Err(CliError::usage(
                "requested load from stdin, but stdin is empty",
            ));
        }
        None => archive::upload_reader(std::io::stdin()),
    };
    // Without a terminal nobody watches a bar, and the daemon need not send one.
    let quiet = args.quiet || !session.output.is_terminal();
    let request = Request::post("/images/load")
        .query("quiet", if quiet { "1" } else { "0" })
        .query_if(
            "platform",
            args.platform.as_deref().map(platform_json).transpose()?,
        )
        .upload("application/x-tar", upload);
    session.client.ping().await?;
    let response = session.client.send(request).await?;
    progress::show(response, &mut session.output, |_| {}).await
}

/// Runs `wharf import`.
pub async fn import_command(session: &mut Session, args: ImportArgs) -> Result<()> {
    let (repository, tag) = match &args.reference {
        Some(reference) => repository_and_tag(reference)?,
        None => (String::new(), String::new()),
    };
    let is_url = args.source.contains("://");
    let mut request = Request::post("/images/create")
        .query("fromSrc", if is_url { args.source.as_str() } else { "-" })
        .query("repo", repository)
        .query("tag", tag)
        .query_if("message", args.message.as_ref())
        .query_if("platform", args.platform.as_ref());
    for change in &args.change {
        request = request.query("changes", change);
    }
    if args.source == "-" {
        request = request.upload(
            "application/x-tar",
            archive::upload_reader(std::io::stdin()),
        );
    } else if !is_url {
        let file = host_files::open(Path::new(&args.source))?;
        request = request.upload("application/x-tar", archive::upload_reader(file));
    }
    let response = session.client.send(request).await?;
    progress::show(response, &mut session.output, |_| {}).await
}
