//! Builds (spec engine-api §10).

use crate::call::{Call, Peer};
use crate::credentials;
use crate::filters;
use crate::json_lines::{self, EarlyErrors, Failed};
use crate::limits::MAX_INLINE_DOCKERFILE_BYTES;
use crate::query::Query;
use crate::respond::{self, Answer, Failure};
use crate::spool::{self, SpoolFile};
use base64::prelude::{BASE64_URL_SAFE, Engine as _};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc::Receiver;
use wharf_engine::model::host_config::{Resources, Ulimit};
use wharf_engine::model::request::{Build, BuildContext, BuildOptions, CacheLimits};

/// `POST /build`
pub(crate) async fn build(mut call: Call) -> Answer {
    check_builder(&call.query)?;
    let request = build_request(&call)?;
    let chunks = crate::body::into_stream(call.body.take());
    start(call, request, chunks).await
}

/// Builds with a context that the query names, or that comes in chunks.
pub(super) async fn start(
    call: Call,
    request: Build,
    chunks: Receiver<std::io::Result<Bytes>>,
) -> Answer {
    let (request, spooled) = receive_context(&call, request, chunks).await?;
    run(call, request, spooled).await
}

/// Takes in a request's context; what was spooled is gone with the file that is returned.
pub(super) async fn receive_context(
    call: &Call,
    mut request: Build,
    chunks: Receiver<std::io::Result<Bytes>>,
) -> Result<(Build, Option<SpoolFile>), Failure> {
    let spooled = if let Some(context) = named_context(&call.query, &call.peer)? {
        request.context = context;
        None
    } else {
        let file = spool::receive_chunks(&call.engine.spool_dir(), chunks).await?;
        request.context = BuildContext::Tar(file.path().to_owned());
        Some(file)
    };
    Ok((request, spooled))
}

async fn run(call: Call, request: Build, spooled: Option<SpoolFile>) -> Answer {
    let engine = call.engine;
    let cancellable = engine.cancellable_build(call.query.text("buildid"));
    json_lines::run(EarlyErrors::ByStatus, |progress| async move {
        let built = tokio::select! {
            built = engine.build(request, progress) => built,
            error = cancellable.cancelled() => Err(error),
        };
        // The context lives as long as its build.
        drop(spooled);
        built.map_err(|error| Failed {
            code: error.exit_code(),
            error,
        })?;
        Ok(())
    })
    .await
}

/// Refuses what needs BuildKit, and what the builder does not do.
pub(super) fn check_builder(query: &Query) -> Result<(), Failure> {
    match query.text("version") {
        "" | "1" => {}
        "2" => {
            return Err(Failure::not_implemented(
                "BuildKit sessions are not supported yet: set DOCKER_BUILDKIT=0 to build without one",
            ));
        }
        other => return Err(Failure::bad_request(format!("invalid version {other:?}"))),
    }
    let outputs: Vec<serde_json::Value> = query.json("outputs", "outputs")?.unwrap_or_default();
    if !outputs.is_empty() {
        return Err(Failure::not_implemented(
            "outputs of a build are not supported yet",
        ));
    }
    if !query.all("securityopt").iter().all(String::is_empty) {
        return Err(Failure::not_implemented(
            "security options of a build are not supported yet",
        ));
    }
    match query.text("isolation") {
        "" | "default" => Ok(()),
        other => Err(Failure::bad_request(format!(
            "invalid isolation {other:?}: linux has only default"
        ))),
    }
}

/// Returns a context that is not the request's body.
fn named_context(query: &Query, peer: &Peer) -> Result<Option<BuildContext>, Failure> {
    if let Some(directory) = query.get("contextdir").filter(|path| !path.is_empty()) {
        return local_directory(directory, peer).map(|path| Some(BuildContext::Directory(path)));
    }
    Ok(match query.text("remote") {
        "" | "client-session" => None,
        url => Some(BuildContext::Remote(url.to_owned())),
    })
}

/// Checks a directory of this machine that is to be read in place; it is opened with the rights of the client.
pub(super) fn local_directory(path: &str, peer: &Peer) -> Result<PathBuf, Failure> {
    let directory = Path::new(path);
    if !directory.is_absolute() {
        return Err(Failure::bad_request(format!(
            "contextdir {path:?} must be an absolute path"
        )));
    }
    if peer.caller.is_none() {
        return Err(Failure::new(
            StatusCode::FORBIDDEN,
            format!("contextdir {path:?} cannot be read in place: it is not known who asks for it"),
        ));
    }
    Ok(directory.to_owned())
}

