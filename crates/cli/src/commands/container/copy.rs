//! `wharf cp` (engine-api.md §12).

use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use clap::Args;
use http::Method;
use serde::Deserialize;

use crate::archive;
use crate::commands::container::copy_archive::pipe::pipe;
use crate::commands::container::copy_archive::unpack::unpack;
use crate::commands::container::copy_archive::{self, Destination};
use crate::error::{CliError, Result};
use crate::host_files;
use crate::http::{Client, Request, path_part};
use crate::session::Session;
use crate::units::human_size;

/// Go's file mode bits of directories and symbolic links (engine-api.md §3).
const MODE_DIRECTORY: u32 = 1 << 31;
const MODE_SYMLINK: u32 = 1 << 27;

/// Copy files between a container and this machine
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Keep users and groups
    #[arg(short = 'a', long)]
    archive: bool,
    /// Follow a symbolic link that is the source
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Do not say what was copied
    #[arg(short = 'q', long)]
    quiet: bool,
    /// CONTAINER:PATH, a path of this machine, or "-" for a tar archive on standard input
    source: String,
    /// CONTAINER:PATH, a path of this machine, or "-" for a tar archive on standard output
    destination: String,
}

/// What a path inside a container is.
#[derive(Debug, Clone, Deserialize)]
pub struct PathStat {
    /// Go's file mode.
    pub mode: u32,
    /// Where a symbolic link leads, inside the container.
    #[serde(rename = "linkTarget", default)]
    pub link_target: String,
}

impl PathStat {
    /// Returns whether the path is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.mode & MODE_DIRECTORY != 0
    }
}

/// Runs `wharf cp`.
pub async fn copy_command(session: &mut Session, args: CopyArgs) -> Result<()> {
    match (split(&args.source), split(&args.destination)) {
        (Some(_), Some(_)) => Err(CliError::usage(
            "copying between containers is not supported",
        )),
        (None, None) => Err(CliError::usage(
            "must specify at least one container source",
        )),
        (Some((container, path)), None) => from_container(session, &args, container, path).await,
        (None, Some((container, path))) => to_container(session, &args, container, path).await,
    }
}

/// Returns container and path of an argument that names a container; an argument starting with `/` or `.` never does.
fn split(argument: &str) -> Option<(&str, &str)> {
    if argument.starts_with(['/', '.']) || argument == "-" {
        return None;
    }
    argument
        .split_once(':')
        .filter(|(container, _)| !container.is_empty())
}

/// Asks what a path inside a container is.
pub async fn stat(client: &Client, container: &str, path: &str) -> Result<PathStat> {
    let request = Request::new(
        Method::HEAD,
        format!("/containers/{}/archive", path_part(container)),
    )
    .query("path", path);
    let response = client
        .send(request)
        .await
        .map_err(|error| match error.http_status() {
            // The answer to HEAD has no body that could say it.
            Some(404) => CliError::Daemon {
                status: 404,
                message: format!("Could not find the file {path} in container {container}"),
            },
            _ => error,
        })?;
    path_stat(&response.headers)
}

fn path_stat(headers: &http::HeaderMap) -> Result<PathStat> {
    let request = "a path's state".to_owned();
    let decoded = headers
        .get("x-docker-container-path-stat")
        .and_then(|value| BASE64_STANDARD.decode(value.as_bytes()).ok())
        .unwrap_or_default();
    serde_json::from_slice(&decoded).map_err(|source| CliError::Decode { request, source })
}

