//! Parameters of `POST /build` (engine-api.md §10).

use serde_json::{Map, Value as Json, json};

use crate::commands::build::outputs::BuildOutput;

use crate::commands::build::{BuildArgs, caches, outputs};
use crate::error::{CliError, Result};
use crate::http::Request;
use crate::options::{env, limits, misc};
use crate::session::Session;
use crate::units;

/// The period that a number of CPUs is counted by, in microseconds.
const CPU_PERIOD_US: i64 = 100_000;
const NANO: i64 = 1_000_000_000;
/// Time of all that a build makes, in seconds since 1970; passed on as a build argument.
const EPOCH_VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Returns the request with everything but the context.
pub(super) fn parameters(
    session: &mut Session,
    args: &BuildArgs,
    outputs: &[BuildOutput],
) -> Result<Request> {
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
        .query_if("platform", platform(&args.platform)?)
        .query_if("cpusetcpus", args.processor.cpuset_cpus.as_ref())
        .query_if("cpusetmems", args.processor.cpuset_mems.as_ref())
        .query_if("isolation", args.isolation.as_ref())
        .query_if("cgroupparent", args.cgroup_parent.as_ref())
        .query_if(
            "cpushares",
            args.processor.cpu_shares.map(|number| number.to_string()),
        )
        .query_if(
            "cpuquota",
            args.processor.cpu_quota.map(|number| number.to_string()),
        )
        .query_if(
            "cpuperiod",
            args.processor.cpu_period.map(|number| number.to_string()),
        )
        .query(
            "buildargs",
            build_arguments(&args.build_arg, &proxies).to_string(),
        )
        .query("labels", Json::Object(env::to_map(&args.label)).to_string());
    let shm_size = args.shm_size.as_deref();
    let sizes = [
        ("memory", args.processor.memory_bytes()?),
        ("memswap", args.processor.memory_swap_bytes()?),
        (
            "shmsize",
            shm_size
                .map(|size| limits::memory("shm-size", size))
                .transpose()?,
        ),
    ];
    for (key, size) in sizes {
        request = request.query_if(key, size.map(|bytes| bytes.to_string()));
    }
    if let Some(nano_cpus) = args.processor.nano_cpus()? {
        if args.processor.cpu_period.is_some() || args.processor.cpu_quota.is_some() {
            return Err(CliError::usage(
                "conflicting options: --cpus says what --cpu-period and --cpu-quota say",
            ));
        }
        // A quota and a period say it to daemons of any kind.
        let quota_us = nano_cpus / (NANO / CPU_PERIOD_US);
        request = request
            .query("cpuperiod", CPU_PERIOD_US.to_string())
            .query("cpuquota", quota_us.to_string());
    }
    for tag in args.tag.iter().chain(outputs::names(outputs)) {
        crate::commands::image::names::parse(tag)?;
        request = request.query("t", tag);
    }
    for host in args.add_host.iter().flat_map(|hosts| hosts.split(',')) {
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

/// Returns the platform of an image; the flag may be repeated and hold a list.
pub(super) fn platform(values: &[String]) -> Result<Option<&str>> {
    let mut named: Vec<&str> = values.iter().flat_map(|list| list.split(',')).collect();
    named.retain(|name| !name.is_empty());
    named.dedup();
    match named.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(CliError::usage(format!(
            "--platform {}: an image of several platforms cannot be built at once: build each, and join them with manifest create",
            several.join(",")
        ))),
    }
}

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