pub(super) fn build_request(call: &Call) -> Result<Build, Failure> {
    let query = &call.query;
    Ok(Build {
        // Replaced as soon as the context is known.
        context: BuildContext::Dockerfile(Vec::new()),
        dockerfile: query.text("dockerfile").to_owned(),
        dockerfile_inline: inline_file(query, "dockerfileinline")?,
        dockerfile_shown: query.text("dockerfileshown").to_owned(),
        ignore_file_inline: inline_file(query, "dockerignoreinline")?,
        tags: query
            .all("t")
            .into_iter()
            .filter(|tag| !tag.is_empty())
            .collect(),
        build_args: query
            .json::<Option<BTreeMap<String, Option<String>>>>("buildargs", "build args")?
            .flatten()
            .unwrap_or_default(),
        labels: query.json_map("labels", "labels")?,
        target: query.text("target").to_owned(),
        no_cache: query.switch("nocache", false),
        pull: query.switch("pull", false),
        quiet: query.switch("q", false),
        remove: query.switch("rm", true) || query.switch("forcerm", false),
        network_mode: query.text("networkmode").to_owned(),
        extra_hosts: extra_hosts(query),
        shm_size_bytes: shm_size(query)?,
        resources: Resources {
            memory_bytes: number(query, "memory"),
            memory_swap_bytes: number(query, "memswap"),
            cpu_shares: number(query, "cpushares"),
            cpu_period_us: number(query, "cpuperiod"),
            cpu_quota_us: number(query, "cpuquota"),
            cpuset_cpus: query.text("cpusetcpus").to_owned(),
            cpuset_mems: query.text("cpusetmems").to_owned(),
            cgroup_parent: query.text("cgroupparent").to_owned(),
            ..Resources::default()
        },
        ulimits: ulimits(query)?,
        cache_from: query
            .json::<Option<Vec<String>>>("cachefrom", "cache-from")?
            .flatten()
            .unwrap_or_default(),
        platform: super::platform_text(query)?,
        squash: query.switch("squash", false),
        credentials: credentials::of_build(call),
        options: BuildOptions {
            caller: call.peer.caller.clone(),
            project: query.text("contextdir").to_owned(),
            ..BuildOptions::default()
        },
    })
}

/// Reads a Dockerfile or its ignore file that comes beside the context, base64 in the alphabet for URLs.
fn inline_file(query: &Query, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let Some(text) = query.get(name) else {
        return Ok(None);
    };
    if text.len() > MAX_INLINE_DOCKERFILE_BYTES {
        return Err(Failure::bad_request(format!(
            "{name} has {} bytes, at most {MAX_INLINE_DOCKERFILE_BYTES} are accepted",
            text.len()
        )));
    }
    let bytes = BASE64_URL_SAFE
        .decode(text)
        .map_err(|error| Failure::bad_request(format!("{name}: {error}")))?;
    Ok(Some(bytes))
}

/// Reads hosts given as repeated parameters or, by older clients, as one with commas.
fn extra_hosts(query: &Query) -> Vec<String> {
    let values = query.all("extrahosts");
    let hosts = values.iter().flat_map(|value| value.split(','));
    hosts
        .filter(|host| !host.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Reads a size of `/dev/shm`; what is no number is docker's own mistake to tell (500).
fn shm_size(query: &Query) -> Result<i64, Failure> {
    match query.text("shmsize") {
        "" => Ok(0),
        text => text.parse().map_err(|_| {
            Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("strconv.ParseInt: parsing {text:?}: invalid syntax"),
            )
        }),
    }
}

/// Reads a limit; what is no number is none, as docker has it.
fn number(query: &Query, key: &str) -> i64 {
    query.text(key).parse().unwrap_or(0)
}

fn ulimits(query: &Query) -> Result<Vec<Ulimit>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Limit {
        name: String,
        soft: i64,
        hard: i64,
    }
    let limits: Option<Vec<Limit>> = query
        .json::<Option<_>>("ulimits", "ulimit settings")?
        .flatten();
    let convert = |limit: Limit| Ulimit {
        name: limit.name,
        hard: limit.hard,
        soft: limit.soft,
    };
    Ok(limits
        .unwrap_or_default()
        .into_iter()
        .map(convert)
        .collect())
}

