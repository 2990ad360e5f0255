//! `wharf context …`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use crate::context::{Chosen, ContextStore, DEFAULT_CONTEXT, Endpoint, Stored, export, import};
use crate::error::{CliError, Result};
use crate::host_files;
use crate::options::csv;
use crate::render::list::{Layout, Row};
use crate::render::template::{Missing, Template};
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
    #[arg(required = true)]
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

fn create(session: &mut Session, store: &ContextStore, args: &CreateArgs) -> Result<()> {
    crate::context::check_name(&args.context)?;
    if store.exists(&args.context) {
        return Err(CliError::Plain(format!(
            "context {:?} already exists",
            args.context
        )));
    }
    let (mut context, files) = match (&args.from, &args.docker) {
        (Some(_), Some(_)) => {
            return Err(CliError::Plain(
                "cannot use --docker flag when --from is set".to_owned(),
            ));
        }
        (Some(from), None) => copy_of(store, from)?,
        (None, Some(settings)) => {
            let (address, files) = endpoint(store, settings)?;
            let mut context = Stored::default();
            context.set_endpoint(&address);
            (context, files)
        }
        // A copy of what is in force now.
        (None, None) => {
            let name = session.context().to_owned();
            copy_of(store, &name)?
        }
    };
    args.context.clone_into(&mut context.name);
    if let Some(description) = &args.description {
        context.set_description(description);
    }
    store.save_tls(&args.context, &files)?;
    store.save(&context)?;
    done(session, &args.context, "Successfully created context")
}

fn update(session: &mut Session, store: &ContextStore, args: &UpdateArgs) -> Result<()> {
    crate::context::check_name(&args.context)?;
    let mut context = store.load(&args.context)?;
    if let Some(description) = &args.description {
        context.set_description(description);
    }
    if let Some(settings) = &args.docker {
        let (endpoint, files) = endpoint(store, settings)?;
        context.set_endpoint(&endpoint);
        store.save_tls(&args.context, &files)?;
    }
    store.save(&context)?;
    done(session, &args.context, "Successfully updated context")
}

fn done(session: &mut Session, name: &str, text: &str) -> Result<()> {
    session.output.line(name)?;
    session.output.talk(&format!("{text} {name:?}"));
    Ok(())
}

/// Returns a context's content, for another name; the default one is made of flags and environment.
fn copy_of(store: &ContextStore, name: &str) -> Result<(Stored, BTreeMap<String, Vec<u8>>)> {
    if name != DEFAULT_CONTEXT {
        return Ok((store.load(name)?, store.tls_files(name)?));
    }
    let mut context = Stored::default();
    context.set_endpoint(&Endpoint {
        host: default_url(),
        skips_verification: false,
    });
    Ok((context, BTreeMap::new()))
}

fn default_url() -> String {
    Chosen::default_url(&|name| std::env::var(name).ok())
}

