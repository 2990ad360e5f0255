//! `wharf build`: flags, context, request (engine-api.md §10).

mod after;
mod answer;
mod caches;
mod call;
mod context;
mod display;
mod findings;
mod flags;
mod listing;
mod live;
mod metadata;
mod named;
mod outputs;
mod secrets;
mod source;
mod verify;

use std::path::Path;

use serde_json::{Map, Value as Json, json};

pub(crate) use after::{explain, open_shell, record};
pub(crate) use flags::BuildArgs;
pub(crate) use listing::{ContextListArgs, context_command, rewritten};

use display::Look;
use findings::Finding;
use live::Live;
use outputs::BuildOutput;

use crate::commands::build::source::{Context, Dockerfile};
use crate::error::{CliError, Result};
use crate::host_files;
use crate::http::Request;
use crate::options::{env, limits, misc};
use crate::progress::{self, Display, Message};
use crate::session::Session;
use crate::units;

/// Header by which a daemon says that it can read a context in place.
const CONTEXT_HEADER: &str = "wharf-context";
/// Header by which a daemon says that it knows `POST /wharf/build`.
const BUILD_HEADER: &str = "wharf-build";

/// The period that a number of CPUs is counted by, in microseconds.
const CPU_PERIOD_US: i64 = 100_000;
/// What a Dockerfile from standard input is called.
const DEFAULT_DOCKERFILE: &str = "Dockerfile";
const NANO: i64 = 1_000_000_000;

/// Runs `wharf build`.
pub async fn build_command(session: &mut Session, args: BuildArgs) -> Result<()> {
    args.trust.check()?;
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
        output.write(session, image).await?;
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
    args.output
        .iter()
        .map(|output| BuildOutput::parse(output))
        .collect()
}