/// `POST /build/prune`
pub(crate) async fn prune(call: Call) -> Answer {
    let limits = cache_limits(&call.query)?;
    let context = "failed to prune build cache";
    let filters = filters::from_query(&call.query).map_err(|failure| failure.context(context))?;
    let pruned = call
        .engine
        .prune_build_cache(call.query.switch("all", false), &filters, limits)
        .await
        .map_err(|error| Failure::from(error).context(context))?;
    respond::json(&json!({
        "CachesDeleted": crate::wire::none_if_empty(pruned.removed),
        "SpaceReclaimed": pruned.reclaimed_bytes,
    }))
}

/// Returns what the cache may keep; nothing where all that is chosen goes.
fn cache_limits(query: &Query) -> Result<Option<CacheLimits>, Failure> {
    let bytes = |key: &str| -> Result<u64, Failure> {
        let number = query.integer(key)?.unwrap_or(0);
        Ok(u64::try_from(number).unwrap_or(0))
    };
    let limits = CacheLimits {
        // The newer name, and the one before version 1.48.
        reserved_bytes: bytes("reserved-space")?.max(bytes("keep-storage")?),
        max_used_bytes: bytes("max-used-space")?,
        min_free_bytes: bytes("min-free-space")?,
    };
    Ok((limits != CacheLimits::default()).then_some(limits))
}

/// `POST /build/cancel`
pub(crate) async fn cancel(call: Call) -> Answer {
    let id = call.query.text("id");
    if id.is_empty() {
        return Err(Failure::bad_request("build ID not provided"));
    }
    call.engine.cancel_build(id);
    let mut response = respond::status(StatusCode::OK);
    respond::set_content_type(&mut response, respond::JSON);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_classic_builder_is_here() {
        let check = |text: &str| check_builder(&Query::parse(text).expect("a query"));
        assert!(check("").is_ok());
        assert!(check("version=1&isolation=default&outputs=[]").is_ok());
        assert_eq!(
            check("version=2").expect_err("BuildKit").status().as_u16(),
            501
        );
        assert_eq!(
            check("version=3").expect_err("unknown").message(),
            "invalid version \"3\""
        );
        assert_eq!(
            check("outputs=[{}]")
                .expect_err("outputs")
                .status()
                .as_u16(),
            501
        );
    }

    #[test]
    fn parameters() {
        let query = Query::parse(
            "extrahosts=a:1.2.3.4,b:5&extrahosts=c:6&ulimits=[{\"Name\":\"nofile\",\"Soft\":1,\"Hard\":2}]",
        )
        .expect("a query");
        assert_eq!(extra_hosts(&query), ["a:1.2.3.4", "b:5", "c:6"]);
        assert_eq!(ulimits(&query).expect("limits")[0].hard, 2);
        let bad = Query::parse("ulimits=x&shmsize=x").expect("a query");
        assert!(
            ulimits(&bad)
                .expect_err("bad")
                .message()
                .starts_with("error reading ulimit settings")
        );
        assert!(shm_size(&bad).is_err());
        assert_eq!(number(&bad, "shmsize"), 0);
    }

    #[test]
    fn inline_dockerfiles_have_a_limit() {
        const NAME: &str = "dockerfileinline";
        let query = |length: usize| {
            Query::parse(&format!("dockerfileinline={}", "a".repeat(length))).expect("a query")
        };
        let content = inline_file(&query(MAX_INLINE_DOCKERFILE_BYTES), NAME);
        assert!(content.is_ok_and(|content| content.is_some_and(|content| content[0] == b'i')));
        assert!(inline_file(&query(MAX_INLINE_DOCKERFILE_BYTES + 1), NAME).is_err());
        let text = Query::parse("dockerfileinline=RlJPTSBhCg==").expect("a query");
        let read = inline_file(&text, NAME).expect("base64");
        assert_eq!(read.as_deref(), Some(&b"FROM a\n"[..]));
        let raw = Query::parse("dockerfileinline=FROM%20a").expect("a query");
        assert!(inline_file(&raw, NAME).is_err());
    }
}
