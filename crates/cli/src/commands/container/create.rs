//! `wharf create`, and making a container for `run`.

use clap::Args;
use serde::Deserialize;
use serde_json::Value as Json;
use wharf_image::AnyReference;

use crate::commands::container::api_socket;
use crate::commands::container::flags::ContainerFlags;
use crate::commands::container::request::{self, Streams, Surroundings};
use crate::commands::image::transfer;
use crate::error::{CliError, EXIT_ENGINE_FAILURE, Result};
use crate::host_files;
use crate::http::Request;
use crate::session::Session;
use crate::terminal;

/// Create a container without starting it
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct CreateArgs {
    #[command(flatten)]
    flags: ContainerFlags,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

/// Runs `wharf create`.
pub async fn create_command(session: &mut Session, args: CreateArgs) -> Result<()> {
    let streams = Streams::parse(&args.flags.attach, args.flags.process.interactive)?;
    let id = create(session, &args.flags, streams).await?;
    session.output.line(&id)
}

/// Makes a container, pulling its image first if need be, and returns its id.
pub async fn create(
    session: &mut Session,
    flags: &ContainerFlags,
    streams: Streams,
) -> Result<String> {
    flags.trust.check()?;
    flags.windows.check()?;
    let cidfile = flags.cidfile.as_deref().map(CidFile::create).transpose()?;
    let url = session.client.host().url();
    let proxies = session.config()?.proxies(&url);
    let working_directory = host_files::working_directory()?;
    let variable = |name: &str| std::env::var(name).ok();
    let surroundings = Surroundings {
        working_directory: &working_directory,
        variable: &variable,
        proxies: &proxies,
        console_size: if flags.process.tty {
            terminal::size()
        } else {
            None
        },
    };
    let mut body = request::body(flags, streams, &surroundings)?;
    let credentials = match flags.use_api_socket {
        true => api_socket::add(session, &mut body)?,
        false => None,
    };
    if flags.pull == "always" {
        pull(session, flags).await?;
    }
    let created = match post(session, flags, &body).await {
        Err(error) if flags.pull == "missing" && is_missing_image(&error, flags.image()) => {
            let name = familiar(flags.image());
            if !flags.quiet {
                session
                    .output
                    .talk(&format!("Unable to find image '{name}' locally"));
            }
            pull(session, flags).await?;
            post(session, flags, &body).await?
        }
        other => other?,
    };
    let warnings = created.warnings.unwrap_or_default();
    let own = flags.limits.warning().map(str::to_owned);
    for warning in warnings.into_iter().chain(own) {
        session.output.talk(&format!("WARNING: {warning}"));
    }
    if let Some(cidfile) = cidfile {
        cidfile.write(&created.id)?;
    }
    if let Some(credentials) = credentials {
        credentials.put(session, &created.id).await?;
    }
    Ok(created.id)
}

async fn post(session: &Session, flags: &ContainerFlags, body: &Json) -> Result<Created> {
    let request = Request::post("/containers/create")
        .query_if("name", flags.name.as_ref())
        .query_if("platform", flags.platform.as_ref())
        .json(body);
    session.client.send(request).await?.json().await
}

/// A refusal is about the image unless it names another container or network that is missing.
fn is_missing_image(error: &CliError, image: &str) -> bool {
    let CliError::Daemon {
        status: 404,
        message,
    } = error
    else {
        return false;
    };
    let about_image =
        message.to_lowercase().contains("no such image") || message.contains("not found");
    about_image
        && !message.contains("No such container")
        && !message.contains("network ")
        && !image.is_empty()
}

async fn pull(session: &mut Session, flags: &ContainerFlags) -> Result<()> {
    transfer::pull_as_talk(
        session,
        flags.image(),
        flags.platform.as_deref(),
        flags.quiet,
    )
    .await
}

/// Returns a name as docker shows it, with `:latest` when it has neither tag nor digest.
fn familiar(image: &str) -> String {
    match AnyReference::parse(image) {
        Ok(AnyReference::Named(reference)) => reference.with_default_tag().familiar(),
        _ => image.to_owned(),
    }
}

/// The file of `--cidfile`: made before the container, so that two runs cannot share it; removed if none is made.
struct CidFile {
    path: std::path::PathBuf,
    written: bool,
}

impl CidFile {
    fn create(path: &str) -> Result<Self> {
        let path = std::path::PathBuf::from(path);
        if host_files::link_metadata(&path).is_ok() {
            return Err(CliError::usage(format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            ))
            .with_status(EXIT_ENGINE_FAILURE));
        }
        host_files::create_new(&path)?;
        Ok(Self {
            path,
            written: false,
        })
    }

    fn write(mut self, id: &str) -> Result<()> {
        host_files::write(&self.path, id.as_bytes())?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if !self.written {
            host_files::remove(&self.path);
        }
    }
}
