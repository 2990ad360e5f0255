//! `wharf run`: create, attach, wait, start, in this order (engine-api.md §2.2).

use clap::Args;

use crate::commands::container::attachment::{self, Attachment, Ending, ExitWait, Process};
use crate::commands::container::create::create;
use crate::commands::container::flags::ContainerFlags;
use crate::commands::container::request::Streams;
use crate::error::{CliError, EXIT_ENGINE_FAILURE, Result};
use crate::exit;
use crate::http::{Request, path_part};
use crate::session::Session;
use crate::streams::Wanted;
use crate::terminal;

/// Create a container from an image and run it
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct RunArgs {
    /// Run in the background and print the container's id
    #[arg(short = 'd', long)]
    detach: bool,
    /// Pass signals on to the container
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    sig_proxy: bool,
    #[command(flatten)]
    flags: ContainerFlags,
}

/// Runs `wharf run`. Failures of the engine or the client end with status 125 and a pointer to the help.
pub async fn run_command(session: &mut Session, args: RunArgs) -> Result<()> {
    match run(session, &args).await {
        Ok(status) => exit::result_of(status),
        Err(error @ CliError::Exit(_)) => Err(error),
        Err(error) => {
            let status = match &error {
                CliError::WithStatus { status, .. } => *status,
                _ => EXIT_ENGINE_FAILURE,
            };
            let report = error.report().unwrap_or_default();
            // The program's name stands where other commands say "error".
            let report = report.strip_prefix("error: ").unwrap_or(&report);
            let program = session.program.clone();
            session.output.talk(&format!(
                "{program}: {report}\n\nRun '{program} run --help' for more information"
            ));
            Err(CliError::Exit(status))
        }
    }
}

async fn run(session: &mut Session, args: &RunArgs) -> Result<i32> {
    let streams = check(args)?;
    let detach_keys = match &args.flags.process.detach_keys {
        None if !args.flags.process.tty => None,
        keys => session.detach_keys(keys.as_deref())?,
    };
    let id = create(session, &args.flags, streams).await?;
    if args.detach {
        start(session, &id).await?;
        session.output.line(&id)?;
        return Ok(0);
    }
    let connection = attachment::attach_streams(
        &session.client,
        &id,
        streams.stdin,
        streams.stdout,
        streams.stderr,
        detach_keys.as_deref(),
    )
    .await?;
    let condition = if args.flags.rm {
        "removed"
    } else {
        "next-exit"
    };
    let wait = ExitWait::arm(&session.client, &id, condition).await?;
    if let Err(error) = start(session, &id).await {
        drop(connection);
        if args.flags.rm {
            // The daemon removes it; a command that follows must not meet it any more.
            let _ = wait.status().await;
        }
        return Err(error);
    }
    let attachment = Attachment {
        process: Process::Container(id),
        wanted: Wanted {
            stdin: streams.stdin,
            output: streams.stdout || streams.stderr,
            tty: args.flags.process.tty,
        },
        detach_keys,
        signal_proxy: args.sig_proxy && !args.flags.process.tty,
    };
    match attachment
        .pump(&session.client, connection, &mut session.output)
        .await?
    {
        Ending::Detached => Ok(0),
        Ending::Finished => wait.status().await,
    }
}

fn check(args: &RunArgs) -> Result<Streams> {
    if args.detach {
        if !args.flags.attach.is_empty() {
            return Err(CliError::usage(
                "conflicting options: cannot specify both --attach and --detach",
            ));
        }
        return Ok(Streams::NONE);
    }
    let streams = Streams::parse(&args.flags.attach, args.flags.process.interactive)?;
    if args.flags.process.tty && streams.stdin && !terminal::stdin_is_terminal() {
        return Err(CliError::usage("the input device is not a TTY").with_status(1));
    }
    Ok(streams)
}

async fn start(session: &Session, id: &str) -> Result<()> {
    let request = Request::post(format!("/containers/{}/start", path_part(id)));
    match session.client.send(request).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let status = exit::start_failure_status(&error.to_string());
            Err(error.with_status(status))
        }
    }
}
