//! Docker's commands about things that wharf does not have: each says so.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};

use crate::error::{CliError, Result};
use crate::http::Request;
use crate::options::filter;
use crate::render::list::Layout;
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

/// List plugins
#[derive(Debug, Parser)]
#[command(name = "plugin ls", no_binary_name = true)]
struct PluginList {
    /// Show plugins that match
    #[arg(short = 'f', long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Print with a template, "table TEMPLATE" or "json"
    #[arg(long, value_name = "FORMAT", default_value = "")]
    format: String,
    /// Do not cut values short
    #[arg(long)]
    no_trunc: bool,
    /// Print only ids
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// Lists what plugins there are: none, in the format that was asked for.
async fn list_plugins(session: &mut Session, arguments: &[OsString]) -> Result<()> {
    let args = PluginList::try_parse_from(arguments.iter().skip(1))
        .map_err(|error| CliError::usage(error.to_string()))?;
    let request = Request::get("/plugins").query_if("filters", filter::query(&args.filter)?);
    session.client.send(request).await?;
    let layout = Layout {
        type_name: "*plugin.pluginContext",
        table: "{{.ID}}\t{{.Name}}\t{{.Description}}\t{{.Enabled}}".into(),
        quiet: "{{.ID}}",
        quiet_wins: false,
        raw: "plugin_id: {{.ID}}\nname: {{.Name}}\ndescription: {{.Description}}\nenabled: {{.Enabled}}\n",
        headings: &[
            ("ID", "ID"),
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("Enabled", "ENABLED"),
        ],
    };
    let text = layout.render(&args.format, args.quiet, &[])?;
    session.output.text(&text)
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
            return list_plugins(session, &args.arguments).await;
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
