//! `wharf context inspect` and `ls`.

use serde_json::{Value as Json, json};

use crate::commands::context::{InspectArgs, ListArgs, default_url};
use crate::context::{ContextStore, DEFAULT_CONTEXT};
use crate::error::{CliError, Result};
use crate::render::list::{Layout, Row};
use crate::render::template::{Missing, Template};
use crate::session::Session;

/// Shows everything about contexts.
pub(super) fn inspect(
    session: &mut Session,
    store: &ContextStore,
    args: InspectArgs,
) -> Result<()> {
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

/// Lists contexts.
pub(super) fn list(session: &mut Session, store: &ContextStore, args: &ListArgs) -> Result<()> {
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
        quiet_wins: true,
        raw: "",
        headings: &[
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("DockerEndpoint", "DOCKER ENDPOINT"),
            ("Error", "ERROR"),
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
