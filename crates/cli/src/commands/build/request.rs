//! The request of a build: its context, and what only wharf's own daemon takes.

use std::path::Path;

use serde_json::json;

use crate::archive::{self, Compression};
use crate::commands::build::outputs::BuildOutput;
use crate::commands::build::parameters::parameters;
use crate::commands::build::source::{Context, Dockerfile};
use crate::commands::build::{BuildArgs, Taking, caches, context, named, secrets};
use crate::error::{CliError, Result};
use crate::host_files;
use crate::http::Request;
use crate::session::Session;

/// Header by which a daemon says that it can read a context in place.
const CONTEXT_HEADER: &str = "wharf-context";
/// Header by which a daemon says that it knows `POST /wharf/build`.
const BUILD_HEADER: &str = "wharf-build";
/// What a Dockerfile from standard input is called.
const DEFAULT_DOCKERFILE: &str = "Dockerfile";

/// Returns the request for what is asked of the daemon.
pub(super) async fn build_request(
    session: &mut Session,
    args: &BuildArgs,
    outputs: &[BuildOutput],
    purpose: Purpose<'_>,
) -> Result<Request> {
    let context = Context::resolve(args)?;
    let headers = session.client.ping().await?;
    let has = |name: &str| headers.get(name).is_some_and(|value| !value.is_empty());
    let reads_in_place = session.client.host().is_local()
        && headers
            .get(CONTEXT_HEADER)
            .is_some_and(|value| value == "dir");
    let compression = if args.compress {
        tell_where_compression_is_idle(session, &context, reads_in_place);
        Compression::Gzip
    } else {
        Compression::None
    };
    let request = parameters(session, args, outputs)?;
    let project = project(&context);
    let request = match outside(&context, args) {
        Some(file) => request.query("dockerfileshown", file),
        None => request,
    };
    let request = match context {
        Context::Remote(url) => {
            let request = request.query("remote", url);
            match Dockerfile::named(args) {
                Some(name) => request.query("dockerfile", name),
                None => request,
            }
        }
        Context::Archive {
            reader,
            is_compressed,
        } => {
            let name = Dockerfile::named(args).unwrap_or("Dockerfile");
            let compression = match is_compressed {
                true => Compression::None,
                false => compression,
            };
            let upload = archive::upload_reader_as(compression, reader);
            request
                .query("dockerfile", name)
                .upload("application/x-tar", upload)
        }
        Context::LoneDockerfile(content) => {
            request.query("dockerfile", context::INLINE_NAME).upload(
                "application/x-tar",
                context::upload_lone(content, compression),
            )
        }
        Context::Directory { path, dockerfile } if reads_in_place => {
            in_place(request, &path, dockerfile)?
        }
        Context::Directory { path, dockerfile } => {
            context::upload_directory(request, path, dockerfile, compression)?
        }
    };
    if has(BUILD_HEADER) {
        own_request(request, args, outputs, project, purpose)
    } else {
        refuse_own_flags(args, purpose.call())?;
        Ok(request)
    }
}

/// Says so where `--compress` changes nothing.
fn tell_where_compression_is_idle(session: &mut Session, context: &Context, reads_in_place: bool) {
    let reason = match context {
        Context::Directory { .. } if reads_in_place => {
            "the daemon reads the directory where it is, nothing is sent"
        }
        Context::Remote(_) => "the daemon fetches the context itself",
        Context::Archive {
            is_compressed: true,
            ..
        } => "the archive is compressed already",
        _ => return,
    };
    let text = format!("note: --compress has no effect: {reason}");
    session.output.talk(&text);
}

/// What is asked of the daemon.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// An image.
    Build(Taking),
    /// An answer about the Dockerfile: the method's name.
    Call(&'a str),
}

impl<'a> Purpose<'a> {
    fn call(self) -> Option<&'a str> {
        match self {
            Self::Build(_) => None,
            Self::Call(name) => Some(name),
        }
    }

    fn taking(self) -> Taking {
        match self {
            Self::Build(taking) => taking,
            Self::Call(_) => Taking::default(),
        }
    }
}

