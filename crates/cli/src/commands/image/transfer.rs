//! `wharf pull` and `wharf push`.

use clap::Args;
use wharf_image::AnyReference;

use crate::commands::image::names::{parse, platform_json};
use crate::commands::trust::ContentTrust;
use crate::config_file::registry_of;
use crate::error::{CliError, Result};
use crate::http::{Request, Response, path_part};
use crate::progress;
use crate::session::Session;

/// Get an image from a registry
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Get all tags of the repository
    #[arg(short = 'a', long)]
    all_tags: bool,
    #[command(flatten)]
    trust: ContentTrust,
    /// Platform, such as linux/arm64
    #[arg(
        long,
        value_name = "PLATFORM",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    platform: Option<String>,
    /// Show no progress
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

/// Send an image to a registry
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Send all tags of the repository
    #[arg(short = 'a', long)]
    all_tags: bool,
    #[command(flatten)]
    trust: ContentTrust,
    /// Send only this platform
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Show no progress
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Image
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
}

/// Runs `wharf pull`.
pub async fn pull_command(session: &mut Session, args: PullArgs) -> Result<()> {
    args.trust.check()?;
    let reference = parse(&args.image)?;
    if args.all_tags && !reference.is_name_only() {
        return Err(CliError::usage("tag can't be used with --all-tags/-a"));
    }
    let name = if args.all_tags {
        reference
    } else {
        reference.with_default_tag()
    };
    if !args.all_tags && !args.quiet && parse(&args.image)?.is_name_only() {
        session.output.line("Using default tag: latest")?;
    }
    let response = request_pull(
        session,
        &args.image,
        args.all_tags,
        args.platform.as_deref(),
    )
    .await?;
    if args.quiet {
        progress::read_quietly(response, |_| {}).await?;
    } else {
        progress::show(response, &mut session.output, |_| {}).await?;
    }
    let full = match (name.tag(), name.digest()) {
        (_, Some(digest)) => format!("{}@{digest}", name.name()),
        (Some(tag), None) => format!("{}:{tag}", name.name()),
        (None, None) => name.name(),
    };
    session.output.line(&full)
}

/// Pulls an image for another command, whose standard output is its own.
pub async fn pull_as_talk(
    session: &mut Session,
    image: &str,
    platform: Option<&str>,
    quiet: bool,
) -> Result<()> {
    if !matches!(AnyReference::parse(image), Ok(AnyReference::Named(_))) {
        return Err(CliError::Daemon {
            status: 404,
            message: format!("No such image: {image}"),
        });
    }
    let response = request_pull(session, image, false, platform).await?;
    if quiet {
        progress::read_quietly(response, |_| {}).await
    } else {
        progress::show_as_talk(response, &mut session.output).await
    }
}

async fn request_pull(
    session: &mut Session,
    image: &str,
    all_tags: bool,
    platform: Option<&str>,
) -> Result<Response> {
    let reference = parse(image)?;
    let auth = session.config()?.auth_header(&registry_of(image)?)?;
    let tag = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => Some(digest.to_string()),
        (None, Some(tag)) => Some(tag.to_owned()),
        (None, None) if all_tags => None,
        (None, None) => Some("latest".to_owned()),
    };
    let request = Request::post("/images/create")
        .query("fromImage", reference.name())
        .query_if("tag", tag)
        .query_if("platform", platform)
        .header("x-registry-auth", &auth);
    session.client.send(request).await
}

/// Pushes an image for another command, whose standard output is its own.
pub async fn push_as_talk(session: &mut Session, image: &str) -> Result<()> {
    let name = parse(image)?.with_default_tag();
    let response = request_push(session, image, name.tag(), None).await?;
    progress::show_as_talk(response, &mut session.output).await
}

async fn request_push(
    session: &mut Session,
    image: &str,
    tag: Option<&str>,
    platform: Option<String>,
) -> Result<Response> {
    let name = parse(image)?.familiar_name();
    let auth = session.config()?.auth_header(&registry_of(image)?)?;
    let request = Request::post(format!("/images/{}/push", path_part(&name)))
        .query_if("tag", tag)
        .query_if("platform", platform)
        .header("x-registry-auth", &auth);
    session.client.send(request).await
}

/// Runs `wharf push`.
pub async fn push_command(session: &mut Session, args: PushArgs) -> Result<()> {
    args.trust.check()?;
    let reference = parse(&args.image)?;
    if args.all_tags && !reference.is_name_only() {
        return Err(CliError::usage("tag can't be used with --all-tags/-a"));
    }
    if reference.digest().is_some() {
        return Err(CliError::usage("cannot push a digest reference"));
    }
    let named = if args.all_tags {
        reference.clone()
    } else {
        reference.clone().with_default_tag()
    };
    if !args.all_tags && reference.is_name_only() && !args.quiet {
        session.output.line("Using default tag: latest")?;
    }
    let platform = args.platform.as_deref().map(platform_json).transpose()?;
    let response = request_push(session, &args.image, named.tag(), platform).await?;
    if args.quiet {
        progress::read_quietly(response, |_| {}).await?;
        return session.output.line(&match named.tag() {
            Some(tag) => format!("{}:{tag}", named.name()),
            None => named.name(),
        });
    }
    progress::show(response, &mut session.output, |_| {}).await
}