/// Refuses what is not there yet before anything is sent.
fn check_flags(args: &BuildArgs) -> Result<()> {
    if let Some(action) = args.on_error.as_deref().filter(|action| *action != "shell") {
        return Err(CliError::usage(format!(
            "invalid --on-error {action:?}: expected shell"
        )));
    }
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
    let look = display::look(&args.progress, session.output.is_terminal(), no_color)?;
    let request = build_request(session, args, outputs, Purpose::Build(taking)).await?;
    let response = session.client.send(request).await?;
    let mut followed = Followed::default();
    let shown = follow(session, args, outputs, look, response, &mut followed).await;
    if !args.quiet && look != Look::RawJson {
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

/// What is asked of the daemon.
#[derive(Debug, Clone, Copy)]
enum Purpose<'a> {
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

/// Returns the request for what is asked of the daemon.
async fn build_request(
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
        Context::Archive(upload) => {
            let name = Dockerfile::named(args).unwrap_or("Dockerfile");
            request
                .query("dockerfile", name)
                .upload("application/x-tar", upload)
        }
        Context::LoneDockerfile(content) => request
            .query("dockerfile", context::INLINE_NAME)
            .upload("application/x-tar", context::upload_lone(content)),
        Context::Directory { path, dockerfile } if reads_in_place => {
            in_place(request, &path, dockerfile)?
        }
        Context::Directory { path, dockerfile } => {
            context::upload_directory(request, path, dockerfile)?
        }
    };
    if has(BUILD_HEADER) {
        own_request(request, args, outputs, project, purpose)
    } else {
        refuse_own_flags(args, purpose.call())?;
        Ok(request)
    }
}

/// What a stream told besides its text.
#[derive(Default)]
struct Followed {
    image: Option<String>,
    build: Option<String>,
    findings: Vec<Finding>,
}

impl Followed {
    fn note(&mut self, aux: &Json) {
        self.findings.extend(Finding::read(aux));
        if let Some(id) = aux["ID"].as_str() {
            self.image = Some(id.to_owned());
        }
        if aux["event"] == "build"
            && let Some(id) = aux["id"].as_str()
        {
            self.build = Some(id.to_owned());
        }
    }
}

async fn follow(
    session: &mut Session,
    args: &BuildArgs,
    outputs: &[BuildOutput],
    look: Look,
    response: crate::http::Response,
    followed: &mut Followed,
) -> Result<()> {
    let followed = std::cell::RefCell::new(followed);
    // Where the result goes to standard output, nothing else does.
    let is_data = |output: &BuildOutput| matches!(output, BuildOutput::Tar(path) | BuildOutput::Archive(path) if path == "-");
    let to_talk = outputs.iter().any(is_data);
    if args.quiet {
        let note = &mut |aux: &Json| followed.borrow_mut().note(aux);
        return quiet(session, response, to_talk, note).await;
    }
    let output = &mut session.output;
    let mut write = |text: &str| {
        if to_talk {
            output.talk_bytes(text.as_bytes())
        } else {
            output.text(text)
        }
    };
    match look {
        Look::Live { colour } => {
            let live = std::cell::RefCell::new(Live::new(colour));
            let write = std::cell::RefCell::new(write);
            let result = progress::read_ticking(
                response,
                live::TICK,
                |aux| {
                    followed.borrow_mut().note(aux);
                    let text = if aux["event"].is_string() {
                        live.borrow_mut().event(aux)
                    } else {
                        String::new()
                    };
                    (write.borrow_mut())(&text)
                },
                || {
                    let text = live.borrow_mut().redraw("");
                    (write.borrow_mut())(&text)
                },
            )
            .await;
            let text = live.borrow_mut().erase();
            (write.borrow_mut())(&text)?;
            result
        }
        Look::RawJson => {
            let write = std::cell::RefCell::new(write);
            progress::read_ticking(
                response,
                live::TICK,
                |aux| {
                    followed.borrow_mut().note(aux);
                    (write.borrow_mut())(&format!("{aux}\n"))
                },
                || Ok(()),
            )
            .await
        }
        Look::Lines { colour } => {
            let mut lines = Display::new(false);
            progress::read(
                response,
                |aux| followed.borrow_mut().note(aux),
                |message| {
                    let text = lines.text(message);
                    write(&if colour {
                        display::coloured(&text)
                    } else {
                        text
                    })
                },
            )
            .await
        }
    }
}

/// Tells the builds of one directory from those of others.
fn project(context: &Context) -> String {
    match context {
        Context::Directory { path, .. } => host_files::canonical(path)
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        Context::Remote(url) => url.clone(),
        Context::Archive(_) | Context::LoneDockerfile(_) => String::new(),
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
    let rewrites = outputs.iter().any(|output| {
        matches!(
            output,
            BuildOutput::Image {
                rewrite_timestamp: true,
                ..
            }
        )
    });
    let parallel = args.parallel.unwrap_or_default();
    let contexts = named::contexts(&args.build_context)?;
    let allow = named::allowed(&args.allow)?;
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

/// Shows only the id; a failure is shown with all that led to it.
async fn quiet(
    session: &mut Session,
    response: crate::http::Response,
    to_talk: bool,
    note: &mut dyn FnMut(&Json),
) -> Result<()> {
    let mut told = String::new();
    let result = progress::read(
        response,
        |aux| note(aux),
        |message: &Message| {
            told.push_str(message.stream.as_deref().unwrap_or_default());
            Ok(())
        },
    )
    .await;
    match result {
        Ok(()) => {
            let last = told
                .lines()
                .rfind(|line| !line.trim().is_empty())
                .unwrap_or_default();
            if let Some(id) = last.strip_prefix("sha256:") {
                note(&json!({"ID": format!("sha256:{id}")}));
            }
            if to_talk {
                session.output.talk(last);
                Ok(())
            } else {
                session.output.line(last)
            }
        }
        Err(error) => {
            session.output.talk_bytes(told.as_bytes())?;
            Err(error)
        }
    }
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

/// Returns the request with everything but the context.
fn parameters(session: &mut Session, args: &BuildArgs, outputs: &[BuildOutput]) -> Result<Request> {
    let url = session.client.host().url();
    let proxies = session.config()?.proxies(&url);
    let mut request = Request::post("/build")
        .query("version", "1")
        .query_flag("q", args.quiet)
        .query_flag("nocache", args.no_cache)
        .query_flag("pull", args.pull)
        .query_flag("squash", args.squash)
        .query_flag("forcerm", args.force_rm)
        .query("rm", if args.rm { "1" } else { "0" })
        .query_if("networkmode", args.network.as_ref())
        .query_if("target", args.target.as_ref())
        .query_if("platform", args.platform.as_ref())
        .query_if("cpusetcpus", args.cpuset_cpus.as_ref())
        .query_if("cpusetmems", args.cpuset_mems.as_ref())
        .query_if("cgroupparent", args.cgroup_parent.as_ref())
        .query_if(
            "cpushares",
            args.cpu_shares.map(|number| number.to_string()),
        )
        .query_if("cpuquota", args.cpu_quota.map(|number| number.to_string()))
        .query_if(
            "cpuperiod",
            args.cpu_period.map(|number| number.to_string()),
        )
        .query(
            "buildargs",
            build_arguments(&args.build_arg, &proxies).to_string(),
        )
        .query("labels", Json::Object(env::to_map(&args.label)).to_string());
    let sizes = [("memory", &args.memory), ("shmsize", &args.shm_size)];
    for (key, size) in sizes {
        if let Some(size) = size {
            request = request.query(key, limits::memory(key, size)?.to_string());
        }
    }
    if let Some(cpus) = &args.cpus {
        // A quota and a period say it to daemons of any kind.
        let quota_us = limits::nano_cpus(cpus)? / (NANO / CPU_PERIOD_US);
        request = request
            .query("cpuperiod", CPU_PERIOD_US.to_string())
            .query("cpuquota", quota_us.to_string());
    }
    if let Some(size) = &args.memory_swap {
        request = request.query("memswap", limits::memory_swap(size)?.to_string());
    }
    for tag in args.tag.iter().chain(outputs::names(outputs)) {
        crate::commands::image::names::parse(tag)?;
        request = request.query("t", tag);
    }
    for host in &args.add_host {
        request = request.query("extrahosts", misc::extra_host(host)?);
    }
    for option in &args.security_opt {
        request = request.query("securityopt", option);
    }
    let cached = caches::sources(&args.cache_from)?;
    if !cached.images.is_empty() {
        request = request.query("cachefrom", json!(cached.images).to_string());
    }
    let ulimits = args
        .ulimit
        .iter()
        .map(|text| {
            let limit =
                units::parse_ulimit(text).map_err(|error| CliError::usage(error.to_string()))?;
            Ok(json!({"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard}))
        })
        .collect::<Result<Vec<Json>>>()?;
    if !ulimits.is_empty() {
        request = request.query("ulimits", Json::Array(ulimits).to_string());
    }
    Ok(request.header("x-registry-config", &session.config()?.all_auth_header()))
}

/// Time of all that a build makes, in seconds since 1970; passed on as a build argument.
const EPOCH_VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Returns the `buildargs` object; a name without value takes the caller's, or null when there is none.
fn build_arguments(values: &[String], proxies: &[(String, String)]) -> Json {
    let mut arguments = Map::new();
    for (name, value) in proxies {
        for name in [name.clone(), name.to_lowercase()] {
            arguments.insert(name, value.as_str().into());
        }
    }
    // What makes a build reproducible is set for all that the caller runs, as reproducible-builds.org has it.
    if let Some(epoch) = std::env::var(EPOCH_VARIABLE)
        .ok()
        .filter(|epoch| !epoch.is_empty())
    {
        arguments.insert(EPOCH_VARIABLE.to_owned(), epoch.into());
    }
    for value in values {
        let (name, value) = match value.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (value.as_str(), std::env::var(value).ok()),
        };
        arguments.insert(name.to_owned(), value.map_or(Json::Null, Json::from));
    }
    Json::Object(arguments)
}