/// Reads `--docker`: an address, and the certificates' content by the names they are stored under.
fn endpoint(store: &ContextStore, settings: &str) -> Result<(Endpoint, BTreeMap<String, Vec<u8>>)> {
    let mut endpoint = Endpoint::default();
    let mut files = BTreeMap::new();
    for field in csv::fields(settings)? {
        let (key, value) = field.split_once('=').ok_or_else(|| {
            CliError::usage(format!(
                "--docker: {field:?} must be formatted as key=value"
            ))
        })?;
        let mut keep = |name: &str| -> Result<()> {
            let content = host_files::read(Path::new(value), FILE_LIMIT_BYTES)?;
            files.insert(name.to_owned(), content);
            Ok(())
        };
        match key {
            "from" => {
                let (context, copied) = copy_of(store, value)?;
                return Ok((context.endpoint(), copied));
            }
            "host" => {
                crate::connection::Address::parse(value, None)?;
                value.clone_into(&mut endpoint.host);
            }
            "ca" => keep("ca.pem")?,
            "cert" => keep("cert.pem")?,
            "key" => keep("key.pem")?,
            "skip-tls-verify" => {
                endpoint.skips_verification = value.parse().map_err(|_| {
                    CliError::usage(format!(
                        "--docker: skip-tls-verify: {value:?} is no truth value"
                    ))
                })?;
            }
            other => {
                return Err(CliError::Plain(format!(
                    "unable to create docker endpoint config: unrecognized config key: {other}"
                )));
            }
        }
    }
    Ok((endpoint, files))
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

fn inspect(session: &mut Session, store: &ContextStore, args: InspectArgs) -> Result<()> {
    let mut names = args.contexts;
    if names.is_empty() {
        names.push(session.context().to_owned());
    }
    // What is found is shown, whatever else is missing.
    let (mut documents, mut failures) = (Vec::new(), Vec::new());
    for name in &names {
        match document(store, name) {
            Ok(document) => documents.push(document),
            Err(error) => failures.push(error.to_string()),
        }
    }
    match args.format.as_deref() {
        None | Some("" | "json") => {
            let text = crate::commands::inspect::indented(&Json::Array(documents));
            session.output.line(&text)?;
        }
        Some(source) => {
            let template = Template::parse(source)?;
            for document in &documents {
                let text = template.execute_json(
                    document,
                    "context.contextWithTLSListing",
                    Missing::IsAnError,
                )?;
                session.output.line(&text)?;
            }
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(CliError::Several(failures))
    }
}

fn document(store: &ContextStore, name: &str) -> Result<Json> {
    if name == DEFAULT_CONTEXT {
        return Ok(json!({
            "Name": name,
            "Metadata": {},
            "Endpoints": {"docker": {"Host": default_url(), "SkipTLSVerify": false}},
            "TLSMaterial": {},
            "Storage": {"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"},
        }));
    }
    let context = store.load(name)?;
    let files: Vec<String> = store.tls_files(name)?.into_keys().collect();
    let material = if files.is_empty() {
        json!({})
    } else {
        json!({"docker": files})
    };
    Ok(json!({
        "Name": context.name,
        "Metadata": context.metadata,
        "Endpoints": context.endpoints,
        "TLSMaterial": material,
        "Storage": {
            "MetadataPath": store.meta_directory(name).display().to_string(),
            "TLSPath": store.tls_directory(name).display().to_string(),
        },
    }))
}

fn list(session: &mut Session, store: &ContextStore, args: &ListArgs) -> Result<()> {
    let current = session.context().to_owned();
    let row = |name: &str, description: &str, host: &str, error: &str| {
        let is_current = name == current;
        Row::new()
            .with("Name", name)
            .with("Description", description)
            .with("DockerEndpoint", host)
            .with("Error", error)
            .with_flag("Current", is_current)
    };
    let mut rows = vec![row(
        DEFAULT_CONTEXT,
        "Current DOCKER_HOST based configuration",
        &default_url(),
        "",
    )];
    let stored = store.list()?;
    for context in &stored {
        rows.push(row(
            &context.name,
            context.description(),
            &context.endpoint().host,
            "",
        ));
    }
    if rows.len() == stored.len() + 1 && !store.exists(&current) && current != DEFAULT_CONTEXT {
        let error = store.load(&current).err().map(|error| error.to_string());
        rows.push(row(&current, "", "", &error.unwrap_or_default()));
    }
    let layout = Layout {
        type_name: "*formatter.clientContextContext",
        table:
            "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}"
                .into(),
        quiet: "{{.Name}}",
        raw: "",
        headings: &[
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("DockerEndpoint", "DOCKER ENDPOINT"),
            ("Error", "ERROR"),
            ("Current", ""),
        ],
    };
    let text = layout.render(
        args.format.as_deref().unwrap_or_default(),
        args.quiet,
        &rows,
    )?;
    session.output.text(&text)?;
    if std::env::var("DOCKER_HOST").is_ok_and(|host| !host.is_empty()) {
        session.output.talk(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set \
             the global --context flag, or unset DOCKER_HOST environment variable.",
        );
    }
    Ok(())
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
