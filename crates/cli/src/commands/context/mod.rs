//! `wharf context …`.

mod change;
mod show;

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::commands::context::change::{create, update};
use crate::commands::context::show::{inspect, list};
use crate::context::{Chosen, ContextStore, DEFAULT_CONTEXT, export, import};
use crate::error::{CliError, Result};
use crate::host_files;
use crate::session::Session;

/// Largest accepted archive and certificate, in bytes.
const FILE_LIMIT_BYTES: u64 = 10 << 20;

/// `wharf context …`.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the arguments' types document each command")]
pub enum ContextCommand {
    Create(CreateArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    Inspect(InspectArgs),
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    /// Print the name of the current context
    Show,
    Update(UpdateArgs),
    Use(UseArgs),
}

/// Create a context
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Description of the context
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The daemon: host=URL,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=BOOL or from=CONTEXT
    #[arg(long, value_name = "SETTINGS")]
    docker: Option<String>,
    /// Copy another context
    #[arg(long, value_name = "CONTEXT")]
    from: Option<String>,
    /// Name of the new context
    context: String,
}

/// Write a context to a tar
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Context to write
    context: String,
    /// File, or - for standard output; without one, CONTEXT.dockercontext
    file: Option<PathBuf>,
}

/// Take a context from a tar
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Name of the new context
    context: String,
    /// File, or - for standard input
    file: PathBuf,
}

/// Show everything about contexts
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Print with a template
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
    /// Contexts; without one, the current one
    #[arg(value_name = "CONTEXT")]
    contexts: Vec<String>,
}

/// List contexts
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print with a template, "table TEMPLATE" or "json"
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print names only
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// Remove contexts
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Remove the current context, too
    #[arg(short = 'f', long)]
    force: bool,
    /// Contexts to remove
    #[arg(required = true, value_name = "CONTEXT")]
    contexts: Vec<String>,
}

/// Change a context
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Description of the context
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The daemon: host=URL,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=BOOL or from=CONTEXT
    #[arg(long, value_name = "SETTINGS")]
    docker: Option<String>,
    /// Context to change
    context: String,
}

/// Make a context the current one
#[derive(Debug, Args)]
pub struct UseArgs {
    /// Context
    context: String,
}

/// Runs `wharf context …`; none of them talks to a daemon.
pub fn context_command(session: &mut Session, command: ContextCommand) -> Result<()> {
    let store = ContextStore::below(session.config_directory());
    match command {
        ContextCommand::Create(args) => create(session, &store, &args),
        ContextCommand::Export(args) => write_archive(session, &store, &args),
        ContextCommand::Import(args) => read_archive(session, &store, &args),
        ContextCommand::Inspect(args) => inspect(session, &store, args),
        ContextCommand::Ls(args) => list(session, &store, &args),
        ContextCommand::Rm(args) => remove(session, &store, &args),
        ContextCommand::Show => {
            let name = session.context().to_owned();
            session.output.line(&name)
        }
        ContextCommand::Update(args) => update(session, &store, &args),
        ContextCommand::Use(args) => use_context(session, &store, &args),
    }
}

fn done(session: &mut Session, name: &str, text: &str) -> Result<()> {
    session.output.line(name)?;
    session.output.talk(&format!("{text} {name:?}"));
    Ok(())
}

fn default_url() -> String {
    Chosen::default_url(&|name| std::env::var(name).ok())
}

fn write_archive(session: &mut Session, store: &ContextStore, args: &ExportArgs) -> Result<()> {
    let archive = export(store, &args.context)?;
    if args.file.as_deref() == Some(Path::new("-")) {
        return session.output.bytes(&archive);
    }
    let usual = PathBuf::from(format!("{}.dockercontext", args.context));
    let path = args.file.as_deref().unwrap_or(&usual);
    let mut file = host_files::create_new(path)?;
    std::io::Write::write_all(&mut file, &archive)
        .map_err(|error| CliError::io(format!("cannot write {}", path.display()), error))?;
    session
        .output
        .talk(&format!("Written file {:?}", path.display().to_string()));
    Ok(())
}

fn read_archive(session: &mut Session, store: &ContextStore, args: &ImportArgs) -> Result<()> {
    let archive = if args.file == Path::new("-") {
        let mut content = Vec::new();
        std::io::stdin()
            .take(FILE_LIMIT_BYTES)
            .read_to_end(&mut content)
            .map_err(|error| CliError::io("reading standard input", error))?;
        content
    } else {
        host_files::read(&args.file, FILE_LIMIT_BYTES)?
    };
    import(store, &args.context, &archive)?;
    done(session, &args.context, "Successfully imported context")
}

fn remove(session: &mut Session, store: &ContextStore, args: &RemoveArgs) -> Result<()> {
    let current = session.config()?.text("currentContext").map(str::to_owned);
    let mut failures = Vec::new();
    for name in &args.contexts {
        let is_current = current.as_ref() == Some(name);
        let outcome = if name == DEFAULT_CONTEXT {
            Err(CliError::Plain(format!(
                "context {name:?} cannot be removed"
            )))
        } else if is_current && !args.force {
            Err(CliError::Plain(format!(
                "context {name:?} is in use, set -f flag to force remove"
            )))
        } else if !args.force {
            exists(store, name)
        } else {
            Ok(())
        };
        match outcome.and_then(|()| store.remove(name)) {
            Ok(()) => {
                if is_current {
                    session.config()?.set_text("currentContext", "")?;
                }
                session.output.line(name)?;
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(CliError::Several(failures))
    }
}

fn exists(store: &ContextStore, name: &str) -> Result<()> {
    if store.exists(name) {
        return Ok(());
    }
    Err(CliError::Plain(format!("context {name:?} does not exist")))
}

fn use_context(session: &mut Session, store: &ContextStore, args: &UseArgs) -> Result<()> {
    let name = &args.context;
    let value = if name == DEFAULT_CONTEXT {
        ""
    } else {
        crate::context::check_name(name)?;
        store.load(name)?;
        name
    };
    session.config()?.set_text("currentContext", value)?;
    session.output.line(name)?;
    session
        .output
        .talk(&format!("Current context is now {name:?}"));
    if name != DEFAULT_CONTEXT && std::env::var("DOCKER_HOST").is_ok_and(|host| !host.is_empty()) {
        session.output.talk(&format!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, either set \
             the global --context flag, or unset DOCKER_HOST environment variable."
        ));
    }
    Ok(())
}