async fn from_container(
    session: &mut Session,
    args: &CopyArgs,
    container: &str,
    path: &str,
) -> Result<()> {
    let mut source = absolute(path);
    let mut rebase = None;
    if args.follow_link
        && let Ok(found) = stat(&session.client, container, &source).await
        && found.mode & MODE_SYMLINK != 0
        && !found.link_target.is_empty()
    {
        rebase = Some((
            copy_archive::base_name(&found.link_target),
            copy_archive::base_name(&source),
        ));
        source = copy_archive::keep_trailing(&source, &found.link_target);
    }
    let request = Request::get(format!("/containers/{}/archive", path_part(container)))
        .query("path", &source);
    let mut response = session.client.send(request).await?;
    if args.destination == "-" {
        crate::commands::container::snapshot::refuse_terminal(session, None)?;
        while let Some(chunk) = response.chunk().await? {
            session.output.bytes(&chunk)?;
        }
        return Ok(());
    }
    let found = path_stat(&response.headers)?;
    let mut destination = Destination::on_host(
        Path::new(&args.destination),
        &source,
        found.is_directory(),
        rebase,
    )?;
    destination.keep_owner = args.archive;
    let (sender, reader) = pipe();
    let unpacking = tokio::task::spawn_blocking(move || unpack(reader, &destination));
    let mut received = 0;
    while let Some(chunk) = response.chunk().await? {
        received += chunk.len();
        // The receiver ends early only with an error of its own, which is reported below.
        if sender.send(chunk).await.is_err() {
            break;
        }
    }
    drop(sender);
    unpacking
        .await
        .map_err(|error| CliError::transport("unpacking the copy", error))??;
    tell(session, args, received, &args.destination);
    Ok(())
}

async fn to_container(
    session: &mut Session,
    args: &CopyArgs,
    container: &str,
    path: &str,
) -> Result<()> {
    let target = absolute(path);
    let mut found = stat(&session.client, container, &target).await.ok();
    let mut target = target;
    if let Some(link) = found
        .as_ref()
        .filter(|found| found.mode & MODE_SYMLINK != 0)
        .cloned()
    {
        target = absolute_beside(&target, &link.link_target);
        found = stat(&session.client, container, &target).await.ok();
    }
    let (directory, upload) = if args.source == "-" {
        if !found.as_ref().is_none_or(PathStat::is_directory) {
            return Err(CliError::usage(format!(
                "destination \"{container}:{path}\" must be a directory"
            )));
        }
        (target, archive::upload_reader(std::io::stdin()))
    } else {
        let source = source_path(&args.source, args.follow_link)?;
        let plan =
            copy_archive::Plan::into_container(&source, &args.source, &target, found.as_ref())?;
        (
            plan.directory.clone(),
            archive::upload(move |sink| plan.write(sink)),
        )
    };
    let request = Request::new(
        Method::PUT,
        format!("/containers/{}/archive", path_part(container)),
    )
    .query("path", &directory)
    .query("noOverwriteDirNonDir", "true")
    .query_if("copyUIDGID", args.archive.then_some("true"))
    .upload("application/x-tar", upload);
    session.client.send(request).await?;
    if args.source != "-" && !args.quiet && session.output.talk_is_terminal() {
        session
            .output
            .talk(&format!("Successfully copied to {container}:{path}"));
    }
    Ok(())
}

fn tell(session: &mut Session, args: &CopyArgs, bytes: usize, destination: &str) {
    if !args.quiet && session.output.talk_is_terminal() {
        session.output.talk(&format!(
            "Successfully copied {} to {destination}",
            human_size(bytes as f64)
        ));
    }
}

fn source_path(source: &str, follow_link: bool) -> Result<PathBuf> {
    let path = Path::new(source);
    // Existence is checked here, so that the error comes before anything is sent.
    host_files::link_metadata(path)
        .map_err(|error| CliError::io(format!("cannot copy {source}"), error))?;
    if follow_link {
        host_files::canonical(path)
    } else {
        Ok(path.to_owned())
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

fn absolute_beside(path: &str, link_target: &str) -> String {
    if link_target.starts_with('/') {
        return link_target.to_owned();
    }
    let parent = path
        .trim_end_matches('/')
        .rsplit_once('/')
        .map_or("", |(parent, _)| parent);
    format!("{parent}/{link_target}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_name_a_container() {
        assert_eq!(split("web:/etc"), Some(("web", "/etc")));
        assert_eq!(split("web:etc"), Some(("web", "etc")));
        for local in ["/a:b", "./a:b", "-", "plain", ":x"] {
            assert_eq!(split(local), None, "{local}");
        }
    }
}
