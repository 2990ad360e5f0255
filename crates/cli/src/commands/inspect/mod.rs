//! `wharf inspect` and the inspect command of each kind of object.

mod fields;

use clap::Args;
use serde_json::Value as Json;

use crate::commands::image::names::platform_json;
use crate::error::{CliError, Result};
use crate::http::{Client, Request, path_part};
use crate::render::template::{Missing, Template};
use crate::session::Session;

/// Show everything about objects of any kind
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Print with a template, or "json"
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show the sizes of containers
    #[arg(short = 's', long)]
    size: bool,
    /// Look only for this kind: container, image, volume or network
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

/// Objects of one kind to show.
#[derive(Debug, Args)]
pub struct KindArgs {
    /// Print with a template, or "json"
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Containers to show.
#[derive(Debug, Args)]
pub struct ContainerArgs {
    #[command(flatten)]
    common: KindArgs,
    /// Show the sizes
    #[arg(short = 's', long)]
    size: bool,
}

/// Images to show.
#[derive(Debug, Args)]
pub struct ImageArgs {
    #[command(flatten)]
    common: KindArgs,
    /// Platform, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

/// Networks to show.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    #[command(flatten)]
    common: KindArgs,
    /// Show details for finding faults
    #[arg(short = 'v', long)]
    verbose: bool,
}

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

/// The order in which a name is looked for when no kind is given.
const KINDS: [Kind; 4] = [Kind::Container, Kind::Image, Kind::Network, Kind::Volume];

/// What else is asked for.
#[derive(Debug, Clone, Default)]
struct Details {
    size: bool,
    verbose: bool,
    platform: Option<String>,
}

/// Runs `wharf inspect`.
pub async fn inspect_command(session: &mut Session, args: InspectArgs) -> Result<()> {
    let kinds = match args.kind.as_deref() {
        None | Some("") => KINDS.to_vec(),
        Some(name) => match KINDS.into_iter().find(|kind| kind.name() == name) {
            Some(kind) => vec![kind],
            None => {
                return Err(CliError::usage(format!(
                    "unknown type {name:?}: expected container, image, network or volume"
                )));
            }
        },
    };
    let details = Details {
        size: args.size,
        ..Details::default()
    };
    show(
        session,
        &args.names,
        args.format.as_deref(),
        &kinds,
        &details,
    )
    .await
}

/// Runs `wharf container inspect`.
pub async fn container_command(session: &mut Session, args: ContainerArgs) -> Result<()> {
    let details = Details {
        size: args.size,
        ..Details::default()
    };
    show_kind(session, args.common, Kind::Container, &details).await
}

/// Runs `wharf image inspect`.
pub async fn image_command(session: &mut Session, args: ImageArgs) -> Result<()> {
    let platform = args.platform.as_deref().map(platform_json).transpose()?;
    show_kind(
        session,
        args.common,
        Kind::Image,
        &Details {
            platform,
            ..Details::default()
        },
    )
    .await
}

/// Runs `wharf network inspect`.
pub async fn network_command(session: &mut Session, args: NetworkArgs) -> Result<()> {
    let details = Details {
        verbose: args.verbose,
        ..Details::default()
    };
    show_kind(session, args.common, Kind::Network, &details).await
}

/// Runs `wharf volume inspect`.
pub async fn volume_command(session: &mut Session, args: KindArgs) -> Result<()> {
    show_kind(session, args, Kind::Volume, &Details::default()).await
}

async fn show_kind(
    session: &mut Session,
    args: KindArgs,
    kind: Kind,
    details: &Details,
) -> Result<()> {
    show(
        session,
        &args.names,
        args.format.as_deref(),
        &[kind],
        details,
    )
    .await
}

async fn show(
    session: &mut Session,
    names: &[String],
    format: Option<&str>,
    kinds: &[Kind],
    details: &Details,
) -> Result<()> {
    let template = match format {
        None | Some("" | "json") => None,
        Some(source) => Some(Template::parse(source)?),
    };
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        match find(&session.client, name, kinds, details).await {
            Ok(object) => found.push(object),
            Err(error @ (CliError::NoDaemon { .. } | CliError::SocketPermission { .. })) => {
                return Err(error);
            }
            Err(error) => failures.extend(error.report()),
        }
    }
    match (&template, format) {
        (Some(template), _) => {
            for (kind, object) in found {
                let (name, shape) = (kind.type_name(), fields::shape(kind));
                let line = template.execute_shaped(&object, name, Missing::IsAnError, &shape)?;
                session.output.line(&line)?;
            }
        }
        (None, Some("json")) => {
            let objects: Vec<Json> = found.into_iter().map(|(_, object)| object).collect();
            session.output.line(&Json::Array(objects).to_string())?;
        }
        (None, _) => {
            let objects: Vec<Json> = found.into_iter().map(|(_, object)| object).collect();
            session.output.line(&indented(&Json::Array(objects)))?;
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(CliError::Several(failures))
    }
}

async fn find(
    client: &Client,
    name: &str,
    kinds: &[Kind],
    details: &Details,
) -> Result<(Kind, Json)> {
    let mut last = None;
    for kind in kinds {
        match client.send(kind.request(name, details)).await {
            Ok(response) => return Ok((*kind, response.json().await?)),
            Err(error) if error.http_status() == Some(404) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    match last {
        Some(error) if kinds.len() == 1 => Err(error),
        _ => Err(CliError::Stream {
            code: None,
            message: format!("error: no such object: {name}"),
        }),
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }

    fn type_name(self) -> &'static str {
        match self {
            Self::Container => "container.InspectResponse",
            Self::Image => "image.InspectResponse",
            Self::Network => "network.Inspect",
            Self::Volume => "volume.Volume",
        }
    }

    fn request(self, name: &str, details: &Details) -> Request {
        let name = path_part(name);
        match self {
            Self::Container => {
                Request::get(format!("/containers/{name}/json")).query_flag("size", details.size)
            }
            Self::Image => Request::get(format!("/images/{name}/json"))
                .query_if("platform", details.platform.as_ref()),
            Self::Network => {
                Request::get(format!("/networks/{name}")).query_flag("verbose", details.verbose)
            }
            Self::Volume => Request::get(format!("/volumes/{name}")),
        }
    }
}

/// Returns JSON indented by four blanks, as docker prints it.
pub fn indented(value: &Json) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    match serde::Serialize::serialize(value, &mut serializer) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => value.to_string(),
    }
}
