//! `wharf exec` (engine-api.md §7.5).

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use crate::commands::container::attachment::{Attachment, Ending, Process};
use crate::error::{CliError, EXIT_NOT_EXECUTABLE, Result};
use crate::exit;
use crate::http::{Request, path_part};
use crate::options::env;
use crate::session::Session;
use crate::streams::Wanted;
use crate::terminal;

/// Run a command in a running container
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Run in the background
    #[arg(short = 'd', long)]
    detach: bool,
    /// Keys that detach, such as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Set an environment variable (NAME=VALUE, or NAME to pass the caller's on)
    #[arg(short = 'e', long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Keep standard input open
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Give the command all privileges
    #[arg(long)]
    privileged: bool,
    /// Give the command a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// User, and optionally group, to run as
    #[arg(short = 'u', long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short = 'w', long, value_name = "PATH")]
    workdir: Option<String>,
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
    let stdin = args.interactive && !args.detach;
    if args.tty && stdin && !terminal::stdin_is_terminal() {
        return Err(CliError::usage("the input device is not a TTY"));
    }
    let detach_keys = match &args.detach_keys {
        None if !args.tty => None,
        keys => session.detach_keys(keys.as_deref())?,
    };
    let variable = |name: &str| std::env::var(name).ok();
    let console_size = terminal::size()
        .filter(|_| args.tty)
        .map(|(height, width)| json!([height, width]));
    let body = json!({
        "User": args.user.as_deref().unwrap_or_default(),
        "Privileged": args.privileged,
        "Tty": args.tty,
        "ConsoleSize": console_size,
        "AttachStdin": stdin,
        "AttachStdout": !args.detach,
        "AttachStderr": !args.detach,
        "DetachKeys": detach_keys.as_deref().unwrap_or_default(),
        "Env": env::environment(&args.env_file, &args.env, &variable)?,
        "WorkingDir": args.workdir.as_deref().unwrap_or_default(),
        "Cmd": command,
    });
    let create = Request::post(format!("/containers/{}/exec", path_part(container))).json(&body);
    let created: Created = session.client.send(create).await?.json().await?;
    let start = Request::post(format!("/exec/{}/start", path_part(&created.id))).json(&json!({
        "Detach": args.detach,
        "Tty": args.tty,
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
            tty: args.tty,
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