/// Lets the daemon read the directory where it is: nothing is sent but its name.
fn in_place(request: Request, path: &Path, dockerfile: Dockerfile) -> Result<Request> {
    let directory = host_files::canonical(path)?;
    let request = request.query("contextdir", directory.to_string_lossy());
    Ok(match dockerfile {
        Dockerfile::Inside(name) => request.query("dockerfile", name),
        Dockerfile::Content { text, ignore } => {
            let request = request
                .query("dockerfile", context::INLINE_NAME)
                .query("dockerfileinline", context::encode_inline(&text));
            match ignore {
                Some(ignore) => {
                    request.query("dockerignoreinline", context::encode_inline(&ignore))
                }
                None => request,
            }
        }
    })
}

/// Returns how a Dockerfile that goes beside the context is called in messages: by the path that was given.
fn outside<'a>(context: &Context, args: &'a BuildArgs) -> Option<&'a str> {
    let is_content = matches!(
        context,
        Context::LoneDockerfile(_)
            | Context::Directory {
                dockerfile: Dockerfile::Content { .. },
                ..
            }
    );
    let given = args.file.as_deref().filter(|file| *file != "-");
    is_content.then(|| given.unwrap_or(DEFAULT_DOCKERFILE))
}

/// Tells the builds of one directory from those of others.
fn project(context: &Context) -> String {
    match context {
        Context::Directory { path, .. } => host_files::canonical(path)
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        Context::Remote(url) => url.clone(),
        Context::Archive { .. } | Context::LoneDockerfile(_) => String::new(),
    }
}

/// Asks for the build in wharf's own way.
fn own_request(
    request: Request,
    args: &BuildArgs,
    outputs: &[BuildOutput],
    project: String,
    purpose: Purpose<'_>,
) -> Result<Request> {
    let variable = |name: &str| std::env::var(name).ok();
    let secrets = secrets::secrets(&args.secret, &variable)?;
    let agents = secrets::agents(&args.ssh, &variable)?;
    let rewrites = outputs.iter().any(BuildOutput::rewrites_timestamps);
    let parallel = args.parallel.unwrap_or_default();
    let contexts = named::contexts(&args.build_context)?;
    let allow = named::allowed(&args.allow)?;
    let no_cache_stages: Vec<&str> = args
        .no_cache_filter
        .iter()
        .flat_map(|names| names.split(','))
        .collect();
    let (cached, kept) = (
        caches::sources(&args.cache_from)?,
        caches::targets(&args.cache_to)?,
    );
    Ok(request.framed("/wharf/build", |query| {
        json!({
            "query": query,
            "secrets": secrets,
            "ssh": agents,
            "parallel": parallel,
            "project": project,
            "rewrite_timestamp": rewrites,
            "contexts": contexts,
            "allow": allow,
            "no_cache_filter": no_cache_stages,
            "pids_limit": args.pids_limit,
            "cache_directories": cached.directories,
            "inline_cache": kept.inline,
            "call": purpose.call(),
            "takes_out": purpose.taking().takes_out,
            "drops_image": purpose.taking().drops_image,
        })
    }))
}

/// Refuses what another daemon would silently leave undone.
fn refuse_own_flags(args: &BuildArgs, call: Option<&str>) -> Result<()> {
    let flags = [
        ("--call", call.is_some()),
        ("--allow", !args.allow.is_empty()),
        ("--no-cache-filter", !args.no_cache_filter.is_empty()),
        ("--build-context", !args.build_context.is_empty()),
        (
            "--cache-from type=local",
            args.cache_from.iter().any(|from| from.contains('=')),
        ),
        ("--cache-to", !args.cache_to.is_empty()),
        ("--secret", !args.secret.is_empty()),
        ("--ssh", !args.ssh.is_empty()),
        ("--output", !args.output.is_empty()),
        ("--explain", args.explain),
        ("--parallel", args.parallel.is_some()),
        ("--pids-limit", args.pids_limit.is_some()),
        ("--on-error", args.on_error.is_some()),
    ];
    match flags.iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(CliError::usage(format!(
            "{flag} needs wharf's own daemon: this one does not know it"
        ))),
        None => Ok(()),
    }
}
