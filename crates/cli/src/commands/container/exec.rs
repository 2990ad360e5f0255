//! `wharf exec` (engine-api.md §7.5).

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use crate::commands::container::attachment::{Attachment, Ending, Process};
use crate::commands::container::flags::process::ProcessFlags;
use crate::error::{CliError, EXIT_NOT_EXECUTABLE, Result};
use crate::exit;
use crate::http::{Request, path_part};
use crate::session::Session;
use crate::streams::Wanted;
use crate::terminal;

/// Run a command in a running container
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Run in the background
    #[arg(short = 'd', long)]
    detach: bool,
    #[command(flatten)]
    process: ProcessFlags,
    /// Container, then the command and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_name = "CONTAINER COMMAND [ARG]")]
    container_and_command: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(default)]
    exit_code: Option<i32>,
}

/// Runs `wharf exec`.
pub async fn exec_command(session: &mut Session, args: ExecArgs) -> Result<()> {
    let Some((container, command)) = args.container_and_command.split_first() else {
        return Err(CliError::usage("exec needs a container and a command"));
    };
    let stdin = args.process.interactive && !args.detach;
    if args.process.tty && stdin && !terminal::stdin_is_terminal() {
        return Err(CliError::usage("the input device is not a TTY"));
    }
    let detach_keys = match &args.process.detach_keys {
        None if !args.process.tty => None,
        keys => session.detach_keys(keys.as_deref())?,
    };
    let variable = |name: &str| std::env::var(name).ok();
    let console_size = terminal::size()
        .filter(|_| args.process.tty)
        .map(|(height, width)| json!([height, width]));
    let body = json!({
        "User": args.process.user.as_deref().unwrap_or_default(),
        "Privileged": args.process.privileged,
        "Tty": args.process.tty,
        "ConsoleSize": console_size,
        "AttachStdin": stdin,
        "AttachStdout": !args.detach,
        "AttachStderr": !args.detach,
        "DetachKeys": detach_keys.as_deref().unwrap_or_default(),
        "Env": args.process.environment(&variable)?,
        "WorkingDir": args.process.workdir.as_deref().unwrap_or_default(),
        "Cmd": command,
    });
    let create = Request::post(format!("/containers/{}/exec", path_part(container))).json(&body);
    let created: Created = session.client.send(create).await?.json().await?;
    let start = Request::post(format!("/exec/{}/start", path_part(&created.id))).json(&json!({
        "Detach": args.detach,
        "Tty": args.process.tty,
        "ConsoleSize": console_size,
    }));
    if args.detach {
        session.client.send(start).await?;
        return Ok(());
    }
    let connection = session
        .client
        .upgrade(start)
        .await
        .map_err(|error| error.with_status(EXIT_NOT_EXECUTABLE))?;
    let attachment = Attachment {
        process: Process::Exec(created.id.clone()),
        wanted: Wanted {
            stdin,
            output: true,
            tty: args.process.tty,
        },
        detach_keys,
        signal_proxy: false,
    };
    match attachment
        .pump(&session.client, connection, &mut session.output)
        .await?
    {
        Ending::Detached => Ok(()),
        Ending::Finished => {
            let path = format!("/exec/{}/json", path_part(&created.id));
            let inspected: Inspected = session.client.get_json(path).await?;
            exit::result_of(inspected.exit_code.unwrap_or(0))
        }
    }
}
