//! Docker's commands about things that wharf does not have: each says so.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use crate::error::{CliError, Result};
use crate::http::Request;
use crate::session::Session;

/// Whatever such a command is given, `--help` included. (On the enum below the setting would reach every other command.)
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct AnyArgs {
    /// What the command is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// Commands about swarms, plugins, signatures and the like.
#[derive(Debug, Subcommand)]
pub enum AbsentCommand {
    /// Manage Swarm (not supported)
    #[command(hide = true)]
    Swarm(AnyArgs),
    /// Manage Swarm nodes (not supported)
    #[command(hide = true)]
    Node(AnyArgs),
    /// Manage Swarm services (not supported)
    #[command(hide = true)]
    Service(AnyArgs),
    /// Manage Swarm stacks (not supported)
    #[command(hide = true)]
    Stack(AnyArgs),
    /// Manage Swarm secrets (not supported)
    #[command(hide = true)]
    Secret(AnyArgs),
    /// Manage Swarm configs (not supported)
    #[command(hide = true)]
    Config(AnyArgs),
    /// Manage plugins (there are none)
    #[command(hide = true)]
    Plugin(AnyArgs),
    /// Manage trust on images (not supported)
    #[command(hide = true)]
    Trust(AnyArgs),
    /// Manage checkpoints (not supported)
    #[command(hide = true)]
    Checkpoint(AnyArgs),
}

/// Runs one of them: where the daemon has an answer of its own, that answer is told.
pub async fn absent_command(session: &mut Session, command: AbsentCommand) -> Result<()> {
    use AbsentCommand as C;
    let verb = |args: &AnyArgs| {
        let first = args
            .arguments
            .first()
            .and_then(|argument| argument.to_str());
        first.unwrap_or_default().to_owned()
    };
    let request = match &command {
        C::Swarm(args) => match verb(args).as_str() {
            verb @ ("init" | "join" | "leave" | "unlock" | "update") => {
                Request::post(format!("/swarm/{verb}")).json(&serde_json::json!({}))
            }
            _ => Request::get("/swarm"),
        },
        C::Node(_) => Request::get("/nodes"),
        C::Service(_) | C::Stack(_) => Request::get("/services"),
        C::Secret(_) => Request::get("/secrets"),
        C::Config(_) => Request::get("/configs"),
        C::Plugin(args) if matches!(verb(args).as_str(), "ls" | "list") => {
            session.client.send(Request::get("/plugins")).await?;
            return session
                .output
                .line("ID        NAME      DESCRIPTION   ENABLED");
        }
        C::Plugin(_) => Request::get("/plugins/privileges"),
        C::Trust(_) => {
            return Err(CliError::usage(
                "content trust is not supported: signatures of images are made and checked with tools such as cosign",
            ));
        }
        C::Checkpoint(args) => {
            return Err(CliError::Plain(format!(
                "{} checkpoint {} is only supported on a Docker daemon with experimental features enabled",
                session.program,
                verb(args)
            )));
        }
    };
    session.client.send(request).await?;
    Err(CliError::usage(
        "the daemon knows this command, this client does not: use docker's client",
    ))
}
