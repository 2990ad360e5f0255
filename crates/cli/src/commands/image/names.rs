//! Image names on the command line: tag, remove.

use clap::Args;
use serde::Deserialize;
use wharf_image::Reference;

use crate::commands::targets;
use crate::error::{CliError, Result};
use crate::http::{Request, path_part};
use crate::session::Session;

/// Give an image another name
#[derive(Debug, Args)]
pub struct TagArgs {
    /// Image
    #[arg(value_name = "IMAGE")]
    source: String,
    /// New name
    #[arg(value_name = "NAME[:TAG]")]
    target: String,
}

/// Remove images
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Remove an image that has several names or is used by a stopped container
    #[arg(short = 'f', long)]
    force: bool,
    /// Keep parents without a name
    #[arg(long)]
    no_prune: bool,
    /// Remove only this platform
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<String>,
    /// Images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
pub(crate) struct Deleted {
    pub(crate) untagged: Option<String>,
    pub(crate) deleted: Option<String>,
}

/// Splits a name into the API's `repo` and `tag`; without a tag it is `latest`.
pub fn repository_and_tag(name: &str) -> Result<(String, String)> {
    let reference = parse(name)?;
    if reference.digest().is_some() {
        return Err(CliError::usage(format!(
            "refusing to create a tag with a digest reference: {name}"
        )));
    }
    let tag = reference.tag().unwrap_or("latest").to_owned();
    Ok((reference.familiar_name(), tag))
}

/// Reads a name.
pub fn parse(name: &str) -> Result<Reference> {
    Reference::parse(name)
        .map_err(|error| CliError::usage(format!("invalid reference {name:?}: {error}")))
}

/// Runs `wharf tag`.
pub async fn tag_command(session: &mut Session, args: TagArgs) -> Result<()> {
    let (repository, tag) = repository_and_tag(&args.target)?;
    let request = Request::post(format!("/images/{}/tag", path_part(&args.source)))
        .query("repo", repository)
        .query("tag", tag);
    session.client.send(request).await.map(drop)
}

/// Runs `wharf rmi`.
pub async fn remove_command(session: &mut Session, args: RemoveArgs) -> Result<()> {
    targets::for_each(session, &args.images, async |session, name| {
        let mut request = Request::delete(format!("/images/{}", path_part(name)))
            .query_flag("force", args.force)
            .query_flag("noprune", args.no_prune);
        for platform in &args.platform {
            request = request.query("platforms", platform_json(platform)?);
        }
        let deleted: Vec<Deleted> = match session.client.send(request).await {
            // What is to be forced away and is not there is away: said, but no failure.
            Err(error) if args.force && error.http_status() == Some(404) => {
                session.output.talk(&error.to_string());
                return Ok(None);
            }
            other => other?.json().await?,
        };
        let lines: Vec<String> = deleted
            .iter()
            .flat_map(|item| {
                let untagged = item
                    .untagged
                    .as_ref()
                    .map(|name| format!("Untagged: {name}"));
                let deleted = item.deleted.as_ref().map(|id| format!("Deleted: {id}"));
                untagged.into_iter().chain(deleted)
            })
            .collect();
        Ok((!lines.is_empty()).then(|| lines.join("\n")))
    })
    .await
}

/// Returns the JSON form of a platform that inspect, history, save, load and push take (engine-api.md §3).
pub fn platform_json(platform: &str) -> Result<String> {
    let mut parts = platform.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(os), Some(architecture), variant) if !os.is_empty() && !architecture.is_empty() => {
            let mut json = serde_json::json!({"architecture": architecture, "os": os});
            if let Some(variant) = variant {
                json["variant"] = variant.into();
            }
            Ok(json.to_string())
        }
        _ => Err(CliError::usage(format!(
            "invalid platform {platform:?}: expected OS/ARCHITECTURE[/VARIANT]"
        ))),
    }
}
