//! `wharf context create` and `update`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::commands::context::{CreateArgs, FILE_LIMIT_BYTES, UpdateArgs, default_url, done};
use crate::context::{ContextStore, DEFAULT_CONTEXT, Endpoint, Stored};
use crate::error::{CliError, Result};
use crate::host_files;
use crate::options::csv;
use crate::session::Session;

/// Makes a context.
pub(super) fn create(session: &mut Session, store: &ContextStore, args: &CreateArgs) -> Result<()> {
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

/// Changes a context.
pub(super) fn update(session: &mut Session, store: &ContextStore, args: &UpdateArgs) -> Result<()> {
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
