//! `wharf build`: flags, context, request (engine-api.md §10).

mod after;
mod answer;
#[cfg(test)]
mod buildx_tests;
mod caches;
mod call;
mod command_line;
mod context;
mod display;
mod findings;
mod flags;
mod follow;
mod listing;
mod live;
mod metadata;
mod named;
mod outputs;
mod parameters;
mod request;
mod secrets;
mod source;
mod unsupported;
mod verify;

use std::path::Path;

pub(crate) use after::{explain, open_shell, record};
pub(crate) use command_line::rewritten;
pub(crate) use flags::BuildArgs;
pub(crate) use listing::{ContextListArgs, context_command};
pub(crate) use source::{DOCKERFILE_LIMIT_BYTES, Dockerfile};

use display::Look;
use follow::{Followed, follow};
use outputs::BuildOutput;
use request::{Purpose, build_request};

use crate::error::{CliError, Result};
use crate::host_files;
use crate::http::Request;
use crate::session::Session;

/// Runs `wharf build`.
pub async fn build_command(session: &mut Session, mut args: BuildArgs) -> Result<()> {
    args.quiet |= args.progress == "quiet";
    args.trust.check()?;
    args.unsupported.check()?;
    let outputs = outputs(&args)?;
    check_flags(&args)?;
    if let Some(call) = call::Call::of(&args)? {
        return call::call_command(session, &args, &call).await;
    }
    if args.verify {
        return verify::verify(session, args).await;
    }
    let is_wanted = outputs.is_empty() || outputs.iter().any(BuildOutput::keeps_image);
    let taking = Taking {
        takes_out: !outputs.is_empty(),
        drops_image: !is_wanted,
    };
    let built = build(session, &args, &outputs, taking).await;
    let built = match built {
        Ok(built) => built,
        Err(Failed { error, build }) => {
            return after::failed(session, &args, build.as_deref(), error).await;
        }
    };
    let finished = finish(session, &args, &outputs, &built).await;
    if taking.takes_out {
        release(session, built.build.as_deref()).await?;
    }
    finished
}

/// Does what is to be done with a result: tells why steps ran, writes caches, outputs and the image's ID.
async fn finish(
    session: &mut Session,
    args: &BuildArgs,
    outputs: &[BuildOutput],
    built: &Built,
) -> Result<()> {
    if args.explain {
        after::explain(session, built.build.as_deref().unwrap_or_default(), None).await?;
    }
    if let Some(build) = &built.build {
        for target in caches::targets(&args.cache_to)?.directories {
            target.write(session, build).await?;
        }
    }
    for output in outputs {
        let image = built.image.as_deref().ok_or_else(unnamed)?;
        output.write(session, image, &args.tag).await?;
    }
    if let Some(path) = &args.iidfile {
        let id = built.image.as_ref().ok_or_else(unnamed)?;
        host_files::write(Path::new(path), id.as_bytes())?;
    }
    match &args.metadata_file {
        Some(path) => {
            let text = format!("{:#}\n", metadata::of(&args.tag, outputs, built)?);
            host_files::write(Path::new(path), text.as_bytes())
        }
        None => Ok(()),
    }
}

/// Says that the result of a build was taken out.
async fn release(session: &mut Session, build: Option<&str>) -> Result<()> {
    let Some(build) = build else {
        return Ok(());
    };
    let request = Request::post("/wharf/build/release").query("build", build);
    session.client.send(request).await.map(drop)
}

/// What becomes of a build's image.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taking {
    /// Whether something is done with it before it is [`release`]d.
    takes_out: bool,
    /// Whether it goes then, unless it has a name or was there before.
    drops_image: bool,
}

/// What a build led to.
pub(super) struct Built {
    /// The image's ID.
    image: Option<String>,
    /// The build's name; daemons other than wharf's do not name builds.
    build: Option<String>,
}

/// A build that failed.
pub(super) struct Failed {
    error: CliError,
    /// The build's name, where it had one.
    build: Option<String>,
}

impl From<CliError> for Failed {
    fn from(error: CliError) -> Self {
        Self { error, build: None }
    }
}

fn unnamed() -> CliError {
    CliError::usage("the daemon did not name the image")
}

fn outputs(args: &BuildArgs) -> Result<Vec<BuildOutput>> {
    let given = args.output.iter().map(String::as_str);
    let given = given.filter(|value| !value.is_empty());
    let short = [
        args.load.then_some("type=docker"),
        args.push.then_some("type=registry"),
    ];
    let outputs = given
        .chain(short.into_iter().flatten())
        .map(BuildOutput::parse)
        .collect::<Result<Vec<_>>>()?;
    for output in &outputs {
        output.check_place()?;
    }
    if outputs
        .iter()
        .filter(|output| output.is_on_stdout())
        .count()
        > 1
    {
        return Err(CliError::usage(
            "multiple outputs configured to write to stdout",
        ));
    }
    let is_pushed = outputs.iter().any(BuildOutput::is_pushed);
    if is_pushed && args.tag.is_empty() && outputs::names(&outputs).next().is_none() {
        return Err(CliError::usage("tag is needed when pushing to registry"));
    }
    Ok(outputs)
}

/// Refuses what is not there yet before anything is sent.
fn check_flags(args: &BuildArgs) -> Result<()> {
    if let Some(action) = args.on_error.as_deref().filter(|action| *action != "shell") {
        return Err(CliError::usage(format!(
            "invalid --on-error {action:?}: expected shell"
        )));
    }
    if args.no_cache && !args.no_cache_filter.is_empty() {
        return Err(CliError::usage(
            "--no-cache and --no-cache-filter cannot be used together: --no-cache runs the steps of every stage again",
        ));
    }
    parameters::platform(&args.platform)?;
    caches::sources(&args.cache_from)?;
    caches::targets(&args.cache_to)?;
    Ok(())
}

/// Builds once, showing how it goes.
async fn build(
    session: &mut Session,
    args: &BuildArgs,
    outputs: &[BuildOutput],
    taking: Taking,
) -> std::result::Result<Built, Failed> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let look = display::look(&args.progress, session.output.is_terminal(), no_color)?
        .filter(|_| !args.quiet);
    let request = build_request(session, args, outputs, Purpose::Build(taking)).await?;
    let response = session.client.send(request).await?;
    let mut followed = Followed::default();
    let shown = follow(session, args, outputs, look, response, &mut followed).await;
    if look.is_some_and(|look| look != Look::RawJson) {
        findings::show(session, &followed.findings);
    }
    match shown {
        Ok(()) => Ok(Built {
            image: followed.image,
            build: followed.build,
        }),
        Err(error) => Err(Failed {
            error,
            build: followed.build,
        }),
    }
}
