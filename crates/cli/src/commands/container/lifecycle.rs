//! Commands that change a container's state: stop, restart, kill, pause, rm, rename, wait.

use clap::Args;

use crate::commands::container::attachment::ExitWait;
use crate::commands::targets;
use crate::error::{CliError, Result};
use crate::http::{Request, path_part};
use crate::session::Session;

/// Stop running containers
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Signal to send first
    #[arg(short = 's', long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds to wait before killing, -1 to wait for ever
    #[arg(short = 't', long, alias = "time", value_name = "SECONDS")]
    timeout: Option<i64>,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Kill running containers
#[derive(Debug, Args)]
pub struct KillArgs {
    /// Signal to send
    #[arg(short = 's', long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Remove containers
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Kill a running container first
    #[arg(short = 'f', long)]
    force: bool,
    /// Remove a link instead of a container
    #[arg(short = 'l', long)]
    link: bool,
    /// Remove the container's anonymous volumes too
    #[arg(short = 'v', long)]
    volumes: bool,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Containers to act on.
#[derive(Debug, Args)]
pub struct ContainersArgs {
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Rename a container
#[derive(Debug, Args)]
pub struct RenameArgs {
    /// Container
    container: String,
    /// Its new name
    new_name: String,
}

/// Runs `wharf stop` (`action` "stop") and `wharf restart` ("restart").
pub async fn stop_command(
    session: &mut Session,
    args: StopArgs,
    action: &'static str,
) -> Result<()> {
    targets::for_each(session, &args.containers, async |session, name| {
        let request = Request::post(format!("/containers/{}/{action}", path_part(name)))
            .query_if("signal", args.signal.as_ref())
            .query_if("t", args.timeout.map(|seconds| seconds.to_string()));
        session.client.send(request).await?;
        Ok(Some(name.to_owned()))
    })
    .await
}

/// Runs `wharf kill`.
pub async fn kill_command(session: &mut Session, args: KillArgs) -> Result<()> {
    targets::for_each(session, &args.containers, async |session, name| {
        let request = Request::post(format!("/containers/{}/kill", path_part(name)))
            .query_if("signal", args.signal.as_ref());
        session.client.send(request).await?;
        Ok(Some(name.to_owned()))
    })
    .await
}

/// Runs `wharf pause` and `wharf unpause`.
pub async fn pause_command(
    session: &mut Session,
    args: ContainersArgs,
    action: &'static str,
) -> Result<()> {
    targets::for_each(session, &args.containers, async |session, name| {
        session
            .client
            .send(Request::post(format!(
                "/containers/{}/{action}",
                path_part(name)
            )))
            .await?;
        Ok(Some(name.to_owned()))
    })
    .await
}

/// Runs `wharf rm`.
pub async fn remove_command(session: &mut Session, args: RemoveArgs) -> Result<()> {
    targets::for_each(session, &args.containers, async |session, name| {
        let trimmed = name.trim_start_matches('/');
        if trimmed.is_empty() {
            return Err(CliError::usage("container name cannot be empty"));
        }
        let request = Request::delete(format!("/containers/{}", path_part(trimmed)))
            .query_flag("v", args.volumes)
            .query_flag("link", args.link)
            .query_flag("force", args.force);
        match session.client.send(request).await {
            // What is to be forced away and is not there is away: said, but no failure.
            Err(error) if args.force && error.http_status() == Some(404) => {
                session.output.talk(&error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(_) => Ok(Some(name.to_owned())),
        }
    })
    .await
}

/// Runs `wharf rename`.
pub async fn rename_command(session: &mut Session, args: RenameArgs) -> Result<()> {
    if args.container.trim().is_empty() || args.new_name.trim().is_empty() {
        return Err(CliError::usage("neither old nor new names may be empty"));
    }
    let request = Request::post(format!("/containers/{}/rename", path_part(&args.container)))
        .query("name", &args.new_name);
    match session.client.send(request).await {
        Ok(_) => Ok(()),
        Err(error @ CliError::Daemon { .. }) => Err(CliError::Several(vec![
            error.to_string(),
            format!("Error: failed to rename container named {}", args.container),
        ])),
        Err(error) => Err(error),
    }
}

/// Runs `wharf wait`.
pub async fn wait_command(session: &mut Session, args: ContainersArgs) -> Result<()> {
    targets::for_each(session, &args.containers, async |session, name| {
        let status = ExitWait::arm(&session.client, name, "not-running")
            .await?
            .status()
            .await?;
        Ok(Some(status.to_string()))
    })
    .await
}
