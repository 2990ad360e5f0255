//! What the engine tells of itself, and what it does not do (spec engine-api §5.1, §5.5).

use crate::call::Call;
use crate::credentials;
use crate::respond::{self, Answer, Body, Failure};
use crate::wire::system::{self, AuthConfig, Usage};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use wharf_engine::model::view::UsageKinds;

/// The version whose clients may ask for some kinds of objects only.
const FIRST_WITH_USAGE_TYPES: &str = "1.42";
/// Answer to everything about swarms; clients look for this text.
const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker \
    swarm join\" to connect this node to swarm and try again.";

/// `GET` and `HEAD /_ping`
pub(crate) async fn ping(_: Call) -> Answer {
    let mut response = Response::new(Body::Whole(Bytes::from_static(b"OK")));
    respond::set_content_type(&mut response, "text/plain; charset=utf-8");
    let headers = response.headers_mut();
    for (name, value) in [
        // The builder without BuildKit's session; clients choose by this number.
        ("builder-version", "1"),
        // A build may name a directory of this machine instead of sending it.
        ("wharf-context", "dir"),
        // Builds can be asked for with secrets and followed step by step (`POST /wharf/build`).
        ("wharf-build", "1"),
        ("swarm", "inactive"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// `GET /version`
pub(crate) async fn version(call: Call) -> Answer {
    respond::json(&system::version(&call.engine.info()))
}

/// `GET /info`
pub(crate) async fn info(call: Call) -> Answer {
    let settings = call.engine.settings();
    respond::json(&system::info(&call.engine.info(), &settings, &call.version))
}

/// `GET /system/df`
pub(crate) async fn disk_usage(call: Call) -> Answer {
    // Older clients get everything, whatever they ask for.
    let types = match call.version.is_before(FIRST_WITH_USAGE_TYPES) {
        true => Vec::new(),
        false => call.query.all("type"),
    };
    let known = ["container", "image", "volume", "build-cache"];
    if let Some(unknown) = types.iter().find(|kind| !known.contains(&kind.as_str())) {
        return Err(Failure::bad_request(format!(
            "unknown object type: {unknown}"
        )));
    }
    let wants = |kind: &str| types.is_empty() || types.iter().any(|wanted| wanted == kind);
    let parts = UsageKinds {
        containers: wants("container"),
        images: wants("image"),
        volumes: wants("volume"),
        build_cache: wants("build-cache"),
    };
    let usage = call.engine.disk_usage(parts).await?;
    respond::json(&Usage::new(&usage, parts, &call.version))
}

/// `POST /auth`
pub(crate) async fn auth(call: Call) -> Answer {
    let engine = call.engine.clone();
    let config: AuthConfig = call
        .json()
        .await
        .map_err(|failure| failure.context("invalid X-Registry-Auth header"))?;
    let server = config.serveraddress.clone();
    let status = engine
        .check_credentials(&credentials::from_config(config), &server)
        .await?;
    respond::json(&json!({"Status": status, "IdentityToken": ""}))
}

/// Everything about swarms.
pub(crate) async fn no_swarm(_: Call) -> Answer {
    Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, NO_SWARM))
}

/// `GET /plugins`
pub(crate) async fn plugins(_: Call) -> Answer {
    respond::json(&json!([]))
}

/// `GET /plugins/{name}/json`
pub(crate) async fn plugin(call: Call) -> Answer {
    Err(Failure::new(
        StatusCode::NOT_FOUND,
        format!("plugin {:?} not found", call.name),
    ))
}

/// `DELETE /plugins/{name}`, and what else is asked of one plugin: there is none.
///
/// Installing and making plugins is refused.
pub(crate) async fn no_plugins(mut call: Call) -> Answer {
    if matches!(call.name.as_str(), "" | "pull" | "create") {
        return Err(Failure::not_implemented("plugins are not supported"));
    }
    let verbs = ["enable", "disable", "upgrade", "push", "set"];
    if let Some((name, _)) = call
        .name
        .rsplit_once('/')
        .filter(|(_, verb)| verbs.contains(verb))
    {
        call.name = name.to_owned();
    }
    plugin(call).await
}

/// `POST /swarm/init` and `/swarm/join`
pub(crate) async fn no_new_swarm(_: Call) -> Answer {
    Err(Failure::not_implemented(
        "swarms are not supported: wharf runs containers on one host",
    ))
}

/// `POST /swarm/leave`
pub(crate) async fn no_swarm_to_leave(_: Call) -> Answer {
    Err(Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not part of a swarm",
    ))
}

/// `GET /distribution/{name}/json`
pub(crate) async fn distribution(call: Call) -> Answer {
    let credentials = credentials::of_call(&call);
    let (descriptor, platforms) = call
        .engine
        .describe_remote(&call.name, &credentials)
        .await?;
    respond::json(&json!({
        "Descriptor": {
            "mediaType": descriptor.media_type,
            "digest": descriptor.digest.to_string(),
            "size": descriptor.size,
        },
        "Platforms": platforms,
    }))
}

/// `POST /session`
pub(crate) async fn session(call: Call) -> Answer {
    if call.upgrade.is_none() {
        return Err(Failure::bad_request("no upgrade proto in request"));
    }
    Err(Failure::not_implemented(
        "BuildKit sessions are not supported yet: set DOCKER_BUILDKIT=0 to build without one",
    ))
}

/// `POST /grpc`
pub(crate) async fn grpc(call: Call) -> Answer {
    if call.upgrade.is_none() {
        let text = "no upgrade proto in request";
        return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    Err(Failure::not_implemented(
        "BuildKit's gRPC is not supported yet: set DOCKER_BUILDKIT=0 to build without it",
    ))
}
