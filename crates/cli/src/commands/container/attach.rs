//! `wharf attach` and `wharf start`.

use std::cell::RefCell;

use clap::Args;

use crate::commands::container::attachment::{self, Attachment, Ending, ExitWait, Process};
use crate::commands::container::state;
use crate::commands::targets;
use crate::error::{CliError, Result};
use crate::exit;
use crate::http::{Request, path_part};
use crate::session::Session;
use crate::streams::Wanted;
use crate::terminal;

/// Attach to a running container
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Keys that detach, such as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Do not attach standard input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the container
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    sig_proxy: bool,
    /// Container
    container: String,
}

/// Start stopped containers
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Attach to the container's output and pass signals on
    #[arg(short = 'a', long)]
    attach: bool,
    /// Restore a checkpoint (not supported)
    #[arg(long, value_name = "NAME", hide = true)]
    checkpoint: Option<String>,
    /// Directory of checkpoints (not supported)
    #[arg(long, value_name = "DIRECTORY", hide = true)]
    checkpoint_dir: Option<String>,
    /// Keys that detach, such as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Attach the container's standard input
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Runs `wharf attach`.
pub async fn attach_command(session: &mut Session, args: AttachArgs) -> Result<()> {
    let container = state::inspect(&session.client, &args.container).await?;
    if !container.state.running {
        return Err(CliError::usage(
            "cannot attach to a stopped container, start it first",
        ));
    }
    if container.state.paused {
        return Err(CliError::usage(
            "cannot attach to a paused container, unpause it first",
        ));
    }
    if container.state.restarting {
        return Err(CliError::usage(
            "cannot attach to a restarting container, wait until it is running",
        ));
    }
    let stdin = !args.no_stdin && container.config.open_stdin;
    if stdin && container.config.tty && !terminal::stdin_is_terminal() {
        return Err(CliError::usage("the input device is not a TTY"));
    }
    let detach_keys = session.detach_keys(args.detach_keys.as_deref())?;
    let attachment = Attachment {
        process: Process::Container(container.id.clone()),
        wanted: Wanted {
            stdin,
            output: true,
            tty: container.config.tty,
        },
        detach_keys,
        signal_proxy: args.sig_proxy && !container.config.tty,
    };
    let wait = ExitWait::arm(&session.client, &container.id, "not-running").await?;
    let connection = attachment::attach(
        &session.client,
        &container.id,
        attachment.wanted,
        attachment.detach_keys.as_deref(),
    )
    .await?;
    match attachment
        .pump(&session.client, connection, &mut session.output)
        .await?
    {
        Ending::Detached => Ok(()),
        Ending::Finished => exit::result_of(wait.status().await?),
    }
}

/// Runs `wharf start`.
pub async fn start_command(session: &mut Session, args: StartArgs) -> Result<()> {
    for (flag, value) in [
        ("checkpoint", &args.checkpoint),
        ("checkpoint-dir", &args.checkpoint_dir),
    ] {
        if value.is_some() {
            return Err(CliError::Plain(format!(
                "\"--{flag}\" is only supported on a Docker daemon with experimental features enabled"
            )));
        }
    }
    if !args.attach && !args.interactive {
        return start_all(session, &args.containers).await;
    }
    let [name] = args.containers.as_slice() else {
        return Err(CliError::usage(
            "you cannot start and attach multiple containers at once",
        ));
    };
    let detach_keys = session.detach_keys(args.detach_keys.as_deref())?;
    start_attached(session, name, args.interactive, detach_keys).await
}

/// Starts containers without attaching, and says at the end which of them did not start.
async fn start_all(session: &mut Session, containers: &[String]) -> Result<()> {
    let failed = RefCell::new(Vec::new());
    let started = targets::for_each(session, containers, async |session, name| {
        let request = Request::post(format!("/containers/{}/start", path_part(name)));
        if let Err(error) = session.client.send(request).await {
            failed.borrow_mut().push(name.to_owned());
            return Err(error);
        }
        Ok(Some(name.to_owned()))
    });
    match started.await {
        Err(CliError::Several(mut failures)) => {
            failures.push(format!(
                "Error: failed to start containers: {}",
                failed.borrow().join(", ")
            ));
            Err(CliError::Several(failures))
        }
        ended => ended,
    }
}

async fn start_attached(
    session: &mut Session,
    name: &str,
    interactive: bool,
    detach_keys: Option<String>,
) -> Result<()> {
    let container = state::inspect(&session.client, name).await?;
    let wanted = Wanted {
        stdin: interactive && container.config.open_stdin,
        output: true,
        tty: container.config.tty,
    };
    let attachment = Attachment {
        process: Process::Container(container.id.clone()),
        wanted,
        detach_keys,
        signal_proxy: !container.config.tty,
    };
    let connection = attachment::attach(
        &session.client,
        &container.id,
        wanted,
        attachment.detach_keys.as_deref(),
    )
    .await?;
    let condition = match (container.host_config.auto_remove, container.state.running) {
        (true, _) => "removed",
        (false, true) => "not-running",
        (false, false) => "next-exit",
    };
    let wait = ExitWait::arm(&session.client, &container.id, condition).await?;
    let start = Request::post(format!("/containers/{}/start", path_part(&container.id)));
    session.client.send(start).await?;
    match attachment
        .pump(&session.client, connection, &mut session.output)
        .await?
    {
        Ending::Detached => Ok(()),
        Ending::Finished => exit::result_of(wait.status().await?),
    }
}
