//! `wharf build`: flags, context, request (engine-api.md §10).

mod context;
mod display;
mod flags;
mod source;

use std::path::Path;

use serde_json::{Map, Value as Json, json};

pub(crate) use flags::BuildArgs;

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

/// Runs `wharf build`.
pub async fn build_command(session: &mut Session, args: BuildArgs) -> Result<()> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = display::wants_colour(&args.progress, session.output.is_terminal(), no_color)?;
    let context = Context::resolve(&args)?;
    let headers = session.client.ping().await?;
    let reads_in_place = session.client.host().is_local()
        && headers
            .get(CONTEXT_HEADER)
            .is_some_and(|value| value == "dir");
    let request = parameters(session, &args)?;
    let request = match context {
        Context::Remote(url) => {
            let request = request.query("remote", url);
            match Dockerfile::named(&args) {
                Some(name) => request.query("dockerfile", name),
                None => request,
            }
        }
        Context::Archive(upload) => {
            let name = Dockerfile::named(&args).unwrap_or("Dockerfile");
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
    let response = session.client.send(request).await?;
    let mut id = None;
    let mut note = |aux: &Json| {
        if let Some(found) = aux["ID"].as_str() {
            id = Some(found.to_owned());
        }
    };
    if args.quiet {
        quiet(session, response, &mut note).await?;
    } else {
        let mut lines = Display::new(session.output.is_terminal());
        let output = &mut session.output;
        progress::read(response, note, |message| {
            let text = lines.text(message);
            output.text(&if colour {
                display::coloured(&text)
            } else {
                text
            })
        })
        .await?;
    }
    match (&args.iidfile, id) {
        (Some(path), Some(id)) => host_files::write(Path::new(path), id.as_bytes()),
        (Some(path), None) => Err(CliError::usage(format!(
            "cannot write {path}: the daemon did not name the image"
        ))),
        (None, _) => Ok(()),
    }
}

/// Shows only the id; a failure is shown with all that led to it.
async fn quiet(
    session: &mut Session,
    response: crate::http::Response,
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
            session.output.line(last)
        }
        Err(error) => {
            session.output.talk_bytes(told.as_bytes())?;
            Err(error)
        }
    }
}

/// Lets the daemon read the directory where it is: nothing is sent but its name.
fn in_place(request: Request, path: &Path, dockerfile: Dockerfile) -> Result<Request> {
    let directory = host_files::canonical(path)?;
    let request = request.query("contextdir", directory.to_string_lossy());
    Ok(match dockerfile {
        Dockerfile::Inside(name) => request.query("dockerfile", name),
        Dockerfile::Content(content) => request
            .query("dockerfile", context::INLINE_NAME)
            .query("dockerfileinline", context::encode_inline(&content)),
    })
}

/// Returns the request with everything but the context.
fn parameters(session: &mut Session, args: &BuildArgs) -> Result<Request> {
    let url = session.client.host().url();
    let proxies = session.config()?.proxies(&url);
    let mut request = Request::post("/build")
        .query("version", "1")
        .query_flag("q", args.quiet)
        .query_flag("nocache", args.no_cache)
        .query_flag("pull", args.pull)
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
    if let Some(size) = &args.memory_swap {
        request = request.query("memswap", limits::memory_swap(size)?.to_string());
    }
    for tag in &args.tag {
        crate::commands::image::names::parse(tag)?;
        request = request.query("t", tag);
    }
    for host in &args.add_host {
        request = request.query("extrahosts", misc::extra_host(host)?);
    }
    for option in &args.security_opt {
        request = request.query("securityopt", option);
    }
    if !args.cache_from.is_empty() {
        request = request.query("cachefrom", json!(args.cache_from).to_string());
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

/// Returns the `buildargs` object; a name without value takes the caller's, or null when there is none.
fn build_arguments(values: &[String], proxies: &[(String, String)]) -> Json {
    let mut arguments = Map::new();
    for (name, value) in proxies {
        for name in [name.clone(), name.to_lowercase()] {
            arguments.insert(name, value.as_str().into());
        }
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
